//! SiT and DiT: a transformer on patches, modulated by time and label.
//!
//! Peebles and Xie, *Scalable Diffusion Models with Transformers*, 2023, section 3, adaLN-Zero; Ma et al., *SiT*, 2024.
//! Names, shapes and initial values of the parameters are the published ones.

use super::network::Config;
use super::params::{Init, ParamList, Piece};
use crate::base::condition::FEATURES;
use crate::base::{Cost, Gelu};
use crate::ops;
use crate::ops::condition::Conditioning;
use crate::ops::gated_norm::Modulated;
use crate::ops::mlp::Mlp;
use crate::ops::patch_embed::PatchEmbed;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

/// The hidden layer of an MLP is this many times as wide as the stream.
const MLP_RATIO: usize = 4;

/// Chunks of modulation of one block: shift, scale and gate of the attention, then of the MLP.
const CHUNKS: usize = 6;

/// Chunks of the modulation of the whole model: six for each block, shift and scale for the final layer.
fn chunks(config: &Config) -> usize {
    CHUNKS * config.depth + 2
}

/// What forward and backward of each operation must move and compute, on `batch` images with `tokens` kept patches each.
pub(super) fn costs(config: &Config, batch: usize, tokens: usize) -> Vec<[Cost; 2]> {
    use ops::{attention, condition, gated_norm, linear, mlp, patch_embed};
    let (rows, d, grid) = (batch * tokens, config.width, config.grid);
    let block = [
        linear::costs(rows, d, 3 * d),
        attention::costs(batch, tokens, d),
        linear::costs(rows, d, d),
        gated_norm::costs(rows, d),
        mlp::costs(rows, d, MLP_RATIO * d),
        gated_norm::costs(rows, d),
    ];
    let inner = grid.channels * grid.area();
    let (columns, table) = (chunks(config) * d, if config.classes > 0 { config.classes + 1 } else { 0 });
    let ends = [
        condition::costs(batch, d, columns, table),
        patch_embed::costs(batch, tokens, inner, d),
        gated_norm::norm_costs(rows, d),
        linear::costs(rows, d, grid.area() * config.out_channels()),
    ];
    ends.into_iter().chain((0..config.depth).flat_map(|_| block)).collect()
}

/// The parameters of a SiT, as handles: the model itself is this row of numbers.
#[derive(Clone, Debug)]
pub struct Sit {
    embed: PatchEmbed,
    conditioning: Conditioning,
    blocks: Vec<Block>,
    final_w: Var,
    final_b: Var,
}

#[derive(Clone, Copy, Debug)]
struct Block {
    qkv_w: Var,
    qkv_b: Var,
    proj_w: Var,
    proj_b: Var,
    mlp: Mlp,
    heads: usize,
    /// The first of the block's chunks of modulation.
    chunk: usize,
}

impl Sit {
    /// The model of `config` and the list of its parameters.
    pub fn new(config: Config) -> (Sit, ParamList) {
        let Config { grid, depth, width: d, heads, classes, .. } = config;
        let mut list = ParamList::default();
        let mut linear = |name: &str, outputs: usize, inputs: usize, init: Init| {
            let w = list.add(&format!("{name}.weight"), &[outputs, inputs], [outputs, inputs], init);
            (w, list.add(&format!("{name}.bias"), &[outputs], [outputs], Init::Zeros))
        };
        let (w0, b0) = linear("t_embedder.mlp.0", d, FEATURES, Init::Normal(0.02));
        let (w2, b2) = linear("t_embedder.mlp.2", d, d, Init::Normal(0.02));
        let mut blocks = Vec::with_capacity(depth);
        for i in 0..depth {
            let (qkv_w, qkv_b) = linear(&format!("blocks.{i}.attn.qkv"), 3 * d, d, Init::Xavier);
            let (proj_w, proj_b) = linear(&format!("blocks.{i}.attn.proj"), d, d, Init::Xavier);
            let (w1, b1) = linear(&format!("blocks.{i}.mlp.fc1"), MLP_RATIO * d, d, Init::Xavier);
            let (w2, b2) = linear(&format!("blocks.{i}.mlp.fc2"), d, MLP_RATIO * d, Init::Xavier);
            let mlp = Mlp { w1, b1, w2, b2, gelu: Gelu::Tanh };
            blocks.push(Block { qkv_w, qkv_b, proj_w, proj_b, mlp, heads, chunk: CHUNKS * i });
        }
        let outputs = grid.area() * config.out_channels();
        let (final_w, final_b) = linear("final_layer.linear", outputs, d, Init::Zeros);

        let inner = grid.channels * grid.area();
        let kernel = [d, grid.channels, grid.patch, grid.patch];
        let weight = list.add("x_embedder.proj.weight", &kernel, [d, inner], Init::Xavier);
        let bias = list.add("x_embedder.proj.bias", &[d], [d], Init::Zeros);
        let table = (classes > 0).then(|| {
            let rows = [classes + 1, d];
            list.add("y_embedder.embedding_table.weight", &rows, rows, Init::Normal(0.02))
        });
        // The rows of every layer lie together, so that one product makes the modulation of the whole model.
        let mut modulation = |kind: &str, inputs: &[usize]| {
            let piece = |layer: String, chunks: usize| Piece {
                name: format!("{layer}.adaLN_modulation.1.{kind}"),
                shape: [&[chunks * d], inputs].concat(),
            };
            let mut pieces: Vec<_> = (0..depth).map(|i| piece(format!("blocks.{i}"), CHUNKS)).collect();
            pieces.push(piece("final_layer".into(), 2));
            let shape = [&[chunks(&config) * d], inputs].concat();
            list.stack(pieces, crate::base::Shape::new(&shape), Init::Zeros)
        };
        let modulation_w = modulation("weight", &[d]);
        let modulation_b = modulation("bias", &[]);
        let (rows, columns) = grid.sides();
        let tokens = grid.tokens();
        let position = list.add("pos_embed", &[1, tokens, d], [tokens, d], Init::SinCos { rows, columns });

        let embed = PatchEmbed { weight, bias, position: Some(position), grid };
        let conditioning = Conditioning { w0, b0, w2, b2, table, modulation_w, modulation_b };
        (Sit { embed, conditioning, blocks, final_w, final_b }, list)
    }

    /// The prediction (B, N, P P Cv) for noisy images `z` (B, C, H, W) at times `t` (B) under labels `y` (B).
    ///
    /// `kept` (B, N) u32 names the patches to compute; `None` computes all.
    pub fn forward(&self, tape: &mut Tape, z: &Tensor, t: &Tensor, y: &Tensor, kept: Option<&Tensor>) -> Var {
        let modulation = tape.condition(t, y, self.conditioning); // (B, (6 L + 2) D)
        let mut stream = tape.patch_embed(z, kept, self.embed); // (B, N, D)
        let mut normed = tape.modulated_norm(stream, norm(modulation, 0)); // (B, N, D)
        for &block in &self.blocks {
            let inputs = [stream, normed, modulation];
            [stream, normed] = tape.block(inputs, move |tape, [stream, normed, modulation]| {
                block.forward(tape, stream, normed, modulation)
            });
            tape.release(inputs[0]);
        }
        let prediction = tape.linear(normed, self.final_w, self.final_b); // (B, N, P P Cv)
        for used in [stream, normed, modulation] {
            tape.release(used);
        }
        prediction
    }
}

impl Block {
    /// `stream` (B, N, D) and its modulated norm to the same after the block, normed for what follows.
    fn forward(self, tape: &mut Tape, stream: Var, normed: Var, modulation: Var) -> [Var; 2] {
        let qkv = tape.linear(normed, self.qkv_w, self.qkv_b); // (B, N, 3 D)
        tape.release(normed);
        let heads = tape.attention(qkv, self.heads); // (B, N, D)
        let branch = tape.linear(heads, self.proj_w, self.proj_b); // (B, N, D)
        let [stream, normed] = tape.gated_norm(stream, branch, self.chunk + 2, norm(modulation, self.chunk + 3));
        let branch = tape.mlp(normed, self.mlp); // (B, N, D)
        tape.release(normed);
        tape.gated_norm(stream, branch, self.chunk + 5, norm(modulation, self.chunk + CHUNKS))
    }
}

/// Shift and scale are neighbours.
fn norm(modulation: Var, chunk: usize) -> Modulated {
    Modulated { modulation, shift: chunk, scale: chunk + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::DType;
    use crate::base::PatchGrid;
    use crate::device::{Cpu, Device};
    use crate::nn::ParamStore;
    use crate::nn::{Family, Size};

    fn parameters(name: &str, side: usize) -> usize {
        let config = Size::preset(name).unwrap().config([4, side, side], 1000, true);
        Sit::new(config).1.elements()
    }

    #[test]
    fn the_presets_have_the_published_numbers_of_parameters() {
        assert_eq!(parameters("sit-xl-2", 32), 675_129_632);
        for (name, millions) in [("sit-s-2", 32.96), ("sit-b-2", 130.51), ("sit-l-2", 458.10)] {
            let ours = parameters(name, 32) as f64 / 1e6;
            assert!((ours - millions).abs() <= 0.005, "{name}: {ours} million");
        }
    }

    #[test]
    fn every_parameter_starts_as_published() {
        let grid = PatchGrid { channels: 4, height: 8, width: 8, patch: 2 };
        let config =
            Config { family: Family::Sit, grid, depth: 2, width: 96, heads: 4, classes: 50, learn_sigma: true };
        let device = Device::cpu(Cpu::new(None, DType::F32).unwrap());
        let store = ParamStore::new(&device, Sit::new(config).1, 3).unwrap();
        for (piece, param, range) in store.list.pieces(store.list.trained()) {
            let values = &store.weights.part(param).to_vec::<f32>()[range];
            let name = piece.name.as_str();
            let moment =
                |power: i32| values.iter().map(|&x| f64::from(x).powi(power)).sum::<f64>() / values.len() as f64;
            // DiT's initialize_weights: normal embeddings, Xavier products, zero biases, modulations and last layer.
            let zero = name.ends_with("bias") || name.contains("adaLN") || name.starts_with("final_layer");
            let (variance, kurtosis, limit) = if zero {
                assert!(values.iter().all(|&x| x == 0.0), "{name} starts at zero");
                continue;
            } else if name.starts_with("t_embedder") || name.starts_with("y_embedder") {
                (0.02f64.powi(2), 3.0, f64::INFINITY)
            } else {
                let fans = piece.shape[0] + piece.shape[1..].iter().product::<usize>();
                (2.0 / fans as f64, 1.8, (6.0 / fans as f64).sqrt())
            };
            let scatter = ((kurtosis - 1.0) / values.len() as f64).sqrt();
            assert!((moment(2) / variance - 1.0).abs() < 4.0 * scatter, "{name}: variance {}", moment(2));
            assert!(moment(1).abs() < 4.0 * (variance / values.len() as f64).sqrt(), "{name}: mean {}", moment(1));
            assert!(values.iter().all(|&x| f64::from(x).abs() <= limit * (1.0 + 1e-6)), "{name} stays within {limit}");
        }
    }

    #[test]
    fn the_list_of_the_largest_model_holds_none_of_its_values() {
        let grid = PatchGrid { channels: 1, height: 1 << 14, width: 1 << 14, patch: 1 };
        let config = Config { family: Family::Sit, grid, depth: 1, width: 4, heads: 1, classes: 0, learn_sigma: false };
        assert_eq!(config.check().map_err(|_| ()), Err(()));
        let config = Config { grid: PatchGrid { height: 1 << 12, ..grid }, ..config };
        let list = Sit::new(config).1;
        assert_eq!(list.iter().last().unwrap().init, Init::SinCos { rows: 1 << 12, columns: 1 << 14 });
    }

    #[test]
    fn forward_costs_what_the_papers_say() {
        for (name, gmac) in [("sit-s-2", 6.06), ("sit-b-2", 23.0), ("sit-l-2", 80.7), ("sit-xl-2", 118.6)] {
            let config = Size::preset(name).unwrap().config([4, 32, 32], 1000, true);
            let ours = config.forward_cost(1, 256).flops as f64 / 2e9;
            assert!((ours / gmac - 1.0).abs() < 0.01, "{name}: {ours} GMAC");
        }
    }
}
