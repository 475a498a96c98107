//! What a step leaves out: tokens, and elements of the loss.
//!
//! ```text
//! kept       the patches of the k windows with the smallest (Philox word, index), ascending
//! supervised 0 where the word of the element, pixel or block is below the threshold, else 1
//! weight     importance / (what the norm divides the squared errors of a sample by), 0 where that is nothing
//! ```
//! Sample `i` of the batch draws from the streams of its place in the global batch, so the draws do not depend on how a
//! batch is split; the weights of [`LossNorm::BatchActive`] do, being means over the batch.

use super::scratch::Scratch;
use crate::base::rng::{Draw, Purpose, Stream};
use crate::base::{LossMask, LossNorm, PatchGrid, Windows};
use crate::device::{Chunks, Cpu};

/// The first `count` words of a stream.
fn words(stream: Stream, count: usize) -> impl Iterator<Item = u32> {
    (0..count.div_ceil(4)).flat_map(move |block| stream.words(block as u32)).take(count)
}

/// Draws which windows of a grid of `columns` columns stay; `kept` is (B, N), ascending within an image.
pub fn keep_tokens(cpu: &Cpu, draw: Draw, windows: Windows, columns: usize, kept: &mut [u32]) {
    cpu.threads.each(Chunks::new(kept, windows.tokens()), 1, |sample, kept| {
        let [mut drawn, mut order] = [windows.count(); 2].map(Scratch::<u32>::new);
        let stream = words(draw.stream(sample, Purpose::TokenMask), windows.count());
        drawn.iter_mut().zip(stream).for_each(|(place, word)| *place = word);
        order.iter_mut().zip(0..).for_each(|(place, window)| *place = window);
        if windows.chosen < order.len() {
            order.select_nth_unstable_by_key(windows.chosen, |&window| (drawn[window as usize], window));
        }
        let chosen = order[..windows.chosen].iter();
        let patches = chosen.flat_map(|&window| windows.patches(window as usize, columns));
        kept.iter_mut().zip(patches).for_each(|(kept, patch)| *kept = patch as u32);
        kept.sort_unstable();
    });
}

/// Writes `supervised` (B, C, H, W).
pub fn thin_loss(cpu: &Cpu, draw: Draw, mask: LossMask, threshold: u32, grid: PatchGrid, supervised: &mut [f32]) {
    let counts = |word: u32| if word < threshold { 0.0 } else { 1.0 };
    let side = mask.side(grid);
    let across = grid.width.div_ceil(side);
    let squares = if mask == LossMask::Element { grid.image() } else { grid.height.div_ceil(side) * across };
    cpu.threads.each(Chunks::new(supervised, grid.image()), 1, |sample, supervised| {
        let drawn = words(draw.stream(sample, Purpose::LossMask), squares).map(counts);
        if mask == LossMask::Element {
            supervised.iter_mut().zip(drawn).for_each(|(element, drawn)| *element = drawn);
            return;
        }
        let mut words = Scratch::<f32>::new(squares);
        words.iter_mut().zip(drawn).for_each(|(place, drawn)| *place = drawn);
        for (row, line) in supervised.chunks_exact_mut(grid.width).enumerate() {
            let squares = &words[row % grid.height / side * across..][..across];
            line.chunks_mut(side).zip(squares).for_each(|(line, &square)| line.fill(square));
        }
    });
}

/// Writes `weight` (B) for `tokens` kept patches of each image; `supervised` is (B, C, H, W), `None` for everything, `importance` (B).
pub fn weigh(
    cpu: &Cpu,
    norm: LossNorm,
    grid: PatchGrid,
    tokens: usize,
    kept: Option<&[u32]>,
    supervised: Option<&[f32]>,
    importance: &[f32],
    weight: &mut [f32],
) {
    let mut counts = Scratch::<u32>::new(weight.len());
    counts.fill((tokens * grid.area() * grid.channels) as u32);
    if let (Some(supervised), LossNorm::BatchActive | LossNorm::SampleActive) = (supervised, norm) {
        cpu.threads.each(Chunks::new(&mut counts, 1), 1, |sample, count| {
            let image = &supervised[sample * grid.image()..][..grid.image()];
            let active = |patch: usize| {
                let pixels = (0..grid.area()).flat_map(|pixel| (0..grid.channels).map(move |c| (pixel, c)));
                pixels.filter(|&(pixel, channel)| image[grid.element(patch, pixel, channel)] > 0.0).count()
            };
            let patch = |n: usize| kept.map_or(n, |kept| kept[sample * tokens + n] as usize);
            count[0] = (0..tokens).map(|n| active(patch(n)) as u32).sum();
        });
    }
    let total = counts.iter().map(|&count| u64::from(count)).sum::<u64>() as f32;
    let batch = weight.len() as f32;
    for ((weight, &count), &importance) in weight.iter_mut().zip(&counts[..]).zip(importance) {
        let divisor = if norm == LossNorm::SampleActive { batch * count as f32 } else { total };
        *weight = if divisor > 0.0 { importance / divisor } else { 0.0 };
    }
}
