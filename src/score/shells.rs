use std::f64::consts::PI;

/// The forms of the shells `| |z - alpha x_i| - sigma sqrt d | <= h sigma` whose union is the supervision region of
/// Proposition 3.1: noised data lie in their own shell with a probability of at least `1 - delta`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// `h = sqrt(d ln(1 / delta))`, as the proposition has it: a ball rather than a shell, since h is of the size of its
    /// radius.
    Literal,
    /// `h = sqrt(2 ln(2 / delta))`, whatever d is.
    ///
    /// Laurent and Massart, 2000, lemma 1: chi^2 is above `d + 2 sqrt(d x) + 2 x <= (sqrt d + sqrt(2 x))^2` with a
    /// probability of at most `exp(-x)`, and as rarely below `d - 2 sqrt(d x) <= (sqrt d - sqrt x)^2`.
    Tight,
    /// The h for which that probability is `1 - delta`: the length of the noise follows the chi distribution of d.
    Chi,
}

impl Shell {
    /// h, for `d` dimensions and delta between 0 and 1.
    pub fn half_width(self, d: usize, delta: f64) -> f64 {
        assert!(d > 0 && delta > 0.0 && delta < 1.0, "a shell of {d} dimensions that misses {delta} of the noise");
        let dimensions = d as f64;
        match self {
            Shell::Literal => (-dimensions * delta.ln()).sqrt(),
            Shell::Tight => (2.0 * (2.0 / delta).ln()).sqrt(),
            Shell::Chi => {
                let middle = dimensions.sqrt();
                let missed = |h: f64| {
                    let inner = (middle - h).max(0.0);
                    chi_tails(d, inner)[0] + chi_tails(d, middle + h)[1]
                };
                // The tight form misses less than delta, and 0 misses all.
                let (mut low, mut high) = (0.0, Shell::Tight.half_width(d, delta));
                while high - low > 1e-15 * high {
                    let h = 0.5 * (low + high);
                    if h == low || h == high {
                        break;
                    }
                    if missed(h) > delta { low = h } else { high = h }
                }
                high
            }
        }
    }

    /// Whether the point of d dimensions whose closest shell has the radius `r_star sigma sqrt d` lies in the region.
    pub fn holds(self, r_star: f64, d: usize, delta: f64) -> bool {
        (r_star - 1.0).abs() * (d as f64).sqrt() <= self.half_width(d, delta)
    }
}

/// The probabilities that the length of d standard normals is below `r`, and above: the regularised incomplete gamma
/// functions of `a = d / 2` and `x = r^2 / 2`.
fn chi_tails(d: usize, r: f64) -> [f64; 2] {
    let (a, x) = (d as f64 / 2.0, r * r / 2.0);
    if x == 0.0 {
        return [0.0, 1.0];
    }
    // x^a exp(-x) / gamma(a + 1)
    let front = (a * (x / a).ln() - (x - a) - stirling_rest(a)).exp() / (2.0 * PI * a).sqrt();
    if x < a + 1.0 {
        // The series sum over n of x^n / ((a + 1) ... (a + n)), all of whose terms are positive.
        let (mut term, mut sum, mut n) = (1.0, 1.0, 0.0);
        while term > sum * f64::EPSILON / 4.0 {
            n += 1.0;
            term *= x / (a + n);
            sum += term;
        }
        let below = (front * sum).min(1.0);
        return [below, 1.0 - below];
    }
    // The continued fraction of the upper function, by Lentz's method.
    let mut b = x + 1.0 - a;
    let (mut c, mut d) = (f64::INFINITY, 1.0 / b);
    let (mut fraction, mut n) = (d, 0.0);
    loop {
        n += 1.0;
        let an = -n * (n - a);
        b += 2.0;
        d = 1.0 / (an * d + b);
        c = b + an / c;
        let step = c * d;
        fraction *= step;
        if (step - 1.0).abs() < f64::EPSILON {
            break;
        }
    }
    let above = (front * a * fraction).min(1.0);
    [1.0 - above, above]
}

/// `ln gamma(a + 1) - (a ln a - a + ln(2 pi a) / 2)`, for a from 1/2 on.
fn stirling_rest(a: f64) -> f64 {
    if a < 12.0 {
        // gamma(a + 2) = (a + 1) gamma(a + 1)
        let next = a + 1.0;
        let here = |a: f64| a * a.ln() - a + 0.5 * (2.0 * PI * a).ln();
        return stirling_rest(next) + here(next) - next.ln() - here(a);
    }
    // The terms of Stirling's series; the next one is below 1e-15.
    let square = 1.0 / (a * a);
    (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square * (1.0 / 1680.0 - square / 1188.0)))) / a
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of scipy.stats.chi(d).cdf.
    #[test]
    fn tails_are_those_of_the_chi_distribution() {
        // One and two dimensions in closed form: erf(r / sqrt 2), and 1 - exp(-r^2 / 2).
        for r in [0.01f64, 0.5, 1.0, 1.5, 2.0, 4.0, 8.0] {
            let [below, above] = chi_tails(2, r);
            let exact = (-r * r / 2.0).exp();
            assert!((above - exact).abs() <= 1e-14 && (below + exact - 1.0).abs() <= 1e-14, "{r}: {below} {above}");
        }
        assert!((chi_tails(1, 1.0)[0] - 0.682_689_492_137_085_9).abs() < 1e-14);
        assert!((chi_tails(1, 3.0)[1] - 0.002_699_796_063_260_189).abs() < 1e-15);
        // Four dimensions: (1 + x) exp(-x).
        for x in [0.1f64, 1.0, 3.0, 10.0] {
            assert!((chi_tails(4, (2.0 * x).sqrt())[1] - (1.0 + x) * (-x).exp()).abs() < 1e-14, "{x}");
        }
        // The median of chi^2 is d (1 - 2 / 9 d)^3 to a few of 1/d^2.
        for d in [100, 4096, 196_608] {
            let dimensions = d as f64;
            let median = (dimensions * (1.0 - 2.0 / (9.0 * dimensions)).powi(3)).sqrt();
            let [below, above] = chi_tails(d, median);
            assert!((below - 0.5).abs() < 0.02 / dimensions && (above - 0.5).abs() < 0.02 / dimensions, "{d}: {below}");
        }
    }

    #[test]
    fn the_forms_contain_each_other_and_miss_what_they_say() {
        for d in [1, 2, 20, 784, 4096] {
            for delta in [0.5, 0.1, 1e-3, 1e-9] {
                let [literal, tight, chi] = [Shell::Literal, Shell::Tight, Shell::Chi].map(|s| s.half_width(d, delta));
                assert!(chi <= tight, "{d} {delta}: {chi} {tight}");
                assert!(d < 20 || tight < literal);
                let middle = (d as f64).sqrt();
                let missed = chi_tails(d, (middle - chi).max(0.0))[0] + chi_tails(d, middle + chi)[1];
                assert!((missed / delta - 1.0).abs() < 1e-6, "{d} {delta}: {missed}");
            }
        }
        // Half-width 1.52 sqrt d, as the paper's own delta of 0.1 gives.
        assert!((Shell::Literal.half_width(4096, 0.1) / 64.0 - 1.517).abs() < 1e-3);
        assert!(Shell::Tight.holds(1.03, 4096, 0.1) && !Shell::Tight.holds(1.05, 4096, 0.1));
    }
}
