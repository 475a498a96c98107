//! Random numbers as a pure function of what they are for.
//!
//! Philox4x32-10 (Salmon, Moraes, Dror, Shaw, *Parallel Random Numbers: As Easy as 1, 2, 3*, 2011) turns a key and a
//! counter into four words. The key is the run's seed; the counter is `(block, sample, step, purpose)`. So a draw depends
//! neither on the order of the calls nor on batch, thread or device, and a resumed run needs no generator state.
//!
//! The normals come from Box and Muller's transform with this module's own logarithm, sine and cosine, built from
//! `mul_add`, square root and division alone, which every device rounds alike: the draws are the same bits everywhere.

use std::f32::consts::{LN_2, SQRT_2};

/// What a draw is for: the last word of the counter, so that no two uses share a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// The diffusion time of a training sample.
    Time = 1,
    /// The Gaussian noise of a training sample.
    Noise = 2,
    /// Whether a training sample loses its label.
    LabelDropout = 3,
    /// Which tokens of a sample are kept.
    TokenMask = 4,
    /// Which elements of a sample the loss counts.
    LossMask = 5,
    /// The order of the data set in one epoch.
    Shuffle = 6,
    /// The initial weights.
    Weights = 7,
    /// The starting noise of a generated sample.
    Start = 8,
    /// Everything that a test, bench or fixture draws.
    Fixture = 9,
    /// Which rows of a data set are never trained on.
    HeldOut = 11,
    /// Which row of a data set is drawn from a posterior.
    Posterior = 12,
    /// Which kind of mask a step has.
    MaskKind = 13,
    /// Which rows of a class belong to a subset.
    Subset = 14,
    /// The noise that a step of a sampler adds.
    Sampling = 15,
    /// The points of a distribution that has a formula.
    Toy = 16,
}

/// The stream of one sample at one step for one purpose.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    key: [u32; 2],
    sample: u32,
    step: u32,
    purpose: Purpose,
}

impl Stream {
    pub fn new(seed: u64, sample: u32, step: u32, purpose: Purpose) -> Stream {
        Stream { key: [seed as u32, (seed >> 32) as u32], sample, step, purpose }
    }

    /// Four independent words.
    #[inline(always)]
    pub fn words(&self, block: u32) -> [u32; 4] {
        philox4x32([block, self.sample, self.step, self.purpose as u32], self.key)
    }

    /// Four standard normals.
    #[inline(always)]
    pub fn normals(&self, block: u32) -> [f32; 4] {
        let [a, b, c, d] = self.words(block);
        let ([x, y], [z, w]) = (box_muller(a, b), box_muller(c, d));
        [x, y, z, w]
    }

    /// Fills `out` with standard normals; element `i` is lane `i % 4` of block `i / 4`.
    pub fn fill_normals(&self, out: &mut [f32]) {
        for (block, four) in out.chunks_mut(4).enumerate() {
            four.copy_from_slice(&self.normals(block as u32)[..four.len()]);
        }
    }

    /// A uniform integer below `n`, from one word of `block`; the bias is below `n / 2^64`.
    pub fn below(&self, block: u32, n: u64) -> u64 {
        let [a, b, ..] = self.words(block);
        let word = u64::from(a) << 32 | u64::from(b);
        ((u128::from(word) * u128::from(n)) >> 64) as u64
    }
}

/// Which draws a step makes: the key and the counter of its streams.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    pub seed: u64,
    pub step: u32,
    /// The place of the first sample in the global batch.
    pub first: u32,
}

impl Draw {
    /// The stream of sample number `sample` of the batch.
    pub fn stream(&self, sample: usize, purpose: Purpose) -> Stream {
        Stream::new(self.seed, self.first + sample as u32, self.step, purpose)
    }
}

/// Ten rounds of Philox on a counter of four words.
#[inline(always)]
pub fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(counter[0]) * 0xD251_1F53;
        let b = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [(b >> 32) as u32 ^ counter[1] ^ key[0], b as u32, (a >> 32) as u32 ^ counter[3] ^ key[1], a as u32];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

/// The upper 23 bits of a word, and a half, as a fraction: every value of the open interval (0, 1) that it takes is exact.
#[inline]
pub fn uniform(word: u32) -> f32 {
    // 2^-23 (n + 1/2) with n < 2^23 is an odd multiple of 2^-24 with 24 bits.
    ((word >> 9) as f32 + 0.5) * (1.0 / 8_388_608.0)
}

/// Two standard normals: `sqrt(-2 ln u) (cos 2 pi v, sin 2 pi v)`.
#[inline(always)]
fn box_muller(u: u32, v: u32) -> [f32; 2] {
    let radius = (-2.0 * ln(uniform(u))).sqrt();
    let (sin, cos) = sin_cos_turns(v);
    [radius * cos, radius * sin]
}

/// Natural logarithm of a normal positive number, within two units in the last place.
///
/// `x = 2^e m` with `m` in `[sqrt(1/2), sqrt 2)`, `s = (m - 1) / (m + 1)`, `ln m = 2 atanh s` as an odd series.
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    let bits = x.to_bits();
    let mut exponent = (bits >> 23) as i32 - 127;
    let mut m = f32::from_bits(bits & 0x007F_FFFF | 0x3F80_0000);
    if m >= SQRT_2 {
        m *= 0.5;
        exponent += 1;
    }
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let mut series = 2.0f32 / 11.0;
    for coefficient in [2.0 / 9.0, 2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0] {
        series = series.mul_add(z, coefficient);
    }
    let tail = s * z * series;
    (exponent as f32).mul_add(LN_2, s.mul_add(2.0, tail))
}

/// `(sin 2 pi v, cos 2 pi v)` for the angle `v` of `word / 2^32` turns.
///
/// The three upper bits choose the octant; the rest, folded into `[0, 1/8]` turn, goes through Taylor polynomials whose
/// first dropped term is below 2^-27.
#[inline(always)]
pub fn sin_cos_turns(word: u32) -> (f32, f32) {
    const STEP: f32 = std::f32::consts::FRAC_PI_4 / 2_097_152.0; // an eighth of a turn in 21 bits
    let octant = word >> 29;
    let fraction = (word >> 8) & 0x1F_FFFF;
    // Odd octants run backwards, so that the folded angle stays within an eighth of a turn.
    let folded = if octant & 1 == 0 { fraction } else { 0x20_0000 - fraction };
    let a = folded as f32 * STEP;
    let z = a * a;
    let mut sin = 1.0f32 / 362_880.0;
    for coefficient in [-1.0 / 5040.0, 1.0 / 120.0, -1.0 / 6.0] {
        sin = sin.mul_add(z, coefficient);
    }
    let sin = (sin * z).mul_add(a, a);
    let mut cos = -1.0f32 / 3_628_800.0;
    for coefficient in [1.0 / 40_320.0, -1.0 / 720.0, 1.0 / 24.0, -0.5] {
        cos = cos.mul_add(z, coefficient);
    }
    let cos = cos.mul_add(z, 1.0);
    let (s, c) = if matches!(octant & 3, 1 | 2) { (cos, sin) } else { (sin, cos) };
    let s = if octant >= 4 { -s } else { s };
    let c = if matches!(octant, 2..=5) { -c } else { c };
    (s, c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_known_answers_of_random123() {
        // kat_vectors of the Random123 distribution, philox4x32 10.
        assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        assert_eq!(philox4x32([!0; 4], [!0; 2]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        assert_eq!(
            philox4x32([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]),
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]
        );
    }

    #[test]
    fn a_stream_counts_block_sample_step_and_purpose_under_the_seed() {
        let (seed, sample, step) = (0x0123_4567_89AB_CDEF, 11, 13);
        for (purpose, number) in [
            (Purpose::Time, 1),
            (Purpose::Noise, 2),
            (Purpose::LabelDropout, 3),
            (Purpose::TokenMask, 4),
            (Purpose::LossMask, 5),
            (Purpose::Shuffle, 6),
            (Purpose::Weights, 7),
            (Purpose::Start, 8),
            (Purpose::Fixture, 9),
            (Purpose::HeldOut, 11),
            (Purpose::Posterior, 12),
            (Purpose::MaskKind, 13),
            (Purpose::Subset, 14),
            (Purpose::Sampling, 15),
        ] {
            let words = philox4x32([17, sample, step, number], [0x89AB_CDEF, 0x0123_4567]);
            assert_eq!(Stream::new(seed, sample, step, purpose).words(17), words, "{purpose:?}");
            let draw = Draw { seed, step, first: 8 };
            assert_eq!(draw.stream(3, purpose).words(17), words, "{purpose:?}, of the fourth sample from 8 on");
        }
    }

    #[test]
    fn uniforms_stay_inside_the_open_interval_and_are_evenly_spaced() {
        assert_eq!(uniform(0), 0.5 / 8_388_608.0);
        assert_eq!(uniform(u32::MAX), 1.0 - 0.5 / 8_388_608.0);
        for n in 0..1u32 << 23 {
            assert_eq!(f64::from(uniform(n << 9)), (f64::from(n) + 0.5) / 8_388_608.0);
        }
    }

    #[test]
    fn the_logarithm_is_within_two_units_in_the_last_place() {
        for i in 0..1_000_000u32 {
            let x = uniform(i.wrapping_mul(0x9E37_79B9));
            let exact = f64::from(x).ln();
            let ulp = f64::from((exact.abs() as f32).max(f32::MIN_POSITIVE).next_up()) - exact.abs();
            let error = (f64::from(ln(x)) - exact).abs();
            assert!(error <= 2.0 * ulp.max(exact.abs() * f64::from(f32::EPSILON)), "ln({x}) is off by {error}");
        }
    }

    #[test]
    fn sine_and_cosine_follow_the_circle() {
        for i in 0..1_000_000u32 {
            let word = i.wrapping_mul(0x9E37_79B9);
            let angle = f64::from(word >> 8) / f64::from(1u32 << 24) * std::f64::consts::TAU;
            let (sin, cos) = sin_cos_turns(word);
            assert!((f64::from(sin) - angle.sin()).abs() < 2e-7, "sin at {word:#x}");
            assert!((f64::from(cos) - angle.cos()).abs() < 2e-7, "cos at {word:#x}");
        }
    }

    #[test]
    fn normals_have_the_moments_of_a_standard_normal() {
        let n = 4_000_000;
        let mut draws = vec![0.0; n];
        Stream::new(7, 3, 5, Purpose::Fixture).fill_normals(&mut draws);
        let moment = |p: i32| draws.iter().map(|&x| f64::from(x).powi(p)).sum::<f64>() / n as f64;
        // Four standard errors of the mean of x^p, whose variance is E x^2p - (E x^p)^2.
        for (p, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
            let tolerance = 4.0 * f64::sqrt(variance / n as f64);
            assert!((moment(p) - expected).abs() < tolerance, "moment {p} is {}", moment(p));
        }
    }
}
