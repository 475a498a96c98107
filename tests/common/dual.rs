use std::iter::Sum;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// The numbers that an oracle is written over: f64 for the truth, f32 for the naive error, [`Dual`] for derivatives.
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
    fn exp(self) -> Self;
    fn sqrt(self) -> Self;
    fn tanh(self) -> Self;
    fn ln(self) -> Self;
}

macro_rules! float {
    ($($type:ty),*) => {
        $(impl Float for $type {
            fn from_f64(x: f64) -> Self {
                x as $type
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
        })*
    };
}
float!(f32, f64);

/// A value and its rate of change along one direction: arithmetic carries the exact derivative.
#[derive(Clone, Copy, Debug)]
pub struct Dual<F> {
    pub value: F,
    pub rate: F,
}

impl<F: Float> Dual<F> {
    fn chain(self, value: F, slope: F) -> Dual<F> {
        Dual { value, rate: self.rate * slope }
    }
}

impl<F: Float> Float for Dual<F> {
    fn from_f64(x: f64) -> Self {
        Dual { value: F::from_f64(x), rate: F::from_f64(0.0) }
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
        Dual { value: self.value + o.value, rate: self.rate + o.rate }
    }
}

impl<F: Float> Sub for Dual<F> {
    type Output = Self;
    fn sub(self, o: Self) -> Self {
        Dual { value: self.value - o.value, rate: self.rate - o.rate }
    }
}

impl<F: Float> Mul for Dual<F> {
    type Output = Self;
    fn mul(self, o: Self) -> Self {
        Dual { value: self.value * o.value, rate: self.rate * o.value + self.value * o.rate }
    }
}

impl<F: Float> Div for Dual<F> {
    type Output = Self;
    fn div(self, o: Self) -> Self {
        let value = self.value / o.value;
        Dual { value, rate: (self.rate - value * o.rate) / o.value }
    }
}

impl<F: Float> Neg for Dual<F> {
    type Output = Self;
    fn neg(self) -> Self {
        Dual { value: -self.value, rate: -self.rate }
    }
}

impl<F: Float> Sum for Dual<F> {
    fn sum<I: Iterator<Item = Self>>(terms: I) -> Self {
        terms.fold(Dual::from_f64(0.0), Add::add)
    }
}
