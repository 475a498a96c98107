use crate::common::{Float, Input, Oracle, check};
use engine::ops::gated_norm::Modulated;

/// s' = s + gate * branch, y = norm(s') (1 + scale) + shift; the modulation has `chunks` chunks.
struct Spec {
    tokens: usize,
    width: usize,
    chunks: usize,
    gate: Option<usize>,
    shift: usize,
    scale: usize,
}

impl Oracle for Spec {
    fn run<F: Float>(&self, inputs: &[Vec<F>]) -> Vec<Vec<F>> {
        let (stream, modulation) = (&inputs[0], &inputs[1]);
        let width = self.width;
        let (mut gated, mut normed) = (vec![], vec![]);
        for row in 0..stream.len() / width {
            let chunk = |c: usize, i: usize| modulation[(row / self.tokens * self.chunks + c) * width + i];
            let s: Vec<F> = (0..width)
                .map(|i| {
                    let s = stream[row * width + i];
                    self.gate.map_or(s, |gate| s + chunk(gate, i) * inputs[2][row * width + i])
                })
                .collect();
            let n = F::from_f64(width as f64);
            let mean = s.iter().copied().sum::<F>() / n;
            let variance = s.iter().map(|&x| (x - mean) * (x - mean)).sum::<F>() / n;
            let rstd = F::from_f64(1.0) / (variance + F::from_f64(1e-6)).sqrt();
            let one = F::from_f64(1.0);
            normed
                .extend((0..width).map(|i| (s[i] - mean) * rstd * (one + chunk(self.scale, i)) + chunk(self.shift, i)));
            gated.extend(s);
        }
        if self.gate.is_some() { vec![gated, normed] } else { vec![normed] }
    }
}

/// Widths that 16-byte accesses divide, up to the widest row that registers hold and beyond it, and widths that they do not;
/// images enough for column sums of 32 rows each, and too few.
const SHAPES: [(usize, usize, usize); 9] =
    [(1, 1, 1), (1, 1, 3), (2, 3, 5), (3, 33, 40), (2, 70, 113), (4, 33, 16), (2, 9, 384), (1, 11, 1152), (1, 2, 2056)];

#[test]
fn gated_norm_matches_its_oracle() {
    for (batch, tokens, width) in SHAPES {
        let spec = Spec { tokens, width, chunks: 5, gate: Some(3), shift: 4, scale: 1 };
        let inputs = vec![
            Input::node(&[batch, tokens, width]),
            Input::node(&[batch, 5 * width]),
            Input::node(&[batch, tokens, width]),
        ];
        check(&spec, inputs, |tape, v| {
            tape.gated_norm(v[0], v[2], 3, Modulated { modulation: v[1], shift: 4, scale: 1 }).to_vec()
        });
    }
}

#[test]
fn modulated_norm_matches_its_oracle() {
    for (batch, tokens, width) in SHAPES {
        let spec = Spec { tokens, width, chunks: 2, gate: None, shift: 0, scale: 1 };
        let inputs = vec![Input::node(&[batch, tokens, width]), Input::node(&[batch, 2 * width])];
        check(&spec, inputs, |tape, v| {
            vec![tape.modulated_norm(v[0], Modulated { modulation: v[1], shift: 0, scale: 1 })]
        });
    }
}
