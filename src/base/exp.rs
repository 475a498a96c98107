/// exp(x) within one unit in the last place; 0 below -104, infinity above 88.8, NaN for NaN.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`; exp(r) by its Taylor polynomial, whose next term is below 2^-27. Multiply-adds
/// are explicit and there is no branch: a loop over it becomes vector code, and every instruction set and card gives the
/// same bits.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// 1.5 * 2^23: adding it rounds to an integer and leaves that integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 to 16 bits, so that its products with whole numbers are exact, and the rest of it.
    const LN_2_HIGH: f32 = 0.693_145_75;
    const LN_2_LOW: f32 = 1.428_606_8e-6;

    // Not `clamp`, which has a branch for NaN.
    let x = if x < -104.0 { -104.0 } else { x };
    let x = if x > 104.0 { 104.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, x));
    let mut series = 1.0f32 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        series = series.mul_add(r, coefficient);
    }
    // 2^n in two factors, since n reaches from -150 to 150.
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let half = n >> 1;
    series * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// 2^n for n from -126 to 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use super::exp;

    /// Units in the last place of f32 between `exp(x)` and the exponential in f64.
    fn error(x: f32) -> f64 {
        let exact = f64::from(x).exp();
        let below = (exact as f32).to_bits() - u32::from(f64::from(exact as f32) > exact);
        let unit = f64::from(f32::from_bits(below + 1)) - f64::from(f32::from_bits(below));
        (f64::from(exp(x)) - exact).abs() / unit
    }

    #[test]
    fn the_exponential_is_within_one_unit_wherever_it_is_neither_zero_nor_infinite() {
        let [large, end] = [0.5f32, 103.0].map(f32::to_bits);
        // Every seventh number where the reduction and the polynomial matter; below, exp(x) is one and a little.
        let sizes = (1..large).step_by(997).chain((large..=end).step_by(7)).map(f32::from_bits);
        let numbers = sizes.flat_map(|x| [x, -x]).filter(|&x| x < 88.72);
        let worst = numbers.map(error).fold(0.0, f64::max);
        assert!(worst <= 1.0, "off by {worst} units");
    }

    #[test]
    fn beyond_the_range_the_exponential_is_zero_or_infinite_and_of_no_number_no_number() {
        assert_eq!(
            [f32::NEG_INFINITY, -104.1, 0.0, 88.8, f32::INFINITY].map(exp),
            [0.0, 0.0, 1.0, f32::INFINITY, f32::INFINITY]
        );
        assert!(exp(f32::NAN).is_nan());
    }
}
