/// The energy distance of two sets of points in the plane, `2 E|X - Y| - E|X - X'| - E|Y - Y'|`, by the unbiased means over
/// different points: 0 on average where both come from one distribution, and below it by chance (Szekely and Rizzo, 2013).
pub fn energy_distance(x: &[[f64; 2]], y: &[[f64; 2]]) -> f64 {
    let sum = |a: &[[f64; 2]], b: &[[f64; 2]]| -> f64 {
        a.iter().map(|p| b.iter().map(|q| ((p[0] - q[0]).powi(2) + (p[1] - q[1]).powi(2)).sqrt()).sum::<f64>()).sum()
    };
    let own = |a: &[[f64; 2]]| sum(a, a) / (a.len() * (a.len() - 1)) as f64;
    2.0 * sum(x, y) / (x.len() * y.len()) as f64 - own(x) - own(y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_of_few_points_is_the_one_by_hand() {
        let x = [[0.0, 0.0], [3.0, 4.0]];
        let y = [[0.0, 0.0], [0.0, 4.0]];
        // Between them 0, 4, 5, 3; within them 5 and 4.
        assert_eq!(energy_distance(&x, &y), 2.0 * 12.0 / 4.0 - 5.0 - 4.0);
    }
}
