use std::iter::Sum;
use std::ops::Add;

/// What one call must move and compute at the least, stated once beside each op.
///
/// Benches, progress lines and reports all read this number: the floor of a kernel is
/// `max(bytes / bandwidth, flops / peak)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Bytes that must cross the memory bus: every input read once, every output written once.
    pub bytes: u64,
    /// Floating-point operations; a multiply-add is two.
    pub flops: u64,
}

impl Cost {
    /// `words` words of four bytes read or written, `flops` operations.
    pub fn new(words: usize, flops: usize) -> Cost {
        Cost { bytes: 4 * words as u64, flops: flops as u64 }
    }

    /// `C (m, n) = A (m, k) B (k, n)` on elements of `size` bytes.
    pub fn product(m: usize, n: usize, k: usize, size: usize) -> Cost {
        let (m, n, k) = (m as u64, n as u64, k as u64);
        Cost { bytes: size as u64 * (m * k + k * n + m * n), flops: 2 * m * n * k }
    }

    /// The least seconds of a machine of `bandwidth` bytes and `peak` operations a second.
    pub fn floor(&self, bandwidth: f64, peak: f64) -> f64 {
        (self.bytes as f64 / bandwidth).max(self.flops as f64 / peak)
    }
}

impl Add for Cost {
    type Output = Cost;
    fn add(self, other: Cost) -> Cost {
        Cost { bytes: self.bytes + other.bytes, flops: self.flops + other.flops }
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(costs: I) -> Cost {
        costs.fold(Cost::default(), Add::add)
    }
}
