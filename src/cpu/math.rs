//! Exponential and its relatives, written so that a loop over them becomes vector code.
//!
//! Only additions, multiplications, divisions, comparisons and bit operations, none of them fused: every lane of every
//! instruction set gives the same bits. Call them inside `vectorised!` or another function with `target_feature`.

/// exp(x) to about one unit in the last place, subnormal results included; 0 below -104, infinity above 88.8, NaN for NaN.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`; exp(r) by its Taylor polynomial, whose next term is below 2^-27.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// 1.5 * 2^23: adding it rounds to an integer and leaves that integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 to 16 bits, so that `n * LN_2_HIGH` is exact, and the rest of it.
    const LN_2_HIGH: f32 = 0.693_145_75;
    const LN_2_LOW: f32 = 1.428_606_8e-6;

    let x = clamp(x, 104.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let mut p = 1.0 / 5040.0;
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5] {
        p = p * r + c;
    }
    let p = 1.0 + (r + r * r * p);
    // 2^n in two factors, since n reaches from -150 to 150.
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// x within `-bound..=bound`; NaN for NaN.
#[inline(always)]
fn clamp(x: f32, bound: f32) -> f32 {
    let x = if x < -bound { -bound } else { x };
    if x > bound { bound } else { x }
}

/// 2^n for n from -126 to 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

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
    // Beyond 10 it is 0 or 1 to 1e-34.
    let x = clamp(x, 10.0);
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
    fn exp_and_sigmoid_are_within_units_in_the_last_place() {
        // Half a unit for each rounding: exp's scaled polynomial; then the sum and the quotient.
        assert!(worst(exp, f64::exp, f64::exp) <= 1.0);
        assert!(worst(sigmoid, sigmoid64, sigmoid64) <= 2.0);
        assert!(worst(silu, |x| x * sigmoid64(x), |x| (x * sigmoid64(x)).abs().max(1e-30)) <= 2.5);
        assert!(exp(f32::NAN).is_nan());
        assert_eq!([exp(f32::NEG_INFINITY), exp(-104.1), exp(0.0), exp(88.8)], [0.0, 0.0, 1.0, f32::INFINITY]);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
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
