//! The peak of the processor, measured: the denominator of every share of the peak that is printed.

use crate::base::DType;
use crate::device::{Cpu, Isa};
use std::hint::black_box;
use std::time::Instant;

/// Sums in flight: more than latency times ports of any processor at hand, and few enough for its registers.
const CHAINS: usize = 12;

/// The most FLOP/s that all threads of `cpu` reach together on multiply-adds of registers, `cpu.products` in and f32 out.
///
/// The best of `rounds` rounds of about a millisecond; on a busy machine, or one whose clock moves, more rounds and a
/// measurement right beside the one it is compared with are worth having.
pub fn flops(cpu: &Cpu, rounds: usize) -> f64 {
    const STEPS: usize = 200_000;
    let threads = cpu.threads.count();
    let round = || {
        let start = Instant::now();
        cpu.threads.run(threads, |_| run(cpu.isa(), cpu.products, STEPS));
        (threads * STEPS * flops_of_a_step(cpu.isa(), cpu.products)) as f64 / start.elapsed().as_secs_f64()
    };
    (0..rounds).map(|_| round()).fold(0.0, f64::max)
}

fn flops_of_a_step(isa: Isa, products: DType) -> usize {
    let lanes = match (isa, products) {
        (Isa::Portable, _) => 4,
        (Isa::Avx2, _) => 8,
        (Isa::Avx512Bf16, DType::BF16) => 32,
        (Isa::Avx512 | Isa::Avx512Bf16, _) => 16,
    };
    2 * CHAINS * lanes
}

fn run(isa: Isa, products: DType, steps: usize) {
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
    portable(steps);
}

fn portable(steps: usize) {
    let mut sums = [[0.0_f32; 4]; CHAINS];
    let (a, b) = (black_box([0.5; 4]), black_box([0.25; 4]));
    for _ in 0..steps {
        for sum in &mut sums {
            for i in 0..4 {
                sum[i] += a[i] * b[i];
            }
        }
    }
    black_box(sums);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{CHAINS, black_box};
    use std::arch::x86_64::*;

    macro_rules! chains {
        ($name:ident, $features:literal, $zero:expr, $operand:expr, $add:ident($sum:ident, $a:ident, $b:ident) $order:tt) => {
            #[target_feature(enable = $features)]
            pub fn $name(steps: usize) {
                let mut sums = [$zero; CHAINS];
                let ($a, $b) = (black_box($operand), black_box($operand));
                for _ in 0..steps {
                    for $sum in &mut sums {
                        *$sum = $add $order;
                    }
                }
                black_box(sums);
            }
        };
    }
    chains!(avx2, "avx2,fma", _mm256_setzero_ps(), _mm256_set1_ps(0.5), _mm256_fmadd_ps(s, a, b)(a, b, *s));
    chains!(avx512, "avx512f", _mm512_setzero_ps(), _mm512_set1_ps(0.5), _mm512_fmadd_ps(s, a, b)(a, b, *s));
    chains!(
        avx512_bf16,
        "avx512f,avx512bf16",
        _mm512_setzero_ps(),
        _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5), _mm512_set1_ps(0.5)),
        _mm512_dpbf16_ps(s, a, b)(*s, a, b)
    );
}
