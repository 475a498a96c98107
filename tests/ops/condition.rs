use super::linear::linear;
use crate::common::{Float, Input, Oracle, check_products};
use engine::ops::condition::Conditioning;
use engine::tensor::Tensor;

/// m = Wm silu(e + table[y]) + bm, e = W2 silu(W0 f(t) + b0) + b2
struct Spec {
    t: Vec<f32>,
    /// Empty without labels.
    y: Vec<u32>,
}

impl Oracle for Spec {
    fn run<F: Float>(&self, inputs: &[Vec<F>]) -> Vec<Vec<F>> {
        let (batch, width) = (self.t.len(), inputs[1].len());
        let features: Vec<F> = self.t.iter().flat_map(|&t| features(t)).map(F::from_f64).collect();
        let hidden = linear(&features, &inputs[0], &inputs[1], batch).into_iter().map(silu).collect::<Vec<F>>();
        let mut c = linear(&hidden, &inputs[2], &inputs[3], batch);
        for (row, &y) in self.y.iter().enumerate() {
            (0..width).for_each(|i| c[row * width + i] = c[row * width + i] + inputs[6][y as usize * width + i]);
        }
        let c: Vec<F> = c.into_iter().map(silu).collect();
        vec![linear(&c, &inputs[4], &inputs[5], batch)]
    }
}

fn features(t: f32) -> Vec<f64> {
    let angle = |i: i32| f64::from(t) * 10_000f64.powf(-f64::from(i) / 128.0);
    (0..128).map(|i| angle(i).cos()).chain((0..128).map(|i| angle(i).sin())).collect()
}

fn silu<F: Float>(x: F) -> F {
    x / (F::from_f64(1.0) + (-x).exp())
}

#[test]
fn condition_matches_its_oracle() {
    for (t, y, width, columns) in [
        (vec![0.5], vec![0], 3, 5),
        (vec![0.0, 1.0, 0.25, 0.7], vec![2, 0, 4, 2], 24, 80),
        (vec![0.1, 0.9], vec![], 17, 33),
    ] {
        let mut inputs = vec![
            Input::param(&[width, 256]).scaled(0.1),
            Input::param(&[width]),
            Input::param(&[width, width]).scaled(0.2),
            Input::param(&[width]),
            Input::param(&[columns, width]),
            Input::param(&[columns]),
        ];
        if !y.is_empty() {
            inputs.push(Input::param(&[5, width]));
        }
        let labels = if y.is_empty() { vec![0; t.len()] } else { y.clone() };
        check_products(&Spec { t: t.clone(), y }, inputs, |tape, v| {
            let device = tape.device().clone();
            let t = Tensor::from_slice(&device, "test", [t.len()], &t);
            let y = Tensor::from_slice(&device, "test", [labels.len()], &labels);
            let conditioning = Conditioning {
                w0: v[0],
                b0: v[1],
                w2: v[2],
                b2: v[3],
                modulation_w: v[4],
                modulation_b: v[5],
                table: v.get(6).copied(),
            };
            vec![tape.condition(&t, &y, conditioning)]
        });
    }
}
