use crate::common::{Float, Input, Oracle, check_products, rounded};
use half::bf16;

/// y = x Wᵀ + b, where b is
struct Spec {
    rows: usize,
}

impl Oracle for Spec {
    fn run<F: Float>(&self, inputs: &[Vec<F>]) -> Vec<Vec<F>> {
        let [x, w, rest @ ..] = inputs else { unreachable!("at least two inputs") };
        let none = vec![F::from_f64(0.0); w.len() / (x.len() / self.rows)];
        vec![linear(x, w, rest.first().unwrap_or(&none), self.rows)]
    }
}

pub fn linear<F: Float>(x: &[F], w: &[F], b: &[F], rows: usize) -> Vec<F> {
    let (inner, width) = (x.len() / rows, b.len());
    let y = |row: usize, col: usize| (0..inner).map(|i| x[row * inner + i] * w[col * inner + i]).sum::<F>() + b[col];
    (0..rows * width).map(|at| y(at / width, at % width)).collect()
}

#[test]
fn linear_matches_its_oracle() {
    let small = [(1, 1, 1, 1), (2, 3, 5, 7), (2, 16, 96, 40), (3, 37, 113, 203)];
    // On a card: each tile of tensor cores with ragged edges, sums in parts by columns and by rows, and tiles that follow each
    // other through a ring that is shorter than their sums.
    let tiles =
        [(1, 300, 16, 264), (1, 128, 8, 600), (2, 50, 24, 264), (1, 16, 8, 600), (1, 520, 8, 16), (1, 72, 1736, 8)];
    for (batch, tokens, inner, width) in small.into_iter().chain(tiles) {
        let inputs = vec![Input::node(&[batch, tokens, inner]), Input::param(&[width, inner]), Input::param(&[width])];
        check_products(&Spec { rows: batch * tokens }, inputs, |tape, v| vec![tape.linear(v[0], v[1], v[2])]);
    }
    for (batch, tokens, inner, width) in [(2, 3, 5, 7), (2, 16, 96, 40), (1, 300, 16, 264)] {
        let inputs = vec![Input::node(&[batch, tokens, inner]), Input::param(&[width, inner])];
        check_products(&Spec { rows: batch * tokens }, inputs, |tape, v| vec![tape.linear(v[0], v[1], None)]);
    }
}

#[test]
fn the_factors_of_the_naive_products_are_rounded_to_bf16() {
    // Every pattern of the upper half, with lower halves below, at and above the middle between two numbers in bf16.
    for (upper, lower) in (0..=u16::MAX).flat_map(|upper| [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff].map(|l| (upper, l))) {
        let x = f32::from_bits(u32::from(upper) << 16 | lower);
        let truth = bf16::from_f32(x).to_f32();
        assert!(
            rounded(x) == truth || x.is_nan() && rounded(x).is_nan(),
            "{x:e} gives {:e}, not {truth:e}",
            rounded(x)
        );
    }
}
