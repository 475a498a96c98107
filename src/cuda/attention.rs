use crate::base::DType;
use crate::device::cuda::{Argument, Boxes, Cuda, Grid, Kernel, Typed};
use crate::tensor::Tensor;
use crate::{kernel, kernels};

const FORWARD: Typed = kernels!("attention", "attention_forward");
const BACKWARD: Typed = kernels!("attention", "attention_backward");
const DELTA: Typed = kernels!("attention", "attention_delta");

/// A kernel on tensor cores: for heads of one width, and for so many rows in a tile.
struct Tile {
    width: usize,
    rows: usize,
    kernel: Kernel,
}

macro_rules! tiles {
    ($pass:literal, $($width:literal x $rows:literal),*) => {
        &[$(Tile {
            width: $width,
            rows: $rows,
            kernel: kernel!("attention", concat!("attention_", $pass, "_bf16_", $width, "x", $rows)),
        }),*]
    };
}

/// By width and rows, ascending.
const FORWARD_TILES: &[Tile] =
    tiles!("forward", 32 x 64, 32 x 128, 64 x 64, 64 x 128, 72 x 64, 72 x 128, 80 x 64, 80 x 128, 128 x 64);
const BACKWARD_TILES: &[Tile] =
    tiles!("backward", 32 x 64, 32 x 128, 64 x 64, 64 x 128, 72 x 64, 72 x 128, 80 x 64, 128 x 64);

/// The same for cards of capability 9.0; those of 64 rows are for at most 64 tokens.
const STREAM_FORWARD_TILES: &[Tile] = tiles!(
    "stream_forward", 32 x 64, 32 x 128, 64 x 64, 64 x 128, 72 x 64, 72 x 128, 80 x 64, 80 x 128, 128 x 64, 128 x 128
);
const STREAM_BACKWARD_TILES: &[Tile] = tiles!(
    "stream_backward", 32 x 64, 32 x 128, 64 x 64, 64 x 128, 72 x 64, 72 x 128, 80 x 64, 80 x 128, 128 x 128
);

/// Rows of keys and values, or of queries, that stream by in one stage of the ring.
const STREAMED: usize = 64;

/// The extents of one call: H heads of width K of N tokens, in B images.
struct Heads {
    batch: usize,
    tokens: usize,
    heads: usize,
    width: usize,
}

impl Heads {
    fn new(qkv: &Tensor, heads: usize) -> Heads {
        let [batch, tokens, columns] = *qkv.shape().extents() else { panic!("attention: qkv is {:?}", qkv.shape()) };
        Heads { batch, tokens, heads, width: columns / (3 * heads) }
    }

    fn scale(&self) -> Argument {
        (1.0 / (self.width as f32).sqrt()).into()
    }

    /// The smallest tile that holds all tokens, or the largest there is.
    fn tile<'a>(&self, tiles: &'a [Tile], dtype: DType) -> Option<&'a Tile> {
        let mut fitting = tiles.iter().filter(|tile| dtype == DType::BF16 && tile.width == self.width).peekable();
        let first = fitting.peek().copied();
        fitting.clone().find(|tile| tile.rows >= self.tokens).or(fitting.last()).or(first)
    }

    /// Bytes of one row in shared memory: an odd number of 16-byte chunks.
    fn pitch(&self) -> usize {
        ((self.width / 8) | 1) * 16
    }

    /// Stages of the ring.
    fn stages(&self) -> usize {
        self.tokens.div_ceil(STREAMED).min(2)
    }

    /// `blocks` blocks for each head.
    fn grid(&self, blocks: usize) -> Grid {
        Grid::volume([blocks, self.heads, self.batch], 128)
    }

    /// Blocks of the kernels that take any width, a warp for each row.
    fn plain_blocks(&self) -> usize {
        self.tokens.div_ceil(4)
    }
}

/// How a kernel of `kernels/attention/stream_*.cuh` is launched: its blocks take one item after another.
struct Stream<'a> {
    heads: &'a Heads,
    tile: &'a Tile,
}

impl<'a> Stream<'a> {
    /// `None` where these heads, or this card, are for other kernels.
    fn new(card: &Cuda, heads: &'a Heads, tiles: &'a [Tile], dtype: DType) -> Option<Stream<'a>> {
        let tile = heads.tile(tiles, dtype).filter(|_| card.card().capability == (9, 0))?;
        Some(Stream { heads, tile })
    }

    /// Bytes of the tiles of one tensor in an item: of 128 rows of one head, or of 64 of two.
    fn tensor(&self) -> usize {
        128 * self.tile.width * 2
    }

    /// An array of so many heads' rows in boxes: panels of 64 columns of a head, then the columns that are left. Where there
    /// are only the ones or only the others, the kernel reads no other map.
    fn boxes(&self, array: &Tensor, columns: usize) -> [Argument; 2] {
        let Heads { batch, tokens, width, .. } = *self.heads;
        let Argument::Pointer(address) = Argument::from(array) else {
            unreachable!("a tensor is passed by its address")
        };
        let (panel, rest) = (width.min(64), width % 64);
        [panel, if rest > 0 { rest } else { panel }].map(|across| {
            Argument::Boxes(Boxes { address, images: batch, rows: tokens, columns, across, down: self.tile.rows })
        })
    }

    /// `items` of work by blocks with `stages` stages of shared memory of two tensors each, and `more` bytes.
    fn launch(&self, card: &Cuda, items: usize, stages: usize, more: usize, arguments: &[Argument]) {
        let Heads { batch, tokens, heads, .. } = *self.heads;
        // A page of zeros, and a pair of barriers for each stage and for each half of one.
        let shared = 2 * stages * self.tensor() + more + 64 * 16 + 2 * stages * 16;
        let grid = Grid::new(items.min(card.card().multiprocessors), 384).shared(shared);
        let extents = [batch, tokens, heads].map(Argument::from);
        card.launch(self.tile.kernel, grid, &[arguments, &extents, &[self.heads.scale()]].concat());
    }

    /// Items of one pass over all heads, `passes` of them where a head has more than one tile.
    fn items(&self, passes: usize) -> usize {
        let Heads { batch, tokens, heads, .. } = *self.heads;
        let together = 128 / self.tile.rows;
        if together > 1 { (batch * heads).div_ceil(together) } else { passes * batch * heads * tokens.div_ceil(128) }
    }

    fn forward(&self, card: &Cuda, qkv: &Tensor, out: &mut Tensor, lse: &mut Tensor) {
        // One of queries, the others of keys and values.
        let stages = if self.tile.width > 80 { 3 } else { 5 };
        let tensors = [&self.boxes(qkv, qkv.shape().width())[..], &[out.into(), lse.into()]].concat();
        self.launch(card, self.items(1), stages, 0, &tensors);
    }

    fn backward(&self, card: &Cuda, qkv: &Tensor, dout: &Tensor, lse: &Tensor, delta: &Tensor, dqkv: &mut Tensor) {
        let (owned, streamed) = if self.tile.width > 80 { (1, 2) } else { (2, 3) };
        let boxes = [self.boxes(qkv, qkv.shape().width()), self.boxes(dout, dout.shape().width())].concat();
        let tensors = [&boxes[..], &[lse.into(), delta.into(), dqkv.into()]].concat();
        // The logarithms and deltas of the queries that stream by.
        self.launch(card, self.items(2), owned + streamed, streamed * 2 * 128 * 4, &tensors);
    }
}

/// Writes `out` (B, N, H K) and `lse` (B, H, N) from `qkv` (B, N, 3 H K).
pub fn forward(card: &Cuda, heads: usize, qkv: &Tensor, out: &mut Tensor, lse: &mut Tensor) {
    let h = Heads::new(qkv, heads);
    let dtype = qkv.dtype();
    if let Some(stream) = Stream::new(card, &h, STREAM_FORWARD_TILES, dtype) {
        return stream.forward(card, qkv, out, lse);
    }
    let tensors = [qkv.into(), out.into(), lse.into()];
    match h.tile(FORWARD_TILES, dtype) {
        Some(tile) => {
            let shared = (tile.rows + 2 * STREAMED * h.stages()) * h.pitch();
            let grid = h.grid(h.tokens.div_ceil(tile.rows)).shared(shared);
            card.launch(tile.kernel, grid, &[&tensors[..], &[h.tokens.into(), h.scale()]].concat());
        }
        None => {
            let extents = [h.tokens.into(), h.width.into(), h.scale()];
            card.launch(FORWARD.of(dtype), h.grid(h.plain_blocks()), &[&tensors[..], &extents].concat());
        }
    }
}

/// Writes `dqkv` from `dout`; `out` and `lse` are forward's.
pub fn backward(card: &Cuda, heads: usize, qkv: &Tensor, out: &Tensor, lse: &Tensor, dout: &Tensor, dqkv: &mut Tensor) {
    let h = Heads::new(qkv, heads);
    let dtype = qkv.dtype();
    let delta = Tensor::workspace(card, *lse.shape(), DType::F32);
    let rows = h.batch * h.tokens * h.heads;
    let extents = [h.batch, h.tokens, h.heads, h.width].map(Argument::from);
    let arguments = [&[out.into(), dout.into(), (&delta).into()], &extents[..]].concat();
    card.launch(DELTA.of(dtype), Grid::new(rows.div_ceil(32), 256), &arguments);
    if let Some(stream) = Stream::new(card, &h, STREAM_BACKWARD_TILES, dtype) {
        return stream.backward(card, qkv, dout, lse, &delta, dqkv);
    }
    let tensors = [qkv.into(), dout.into(), lse.into(), (&delta).into(), dqkv.into()];
    match h.tile(BACKWARD_TILES, dtype) {
        Some(tile) => {
            // What a block owns, and the ring with the statistics of what streams by.
            let shared = 2 * tile.rows * h.pitch() + h.stages() * 2 * STREAMED * (h.pitch() + 4);
            let grid = h.grid(2 * h.tokens.div_ceil(tile.rows)).shared(shared);
            card.launch(tile.kernel, grid, &[&tensors[..], &[h.tokens.into(), h.scale()]].concat());
        }
        None => {
            let extents = [h.tokens.into(), h.width.into(), h.scale()];
            card.launch(BACKWARD.of(dtype), h.grid(2 * h.plain_blocks()), &[&tensors[..], &extents].concat());
        }
    }
}
