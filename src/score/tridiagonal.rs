/// A symmetric matrix as `Q T Q^T`: T tridiagonal, Q a product of Householder's reflections (Golub and Van Loan, *Matrix
/// Computations*, algorithm 8.3.1).
///
/// With it `a A + b I` is solved for any a and b by as many operations as a product with A.
pub struct Tridiagonal {
    width: usize,
    diagonal: Vec<f64>,
    /// Beside the diagonal, (width - 1).
    beside: Vec<f64>,
    /// Reflection k, a unit vector over the elements from k + 1 on, (width - 2, width).
    reflections: Vec<f64>,
}

impl Tridiagonal {
    /// Takes the symmetric matrix `a` (width, width).
    pub fn new(mut a: Vec<f64>, width: usize) -> Tridiagonal {
        assert_eq!(a.len(), width * width, "a square of {width}");
        let mut beside = vec![0.0; width.saturating_sub(1)];
        let mut product = vec![0.0; width];
        for k in 0..width.saturating_sub(2) {
            let (above, below) = a.split_at_mut((k + 1) * width);
            // By symmetry the column below the diagonal is the row beside it; the reflection takes its place.
            let u = &mut above[k * width + k + 1..];
            let length = norm(u);
            beside[k] = if u[0] > 0.0 { -length } else { length };
            u[0] -= beside[k];
            let size = norm(u);
            if size == 0.0 {
                continue;
            }
            u.iter_mut().for_each(|u| *u /= size);
            let rows = || (0..).zip(u.iter());
            let product = &mut product[k + 1..];
            product.fill(0.0);
            for (row, &factor) in rows() {
                add(product, factor, &below[row * width + k + 1..][..width - k - 1]);
            }
            let overlap: f64 = product.iter().zip(&*u).map(|(p, u)| p * u).sum();
            add(product, -overlap, u);
            for (row, &factor) in rows() {
                let line = &mut below[row * width + k + 1..][..width - k - 1];
                add(line, -2.0 * factor, product);
                add(line, -2.0 * product[row], u);
            }
        }
        if width > 1 {
            beside[width - 2] = a[(width - 1) * width - 1];
        }
        let diagonal = (0..width).map(|i| a[i * width + i]).collect();
        Tridiagonal { width, diagonal, beside, reflections: a }
    }

    /// Replaces x by `(a A + b I)^-1 x`, for a matrix that is positive definite.
    pub fn solve(&self, factors: [f64; 2], x: &mut [f64]) {
        self.reflect(x, false);
        self.divide(factors, x);
        self.reflect(x, true);
    }

    /// Replaces x by `A (a A + b I)^-1 x`.
    pub fn filter(&self, factors: [f64; 2], x: &mut [f64]) {
        self.reflect(x, false);
        self.divide(factors, x);
        let mut last = 0.0;
        for i in 0..self.width {
            let next = if i + 1 < self.width { self.beside[i] * x[i + 1] } else { 0.0 };
            let here = x[i];
            x[i] = last + self.diagonal[i] * here + next;
            last = if i + 1 < self.width { self.beside[i] * here } else { 0.0 };
        }
        self.reflect(x, true);
    }

    /// The eigenvalues of A, descending, and a unit eigenvector for each, (width, width).
    ///
    /// Implicit QL steps with Wilkinson's shift (Bowdler, Martin, Reinsch, Wilkinson, 1968) turn T into a diagonal, and their
    /// rotations Q into the vectors: about `3 width^3` operations.
    pub fn eigen(&self) -> (Vec<f64>, Vec<f64>) {
        let width = self.width;
        let (mut values, mut beside) = (self.diagonal.clone(), self.beside.clone());
        beside.push(0.0);
        let mut vectors = vec![0.0; width * width];
        for (i, vector) in vectors.chunks_exact_mut(width).enumerate() {
            vector[i] = 1.0;
            self.reflect(vector, true);
        }
        let size = values.iter().chain(&beside).fold(0.0, |size: f64, x| size.max(x.abs()));
        for first in 0..width {
            // Of the block that the first belongs to: what is beside it vanishes against the matrix.
            while let Some(last) = (first..width).find(|&i| beside[i].abs() <= f64::EPSILON * size)
                && last > first
            {
                let apart = (values[first + 1] - values[first]) / (2.0 * beside[first]);
                let shift = values[first] - beside[first] / (apart + apart.hypot(1.0).copysign(apart));
                let (mut bulge, mut sine, mut cosine, mut moved) = (values[last] - shift, 1.0, 1.0, 0.0);
                let mut i = last;
                loop {
                    if i == first {
                        (values[first], beside[first], beside[last]) = (values[first] - moved, bulge, 0.0);
                        break;
                    }
                    i -= 1;
                    let (out, along) = (sine * beside[i], cosine * beside[i]);
                    beside[i + 1] = out.hypot(bulge);
                    if beside[i + 1] == 0.0 {
                        (values[i + 1], beside[last]) = (values[i + 1] - moved, 0.0);
                        break;
                    }
                    (sine, cosine) = (out / beside[i + 1], bulge / beside[i + 1]);
                    let rest = values[i + 1] - moved;
                    let turn = (values[i] - rest) * sine + 2.0 * cosine * along;
                    moved = sine * turn;
                    values[i + 1] = rest + moved;
                    bulge = cosine * turn - along;
                    rotate(&mut vectors[i * width..(i + 2) * width], sine, cosine);
                }
            }
        }
        let mut order: Vec<usize> = (0..width).collect();
        order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
        let sorted = order.iter().flat_map(|&i| &vectors[i * width..(i + 1) * width]).copied().collect();
        (order.iter().map(|&i| values[i]).collect(), sorted)
    }

    /// x by `(a T + b I)^-1 x`, by elimination without pivots, which a positive definite matrix needs none of.
    fn divide(&self, [a, b]: [f64; 2], x: &mut [f64]) {
        let mut pivots = vec![0.0; self.width];
        for i in 0..self.width {
            pivots[i] = a * self.diagonal[i] + b;
            if i > 0 {
                let factor = a * self.beside[i - 1] / pivots[i - 1];
                pivots[i] -= factor * a * self.beside[i - 1];
                x[i] -= factor * x[i - 1];
            }
        }
        for i in (0..self.width).rev() {
            let after = if i + 1 < self.width { a * self.beside[i] * x[i + 1] } else { 0.0 };
            x[i] = (x[i] - after) / pivots[i];
        }
    }

    /// x by `Q^T x`, or by `Q x`.
    fn reflect(&self, x: &mut [f64], back: bool) {
        let count = self.width.saturating_sub(2);
        for i in 0..count {
            let k = if back { count - 1 - i } else { i };
            let (u, x) = (&self.reflections[k * self.width + k + 1..(k + 1) * self.width], &mut x[k + 1..]);
            let overlap: f64 = x.iter().zip(u).map(|(x, u)| x * u).sum();
            add(x, -2.0 * overlap, u);
        }
    }
}

/// Turns two vectors that lie one after the other.
fn rotate(pair: &mut [f64], sine: f64, cosine: f64) {
    let (left, right) = pair.split_at_mut(pair.len() / 2);
    for (left, right) in left.iter_mut().zip(right) {
        (*left, *right) = (cosine * *left - sine * *right, sine * *left + cosine * *right);
    }
}

fn add(x: &mut [f64], factor: f64, y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += factor * y);
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::{Purpose, Stream};

    /// A positive definite matrix, except for `missing` of its dimensions.
    fn matrix(width: usize, missing: usize) -> Vec<f64> {
        let columns = width + 2 - missing;
        let mut factor = vec![0.0f32; width * columns];
        Stream::new(1, width as u32, 0, Purpose::Fixture).fill_normals(&mut factor);
        let row = |i: usize| &factor[i * columns..][..columns];
        let entry = |i, j| row(i).iter().zip(row(j)).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
        (0..width * width).map(|at| entry(at / width, at % width)).collect()
    }

    #[test]
    fn eigenvectors_are_orthonormal_and_the_matrix_only_scales_them() {
        for (width, missing) in [(1, 0), (2, 0), (3, 0), (7, 5), (40, 0), (60, 30)] {
            let matrix = matrix(width, missing);
            let (values, vectors) = Tridiagonal::new(matrix.clone(), width).eigen();
            assert!(values.is_sorted_by(|a, b| a >= b), "{values:?}");
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let vector = |i: usize| &vectors[i * width..][..width];
            // Errors of all rotations and reflections, each a few units of the largest eigenvalue or of 1.
            let allowed = 8.0 * width as f64 * f64::EPSILON;
            for i in 0..width {
                for j in 0..=i {
                    let expected = f64::from(i == j);
                    assert!((dot(vector(i), vector(j)) - expected).abs() <= allowed, "{width}: {i} {j}");
                }
                for (j, row) in matrix.chunks_exact(width).enumerate() {
                    let off = dot(row, vector(i)) - values[i] * vector(i)[j];
                    assert!(off.abs() <= allowed * values[0], "{width}: vector {i} is off by {off}");
                }
            }
            let rank = values.iter().filter(|&&value| value > allowed * values[0]).count();
            assert_eq!(rank, width.min(width + 2 - missing));
        }
    }

    #[test]
    fn eigenvalues_of_a_chain_of_springs_are_the_known_ones() {
        let width = 50;
        let entry = |i: usize, j: usize| [2.0, -1.0].get(i.abs_diff(j)).copied().unwrap_or(0.0);
        let chain = (0..width * width).map(|at| entry(at / width, at % width)).collect();
        let (values, _) = Tridiagonal::new(chain, width).eigen();
        for (k, value) in (1..=width).rev().zip(values) {
            let angle = std::f64::consts::PI * k as f64 / (width + 1) as f64;
            assert!((value - (2.0 - 2.0 * angle.cos())).abs() < 1e-13, "{k}: {value}");
        }
    }

    #[test]
    fn a_matrix_is_solved_for_any_multiple_and_shift() {
        for width in [1usize, 2, 3, 7, 40] {
            let matrix = matrix(width, 0);
            let tridiagonal = Tridiagonal::new(matrix.clone(), width);
            let times = |x: &[f64]| -> Vec<f64> {
                matrix.chunks_exact(width).map(|row| row.iter().zip(x).map(|(a, x)| a * x).sum()).collect()
            };
            for [a, b] in [[1.0, 1e-3], [0.01, 1.0], [0.0, 2.0]] {
                let x: Vec<f64> = (0..width).map(|i| (i as f64 + 0.5).sin()).collect();
                let mut solved = x.clone();
                tridiagonal.solve([a, b], &mut solved);
                let mut filtered = x.clone();
                tridiagonal.filter([a, b], &mut filtered);
                let product = times(&solved);
                // The condition of these matrices is below 1e6.
                for i in 0..width {
                    let back = a * product[i] + b * solved[i];
                    assert!((back - x[i]).abs() < 1e-9, "{width}, {a} {b}: {back} {}", x[i]);
                    assert!((filtered[i] - product[i]).abs() < 1e-9 * (1.0 + norm(&product)));
                }
            }
        }
    }
}
