use half::bf16;
use std::iter::Sum;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// The numbers that an oracle is written over: f64 for the truth, f32 or
/// [`Bf16Factors`] for the naive error, [`Dual`] for derivatives.
pub trait Float:
    Copy
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + Sum
{
    fn from_f64(x: f64) -> Self;
    fn to_f64(self) -> f64;
    fn exp(self) -> Self;
    fn sqrt(self) -> Self;
    fn tanh(self) -> Self;
    fn ln(self) -> Self;
    fn erf(self) -> Self;
}

macro_rules! float {
    ($($type:ty),*) => {
        $(impl Float for $type {
            fn from_f64(x: f64) -> Self {
                x as $type
            }
            fn to_f64(self) -> f64 {
                self.into()
            }
            fn exp(self) -> Self {
                self.exp()
            }
            fn sqrt(self) -> Self {
                self.sqrt()
            }
            fn tanh(self) -> Self {
                self.tanh()
            }
            fn ln(self) -> Self {
                self.ln()
            }
            fn erf(self) -> Self {
                erf(self.into()) as $type
            }
        })*
    };
}
float!(f32, f64);

/// The error function: its series, summed in f64 where terms do not cancel, and 1 to f64 beyond.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    // erf x = 2 / sqrt(pi) e^(-x^2) sum of 2^n x^(2n + 1) / (2n + 1)!!, all terms of one sign.
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}

/// An f32 whose multiplications round their factors to bf16, as products in bf16 do, and whose sums are those of f32.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Bf16Factors(f32);

impl Mul for Bf16Factors {
    type Output = Self;
    #[inline]
    fn mul(self, o: Self) -> Self {
        Bf16Factors(rounded(self.0) * rounded(o.0))
    }
}

/// `bf16::from_f32(x).to_f32()` without a branch, so that loops over it fill vector registers.
#[inline]
pub fn rounded(x: f32) -> f32 {
    let bits = x.to_bits();
    let half = 0x7fff + (bits >> 16 & 1);
    if x.is_nan() { x } else { f32::from_bits(bits.wrapping_add(half) & 0xffff_0000) }
}

macro_rules! as_f32 {
    ($($trait:ident $method:ident $operator:tt),*) => {
        $(impl $trait for Bf16Factors {
            type Output = Self;
            #[inline]
            fn $method(self, o: Self) -> Self {
                Bf16Factors(self.0 $operator o.0)
            }
        })*
    };
}
as_f32!(Add add +, Sub sub -, Div div /);

impl Neg for Bf16Factors {
    type Output = Self;
    fn neg(self) -> Self {
        Bf16Factors(-self.0)
    }
}

impl Sum for Bf16Factors {
    fn sum<I: Iterator<Item = Self>>(terms: I) -> Self {
        Bf16Factors(terms.map(|x| x.0).sum())
    }
}

impl Float for Bf16Factors {
    fn from_f64(x: f64) -> Self {
        Bf16Factors(x as f32)
    }
    fn to_f64(self) -> f64 {
        self.0.into()
    }
    fn exp(self) -> Self {
        Bf16Factors(self.0.exp())
    }
    fn sqrt(self) -> Self {
        Bf16Factors(self.0.sqrt())
    }
    fn tanh(self) -> Self {
        Bf16Factors(self.0.tanh())
    }
    fn ln(self) -> Self {
        Bf16Factors(self.0.ln())
    }
    fn erf(self) -> Self {
        Bf16Factors(Float::erf(self.0))
    }
}

/// Directions that a [`Dual`] is varied along at once: the rates of several fill vector registers, and share one value.
pub const DIRECTIONS: usize = 8;

/// A value and its rates of change along some directions: arithmetic carries the exact derivatives.
#[derive(Clone, Copy, Debug)]
pub struct Dual<F> {
    pub value: F,
    pub rates: [F; DIRECTIONS],
}

impl<F: Float> Dual<F> {
    fn chain(self, value: F, slope: F) -> Dual<F> {
        Dual { value, rates: self.rates.map(|rate| rate * slope) }
    }

    /// A value whose rates are made of those of two.
    fn of(value: F, a: Dual<F>, b: Dual<F>, rate: impl Fn(F, F) -> F) -> Dual<F> {
        let mut rates = a.rates;
        rates.iter_mut().zip(b.rates).for_each(|(a, b)| *a = rate(*a, b));
        Dual { value, rates }
    }
}

impl<F: Float> Float for Dual<F> {
    fn from_f64(x: f64) -> Self {
        Dual { value: F::from_f64(x), rates: [F::from_f64(0.0); DIRECTIONS] }
    }
    fn to_f64(self) -> f64 {
        self.value.to_f64()
    }
    fn exp(self) -> Self {
        self.chain(self.value.exp(), self.value.exp())
    }
    fn sqrt(self) -> Self {
        let root = self.value.sqrt();
        self.chain(root, F::from_f64(0.5) / root)
    }
    fn tanh(self) -> Self {
        let t = self.value.tanh();
        self.chain(t, F::from_f64(1.0) - t * t)
    }
    fn ln(self) -> Self {
        self.chain(self.value.ln(), F::from_f64(1.0) / self.value)
    }
    fn erf(self) -> Self {
        let slope = F::from_f64(2.0 / std::f64::consts::PI.sqrt()) * (-self.value * self.value).exp();
        self.chain(self.value.erf(), slope)
    }
}

impl<F: Float> PartialEq for Dual<F> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<F: Float> PartialOrd for Dual<F> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.value.partial_cmp(&other.value)
    }
}

impl<F: Float> Add for Dual<F> {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        Dual::of(self.value + o.value, self, o, |a, b| a + b)
    }
}

impl<F: Float> Sub for Dual<F> {
    type Output = Self;
    fn sub(self, o: Self) -> Self {
        Dual::of(self.value - o.value, self, o, |a, b| a - b)
    }
}

impl<F: Float> Mul for Dual<F> {
    type Output = Self;
    #[expect(clippy::suspicious_arithmetic_impl, reason = "a rate follows the rule of its operation")]
    fn mul(self, o: Self) -> Self {
        Dual::of(self.value * o.value, self, o, |a, b| a * o.value + self.value * b)
    }
}

impl<F: Float> Div for Dual<F> {
    type Output = Self;
    #[expect(clippy::suspicious_arithmetic_impl, reason = "a rate follows the rule of its operation")]
    fn div(self, o: Self) -> Self {
        let value = self.value / o.value;
        Dual::of(value, self, o, |a, b| (a - value * b) / o.value)
    }
}

impl<F: Float> Neg for Dual<F> {
    type Output = Self;
    fn neg(self) -> Self {
        Dual { value: -self.value, rates: self.rates.map(|rate| -rate) }
    }
}

impl<F: Float> Sum for Dual<F> {
    fn sum<I: Iterator<Item = Self>>(terms: I) -> Self {
        terms.fold(Dual::from_f64(0.0), Add::add)
    }
}
