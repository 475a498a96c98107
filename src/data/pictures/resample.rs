//! Resizing as Pillow does it, to the byte: two passes of weights in fixed point, along rows and then along columns.

use std::ops::Range;

/// Weights as whole numbers of `2^-22`; what is left of 32 bits holds their sum and the 8 bits of a pixel.
const PRECISION: u32 = 32 - 8 - 2;

/// A kernel of resampling: its values at a distance in source pixels, zero beyond the support.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// The mean of what a pixel covers.
    Box,
    /// Keys' cubic with a = -1/2.
    Bicubic,
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Filter::Box => 0.5,
            Filter::Bicubic => 2.0,
        }
    }

    fn at(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let size = x.abs();
        match self {
            Filter::Box if x > -0.5 && x <= 0.5 => 1.0,
            Filter::Bicubic if size < 1.0 => ((A + 2.0) * size - (A + 3.0)) * size * size + 1.0,
            Filter::Bicubic if size < 2.0 => (((size - 5.0) * size + 8.0) * size - 4.0) * A,
            _ => 0.0,
        }
    }
}

/// An image of 8 bits a value, row by row, the channels of a pixel side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    pub width: usize,
    pub height: usize,
    pub channels: usize,
    pub pixels: Vec<u8>,
}

impl Picture {
    /// The picture at another size.
    pub fn resized(&self, [width, height]: [usize; 2], filter: Filter) -> Picture {
        let along = (width != self.width).then(|| self.along_rows(width, filter));
        let picture = along.as_ref().unwrap_or(self);
        let down = (height != picture.height).then(|| picture.along_columns(height, filter));
        down.or(along).unwrap_or_else(|| self.clone())
    }

    fn along_rows(&self, width: usize, filter: Filter) -> Picture {
        let (weights, channels) = (Weights::of(self.width, width, filter), self.channels);
        let mut pixels = Vec::with_capacity(width * self.height * channels);
        for row in self.pixels.chunks_exact(self.width * channels) {
            for (span, weights) in &weights.0 {
                for channel in 0..channels {
                    let values = row[channel + span.start * channels..].iter().step_by(channels);
                    pixels.push(weighted(weights, values));
                }
            }
        }
        Picture { width, pixels, ..*self }
    }

    fn along_columns(&self, height: usize, filter: Filter) -> Picture {
        let line = self.width * self.channels;
        let mut pixels = Vec::with_capacity(line * height);
        for (span, weights) in &Weights::of(self.height, height, filter).0 {
            let rows = &self.pixels[span.start * line..];
            pixels.extend((0..line).map(|at| weighted(weights, rows[at..].iter().step_by(line))));
        }
        Picture { height, pixels, ..*self }
    }

    /// The square of `side` pixels around the middle, as `center_crop_arr` of ADM (Dhariwal and Nichol, 2021) cuts it for ImageNet:
    /// halved while the shorter side is at least twice as long, then resized so that it fits, then cropped.
    pub fn center_square(mut self, side: usize) -> Picture {
        while self.width.min(self.height) >= 2 * side {
            self = self.resized([self.width / 2, self.height / 2], Filter::Box);
        }
        let scale = side as f64 / self.width.min(self.height) as f64;
        let fitted = [self.width, self.height].map(|extent| (extent as f64 * scale).round_ties_even() as usize);
        self.resized(fitted, Filter::Bicubic).cropped(side)
    }

    fn cropped(self, side: usize) -> Picture {
        let (top, left) = ((self.height - side) / 2, (self.width - side) / 2);
        let line = self.width * self.channels;
        let rows = self.pixels.chunks_exact(line).skip(top).take(side);
        let pixels = rows.flat_map(|row| &row[left * self.channels..(left + side) * self.channels]).copied().collect();
        Picture { width: side, height: side, pixels, ..self }
    }

    /// Appends red, green and blue, (3, H, W), which are the same of a gray picture. Alpha is dropped.
    pub fn planes(&self, out: &mut Vec<u8>) {
        let colours = if self.channels < 3 { 1 } else { 3 };
        for channel in 0..3 {
            out.extend(self.pixels[channel % colours..].iter().step_by(self.channels));
        }
    }
}

/// For every output pixel the source pixels that it is made of, and their weights.
struct Weights(Vec<(Range<usize>, Vec<i32>)>);

impl Weights {
    fn of(from: usize, to: usize, filter: Filter) -> Weights {
        let scale = from as f64 / to as f64;
        // Shrinking, a pixel is made of all that it covers.
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let of = |i: usize| {
            let center = (i as f64 + 0.5) * scale;
            let start = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            let weight = |j: usize| filter.at((j as f64 - center + 0.5) * (1.0 / stretch));
            let weights: Vec<f64> = (start..end).map(weight).collect();
            let total: f64 = weights.iter().sum();
            (
                start..end,
                weights.into_iter().map(|weight| fixed(if total == 0.0 { weight } else { weight / total })).collect(),
            )
        };
        Weights((0..to).map(of).collect())
    }
}

/// A weight in fixed point, halves away from zero.
fn fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1u32 << PRECISION);
    (scaled + if weight < 0.0 { -0.5 } else { 0.5 }) as i32
}

fn weighted<'a>(weights: &[i32], values: impl Iterator<Item = &'a u8>) -> u8 {
    let half = 1 << (PRECISION - 1);
    let sum = weights.iter().zip(values).fold(half, |sum, (weight, &value)| sum + weight * i32::from(value));
    (sum >> PRECISION).clamp(0, 255) as u8
}
