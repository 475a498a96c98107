//! What the product asks of an instruction set.

use super::pack::rounded;
use super::tile::Tile;

/// Elements of a vector, and the width of the strips that operands are packed in: one AVX-512 register of words.
pub(super) const LANES: usize = 16;

/// Sixteen sums of one instruction set, and the shape of its tiles.
///
/// A packed operand is made of words of 32 bits: one f32, or two bf16 of consecutive k, the first in the lower half. Both have the same layout, so packing, blocking and the tile are written once.
///
/// # Safety
/// Every function needs the instruction set; `load` and `store` need `LANES` words of memory at the pointer.
pub(super) trait Vector: Copy {
    /// Elements of consecutive k in a word.
    const DEPTH: usize;
    /// Rows of a tile; divides `LANES`.
    const ROWS: usize;
    /// Most vectors in a row of a tile, such that the sums, a row of B and an element of A fit into the registers.
    const VECTORS: usize;

    unsafe fn zero() -> Self;
    unsafe fn load(from: *const u32) -> Self;
    unsafe fn store(self, to: *mut u32);
    /// `self + a b` for a word of A and the words of B; a word of two bf16 adds two products.
    unsafe fn add_product(self, a: u32, b: Self) -> Self;
    /// `self + x` of sums.
    unsafe fn add(self, x: Self) -> Self;
    /// The tile of `vectors <= VECTORS` vectors in a row.
    unsafe fn tile(vectors: usize, tile: Tile);
    /// Runs `work` compiled for the instruction set.
    unsafe fn run(work: impl Work);

    /// The words of `DEPTH` vectors of consecutive k, each element rounded to bf16 if `round`.
    #[inline(always)]
    unsafe fn words(x: &[Self], round: bool) -> Self {
        let mut words = [0.0; LANES];
        // SAFETY: the caller's.
        unsafe {
            x[0].store(words.as_mut_ptr().cast());
            if round {
                for x in &mut words {
                    *x = rounded(*x);
                }
            }
            Self::load(words.as_ptr().cast())
        }
    }

    /// Exchanges rows and columns.
    #[inline(always)]
    unsafe fn transpose(x: &mut [Self; LANES]) {
        let mut square = [[0; LANES]; LANES];
        // SAFETY: the caller's.
        unsafe {
            for (i, x) in x.iter().enumerate() {
                let mut row = [0; LANES];
                x.store(row.as_mut_ptr());
                for (column, word) in square.iter_mut().zip(row) {
                    column[i] = word;
                }
            }
            for (x, row) in x.iter_mut().zip(&square) {
                *x = Self::load(row.as_ptr());
            }
        }
    }
}

/// Something to run compiled for an instruction set; `run` must be `#[inline(always)]`.
pub(super) trait Work {
    fn run<V: Vector>(self);
}

/// Plain Rust, for every processor. Products and sums are rounded separately.
#[derive(Clone, Copy)]
pub(super) struct Portable([f32; LANES]);

impl Vector for Portable {
    const DEPTH: usize = 1;
    const ROWS: usize = 2;
    const VECTORS: usize = 1;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Portable([0.0; LANES])
    }

    #[inline(always)]
    unsafe fn load(from: *const u32) -> Self {
        // SAFETY: the caller's.
        Portable(unsafe { from.cast::<[f32; LANES]>().read() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u32) {
        // SAFETY: the caller's.
        unsafe { to.cast::<[f32; LANES]>().write(self.0) };
    }

    #[inline(always)]
    unsafe fn add_product(mut self, a: u32, b: Self) -> Self {
        let a = f32::from_bits(a);
        for (sum, b) in self.0.iter_mut().zip(b.0) {
            *sum += a * b;
        }
        self
    }

    #[inline(always)]
    unsafe fn add(mut self, x: Self) -> Self {
        for (sum, x) in self.0.iter_mut().zip(x.0) {
            *sum += x;
        }
        self
    }

    #[inline(always)]
    unsafe fn tile(_vectors: usize, tile: Tile) {
        // SAFETY: the caller's.
        unsafe { tile.compute::<Self, 2, 1>() };
    }

    unsafe fn run(work: impl Work) {
        work.run::<Self>();
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every block is the one of its function, and passes on the promises that `Vector` asks of its caller: the \
              instruction set, and LANES words at each pointer"
)]
pub(super) mod x86 {
    use super::{LANES, Tile, Vector, Work};
    use std::arch::x86_64::*;

    #[derive(Clone, Copy)]
    pub(in crate::cpu::matmul) struct Avx2([__m256; 2]);

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
        ($name:ident, depth: $depth:literal, features: $features:literal, |$sum:ident, $a:ident, $b:ident| $add:expr) => {
            #[derive(Clone, Copy)]
            pub(in crate::cpu::matmul) struct $name(__m512);

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

                #[inline(always)]
                unsafe fn words(x: &[Self], round: bool) -> Self {
                    unsafe {
                        $name(match x {
                            [low, high] => pairs(rounded(low.0), rounded(high.0)),
                            _ if round => rounded(x[0].0),
                            _ => x[0].0,
                        })
                    }
                }

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

    avx512!(Avx512, depth: 1, features: "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma", |sum, a, b| {
        _mm512_fmadd_ps(a, b, sum)
    });
    avx512!(Avx512Bf16, depth: 2, features: "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma", |sum, a, b| {
        _mm512_dpbf16_ps(sum, std::mem::transmute::<__m512, __m512bh>(a), std::mem::transmute::<__m512, __m512bh>(b))
    });

    /// [`rounded`](super::rounded) on sixteen lanes.
    #[inline(always)]
    unsafe fn rounded(x: __m512) -> __m512 {
        unsafe {
            let bits = _mm512_castps_si512(x);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let nearest = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
            let nearest = _mm512_mask_or_epi32(nearest, nan, bits, _mm512_set1_epi32(0x0040_0000));
            _mm512_castsi512_ps(_mm512_and_si512(nearest, _mm512_set1_epi32(0xffff_0000_u32 as i32)))
        }
    }

    /// The upper halves of two vectors, `low`'s in the lower half of each word.
    #[inline(always)]
    unsafe fn pairs(low: __m512, high: __m512) -> __m512 {
        unsafe {
            let low = _mm512_srli_epi32::<16>(_mm512_castps_si512(low));
            _mm512_castsi512_ps(_mm512_or_si512(low, _mm512_castps_si512(high)))
        }
    }
}
