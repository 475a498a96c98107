//! Tokens of label and time before those of the patches.
//!
//! ```text
//! y = [table[label], [cos(scale t w_i), sin(scale t w_i)], x] + position       w_i = 10000^(-2 i / D), i < D / 2
//! ```
//! `x` is (B, N, D), `y` (B, E + N, D) with E = 2, or 1 without labels; `position` is (E + T, D), and token n of the patches
//! has row E + kept[b, n].

use crate::base::Accumulate;
use crate::device::{Chunks, Cpu};

/// Writes `y` from the patches `x`, times `t` (B) and `labels` (B).
pub fn prepend(
    cpu: &Cpu,
    x: &[f32],
    (t, scale): (&[f32], f64),
    table: Option<(&[f32], &[u32])>,
    kept: Option<&[u32]>,
    position: &[f32],
    width: usize,
    y: &mut [f32],
) {
    let extras = 1 + usize::from(table.is_some());
    let (all, batch) = (y.len() / width / t.len(), t.len());
    let tokens = x.len() / width / batch;
    cpu.threads.each(Chunks::new(y, width), 16, |row, y| {
        let (image, token) = (row / all, row % all);
        let place = match token.checked_sub(extras) {
            None => {
                match table {
                    Some((table, labels)) if token == 0 => {
                        y.copy_from_slice(&table[labels[image] as usize * width..][..width]);
                    }
                    _ => time_features(f64::from(t[image]) * scale, y),
                }
                token
            }
            Some(n) => {
                y.copy_from_slice(&x[(image * tokens + n) * width..][..width]);
                extras + kept.map_or(n, |kept| kept[image * tokens + n] as usize)
            }
        };
        y.iter_mut().zip(&position[place * width..]).for_each(|(y, position)| *y += position);
    });
}

/// `[cos, sin]` of one time, in f64 and rounded once.
fn time_features(t: f64, features: &mut [f32]) {
    let half = features.len() / 2;
    let (cosines, sines) = features.split_at_mut(half);
    for (i, (cosine, sine)) in cosines.iter_mut().zip(sines).enumerate() {
        let frequency = (-(10_000f64.ln()) * i as f64 / half as f64).exp();
        let (sin, cos) = (t * frequency).sin_cos();
        (*cosine, *sine) = (cos as f32, sin as f32);
    }
}

/// Writes the gradient of the positions from `dy` (B, E + N, D), and adds to that of the table.
pub fn backward(
    cpu: &Cpu,
    dy: &[f32],
    labels: &[u32],
    dtable: Option<&mut [f32]>,
    kept: Option<&[u32]>,
    (dposition, accumulate): (&mut [f32], Accumulate),
    width: usize,
) {
    let (extras, batch) = (1 + usize::from(dtable.is_some()), labels.len());
    let all = dy.len() / width / batch;
    let tokens = all - extras;
    let of = |image: usize, token: usize| &dy[(image * all + token) * width..][..width];
    cpu.threads.each(Chunks::new(dposition, width), 4, |place, dposition| {
        if accumulate == Accumulate::Set {
            dposition.fill(0.0);
        }
        for image in 0..batch {
            let token = match (place.checked_sub(extras), kept) {
                (Some(patch), Some(kept)) => {
                    let kept = &kept[image * tokens..][..tokens];
                    kept.binary_search(&(patch as u32)).ok().map(|n| extras + n)
                }
                _ => Some(place),
            };
            if let Some(token) = token {
                dposition.iter_mut().zip(of(image, token)).for_each(|(d, dy)| *d += dy);
            }
        }
    });
    if let Some(dtable) = dtable {
        for (image, &label) in labels.iter().enumerate() {
            let row = &mut dtable[label as usize * width..][..width];
            row.iter_mut().zip(of(image, 0)).for_each(|(d, dy)| *d += dy);
        }
    }
}

/// Writes `x` (B, N, D), the last tokens of each image of `y` (B, all, D).
pub fn strip(cpu: &Cpu, y: &[f32], all: usize, tokens: usize, width: usize, x: &mut [f32]) {
    cpu.threads.each(Chunks::new(x, tokens * width), 1, |image, x| {
        x.copy_from_slice(&y[(image * all + all - tokens) * width..][..tokens * width]);
    });
}

/// Writes `y` (B, all, D), whose last tokens are `x` (B, N, D), the others zero.
pub fn pad(cpu: &Cpu, x: &[f32], all: usize, tokens: usize, width: usize, y: &mut [f32]) {
    cpu.threads.each(Chunks::new(y, all * width), 1, |image, y| {
        let (extras, rest) = y.split_at_mut((all - tokens) * width);
        extras.fill(0.0);
        rest.copy_from_slice(&x[image * tokens * width..][..tokens * width]);
    });
}
