//! The devices that tests run on, and what they are given and give.

use super::Emulated;
use emulator::{Checks, Policy};
use engine::base::DType;
use engine::base::rng::{Purpose, Stream};
use engine::device::cuda::{Cuda, MODULES, Nvidia};
use engine::device::{Cpu, Device, Isa};
use engine::tensor::Tensor;
use half::bf16;
use std::io::Write;
use std::num::NonZero;
use std::sync::{Arc, Once};

/// Standard normals scaled by `scale`; `name` picks the stream.
pub fn normals(name: u32, len: usize, scale: f32) -> Vec<f32> {
    let mut values = vec![0.0; len];
    Stream::new(0x5eed, name, 0, Purpose::Fixture).fill_normals(&mut values);
    values.iter_mut().for_each(|x| *x *= scale);
    values
}

/// Every processor device that this machine can be: each instruction set, one thread and several.
pub fn cpus(products: DType) -> Vec<(String, Device)> {
    static SAID: Once = Once::new();
    let mut devices = vec![];
    for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16] {
        if isa > Isa::detect() {
            continue;
        }
        for threads in [1, 3] {
            let cpu = Cpu::new(NonZero::new(threads), products).unwrap().with_isa(isa).poisoned();
            devices.push((format!("{isa}, {products:?} products, {threads} threads"), Device::cpu(cpu)));
        }
    }
    // Past the capture of a test's output, which would keep it from whoever reads that all is well.
    SAID.call_once(|| {
        let skipped = [Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16].into_iter().filter(|&isa| isa > Isa::detect());
        let names: Vec<String> = skipped.map(|isa| isa.to_string()).collect();
        if !names.is_empty() {
            let _ = writeln!(std::io::stderr(), "not tested, since this processor lacks it: {}", names.join(", "));
        }
    });
    devices
}

/// The processors of [`cpus`] with products of either type.
pub fn all_cpus() -> Vec<(String, Device)> {
    [DType::F32, DType::BF16].into_iter().flat_map(cpus).collect()
}

/// What devices share that give the same bits: the type of products, and the instruction set whatever the threads, or the
/// capability of a card whatever the policy.
pub fn kind(device: &Device) -> String {
    match device {
        Device::Cpu(cpu) => format!("{}, {:?}", cpu.isa(), device.products()),
        Device::Cuda(card) => format!("{:?}, {:?}", card.card().capability, device.products()),
    }
}

/// Every emulated card with activations of this type; none where the engine was built without nvcc. With `ENGINE_TEST_CARD=N`
/// it is card N of this machine instead.
///
/// Asynchronous work happens as early and as late as it may at capability 9.0. At 8.0 it is early in bf16 and late in f32.
pub fn cards(activations: DType) -> Vec<(String, Device)> {
    let kinds: &[_] = match activations {
        DType::F32 => &[((8, 0), Policy::Lazy)],
        _ => &[((8, 0), Policy::Eager), ((9, 0), Policy::Lazy), ((9, 0), Policy::Eager)],
    };
    cards_of(kinds, Checks::USUAL, activations)
}

/// As [`cards`], for the harness of operations: work happens late and early on every card, and early under these checks.
pub fn cards_under(checks: Checks, activations: DType) -> Vec<(String, Device)> {
    let kinds: &[_] = match activations {
        DType::F32 => &[((8, 0), Policy::Lazy), ((8, 0), Policy::Eager)],
        _ => &[((8, 0), Policy::Lazy), ((8, 0), Policy::Eager), ((9, 0), Policy::Lazy), ((9, 0), Policy::Eager)],
    };
    cards_of(kinds, checks, activations)
}

fn cards_of(kinds: &[((u32, u32), Policy)], checks: Checks, activations: DType) -> Vec<(String, Device)> {
    static SAID: Once = Once::new();
    if MODULES.is_empty() {
        SAID.call_once(|| {
            let _ = writeln!(std::io::stderr(), "not tested, since the engine was built without nvcc: CUDA kernels");
        });
        return vec![];
    }
    if let Some(number) = std::env::var_os("ENGINE_TEST_CARD") {
        let number = number.to_str().and_then(|number| number.parse().ok()).expect("ENGINE_TEST_CARD is a number");
        let driver = Arc::new(Nvidia::open(number).unwrap());
        // Many tests share the card.
        let cuda = Cuda::within(driver, activations, 1 << 30).unwrap().poisoned();
        return vec![(format!("{}, {activations:?}", cuda.card().name), Device::cuda(cuda))];
    }
    let card = |&(capability, policy)| {
        let checks = if policy == Policy::Eager { checks } else { Checks::USUAL };
        let cuda = Cuda::new(Arc::new(Emulated::new(capability, policy).under(checks)), activations).unwrap();
        (format!("{}, {activations:?}", cuda.card().name), Device::cuda(cuda))
    };
    kinds.iter().map(card).collect()
}

/// Every device that computes with f32 activations.
pub fn devices() -> Vec<(String, Device)> {
    cpus(DType::F32).into_iter().chain(cards(DType::F32)).collect()
}

/// Writes numbers to a tensor of either type of activations.
pub fn put(tensor: &mut Tensor, values: &[f32]) {
    match tensor.dtype() {
        DType::BF16 => tensor.write(&values.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<_>>()),
        _ => tensor.write(values),
    }
}

/// The numbers of a tensor of either type of activations.
pub fn get(tensor: &Tensor) -> Vec<f32> {
    match tensor.dtype() {
        DType::BF16 => tensor.to_vec::<bf16>().into_iter().map(bf16::to_f32).collect(),
        _ => tensor.to_vec(),
    }
}

/// The fastest device, for tests of whole systems.
pub fn cpu(threads: usize) -> Device {
    Device::cpu(Cpu::new(NonZero::new(threads), DType::F32).unwrap().poisoned())
}
