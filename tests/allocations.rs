//! What a warm training step takes from the heap: nothing that grows with the problem.
//!
//! A test binary of its own, since it replaces the allocator and counts what every thread takes.

use engine::base::{DType, Mask, PatchGrid, Path, Prediction, Rate, Times, Weighting};
use engine::device::{Cpu, Device};
use engine::nn::{Config, Family};
use engine::ops::noise::Noise;
use engine::ops::update::AdamW;
use engine::tape::Keep;
use engine::train::{Settings, Step};
use std::alloc::{GlobalAlloc, Layout, System};
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

struct Counting;

static CALLS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it came; `realloc` is the default one, of these two.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Relaxed);
        BYTES.fetch_add(layout.size(), Relaxed);
        LARGEST.fetch_max(layout.size(), Relaxed);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Bytes that one node of the arena's book may take; how many nodes the book has depends on the addresses that are free.
const NODE: usize = 512;

/// What a step asks of the heap.
#[derive(Debug)]
struct Asked {
    calls: usize,
    bytes: usize,
    largest: usize,
}

/// What the third step of a model of two blocks asks for.
fn third_step(width: usize, side: usize, batch: usize, products: DType, keep: Keep) -> Asked {
    let grid = PatchGrid { channels: 4, height: side, width: side, patch: 2 };
    let settings = Settings {
        model: Config { family: Family::Sit, grid, depth: 2, width, heads: 2, classes: 10, learn_sigma: false },
        batch,
        mask: Mask { loss_drop: Rate::constant(0.5), ..Mask::patches(0.5) },
        noise: Noise {
            path: Path::Linear,
            prediction: Prediction::V,
            times: Times::UNIFORM,
            weighting: Weighting::None,
            label_dropout: 0.1,
            null_label: 10,
            seed: 1,
        },
        adamw: AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.1 },
        clip: Some(1.0),
        averages: vec![0.99, 0.999],
        keep,
        seed: 1,
    };
    // Of several threads it is chance which one meets a task of its kind for the first time, and keeps memory for the next.
    let device = Device::cpu(Cpu::new(NonZero::new(1), products).unwrap());
    let mut step = Step::new(&device, settings).unwrap();
    let (images, labels) = (vec![0.5; batch * grid.image()], vec![1; batch]);
    for number in 0..2 {
        step.run(number, 1e-3, &images, &labels).unwrap();
    }
    let counters = [&CALLS, &BYTES, &LARGEST];
    counters.iter().for_each(|counter| counter.store(0, Relaxed));
    assert!(step.run(2, 1e-3, &images, &labels).unwrap().applied);
    let [calls, bytes, largest] = counters.map(|counter| counter.load(Relaxed));
    Asked { calls, bytes, largest }
}

/// Of an operation the tape keeps its undo and its outputs' places, on the heap. These are as many, and as large, whatever
/// the batch, the tokens and the width: all numbers live in the arena, or on the stack.
#[test]
fn a_warm_step_takes_nothing_from_the_heap_that_grows_with_the_problem() {
    for products in [DType::F32, DType::BF16] {
        for keep in [Keep::Everything, Keep::BlockOutputs] {
            let small = third_step(16, 8, 2, products, keep);
            for (width, side, batch) in [(128, 8, 2), (16, 32, 2), (16, 8, 16), (128, 32, 4)] {
                let large = third_step(width, side, batch, products, keep);
                assert_eq!(large.largest, small.largest, "width {width}, side {side}, batch {batch}: {large:?}");
                assert!(
                    large.calls.abs_diff(small.calls) <= 4 && large.bytes.abs_diff(small.bytes) <= 4 * NODE,
                    "width {width}, side {side}, batch {batch}: {large:?}, not {small:?}"
                );
            }
        }
    }
}
