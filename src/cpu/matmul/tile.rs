use super::ahead::{Lines, prefetch};
use super::vector::{LANES, Vector};

/// The inner loop: `sums (rows, vectors * LANES) (+)= A (rows, steps) B (steps, vectors * LANES)` on packed words.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub steps: usize,
    /// `ROWS` neighbouring rows of a strip of A: row i of step s at `s * LANES + i`.
    pub a: *const u32,
    /// Neighbouring strips of B: element j of step s in vector v at `v * b_stride + s * LANES + j`.
    pub b: *const u32,
    pub b_stride: usize,
    /// What is asked for ahead of its use, a line a step.
    pub next: Lines,
    /// Where the sums go, row-major without gaps.
    pub sums: *mut u32,
    /// Whether the sums are added to what is stored there.
    pub resume: bool,
}

impl Tile {
    /// # Safety
    /// - The processor has the instruction set of `V`.
    /// - Everything that the fields describe lies in live memory.
    #[inline(always)]
    pub unsafe fn compute<V: Vector, const ROWS: usize, const VECTORS: usize>(self) {
        // SAFETY: the loops stay inside what the fields describe.
        unsafe {
            let mut sums = [[V::zero(); VECTORS]; ROWS];
            let (mut a, mut b, mut next) = (self.a, self.b, self.next.start);
            for _ in 0..self.steps {
                prefetch::<2>(next);
                let mut b_row = [V::zero(); VECTORS];
                for (v, words) in b_row.iter_mut().enumerate() {
                    *words = V::load(b.add(v * self.b_stride));
                }
                for (i, row) in sums.iter_mut().enumerate() {
                    for (sum, words) in row.iter_mut().zip(b_row) {
                        *sum = sum.add_product(*a.add(i), words);
                    }
                }
                (a, b, next) = (a.add(LANES), b.add(LANES), next.wrapping_add(self.next.stride).min(self.next.last));
            }
            for (i, row) in sums.iter().enumerate() {
                for (v, sum) in row.iter().enumerate() {
                    let place = self.sums.add((i * VECTORS + v) * LANES);
                    let sum = if self.resume { V::load(place).add(*sum) } else { *sum };
                    sum.store(place);
                }
            }
        }
    }
}
