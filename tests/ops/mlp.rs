use super::linear::linear;
use crate::common::{Float, Input, Oracle, check_products};
use engine::base::Gelu;
use engine::ops::mlp::Mlp;

/// y = gelu(x W1ᵀ + b1) W2ᵀ + b2
struct Spec {
    rows: usize,
    gelu: Gelu,
}

impl Oracle for Spec {
    fn run<F: Float>(&self, inputs: &[Vec<F>]) -> Vec<Vec<F>> {
        let [x, w1, b1, w2, b2] = inputs else { unreachable!("five inputs") };
        let active: Vec<F> = linear(x, w1, b1, self.rows).into_iter().map(|x| gelu(self.gelu, x)).collect();
        vec![linear(&active, w2, b2, self.rows)]
    }
}

fn gelu<F: Float>(form: Gelu, x: F) -> F {
    let c = F::from_f64;
    if form == Gelu::Erf {
        return c(0.5) * x * (c(1.0) + (c(0.5f64.sqrt()) * x).erf());
    }
    let u = c((2.0 / std::f64::consts::PI).sqrt()) * (x + c(0.044715) * x * x * x);
    c(0.5) * x * (c(1.0) + u.tanh())
}

#[test]
fn mlp_matches_its_oracle() {
    let shapes = [(1, 1, 1, 1), (2, 3, 5, 7), (1, 33, 24, 96), (2, 17, 65, 130), (2, 130, 8, 136)];
    let all = shapes.into_iter().map(|shape| (shape, Gelu::Tanh));
    for ((batch, tokens, width, hidden), gelu) in all.chain(shapes[1..4].iter().map(|&shape| (shape, Gelu::Erf))) {
        let inputs = vec![
            Input::node(&[batch, tokens, width]),
            Input::param(&[hidden, width]),
            Input::param(&[hidden]),
            Input::param(&[width, hidden]),
            Input::param(&[width]),
        ];
        check_products(&Spec { rows: batch * tokens, gelu }, inputs, |tape, v| {
            vec![tape.mlp(v[0], Mlp { w1: v[1], b1: v[2], w2: v[3], b2: v[4], gelu })]
        });
    }
}
