//! What the kernels of products and of attention do on a card, counted: bounds that a change of a kernel must keep.
//!
//! The counts are those of `tools/emulator`: multiply-adds of tensor cores, bytes of the distinct sectors of memory that a
//! launch touches, and the turns that accesses to shared memory take.

mod common;

use common::{Emulated, normals, put};
use emulator::{Policy, Report};
use engine::base::{Accumulate, DType};
use engine::cuda::{attention, linear, mlp};
use engine::device::Device;
use engine::device::cuda::{Cuda, MODULES};
use engine::tensor::Tensor;
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
    let Some(bench) = Bench::new((8, 0)) else { return };
    let card = bench.card();
    for (batch, tokens, heads, width) in
        [(1, 256, 2, 72), (1, 128, 2, 64), (2, 64, 2, 32), (1, 64, 2, 80), (1, 64, 1, 128)]
    {
        let columns = heads * width;
        let (stream, statistics) = (2 * batch * tokens * columns, 4 * batch * heads * tokens);
        let one = batch * heads * tokens * tokens * width;
        let qkv = bench.values([batch, tokens, 3 * columns]);
        let [mut out, dout] = [(); 2].map(|()| bench.values([batch, tokens, columns]));
        let mut lse = bench.sums([batch, heads, tokens]);

        attention::forward(card, heads, &qkv, &mut out, &mut lse);
        let [report] = &bench.launches()[..] else { panic!("one launch") };
        assert_counts(report, 2 * one, 4 * stream + statistics);

        let mut dqkv = bench.values([batch, tokens, 3 * columns]);
        attention::backward(card, heads, &qkv, &out, &lse, &dout, &mut dqkv);
        let [delta, report] = &bench.launches()[..] else { panic!("two launches") };
        assert_counts(delta, 0, 2 * stream + statistics);
        // Seven products: the scores and their gradients are made both where keys are owned and where queries are.
        assert_counts(report, 7 * one, 7 * stream + 2 * statistics);
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
        // The first is long enough on an emulated card.
        assert_eq!(loops, [16, 16], "{capability:?}");
    }
}
