use crate::common::{Float, Input, Oracle, check};
use engine::ops::extra_tokens::ExtraTokens;
use engine::tensor::Tensor;

const TIMES: [f32; 3] = [0.0, 0.731, 0.999];
const LABELS: [u32; 3] = [2, 0, 2];
const PATCHES: usize = 6;

/// y = [table[label], [cos(999 t w_i), sin(999 t w_i)], x] + position
struct Spec {
    width: usize,
    labels: bool,
    /// Of three images.
    kept: Vec<u32>,
}

impl Oracle for Spec {
    fn run<F: Float>(&self, inputs: &[Vec<F>]) -> Vec<Vec<F>> {
        let [x, position, rest @ ..] = inputs else { unreachable!("at least two inputs") };
        let (width, tokens, half) = (self.width, self.kept.len() / 3, self.width / 2);
        let extras = 1 + rest.len();
        let mut y = vec![];
        for (image, &t) in TIMES.iter().enumerate() {
            if let Some(table) = rest.first() {
                y.extend((0..width).map(|i| table[LABELS[image] as usize * width + i] + position[i]));
            }
            y.extend((0..width).map(|i| {
                let angle = 999.0 * f64::from(t) * 10_000f64.powf(-((i % half) as f64) / half as f64);
                let wave = if i < half { angle.cos() } else { angle.sin() };
                F::from_f64(wave) + position[(extras - 1) * width + i]
            }));
            for (n, &patch) in self.kept[image * tokens..][..tokens].iter().enumerate() {
                let row = (image * tokens + n) * width;
                y.extend((0..width).map(|i| x[row + i] + position[(extras + patch as usize) * width + i]));
            }
        }
        vec![y]
    }
}

#[test]
fn prepend_matches_its_oracle() {
    let all: Vec<u32> = (0..3 * PATCHES as u32).map(|i| i % PATCHES as u32).collect();
    let some = vec![0, 2, 5, 1, 2, 3, 0, 4, 5];
    for (width, labels) in [(4, true), (10, false), (40, true)] {
        for kept in [&all, &some] {
            let tokens = kept.len() / 3;
            let extras = 1 + usize::from(labels);
            let mut inputs = vec![Input::node(&[3, tokens, width]), Input::param(&[extras + PATCHES, width])];
            inputs.extend(labels.then(|| Input::param(&[3, width])));
            let spec = Spec { width, labels, kept: kept.clone() };
            check(&spec, inputs, |tape, v| {
                let device = tape.device().clone();
                let t = Tensor::from_slice(&device, "test", [3], &TIMES);
                let y = Tensor::from_slice(&device, "test", [3], &LABELS);
                let kept = Tensor::from_slice(&device, "test", [3, tokens], &spec.kept);
                let extra = ExtraTokens { table: spec.labels.then(|| v[2]), position: v[1] };
                vec![tape.prepend(v[0], &t, &y, (tokens < PATCHES).then_some(&kept), extra)]
            });
        }
    }
}

/// The last tokens of each image.
struct Last {
    width: usize,
    all: usize,
    tokens: usize,
}

impl Oracle for Last {
    fn run<F: Float>(&self, inputs: &[Vec<F>]) -> Vec<Vec<F>> {
        let image = self.all * self.width;
        vec![inputs[0].chunks(image).flat_map(|y| y[image - self.tokens * self.width..].to_vec()).collect()]
    }
}

#[test]
fn strip_matches_its_oracle() {
    for (all, tokens, width) in [(5, 3, 4), (7, 7, 5), (34, 33, 40)] {
        let inputs = vec![Input::sole(&[3, all, width])];
        check(&Last { width, all, tokens }, inputs, |tape, v| vec![tape.strip(v[0], tokens)]);
    }
}
