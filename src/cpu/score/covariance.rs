//! The covariance of rows, in f64.

use super::LEAF;
use crate::base::Result;
use crate::data::Store;
use crate::device::{Chunks, Cpu};

/// The mean of all rows.
pub fn mean(store: &Store) -> Result<Vec<f64>> {
    let (width, count) = (store.width(), store.rows());
    let (mut sum, mut x) = (vec![0.0; width], vec![0.0; width]);
    for row in 0..count {
        store.read(&[row], &mut x)?;
        sum.iter_mut().zip(&x).for_each(|(sum, &x)| *sum += f64::from(x));
    }
    Ok(sum.into_iter().map(|sum| sum / f64::from(count)).collect())
}

/// Rows of the covariance that one task sums: their products with a row of data outweigh its decoding.
const LINES: usize = 16;

/// `1/M sum over rows of (x - mean) (x - mean)^T` into `out` (width, width).
pub fn covariance(cpu: &Cpu, store: &Store, mean: &[f64], out: &mut [f64]) -> Result<()> {
    let width = mean.len();
    let count = store.rows();
    let mut values = vec![0.0; LEAF * width];
    let mut centred = vec![0.0; LEAF * width];
    out.fill(0.0);
    for first in (0..count).step_by(LEAF) {
        let leaf: Vec<u32> = (first..count.min(first + LEAF as u32)).collect();
        let values = &mut values[..leaf.len() * width];
        store.read(&leaf, values)?;
        for (values, centred) in values.chunks_exact(width).zip(centred.chunks_exact_mut(width)) {
            centred.iter_mut().zip(values).zip(mean).for_each(|((c, &x), mean)| *c = f64::from(x) - mean);
        }
        let centred = &centred[..values.len()];
        cpu.threads.each(Chunks::new(out, LINES * width), 1, |task, lines| {
            for (i, line) in (task * LINES..).zip(lines.chunks_exact_mut(width)) {
                for row in centred.chunks_exact(width) {
                    add(cpu.isa(), line, row[i], row);
                }
            }
        });
    }
    out.iter_mut().for_each(|sum| *sum /= f64::from(count));
    Ok(())
}

/// Adds `<u, x>^2` and `<u, x>^4` of all `rows` x (R, width) to the sums of each of the `directions` u (U, width).
pub fn powers_along(cpu: &Cpu, rows: &[f64], directions: &[f64], width: usize, sums: &mut [[f64; 2]]) {
    cpu.threads.each(Chunks::new(sums, LINES), 1, |task, sums| {
        for (direction, sums) in directions[task * LINES * width..].chunks_exact(width).zip(sums) {
            for row in rows.chunks_exact(width) {
                let square = dot(cpu.isa(), direction, row).powi(2);
                sums[0] += square;
                sums[1] += square * square;
            }
        }
    });
}

vectorised! {
    fn dot(x: &[f64], y: &[f64]) -> f64 {
        let mut sums = [0.0; 32];
        let ((xs, x), (ys, y)) = (x.as_chunks::<32>(), y.as_chunks::<32>());
        for (x, y) in xs.iter().zip(ys) {
            for lane in 0..32 {
                sums[lane] += x[lane] * y[lane];
            }
        }
        let mut sum = 0.0;
        for lane in sums {
            sum += lane;
        }
        for (x, y) in x.iter().zip(y) {
            sum += x * y;
        }
        sum
    }

    fn add(line: &mut [f64], factor: f64, row: &[f64]) {
        line.iter_mut().zip(row).for_each(|(line, row)| *line += factor * row);
    }
}
