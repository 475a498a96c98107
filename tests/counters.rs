//! What the kernels do on a card, counted: bounds that a change of a kernel must keep.
//!
//! The counts are those of `tools/emulator`: multiply-adds of tensor cores, bytes of the distinct sectors of memory that a
//! launch touches, sectors that its accesses ask for, and the turns that accesses to shared memory take.

mod common;

use common::{Emulated, normals, put};
use emulator::{Policy, Report};
use engine::base::{Accumulate, DType};
use engine::cuda::gated_norm::{self, Branch, Modulation};
use engine::cuda::{attention, linear, mlp, patch_embed, score};
use engine::device::Device;
use engine::device::cuda::{Cuda, MODULES};
use engine::ops::update::{AdamW, Moments, Report as Done, Update, Weights, update, working};
use engine::tensor::{Slab, Tensor};
use std::sync::Arc;

/// A card that counts, with bf16 activations.
struct Bench {
    emulated: Arc<Emulated>,
    device: Device,
}

impl Bench {
    /// `None` where the engine was built without nvcc; the tests of operations say so aloud.
    fn new(capability: (u32, u32)) -> Option<Bench> {
        let emulated = Arc::new(Emulated::new(capability, Policy::Eager).counting());
        let cuda = || Device::cuda(Cuda::new(emulated.clone(), DType::BF16).unwrap());
        (!MODULES.is_empty()).then(|| Bench { device: cuda(), emulated: emulated.clone() })
    }

    fn card(&self) -> &Cuda {
        let Device::Cuda(card) = &self.device else { unreachable!("it is a card") };
        card
    }

    /// Random numbers of the type of activations.
    fn values<const N: usize>(&self, shape: [usize; N]) -> Tensor {
        let mut tensor = Tensor::new(&self.device, "test", shape, DType::BF16);
        put(&mut tensor, &normals(N as u32, shape.iter().product(), 0.5));
        tensor
    }

    fn sums<const N: usize>(&self, shape: [usize; N]) -> Tensor {
        Tensor::new(&self.device, "test", shape, DType::F32)
    }

    /// The launches since the last call.
    fn launches(&self) -> Vec<Report> {
        self.emulated.take_reports()
    }
}

/// Asserts what a launch multiplied, which memory it touched, and that no access to shared memory waited for a bank.
fn assert_counts(report: &Report, multiply_adds: usize, bytes: usize) {
    let (name, total) = (&report.function.kernel.name, report.total());
    assert_eq!(total.matrix_fma, multiply_adds as u64, "{name}: multiply-adds");
    assert_eq!(report.counts.unique_bytes, bytes as u64, "{name}: bytes of memory");
    assert_eq!(total.shared_wavefronts, total.shared_ideal, "{name}: turns in shared memory");
}

#[test]
fn products_multiply_and_touch_what_they_must_and_wait_for_no_bank() {
    // Extents that tiles divide: what ragged edges add is theirs.
    for (capability, rows, inner, width) in [((8, 0), 256, 384, 768), ((8, 0), 32, 256, 1024), ((9, 0), 256, 384, 768)]
    {
        let Some(bench) = Bench::new(capability) else { return };
        let card = bench.card();
        let streams = capability == (9, 0);
        let multiply_adds = rows * inner * width;
        let [x, w, b] = [bench.values([rows, inner]), bench.values([width, inner]), bench.values([width])];
        let [mut y, mut slope] = [(); 2].map(|()| bench.values([rows, width]));
        // Both factors and the result, 2 bytes an element.
        let product = 2 * (rows * inner + width * inner + rows * width);

        linear::forward(card, &x, &w, &b, &mut y);
        let [report] = &bench.launches()[..] else { panic!("one launch") };
        assert_counts(report, multiply_adds, product + 2 * width);

        mlp::forward(card, &x, &w, &b, &mut y, &mut slope);
        let [report] = &bench.launches()[..] else { panic!("one launch") };
        assert_counts(report, multiply_adds, product + 2 * width + 2 * rows * width);

        let turned = bench.values([inner, width]);
        mlp::backward(card, &x, &turned, &slope, &mut y);
        let [report] = &bench.launches()[..] else { panic!("one launch") };
        assert_counts(report, multiply_adds, product + 2 * rows * width);

        let mut dx = bench.values([rows, inner]);
        linear::input_gradient(card, &y, &w, &mut dx, Accumulate::Set);
        // Where few tiles share the sums, parts in f32 take the place of the result.
        let report = &bench.launches()[0];
        let parts = report.counts.unique_bytes as usize - 2 * (rows * width + width * inner);
        assert_eq!(parts % (rows * inner), 0, "whole results are written");
        assert_counts(report, multiply_adds, 2 * (rows * width + width * inner) + parts);

        let (mut dw, mut db) = (bench.sums([width, inner]), bench.sums([width]));
        linear::weight_gradient(card, &y, &x, (&mut dw, Accumulate::Set), (&mut db, Accumulate::Set));
        let launches = bench.launches();
        let (first, last) = (&launches[0], &launches[launches.len() - 1]);
        // The bias by a product with ones, each element of dy times eight columns, unless a warp of its own sums it. Its parts
        // are what the last launch sums.
        let ones = if streams { 0 } else { 8 * rows * width };
        let parts = last.counts.unique_bytes as usize - 4 * width;
        let results = first.counts.unique_bytes as usize - 2 * rows * (inner + width) - parts;
        assert_eq!(results % (4 * width * inner), 0, "whole results are written");
        assert_counts(first, multiply_adds + ones, 2 * rows * (inner + width) + parts + results);
        assert_eq!(first.function.kernel.name.ends_with("_128x192"), streams);
    }
}

#[test]
fn attention_multiplies_and_touches_what_it_must_and_waits_for_no_bank() {
    let shapes: [(usize, usize, usize, usize); 5] =
        [(1, 256, 2, 72), (1, 128, 2, 64), (2, 64, 2, 32), (1, 64, 2, 80), (1, 128, 1, 128)];
    for (capability, (batch, tokens, heads, width)) in [(8, 0), (9, 0)].into_iter().flat_map(|c| shapes.map(|s| (c, s)))
    {
        let Some(bench) = Bench::new(capability) else { return };
        let card = bench.card();
        let columns = heads * width;
        let (stream, statistics) = (2 * batch * tokens * columns, 4 * batch * heads * tokens);
        let one = |width| batch * heads * tokens * tokens * width;
        // Of a product over the width; those of wgmma go by 16.
        let over = one(if capability == (9, 0) { width.next_multiple_of(16) } else { width });
        let qkv = bench.values([batch, tokens, 3 * columns]);
        let [mut out, dout] = [(); 2].map(|()| bench.values([batch, tokens, columns]));
        let mut lse = bench.sums([batch, heads, tokens]);

        attention::forward(card, heads, &qkv, &mut out, &mut lse);
        let [report] = &bench.launches()[..] else { panic!("one launch") };
        assert_counts(report, over + one(width), 4 * stream + statistics);
        assert_eq!(report.function.kernel.name.contains("_stream_"), capability == (9, 0));

        let mut dqkv = bench.values([batch, tokens, 3 * columns]);
        attention::backward(card, heads, &qkv, &out, &lse, &dout, &mut dqkv);
        let [delta, report] = &bench.launches()[..] else { panic!("two launches") };
        assert_counts(delta, 0, 2 * stream + statistics);
        // Seven products: the scores and their gradients are made both where keys are owned and where queries are.
        assert_counts(report, 4 * over + 3 * one(width), 7 * stream + 2 * statistics);
        assert_eq!(report.function.kernel.name.contains("_stream_"), capability == (9, 0));
    }
}

#[test]
fn the_peak_is_counted_by_what_its_kernel_multiplies() {
    for (capability, block) in [((8, 0), 8 * 32_768), ((9, 0), 2 * 1_572_864)] {
        let Some(bench) = Bench::new(capability) else { return };
        let rate = engine::cuda::peak::flops(bench.card(), 1);
        assert!(rate > 0.0 && rate.is_finite());
        let blocks = 2 * bench.card().card().multiprocessors as u64;
        let loops =
            bench.launches().iter().map(|launch| 2 * launch.total().matrix_fma / (blocks * block)).collect::<Vec<_>>();
        // Launches double until one is long enough, which then is the one that counts.
        let doubled = (0..loops.len() as u32 - 1).map(|i| 1 << i).collect::<Vec<u64>>();
        assert!(loops.len() > 1 && loops[..loops.len() - 1] == doubled, "{capability:?}: {loops:?}");
        assert_eq!(loops.last(), doubled.last(), "{capability:?}");
    }
}

/// Asserts which memory a launch touched and, in bytes of whole sectors, what its accesses asked for.
fn assert_streams(report: &Report, touched: usize, asked: usize) {
    let (name, total) = (&report.function.kernel.name, report.total());
    assert_eq!(report.counts.unique_bytes, touched as u64, "{name}: bytes of memory");
    assert_eq!(32 * total.global_sectors, asked as u64, "{name}: bytes of sectors asked for");
    assert_eq!(total.shared_wavefronts, total.shared_ideal, "{name}: turns in shared memory");
}

const SECTOR: usize = 32;

#[test]
fn norms_move_each_element_of_a_stream_once() {
    let Some(bench) = Bench::new((8, 0)) else { return };
    let card = bench.card();
    let (images, tokens, width) = (2, 64, 1152);
    let rows = images * tokens;
    // Of one stream, and of one chunk of the modulation.
    let (stream, chunk) = (2 * rows * width, 2 * images * width);
    let [s, branch] = [(); 2].map(|()| bench.values([images, tokens, width]));
    let values = bench.values([images, 3 * width]);
    let modulation = Modulation { values: &values, shift: 1, scale: 2 };
    let branch = Branch { value: &branch, gate: 0 };
    let [mut gated, mut normed] = [(); 2].map(|()| bench.values([images, tokens, width]));
    let mut stats = bench.sums([images, tokens, 2]);

    gated_norm::gated_norm(card, &s, branch, modulation, &mut gated, &mut normed, &mut stats);
    let [report] = &bench.launches()[..] else { panic!("one launch") };
    // A row asks for the three chunks of its image again, which level two has, and writes its stats alone.
    assert_streams(report, 4 * stream + 3 * chunk + 8 * rows, 4 * stream + 3 * stream + SECTOR * rows);

    let mut dmodulation = bench.values([images, 3 * width]);
    let (dnormed, dstream) = (&mut normed, &mut s.copied(&bench.device, "test"));
    bench.launches();
    let into = (dstream, Accumulate::Add);
    gated_norm::backward(card, dnormed, into, &gated, Some(branch), &stats, modulation, &mut dmodulation);
    let [report, sums] = &bench.launches()[..] else { panic!("two launches") };
    // Four streams are read and two of them written. A block asks for scale and gate again with every two rows, rather than
    // hold them in registers, and writes three rows of sums, whose sectors two stores share.
    let blocks = sums.counts.unique_bytes as usize / (4 * 3 * width) - images / 2;
    let (parts, warps) = (4 * 3 * width * blocks, width.div_ceil(8 * 32));
    let touched = 4 * stream + 2 * chunk + 8 * rows + parts;
    assert_streams(report, touched, 6 * stream + stream + SECTOR * rows * warps + 2 * parts);
    assert_streams(sums, parts + 3 * chunk, parts + 2 * 3 * chunk);
    assert!(parts * 8 <= 6 * stream, "sums are an eighth of the traffic or less");
}

#[test]
fn patches_are_read_and_embedded_once() {
    let Some(bench) = Bench::new((8, 0)) else { return };
    let card = bench.card();
    let (images, tokens, inner, width) = (2, 64, 16, 512);
    let rows = images * tokens;
    let patches = bench.values([images, tokens, inner]);
    let [w, position] = [bench.values([width, inner]), bench.values([tokens, width])];
    let (bias, mut x) = (bench.values([width]), bench.values([images, tokens, width]));
    bench.launches();
    patch_embed::forward(card, &patches, [&w, &bias, &position], None, &mut x);
    let [report] = &bench.launches()[..] else { panic!("one launch") };
    let touched = 2 * (rows * inner + width * inner + width + tokens * width + rows * width);
    // Of x each element with its position, and one bias for eight rows; of both factors, for 32 rows by 32 columns, what a
    // fragment takes of a row is half a sector.
    let asked = 2 * (2 * rows * width + rows * width / 8 + 2 * rows * width / 32 * inner * 2);
    assert_streams(report, touched, asked);
}

#[test]
fn an_update_moves_42_bytes_for_each_parameter() {
    let Some(bench) = Bench::new((8, 0)) else { return };
    let (card, count) = (bench.card(), 1 << 16);
    let shapes = [[count].into()];
    let slab = || Slab::zeros(&bench.device, "test", &shapes).unwrap();
    let (mut weights, mut gradients) = (slab(), slab());
    gradients.part_mut(0).write(&normals(1, count, 1.0));
    let mut moments = Moments::new(&bench.device, &weights, &shapes, &[0.9]).unwrap();
    let [loss, rate] = [(); 2].map(|()| Tensor::from_slice(&bench.device, "test", [1], &[1.0f32]));
    let (mut working, mut report) = (working(&bench.device, &weights).unwrap(), Done::memory(&bench.device));
    let adamw = AdamW { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weight_decay: 0.1 };
    let both = Weights { masters: &mut weights, working: working.as_mut() };
    bench.launches();
    let settings = Update { adamw, clip: None };
    update(&bench.device, settings, &rate, &loss, both, &gradients, &mut moments, &mut report);
    let [norm, step] = &bench.launches()[..] else { panic!("two launches") };
    let asked = |report: &Report| 32 * report.total().global_sectors as usize;
    // Besides, a block writes its sum and arrives, and the last one decides.
    let (blocks, few) = (8 * card.card().multiprocessors, 5 * SECTOR);
    assert_eq!(norm.counts.unique_bytes as usize, 4 * count + 8 * blocks + few);
    assert!((4 * count..4 * count + (3 * blocks + 32) * SECTOR).contains(&asked(norm)), "{} bytes", asked(norm));
    // The five numbers that were decided, for each warp.
    assert_streams(step, 22 * count + SECTOR, 38 * count + 5 * 8 * blocks * SECTOR);
}

/// Bytes by tensor cores: each row once for all queries.
#[test]
fn a_selection_reads_one_byte_a_value_and_waits_for_no_bank() {
    for queries in [16, 64] {
        let Some(bench) = Bench::new((9, 0)) else { return };
        let (card, device, rows, width) = (bench.card(), &bench.device, 256, 192);
        let tensor = |shape: [usize; 2], dtype| {
            let mut tensor = Tensor::new(device, "test", shape, dtype);
            tensor.zero();
            tensor
        };
        let (values, facts) = (tensor([rows, width], DType::U8), tensor([4, rows], DType::F64));
        let rows_of_it = score::Rows { values, slices: None, facts };
        let asked =
            score::Asked { digits: tensor([queries, width], DType::U8), terms: tensor([queries, 8], DType::F64) };
        let mut extremes = tensor([queries, rows / score::LEAF * 4], DType::F64);
        score::extremes(card, &rows_of_it, 0..rows, &asked, &mut extremes);
        let [report] = &bench.launches()[..] else { panic!("one launch") };
        let facts = 4 * 8 * rows + 8 * 8 * queries + 4 * 8 * queries * rows / score::LEAF;
        assert_counts(report, rows * queries * width, (rows + queries) * width + facts);
    }
}
