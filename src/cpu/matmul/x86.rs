//! The instruction sets of x86-64.

#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every block is the one of its function, and passes on the promises that `Vector` asks of its caller: the \
              instruction set, and LANES words at each pointer"
)]

use super::tile::Tile;
use super::vector::{LANES, Vector, Work};
use std::arch::x86_64::*;

#[derive(Clone, Copy)]
pub(super) struct Avx2([__m256; 2]);

impl Vector for Avx2 {
    const DEPTH: usize = 1;
    const ROWS: usize = 4;
    const VECTORS: usize = 1;

    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { Avx2([_mm256_setzero_ps(); 2]) }
    }

    #[inline(always)]
    unsafe fn load(from: *const u32) -> Self {
        unsafe { Avx2([_mm256_loadu_ps(from.cast()), _mm256_loadu_ps(from.add(8).cast())]) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u32) {
        unsafe {
            _mm256_storeu_ps(to.cast(), self.0[0]);
            _mm256_storeu_ps(to.add(8).cast(), self.0[1]);
        }
    }

    #[inline(always)]
    unsafe fn add_product(self, a: u32, b: Self) -> Self {
        unsafe {
            let a = _mm256_set1_ps(f32::from_bits(a));
            Avx2([_mm256_fmadd_ps(a, b.0[0], self.0[0]), _mm256_fmadd_ps(a, b.0[1], self.0[1])])
        }
    }

    #[inline(always)]
    unsafe fn add(self, x: Self) -> Self {
        unsafe { Avx2([_mm256_add_ps(self.0[0], x.0[0]), _mm256_add_ps(self.0[1], x.0[1])]) }
    }

    #[inline(always)]
    unsafe fn tile(_vectors: usize, tile: Tile) {
        unsafe { tile.compute::<Self, 4, 1>() };
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn run(work: impl Work) {
        work.run::<Self>();
    }
}

macro_rules! avx512 {
    (
        $name:ident, depth: $depth:literal, features: $features:literal,
        |$sum:ident, $a:ident, $b:ident| $add:expr, $($conversion:item)*
    ) => {
        #[derive(Clone, Copy)]
        pub(super) struct $name(__m512);

        impl Vector for $name {
            const DEPTH: usize = $depth;
            // 24 sums, 3 vectors of B and one element of A in 32 registers; 24 is also beyond latency times ports.
            const ROWS: usize = 8;
            const VECTORS: usize = 3;

            #[inline(always)]
            unsafe fn zero() -> Self {
                unsafe { $name(_mm512_setzero_ps()) }
            }

            #[inline(always)]
            unsafe fn load(from: *const u32) -> Self {
                unsafe { $name(_mm512_loadu_ps(from.cast())) }
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut u32) {
                unsafe { _mm512_storeu_ps(to.cast(), self.0) };
            }

            #[inline(always)]
            unsafe fn add_product(self, a: u32, b: Self) -> Self {
                unsafe {
                    let ($sum, $a, $b) = (self.0, _mm512_set1_ps(f32::from_bits(a)), b.0);
                    $name($add)
                }
            }

            #[inline(always)]
            unsafe fn add(self, x: Self) -> Self {
                unsafe { $name(_mm512_add_ps(self.0, x.0)) }
            }

            #[inline(always)]
            unsafe fn tile(vectors: usize, tile: Tile) {
                unsafe {
                    match vectors {
                        3 => tile.compute::<Self, 8, 3>(),
                        2 => tile.compute::<Self, 8, 2>(),
                        _ => tile.compute::<Self, 8, 1>(),
                    }
                }
            }

            $($conversion)*

            /// Four rounds, each of which interleaves row i with row i + 8: a round moves the top bit of the row's
            /// number to the end of the column's, so that four of them exchange the two.
            #[inline(always)]
            unsafe fn transpose(x: &mut [Self; LANES]) {
                unsafe {
                    let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
                    let high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
                    for _ in 0..4 {
                        let before = *x;
                        for i in 0..LANES / 2 {
                            x[2 * i].0 = _mm512_permutex2var_ps(before[i].0, low, before[i + 8].0);
                            x[2 * i + 1].0 = _mm512_permutex2var_ps(before[i].0, high, before[i + 8].0);
                        }
                    }
                }
            }

            #[target_feature(enable = $features)]
            unsafe fn run(work: impl Work) {
                work.run::<Self>();
            }
        }
    };
}

avx512!(
    Avx512,
    depth: 1,
    features: "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma",
    |sum, a, b| _mm512_fmadd_ps(a, b, sum),
);
avx512!(
    Avx512Bf16,
    depth: 2,
    features: "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma",
    |sum, a, b| {
        let a: __m512bh = std::mem::transmute(a);
        let b: __m512bh = std::mem::transmute(b);
        _mm512_dpbf16_ps(sum, a, b)
    },
    // The conversion takes subnormal numbers for zeros, as the product does.
    #[inline(always)]
    unsafe fn along(from: *const f32, _round: bool) -> Self {
        unsafe {
            let (low, high) = (_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(LANES)));
            Avx512Bf16(std::mem::transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(high, low)))
        }
    }

    #[inline(always)]
    unsafe fn across(from: *const f32, stride: usize, _round: bool) -> Self {
        unsafe {
            let (low, high) = (_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(stride)));
            let halves = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
            // Element i of the one, then element i of the other.
            let i = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let pairs = _mm512_or_si512(i, _mm512_slli_epi32::<16>(_mm512_add_epi32(i, _mm512_set1_epi32(16))));
            Avx512Bf16(_mm512_castsi512_ps(_mm512_permutexvar_epi16(pairs, halves)))
        }
    }
);
