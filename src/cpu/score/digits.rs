use super::Query;

/// A query as whole numbers: `z = sum over k of step[k] digit[k] + rest`, each digit from -127 to 127.
pub struct Digits {
    /// (digits, width).
    pub digits: Vec<i8>,
    pub steps: Vec<f64>,
    /// Of the digits of each step.
    pub sums: Vec<f64>,
    pub rest: Vec<f64>,
    /// No less than |rest|.
    pub rest_length: f64,
    /// No less than |z|.
    pub length: f64,
}

impl Digits {
    pub fn new(query: Query<'_>, count: usize) -> Digits {
        let z = query.z;
        let largest = z.iter().fold(0.0f64, |largest, z| largest.max(z.abs()));
        let mut rest = z.to_vec();
        let mut step = if largest > 0.0 { largest / 127.0 } else { 1.0 };
        let (mut digits, mut steps, mut sums) = (Vec::with_capacity(count * z.len()), vec![], vec![]);
        for _ in 0..count {
            let start = digits.len();
            for rest in &mut rest {
                let digit = ((*rest / step + ROUND) - ROUND).clamp(-127.0, 127.0);
                // Of two numbers that nearly cancel the difference is exact, and the product has seven bits more.
                *rest -= step * digit;
                digits.push(digit as i8);
            }
            sums.push(digits[start..].iter().map(|&digit| f64::from(digit)).sum());
            steps.push(step);
            step /= 254.0;
        }
        // Rounding: of each product and of the sums of squares.
        let slack = |length: f64| length * (1.0 + 1e-9);
        let length = slack(norm(z));
        let rest_length = slack(norm(&rest)) + 4.0 * count as f64 * f64::EPSILON * length;
        Digits { digits, steps, sums, rest, rest_length, length }
    }
}

/// 1.5 * 2^52: adding it rounds to an integer, without a call where the processor has no instruction for it.
const ROUND: f64 = 6_755_399_441_055_744.0;

/// No less than |z| and than what [`Digits`] of it leave out.
pub fn bounds(query: Query<'_>, count: usize) -> [f64; 2] {
    let largest = query.z.iter().fold(0.0f64, |largest, z| largest.max(z.abs()));
    let length = norm(query.z) * (1.0 + 1e-9);
    // Half a unit of the last digit, each value.
    let half = largest / 254.0f64.powi(count as i32);
    [length, half * (query.z.len() as f64).sqrt() * (1.0 + 1e-9) + 4.0 * count as f64 * f64::EPSILON * length]
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}
