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
}
