use std::iter::Sum;
use std::ops::{Add, Mul};

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
    /// `C (m, n) = A (m, k) B (k, n)` on elements of `size` bytes.
    pub fn product(m: usize, n: usize, k: usize, size: usize) -> Cost {
        let (m, n, k) = (m as u64, n as u64, k as u64);
        Cost { bytes: size as u64 * (m * k + k * n + m * n), flops: 2 * m * n * k }
    }
}

impl Add for Cost {
    type Output = Cost;
    fn add(self, other: Cost) -> Cost {
        Cost { bytes: self.bytes + other.bytes, flops: self.flops + other.flops }
    }
}

impl Mul<usize> for Cost {
    type Output = Cost;
    fn mul(self, times: usize) -> Cost {
        Cost { bytes: self.bytes * times as u64, flops: self.flops * times as u64 }
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(costs: I) -> Cost {
        costs.fold(Cost::default(), Add::add)
    }
}
