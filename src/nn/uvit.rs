//! U-ViT: a transformer that takes everything as tokens, with long skips between its two halves.
//!
//! Bao et al., *All are Worth Words: A ViT Backbone for Diffusion Models*, 2023. Names, shapes and initial values of the
//! parameters are the published ones; its optional last convolution is left out. Masked Diffusion Models trains the same
//! network, without the convolution, on the patches that a mask keeps.

use super::network::Config;
use super::params::{Init, ParamList};
use crate::base::{Cost, Gelu, PatchGrid};
use crate::ops;
use crate::ops::extra_tokens::ExtraTokens;
use crate::ops::layer_norm::Affine;
use crate::ops::mlp::Mlp;
use crate::ops::patch_embed::PatchEmbed;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

/// The hidden layer of an MLP is this many times as wide as the stream.
const MLP_RATIO: usize = 4;

/// Blocks before the middle one, and after it.
pub(super) fn half(config: &Config) -> usize {
    config.depth / 2
}

/// Tokens of label and time.
pub(super) fn extras(config: &Config) -> usize {
    1 + usize::from(config.classes > 0)
}

/// What forward and backward of each operation must move and compute, on `batch` images with `tokens` kept patches each.
pub(super) fn costs(config: &Config, batch: usize, tokens: usize) -> Vec<[Cost; 2]> {
    use ops::{attention, extra_tokens, join, layer_norm, linear, mlp, patch_embed};
    let (all, d, grid, half) = (extras(config) + tokens, config.width, config.grid, half(config));
    let (rows, inner, places) = (batch * all, grid.channels * grid.area(), extras(config) + grid.tokens());
    let block = [
        layer_norm::costs(rows, d),
        linear::costs(rows, d, 3 * d),
        attention::costs(batch, all, d),
        linear::costs(rows, d, d),
        layer_norm::costs(rows, d),
        mlp::costs(rows, d, MLP_RATIO * d),
    ];
    let skip = [join::costs(rows, d), linear::costs(rows, 2 * d, d)];
    let ends = [
        patch_embed::costs(batch, tokens, inner, d),
        extra_tokens::costs(batch, tokens, extras(config), places, d),
        layer_norm::costs(rows, d),
        extra_tokens::strip_costs(batch, tokens, extras(config), d),
        linear::costs(batch * tokens, d, inner),
    ];
    let blocks = (0..2 * half + 1).flat_map(|_| block);
    ends.into_iter().chain(blocks).chain((0..half).flat_map(|_| skip)).collect()
}

/// The parameters of a U-ViT, as handles.
#[derive(Clone, Debug)]
pub struct Uvit {
    grid: PatchGrid,
    /// Blocks before the middle one.
    half: usize,
    embed: PatchEmbed,
    extra: ExtraTokens,
    /// Before the middle, the middle, after it.
    blocks: Vec<Block>,
    norm: Affine,
    final_w: Var,
    final_b: Var,
}

#[derive(Clone, Copy, Debug)]
struct Block {
    /// Weight and bias of the linear of a skip, after the middle.
    skip: Option<(Var, Var)>,
    norm1: Affine,
    qkv_w: Var,
    proj_w: Var,
    proj_b: Var,
    norm2: Affine,
    mlp: Mlp,
    heads: usize,
}

impl Uvit {
    /// The model of `config` and the list of its parameters.
    pub fn new(config: Config) -> (Uvit, ParamList) {
        let Config { grid, width: d, heads, classes, .. } = config;
        let mut list = ParamList::default();
        let half = half(&config);
        let names = (0..half).map(|i| format!("in_blocks.{i}")).chain(["mid_block".into()]);
        let names = names.chain((0..half).map(|i| format!("out_blocks.{i}")));
        let blocks = names.enumerate().map(|(i, name)| Block::new(&mut list, &name, i > half, d, heads)).collect();
        let norm = affine(&mut list, "norm", d);
        let inner = grid.channels * grid.area();
        let (final_w, final_b) = linear(&mut list, "decoder_pred", inner, d);
        // PyTorch's own initial values of a convolution and of an embedding.
        let (kernel, limit) = ([d, grid.channels, grid.patch, grid.patch], 1.0 / (inner as f32).sqrt());
        let weight = list.add("patch_embed.proj.weight", &kernel, [d, inner], Init::Uniform(limit));
        let bias = list.add("patch_embed.proj.bias", &[d], [d], Init::Uniform(limit));
        let table = (classes > 0).then(|| {
            let rows = [classes + 1, d];
            list.add("label_emb.weight", &rows, rows, Init::Normal(1.0))
        });
        let places = extras(&config) + grid.tokens();
        let position = list.add("pos_embed", &[1, places, d], [places, d], Init::Normal(0.02));
        let embed = PatchEmbed { weight, bias, position: None, grid };
        let extra = ExtraTokens { table, position };
        (Uvit { grid, half, embed, extra, blocks, norm, final_w, final_b }, list)
    }

    /// The prediction (B, N, P P C) for noisy images `z` (B, C, H, W) at times `t` (B) under labels `y` (B).
    ///
    /// `kept` (B, N) u32 names the patches to compute; `None` computes all. Label and time are always computed.
    pub fn forward(&self, tape: &mut Tape, z: &Tensor, t: &Tensor, y: &Tensor, kept: Option<&Tensor>) -> Var {
        let tokens = kept.map_or(self.grid.tokens(), |kept| kept.shape().width());
        let x = tape.patch_embed(z, kept, self.embed); // (B, N, D)
        let mut stream = tape.prepend(x, t, y, kept, self.extra); // (B, E + N, D)
        tape.release(x);
        let mut normed = tape.layer_norm(stream, self.blocks[0].norm1);
        let mut skips = vec![];
        for (i, &block) in self.blocks.iter().enumerate() {
            // The next block's first norm rides in this one's last sum, unless a skip comes between them.
            let next = self.blocks.get(i + 1);
            match next.map(|next| (next.skip, next.norm1)) {
                Some((Some(skip), norm)) => {
                    let inputs = [stream, normed, skips.pop().expect("as many blocks before the middle as after it")];
                    [stream, normed] = tape.block(inputs, move |tape, [stream, normed, before]| {
                        let [stream, branch] = block.forward(tape, stream, normed);
                        let joined = tape.join(stream, branch, before); // (B, E + N, 2 D)
                        let stream = tape.linear(joined, skip.0, skip.1);
                        [stream, tape.layer_norm(stream, norm)]
                    });
                    if inputs[0] != inputs[2] {
                        tape.release(inputs[0]);
                    }
                    tape.release(inputs[2]);
                }
                other => {
                    let norm = other.map_or(self.norm, |(_, norm)| norm);
                    [stream, normed] = tape.block([stream, normed], move |tape, [stream, normed]| {
                        let [stream, branch] = block.forward(tape, stream, normed);
                        tape.residual_norm(stream, branch, norm)
                    });
                    if i < self.half {
                        skips.push(stream);
                    }
                }
            }
        }
        let patches = tape.strip(normed, tokens); // (B, N, D)
        tape.linear(patches, self.final_w, self.final_b) // (B, N, P P C)
    }
}

impl Block {
    fn new(list: &mut ParamList, name: &str, after: bool, d: usize, heads: usize) -> Block {
        let skip = after.then(|| linear(list, &format!("{name}.skip_linear"), d, 2 * d));
        let norm1 = affine(list, &format!("{name}.norm1"), d);
        let qkv = [3 * d, d];
        let qkv_w = list.add(&format!("{name}.attn.qkv.weight"), &qkv, qkv, Init::Normal(0.02));
        let (proj_w, proj_b) = linear(list, &format!("{name}.attn.proj"), d, d);
        let norm2 = affine(list, &format!("{name}.norm2"), d);
        let (w1, b1) = linear(list, &format!("{name}.mlp.fc1"), MLP_RATIO * d, d);
        let (w2, b2) = linear(list, &format!("{name}.mlp.fc2"), d, MLP_RATIO * d);
        Block { skip, norm1, qkv_w, proj_w, proj_b, norm2, mlp: Mlp { w1, b1, w2, b2, gelu: Gelu::Erf }, heads }
    }

    /// `stream` and its norm (B, E + N, D) to the stream and the branch that is yet to be added to it.
    fn forward(self, tape: &mut Tape, stream: Var, normed: Var) -> [Var; 2] {
        let qkv = tape.linear(normed, self.qkv_w, None); // (B, E + N, 3 D)
        tape.release(normed);
        let heads = tape.attention(qkv, self.heads); // (B, E + N, D)
        let branch = tape.linear(heads, self.proj_w, self.proj_b);
        let [stream, normed] = tape.residual_norm(stream, branch, self.norm2);
        let branch = tape.mlp(normed, self.mlp); // (B, E + N, D)
        tape.release(normed);
        [stream, branch]
    }
}

/// Truncated at 2, a hundred deviations: a normal.
fn linear(list: &mut ParamList, name: &str, outputs: usize, inputs: usize) -> (Var, Var) {
    let w = list.add(&format!("{name}.weight"), &[outputs, inputs], [outputs, inputs], Init::Normal(0.02));
    (w, list.add(&format!("{name}.bias"), &[outputs], [outputs], Init::Zeros))
}

fn affine(list: &mut ParamList, name: &str, width: usize) -> Affine {
    let w = list.add(&format!("{name}.weight"), &[width], [width], Init::Ones);
    Affine { w, b: list.add(&format!("{name}.bias"), &[width], [width], Init::Zeros) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Size;

    fn config(name: &str, channels: usize, side: usize, patch: usize, classes: usize) -> Config {
        Size::preset(&format!("{name}-{patch}")).unwrap().config([channels, side, side], classes, false)
    }

    #[test]
    fn the_presets_have_the_published_numbers_of_parameters() {
        for (name, channels, side, patch, classes, millions, within) in [
            ("uvit-s", 3, 64, 4, 0, 44.29, 0.005),
            ("uvit-s", 3, 256, 4, 0, 46.26, 0.005),
            ("uvit-b", 3, 256, 4, 0, 102.4, 0.05),
            ("uvit-m", 3, 64, 4, 1000, 131.0, 0.5),
            ("uvit-l", 4, 32, 2, 1000, 287.0, 0.5),
            ("uvit-h", 4, 32, 2, 1000, 501.0, 0.5),
        ] {
            let ours = Uvit::new(config(name, channels, side, patch, classes)).1.elements() as f64 / 1e6;
            assert!((ours - millions).abs() <= within, "{name} at {side}: {ours} million");
        }
    }

    #[test]
    fn forward_costs_what_the_papers_say() {
        let gmac = |config: Config, tokens: usize| {
            let forward: Cost = config.costs(1, tokens).into_iter().map(|[forward, _]| forward).sum();
            forward.flops as f64 / 2e9
        };
        // MaskDM: 64 pixels in patches of 4, and 256.
        let (small, large) = (config("uvit-s", 3, 64, 4, 0), config("uvit-b", 3, 256, 4, 0));
        for (config, tokens, expected) in [
            (small, 256, 12.20),
            (small, 128, 5.90),
            (small, 32, 1.47),
            (small, 26, 1.20),
            (large, 4096, 741.0),
            (large, 2048, 287.0),
            (large, 416, 44.8),
        ] {
            let ours = gmac(config, tokens);
            assert!((ours / expected - 1.0).abs() < 0.01, "{tokens} tokens: {ours} GMAC, not {expected}");
        }
    }
}
