//! f32 arithmetic with directed rounding, through f64 rounded to odd.
//!
//! A sum rounded to odd in 53 bits keeps the direction of everything it lost, so rounding it once more to 24 bits in any
//! direction gives the correctly rounded result (Boldo and Melquiond, 2008).

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Towards {
    Zero,
    Minus,
    Plus,
}

/// a * b + c rounded in the given direction.
pub fn fma(a: f32, b: f32, c: f32, towards: Towards) -> f32 {
    let sum = fma_to_odd(a, b, c);
    if sum == 0.0 && towards == Towards::Minus {
        // Rounding down, only zeros that are both positive add up to +0.
        let positive = a.is_sign_negative() == b.is_sign_negative() && c.to_bits() == 0;
        return if positive { 0.0 } else { -0.0 };
    }
    narrow(sum, towards)
}

/// a * b rounded in the given direction.
pub fn mul(a: f32, b: f32, towards: Towards) -> f32 {
    narrow(f64::from(a) * f64::from(b), towards)
}

/// a * b + c rounded to odd in 53 bits. The product of two f32 is exact in f64.
pub fn fma_to_odd(a: f32, b: f32, c: f32) -> f64 {
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    if !sum.is_finite() {
        return sum;
    }
    // TwoSum: sum + error is exactly product + c.
    let shadow = sum - product;
    let error = (product - (sum - shadow)) + (c - shadow);
    to_odd(sum, error)
}

fn to_odd(sum: f64, error: f64) -> f64 {
    let even = sum.to_bits() & 1 == 0;
    match (error == 0.0 || !even, (error > 0.0) == (sum > 0.0)) {
        (true, _) => sum,
        (false, true) => f64::from_bits(sum.to_bits() + 1),
        (false, false) => f64::from_bits(sum.to_bits() - 1),
    }
}

/// An f64 as an f32, rounded in the given direction.
pub fn narrow(x: f64, towards: Towards) -> f32 {
    let nearest = x as f32;
    if x.is_nan() || x.is_infinite() || f64::from(nearest) == x {
        return nearest;
    }
    let above = f64::from(nearest) > x;
    let want_below = match towards {
        Towards::Zero => x > 0.0,
        Towards::Minus => true,
        Towards::Plus => false,
    };
    match (want_below, above) {
        (true, true) => nearest.next_down(),
        (false, false) => nearest.next_up(),
        _ => nearest,
    }
}
