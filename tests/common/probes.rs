//! Directions in which inputs are varied, and the exact derivatives along them.

use super::check::Oracle;
use super::devices::normals;
use super::dual::DIRECTIONS;
use super::input::{Input, cast};
use super::{Dual, Float};
use engine::base::rng::{Purpose, Stream};
use std::fmt;

/// A direction in which an input is varied.
pub(super) enum Probe {
    /// One coordinate.
    Coordinate(usize),
    /// All of them, each by plus or minus one.
    Signs(Vec<f32>),
}

impl Probe {
    pub fn len(&self) -> usize {
        match self {
            Probe::Coordinate(_) => 1,
            Probe::Signs(signs) => signs.len(),
        }
    }

    /// The derivative along the probe by the gradient.
    pub fn along(&self, gradient: &[f32]) -> f64 {
        match self {
            Probe::Coordinate(at) => f64::from(gradient[*at]),
            Probe::Signs(signs) => signs.iter().zip(gradient).map(|(&sign, &g)| f64::from(sign) * f64::from(g)).sum(),
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Probe::Coordinate(at) => write!(f, "coordinate {at}"),
            Probe::Signs(_) => f.write_str("random signs"),
        }
    }
}

/// Every coordinate of a small array; of a large one the corners, some of the last row and column, where a kernel's tails
/// are, and some of all. The last probe is the random signs.
pub(super) fn probes(input: usize, of: &Input) -> Vec<Probe> {
    const SAMPLES: usize = 16;
    const TAILS: usize = 4;
    let (len, cols) = (of.len(), *of.shape.last().unwrap());
    let stream = Stream::new(1, input as u32, 0, Purpose::Fixture);
    let mut coordinates: Vec<usize> = if len <= SAMPLES {
        (0..len).collect()
    } else {
        let below = |draw: usize, bound: usize| stream.below(draw as u32, bound as u64) as usize;
        let anywhere = (0..SAMPLES).map(|i| below(i, len));
        let last_row = (SAMPLES..).take(TAILS).map(|i| len - cols + below(i, cols));
        let last_column = (SAMPLES + TAILS..).take(TAILS).map(|i| below(i, len / cols) * cols + cols - 1);
        anywhere.chain(last_row).chain(last_column).chain([0, cols - 1, len - cols, len - 1]).collect()
    };
    coordinates.sort_unstable();
    coordinates.dedup();
    let signs = normals(300 + input as u32, len, 1.0).iter().map(|x| x.signum()).collect();
    coordinates.into_iter().map(Probe::Coordinate).chain([Probe::Signs(signs)]).collect()
}

/// Derivatives of `sum upstream . outputs` along the probes of each input.
pub(super) fn derivatives<F: Float>(
    oracle: &impl Oracle,
    inputs: &[Input],
    upstream: &[Vec<f32>],
    probes: &[Vec<Probe>],
) -> Vec<Vec<f64>> {
    let along = |input: usize, probes: &[Probe]| {
        let mut duals = cast::<Dual<F>>(inputs);
        for (direction, probe) in probes.iter().enumerate() {
            let varied = &mut duals[input];
            match probe {
                Probe::Coordinate(at) => varied[*at].rates[direction] = F::from_f64(1.0),
                Probe::Signs(signs) => {
                    let signs = signs.iter().map(|&sign| F::from_f64(f64::from(sign)));
                    varied.iter_mut().zip(signs).for_each(|(x, sign)| x.rates[direction] = sign);
                }
            }
        }
        let outputs = oracle.run(&duals);
        let terms = || outputs.iter().flatten().zip(upstream.iter().flatten());
        let along = |direction: usize| terms().map(move |(out, &up)| out.rates[direction] * F::from_f64(f64::from(up)));
        (0..probes.len()).map(|direction| along(direction).sum::<F>().to_f64()).collect::<Vec<_>>()
    };
    let of_input =
        |(i, probes): (usize, &Vec<Probe>)| probes.chunks(DIRECTIONS).flat_map(|some| along(i, some)).collect();
    probes.iter().enumerate().map(of_input).collect()
}
