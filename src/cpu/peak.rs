//! The peaks of the processor and of its memory, measured: the denominators of every share of a peak that is printed.

use crate::base::DType;
use crate::device::{Cpu, Device, Isa};
use crate::tensor::Tensor;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// The most FLOP/s that all threads of `cpu` reach together on multiply-adds of registers, `cpu.products` in and f32 out.
///
/// The best of `rounds` rounds of about a millisecond. On a busy machine, or one whose clock moves, take many rounds, right
/// beside what they are compared with.
pub fn flops(cpu: &Cpu, rounds: usize) -> f64 {
    let round = || {
        let done = AtomicUsize::new(0);
        let start = Instant::now();
        cpu.threads.run(cpu.threads.count(), |_| {
            done.fetch_add(run(cpu.isa(), cpu.products, 100_000), Ordering::Relaxed);
        });
        done.into_inner() as f64 / start.elapsed().as_secs_f64()
    };
    (0..rounds).map(|_| round()).fold(0.0, f64::max)
}

/// Two arrays, together several times the last-level cache, whose passage shows what the memory gives.
pub struct Memory {
    sum: Tensor,
    x: Tensor,
}

impl Memory {
    /// Bytes of each array.
    const BYTES: usize = 64 << 20;

    pub fn new(device: &Device) -> Memory {
        let [sum, x] = [(); 2].map(|()| {
            let mut array = Tensor::new(device, "bandwidth", [Memory::BYTES / 4], DType::F32);
            array.f32_mut().fill(1.0);
            array
        });
        Memory { sum, x }
    }

    /// The bytes/s of one `sum += x` on all threads: what is written was read before, so that no hidden read of lines about
    /// to be overwritten adds to the three words an element that are counted. Afterwards the caches hold nothing else.
    pub fn pass(&mut self, cpu: &Cpu) -> f64 {
        let start = Instant::now();
        super::add(cpu, self.sum.f32_mut(), self.x.f32());
        (3 * Memory::BYTES) as f64 / start.elapsed().as_secs_f64()
    }
}

/// The bytes/s at which all threads read `bytes` that no cache holds: the best of `rounds` passes.
pub fn read_rate(device: &Device, cpu: &Cpu, bytes: usize, rounds: usize) -> f64 {
    let mut x = Tensor::new(device, "bandwidth", [bytes / 4], DType::F32);
    x.f32_mut().fill(1.0);
    let x = x.f32();
    let pass = || {
        let start = Instant::now();
        cpu.threads.ranges(x.len(), 1 << 18, |range| {
            black_box(total(cpu.isa(), &x[range]));
        });
        bytes as f64 / start.elapsed().as_secs_f64()
    };
    (0..rounds).map(|_| pass()).fold(0.0, f64::max)
}

vectorised! {
    fn total(x: &[f32]) -> f32 {
        super::sums::sum_of(x.len(), #[inline(always)] |i| x[i])
    }
}

/// Returns the operations done in `steps` rounds over all sums.
fn run(isa: Isa, products: DType, steps: usize) -> usize {
    // SAFETY: an `Isa` is never above what the processor was found to have.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        match (isa, products) {
            (Isa::Avx512Bf16, DType::BF16) => x86::avx512_bf16(steps),
            (Isa::Avx512 | Isa::Avx512Bf16, _) => x86::avx512(steps),
            (Isa::Avx2, _) => x86::avx2(steps),
            _ => portable(steps),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    portable(steps)
}

fn portable(steps: usize) -> usize {
    let mut sums = [[0.0_f32; 4]; 12];
    let (a, b) = (black_box([0.5; 4]), black_box([0.25; 4]));
    for _ in 0..steps {
        for sum in &mut sums {
            for i in 0..4 {
                sum[i] += a[i] * b[i];
            }
        }
    }
    black_box(sums);
    steps * 2 * sums.as_flattened().len()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::black_box;
    use std::arch::x86_64::*;

    /// `$sums` sums in flight, beyond latency times ports and within the registers, of `$lanes` products each.
    macro_rules! multiply_adds {
        (
            $name:ident: $features:literal, $sums:literal x $lanes:literal, $zero:expr, $one:expr,
            |$sum:ident, $one_in:ident| $add:expr
        ) => {
            #[target_feature(enable = $features)]
            pub fn $name(steps: usize) -> usize {
                let mut sums = [$zero; $sums];
                let $one_in = black_box($one);
                for _ in 0..steps {
                    for $sum in &mut sums {
                        *$sum = $add;
                    }
                }
                black_box(sums);
                steps * 2 * $sums * $lanes
            }
        };
    }
    multiply_adds!(avx2: "avx2,fma", 12 x 8, _mm256_setzero_ps(), _mm256_set1_ps(1.0), |sum, one| {
        _mm256_fmadd_ps(one, one, *sum)
    });
    multiply_adds!(avx512: "avx512f", 16 x 16, _mm512_setzero_ps(), _mm512_set1_ps(1.0), |sum, one| {
        _mm512_fmadd_ps(one, one, *sum)
    });
    multiply_adds!(avx512_bf16: "avx512f,avx512bf16", 16 x 32, _mm512_setzero_ps(), {
        _mm512_cvtne2ps_pbh(_mm512_set1_ps(1.0), _mm512_set1_ps(1.0))
    }, |sum, one| _mm512_dpbf16_ps(*sum, one, one));
}
