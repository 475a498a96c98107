//! A stream after its branch beside a long skip: `y = [s + branch, skip]`, rows of two widths.

use crate::device::{Chunks, Cpu};

/// Rows of one task.
const ROWS: usize = 16;

/// Writes `y` (rows, 2 D) from `stream`, `branch` and `skip` (rows, D).
pub fn forward(cpu: &Cpu, [stream, branch, skip]: [&[f32]; 3], width: usize, y: &mut [f32]) {
    cpu.threads.each(Chunks::new(y, 2 * width), ROWS, |row, y| {
        let [s, branch, skip] = [stream, branch, skip].map(|x| &x[row * width..][..width]);
        let (sum, second) = y.split_at_mut(width);
        sum.iter_mut().zip(s.iter().zip(branch)).for_each(|(sum, (s, branch))| *sum = s + branch);
        second.copy_from_slice(skip);
    });
}

/// Writes the gradients of stream, branch and skip from `dy`.
pub fn backward(cpu: &Cpu, dy: &[f32], width: usize, [stream, branch, skip]: [&mut [f32]; 3]) {
    let parts = (Chunks::new(stream, width), Chunks::new(branch, width), Chunks::new(skip, width));
    cpu.threads.each(parts, ROWS, |row, (stream, branch, skip)| {
        let (sum, second) = dy[row * 2 * width..][..2 * width].split_at(width);
        stream.copy_from_slice(sum);
        branch.copy_from_slice(sum);
        skip.copy_from_slice(second);
    });
}
