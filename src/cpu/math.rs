//! The relatives of the exponential, written so that a loop over them becomes vector code.
//!
//! Only additions, multiplications, divisions, comparisons and bit operations, fused nowhere but inside [`exp`], where it
//! is said: every lane of every instruction set gives the same bits. Call them inside `vectorised!` or another function with
//! `target_feature`.

use crate::base::exp;

/// 1 / (1 + exp(-x)).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// x sigmoid(x).
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

/// sigmoid(x) and 1 - sigmoid(x), both to a few units in the last place, where the difference itself would cancel.
#[inline(always)]
fn sigmoids(x: f32) -> (f32, f32) {
    let e = exp(-x.abs());
    let (large, small) = (1.0 / (1.0 + e), e / (1.0 + e));
    if x < 0.0 { (small, large) } else { (large, small) }
}

/// The derivative of [`silu`].
#[inline(always)]
pub fn silu_derivative(x: f32) -> f32 {
    let (s, rest) = sigmoids(x);
    s + x * s * rest
}

/// 2 sqrt(2 / pi), and 0.044715 times it.
const GELU_LINEAR: f32 = 1.595_769;
const GELU_CUBIC: f32 = 0.071_354_81;

/// 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), the tanh form of GELU.
///
/// Computed as `x sigmoid(2 u)`, u being the argument of tanh, which keeps its accuracy where 1 + tanh(u) cancels.
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    x * sigmoid(x * (GELU_LINEAR + GELU_CUBIC * (x * x)))
}

/// The derivative of [`gelu`].
#[inline(always)]
pub fn gelu_derivative(x: f32) -> f32 {
    // Beyond 10 it is 0 or 1 to 1e-34. Not `clamp`, which has a branch for NaN.
    let x = if x < -10.0 { -10.0 } else { x };
    let x = if x > 10.0 { 10.0 } else { x };
    let square = x * x;
    let e = exp(-x * (GELU_LINEAR + GELU_CUBIC * square));
    let s = 1.0 / (1.0 + e);
    s + x * s * (e * s) * (GELU_LINEAR + 3.0 * GELU_CUBIC * square)
}

/// erfc(z) / 2 for z >= 0: the normal distribution's tail beyond z sqrt 2.
///
/// erfc(z) = t exp(P(t) - z^2) with t = 1 / (1 + z / 2); P is the fit of degree 9 at Chebyshev's nodes of 0.15 <= t <= 1, off
/// by 6e-8 at most. Beyond that erfc is below f32.
#[inline(always)]
fn half_erfc(z: f32) -> f32 {
    const P: [f32; 9] = [
        -0.731_059_3,
        1.274_361_6,
        -0.851_879_4,
        0.047_508_61,
        -0.066_028_28,
        0.057_246_35,
        0.381_963_9,
        0.999_168_8,
        -1.265_473_9,
    ];
    let t = 1.0 / (1.0 + 0.5 * z);
    let mut p = 0.154_191_73;
    for c in P {
        p = p * t + c;
    }
    0.5 * t * exp(p - z * z)
}

/// Phi(x), the normal distribution.
#[inline(always)]
fn normal(x: f32) -> f32 {
    let tail = half_erfc(x.abs() * std::f32::consts::FRAC_1_SQRT_2);
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// x Phi(x), GELU itself.
#[inline(always)]
pub fn gelu_erf(x: f32) -> f32 {
    x * normal(x)
}

/// The derivative of [`gelu_erf`].
#[inline(always)]
pub fn gelu_erf_derivative(x: f32) -> f32 {
    /// 1 / sqrt(2 pi)
    const DENSITY: f32 = 0.398_942_3;
    // Beyond 30 it is 0 or 1. Not `clamp`, as above.
    let x = if x < -30.0 { -30.0 } else { x };
    let x = if x > 30.0 { 30.0 } else { x };
    normal(x) + x * DENSITY * exp(-0.5 * x * x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every 997th finite f32 of both signs.
    fn samples() -> impl Iterator<Item = f32> {
        (0..0x7f80_0000_u32).step_by(997).flat_map(|bits| [f32::from_bits(bits), -f32::from_bits(bits)])
    }

    /// The largest error over the samples, in units of f32's rounding of `scale(x)`; underflow is forgiven.
    fn worst(approximate: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64, scale: impl Fn(f64) -> f64) -> f64 {
        let errors = samples().map(|x| {
            let (got, exact) = (f64::from(approximate(x)), exact(f64::from(x)));
            if exact > f64::from(f32::MAX) {
                assert!(got >= f64::from(f32::MAX), "{x}: {got}, not {exact}");
                return 0.0;
            }
            assert!(got.is_finite(), "{x}: {got}, not {exact}");
            let error = ((got - exact).abs() - f64::from(f32::MIN_POSITIVE)).max(0.0);
            error / (scale(f64::from(x)) * f64::from(f32::EPSILON))
        });
        errors.fold(0.0, f64::max)
    }

    fn sigmoid64(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    fn gelu64(x: f64) -> f64 {
        x * sigmoid64(2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x))
    }

    fn gelu_derivative64(x: f64) -> f64 {
        let root = (2.0 / std::f64::consts::PI).sqrt();
        let tanh = (root * (x + 0.044715 * x * x * x)).tanh();
        0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * root * (1.0 + 3.0 * 0.044715 * x * x)
    }

    #[test]
    fn sigmoid_and_silu_are_within_units_in_the_last_place() {
        // One unit of the exponential, and half a unit for each rounding: of the sum, the quotient and the product.
        assert!(worst(sigmoid, sigmoid64, sigmoid64) <= 2.0);
        assert!(worst(silu, |x| x * sigmoid64(x), |x| (x * sigmoid64(x)).abs().max(1e-30)) <= 2.5);
    }

    #[test]
    fn gelu_and_the_derivatives_err_at_most_twice_as_much_as_the_textbook_formulas_in_f32() {
        let root = (2.0 / std::f32::consts::PI).sqrt();
        let tanh = |x: f32| (root * (x + 0.044715 * x * x * x)).tanh();
        let size = |x: f64| x.abs().max(1.0);
        let naive = worst(|x| 0.5 * x * (1.0 + tanh(x)), gelu64, size);
        assert!(worst(gelu, gelu64, size) <= 2.0 * naive);
        // Beyond 1e6 the textbook's square overflows; the derivative is flat long before.
        let slope = |x: f32| {
            let x = x.clamp(-1e6, 1e6);
            let tanh = tanh(x);
            0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * root * (1.0 + 3.0 * 0.044715 * x * x)
        };
        let naive = worst(slope, gelu_derivative64, |_| 1.0);
        let ours = worst(gelu_derivative, gelu_derivative64, |_| 1.0);
        assert!(ours <= 2.0 * naive);
        let silu_derivative64 = |x: f64| sigmoid64(x) + x * sigmoid64(x) * sigmoid64(-x);
        let slope = |x: f32| {
            let s = 1.0 / (1.0 + (-x).exp());
            s * (1.0 + x * (1.0 - s))
        };
        let naive = worst(slope, silu_derivative64, |_| 1.0);
        let ours = worst(silu_derivative, silu_derivative64, |_| 1.0);
        assert!(ours <= 2.0 * naive);
    }

    /// erfc by its series in f64 below 2.5 and its continued fraction above.
    fn erfc64(z: f64) -> f64 {
        let root = std::f64::consts::PI.sqrt();
        if z < 0.0 {
            return 2.0 - erfc64(-z);
        }
        if z < 2.5 {
            let (mut term, mut sum) = (z, z);
            for n in 1..80 {
                term *= -z * z / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            return 1.0 - 2.0 / root * sum;
        }
        let fraction = (1..=200).rev().fold(0.0, |fraction, n| f64::from(n) / 2.0 / (z + fraction));
        (-z * z).exp() / (root * (z + fraction))
    }

    #[test]
    fn gelu_of_the_error_function_is_within_four_units_in_the_last_place_of_its_argument() {
        assert!((erfc64(1.0) - 0.157_299_207_050_285_13).abs() < 1e-15, "{}", erfc64(1.0));
        assert!((erfc64(3.0) - 2.209_049_699_858_544e-5).abs() < 1e-19, "{}", erfc64(3.0));
        let normal64 = |x: f64| 0.5 * erfc64(-x * std::f64::consts::FRAC_1_SQRT_2);
        let size = |x: f64| x.abs().max(1.0);
        let value = worst(gelu_erf, |x| if x < -40.0 { 0.0 } else { x * normal64(x) }, size);
        let density = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let flat = |x: f64| if x < 0.0 { 0.0 } else { 1.0 };
        let slope64 = |x: f64| if x.abs() > 40.0 { flat(x) } else { normal64(x) + x * density(x) };
        let slope = worst(gelu_erf_derivative, slope64, |_| 1.0);
        assert!(value <= 4.0 && slope <= 4.0, "{value} and {slope}");
    }
}
