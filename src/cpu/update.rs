//! The update of all parameters: the norm of the gradient, then clipping, AdamW and every moving average in one pass.
//!
//! ```text
//! g <- g min(1, clip / |g|)
//! m <- b1 m + (1 - b1) g              v <- b2 v + (1 - b2) g^2
//! w <- w - lr (mhat / (sqrt(vhat) + eps) + decay w)       mhat = m / (1 - b1^k), vhat = v / (1 - b2^k)
//! e <- d e + (1 - d) w                for each average e of decay d
//! ```
//! AdamW of Loshchilov and Hutter (2019, algorithm 2), where `k` counts the applied updates. A pass reads each array once
//! and writes it once: 4 bytes x (w, g, m, v, e read; w, m, v, e written) a parameter.

use crate::base::AdamW;
use crate::device::{Chunks, Cpu, Group};

/// Elements of one task.
const BLOCK: usize = 16 * 1024;

/// Blocks of the norm, whatever the number of threads: their sums are added in order.
const SUMS: usize = 256;

/// The Euclidean norm of `gradient`, summed in f64.
pub fn norm(cpu: &Cpu, gradient: &[f32]) -> f64 {
    let mut sums = [0.0; SUMS];
    let block = gradient.len().div_ceil(SUMS).max(1);
    cpu.threads.each(Chunks::new(&mut sums, 1), 1, |i, sum| {
        let [start, end] = [i, i + 1].map(|i| gradient.len().min(i * block));
        sum[0] = sum_of_squares(cpu.isa(), &gradient[start..end]);
    });
    sums.iter().sum::<f64>().sqrt()
}

vectorised! {
    fn sum_of_squares(x: &[f32]) -> f64 {
        let mut lanes = [0.0f64; 16];
        let chunks = x.chunks_exact(16);
        let rest: f64 = chunks.remainder().iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        for chunk in chunks {
            for (lane, &x) in lanes.iter_mut().zip(chunk) {
                *lane += f64::from(x) * f64::from(x);
            }
        }
        lanes.iter().sum::<f64>() + rest
    }
}

/// The arrays of one update, all of one length.
pub struct State<'a> {
    pub weights: &'a mut [f32],
    pub gradient: &'a [f32],
    pub m: &'a mut [f32],
    pub v: &'a mut [f32],
    /// Each moving average with its decay.
    pub averages: Vec<(&'a mut [f32], f32)>,
}

/// Applies update number `applied` (from 1 on) at learning rate `rate`, with the gradient scaled by `clip`.
pub fn adamw(cpu: &Cpu, hyper: AdamW, rate: f32, applied: u32, clip: f32, state: State) {
    let power = applied.min(i32::MAX as u32) as i32;
    let first = 1.0 - f64::from(hyper.beta1).powi(power);
    let second = 1.0 - f64::from(hyper.beta2).powi(power);
    let scales = Scales {
        hyper,
        clip,
        rate: (f64::from(rate) / first) as f32,
        second: (1.0 / second.sqrt()) as f32,
        decay: rate * hyper.weight_decay,
    };
    let decays: Vec<f32> = state.averages.iter().map(|&(_, decay)| decay).collect();
    let averages: Group<_> = state.averages.into_iter().map(|(average, _)| Chunks::new(average, BLOCK)).collect();
    let parts = (Chunks::new(state.weights, BLOCK), Chunks::new(state.m, BLOCK), Chunks::new(state.v, BLOCK));
    cpu.threads.each((parts, averages), 1, |i, ((w, m, v), averages)| {
        let g = &state.gradient[i * BLOCK..][..w.len()];
        moments(cpu.isa(), scales, g, m, v);
        weights(cpu.isa(), scales, w, m, v);
        for (average, &decay) in averages.zip(&decays) {
            follow(cpu.isa(), average, w, decay);
        }
    });
}

#[derive(Clone, Copy)]
struct Scales {
    hyper: AdamW,
    clip: f32,
    /// Learning rate over the bias correction of m.
    rate: f32,
    /// The inverse root of the bias correction of v.
    second: f32,
    /// What weight decay takes of a weight: not subtracted from one, where it would round away.
    decay: f32,
}

vectorised! {
    fn moments(s: Scales, g: &[f32], m: &mut [f32], v: &mut [f32]) {
        let (b1, b2) = (s.hyper.beta1, s.hyper.beta2);
        for ((&g, m), v) in g.iter().zip(m).zip(v) {
            let g = g * s.clip;
            *m = b1 * *m + (1.0 - b1) * g;
            *v = b2 * *v + (1.0 - b2) * (g * g);
        }
    }

    fn weights(s: Scales, w: &mut [f32], m: &[f32], v: &[f32]) {
        for ((w, &m), &v) in w.iter_mut().zip(m).zip(v) {
            *w -= s.decay * *w + s.rate * m / (v.sqrt() * s.second + s.hyper.epsilon);
        }
    }

    fn follow(average: &mut [f32], w: &[f32], decay: f32) {
        for (e, &w) in average.iter_mut().zip(w) {
            *e += (1.0 - decay) * (w - *e);
        }
    }
}
