use crate::common::{Float, Input, Oracle, check};
use engine::ops::layer_norm::Affine;

/// s' = s + branch, y = norm(s') w + b
struct Spec {
    branch: bool,
}

impl Oracle for Spec {
    fn run<F: Float>(&self, inputs: &[Vec<F>]) -> Vec<Vec<F>> {
        let [stream, w, b, rest @ ..] = inputs else { unreachable!("at least three inputs") };
        let width = w.len();
        let (mut sum, mut normed) = (vec![], vec![]);
        for row in 0..stream.len() / width {
            let s: Vec<F> = (row * width..(row + 1) * width)
                .map(|at| rest.first().map_or(stream[at], |branch| stream[at] + branch[at]))
                .collect();
            let n = F::from_f64(width as f64);
            let mean = s.iter().copied().sum::<F>() / n;
            let variance = s.iter().map(|&x| (x - mean) * (x - mean)).sum::<F>() / n;
            let rstd = F::from_f64(1.0) / (variance + F::from_f64(1e-5)).sqrt();
            normed.extend((0..width).map(|i| (s[i] - mean) * rstd * w[i] + b[i]));
            sum.extend(s);
        }
        if self.branch { vec![sum, normed] } else { vec![normed] }
    }
}

const SHAPES: [(usize, usize, usize); 6] = [(1, 1, 3), (2, 3, 5), (3, 33, 40), (2, 70, 113), (1, 5, 512), (1, 2, 1032)];

#[test]
fn residual_norm_matches_its_oracle() {
    for (batch, tokens, width) in SHAPES {
        let stream = [batch, tokens, width];
        let inputs = vec![Input::node(&stream), Input::param(&[width]), Input::param(&[width]), Input::node(&stream)];
        check(&Spec { branch: true }, inputs, |tape, v| {
            tape.residual_norm(v[0], v[3], Affine { w: v[1], b: v[2] }).to_vec()
        });
    }
}

#[test]
fn layer_norm_matches_its_oracle() {
    for (batch, tokens, width) in SHAPES {
        let inputs = vec![Input::node(&[batch, tokens, width]), Input::param(&[width]), Input::param(&[width])];
        check(&Spec { branch: false }, inputs, |tape, v| vec![tape.layer_norm(v[0], Affine { w: v[1], b: v[2] })]);
    }
}
