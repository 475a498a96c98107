use crate::base::{LossMask, Mask, PatchGrid, Rate, Result};
use crate::data::Store;
use crate::data::svg::{Axis, Chart, Mark, Series};
use crate::device::Device;
use crate::ops::mask::mask;
use crate::ops::noise::Batch;
use crate::ops::score::{covariance, mean, powers_along};
use crate::score::Tridiagonal;

/// Rows that are masked at once.
const BATCH: usize = 128;
/// Below this share of the largest variance a direction has none: rounding alone.
const NOTHING: f64 = 1e-12;

/// What loss masks do to the spectrum of data: the variance of centred rows along the eigenvectors of their covariance,
/// whole and masked.
///
/// ```text
/// Sigma' = (1 - rate)^2 Sigma + rate (1 - rate) B       the covariance of masked rows
/// beta_i = u_i^T Sigma' u_i / lambda_i                   for the eigenpairs (lambda_i, u_i) of Sigma
/// ```
/// B is Sigma between elements that are masked together, and 0 elsewhere; for masks of single elements its diagonal
/// (*Sparsely Supervised Diffusion*, section 4.2). Directions of little variance, the fine detail, gain on the others.
pub struct MaskSpectrum {
    pub rows: u32,
    pub rate: f64,
    pub kind: LossMask,
    /// By descending variance.
    pub directions: Vec<Direction>,
}

/// One eigenvector.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Direction {
    /// lambda_i.
    pub variance: f64,
    /// `u_i^T Sigma' u_i`.
    pub predicted: f64,
    /// The mean square of masked rows along u_i.
    pub measured: f64,
    /// The standard error of `measured` over masks and rows.
    pub error: f64,
}

impl Direction {
    /// beta_i, predicted and measured; `None` where the data do not vary.
    pub fn gain(&self, largest: f64) -> Option<[f64; 2]> {
        (self.variance > NOTHING * largest).then(|| [self.predicted, self.measured].map(|value| value / self.variance))
    }
}

impl MaskSpectrum {
    /// Of all rows of `store`, each under one mask that is a function of the seed and the row; `progress` hears how many
    /// rows were masked. Takes `M d^2` operations twice, `5 d^3`, and `24 d^2` bytes.
    ///
    /// # Errors
    /// `Memory` if the covariance does not fit; `Data` if a row cannot be read.
    pub fn new(
        device: &Device,
        store: &Store,
        (kind, rate): (LossMask, f64),
        patch: usize,
        seed: u64,
        progress: &dyn Fn(u32),
    ) -> Result<MaskSpectrum> {
        let [channels, height, width] = store.shape();
        let (grid, size) = (PatchGrid { channels, height, width, patch }, store.width());
        let mean = mean(store)?;
        let covariance = covariance(device, store, &mean)?;
        let (values, vectors) = Tridiagonal::new(covariance.clone(), size).eigen();
        let mut sums = vec![[0.0; 2]; size];
        let masks = Mask { loss: kind, loss_drop: Rate::constant(rate), ..Mask::none() };
        for first in (0..store.rows()).step_by(BATCH) {
            let rows: Vec<u32> = (first..store.rows().min(first + BATCH as u32)).collect();
            let masked = masked_rows(device, store, &rows, &mean, (&masks, seed), grid)?;
            powers_along(device, &masked, &vectors, size, &mut sums)?;
            progress(first + rows.len() as u32);
        }
        let together = groups(kind, grid);
        let kept = 1.0 - rate;
        let direction = |i: usize| {
            let vector = &vectors[i * size..(i + 1) * size];
            let predicted = kept * kept * values[i] + rate * kept * within(&covariance, &together, vector);
            let [measured, fourth] = sums[i].map(|sum| sum / f64::from(store.rows()));
            let error = ((fourth - measured * measured).max(0.0) / f64::from(store.rows())).sqrt();
            Direction { variance: values[i].max(0.0), predicted, measured, error }
        };
        Ok(MaskSpectrum { rows: store.rows(), rate, kind, directions: (0..size).map(direction).collect() })
    }

    /// How many of the measured variances lie within `errors` standard errors of the predicted ones, of how many that are
    /// not nothing.
    pub fn agreeing(&self, errors: f64) -> [usize; 2] {
        let seen = || self.directions.iter().filter(|one| one.measured > NOTHING * self.directions[0].variance);
        [seen().filter(|one| (one.measured - one.predicted).abs() <= errors * one.error).count(), seen().count()]
    }

    /// The ratio of the largest variance to the median one, of the data and of masked data: how unevenly gradient descent
    /// learns directions.
    pub fn spread(&self) -> [f64; 2] {
        let median = |of: fn(&Direction) -> f64| {
            let mut all: Vec<f64> = self.directions.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() - 1] / all[all.len() / 2]
        };
        [median(|one| one.variance), median(|one| one.predicted)]
    }

    /// Variances and beta over the rank of the direction.
    pub fn charts(&self) -> [Chart<'static>; 2] {
        let ranked = |of: &dyn Fn(&Direction) -> f64| -> Vec<[f64; 2]> {
            self.directions.iter().enumerate().map(|(i, one)| [(i + 1) as f64, of(one)]).collect()
        };
        let largest = self.directions[0].variance;
        let gain = |at: usize| move |one: &Direction| one.gain(largest).map_or(f64::NAN, |gain| gain[at]);
        let varying = |one: &Direction| if one.variance > NOTHING * largest { one.variance } else { f64::NAN };
        let series = |name, mark, points| Series { name, mark, points };
        let x = Axis { label: "rank of the direction", log: true };
        let title = |what| format!("{what}, {} % of the loss masked by {}", 100.0 * self.rate, self.kind);
        [
            Chart {
                title: title("Variance"),
                x,
                y: Axis { label: "variance", log: true },
                series: vec![
                    series("data", Mark::Line, ranked(&varying)),
                    series("masked, measured", Mark::Dots(2.0), ranked(&|one| one.measured)),
                    series("masked, predicted", Mark::Line, ranked(&|one| one.predicted)),
                ],
            },
            Chart {
                title: title("Gain"),
                x,
                y: Axis { label: "beta, masked over data", log: true },
                series: vec![
                    series("measured", Mark::Dots(2.0), ranked(&gain(1))),
                    series("predicted", Mark::Line, ranked(&gain(0))),
                ],
            },
        ]
    }
}

/// The centred rows where their masks supervise them, 0 elsewhere.
fn masked_rows(
    device: &Device,
    store: &Store,
    rows: &[u32],
    mean: &[f64],
    (masks, seed): (&Mask, u64),
    grid: PatchGrid,
) -> Result<Vec<f64>> {
    let mut values = vec![0.0f32; rows.len() * mean.len()];
    store.read(rows, &mut values)?;
    let mut batch = Batch::new(device, rows.len(), grid);
    batch.place.write(&[0, rows[0]]);
    batch.threshold.write(&[masks.threshold(0)]);
    let supervised = mask(device, seed, masks, None, &batch, grid).supervised;
    let supervised = supervised.map_or_else(|| vec![1.0; values.len()], |mask| mask.to_vec::<f32>());
    let centred = values.iter().zip(mean.iter().cycle()).map(|(&x, mean)| f64::from(x) - mean);
    Ok(centred.zip(supervised).map(|(x, seen)| x * f64::from(seen)).collect())
}

/// The elements of an image that are masked together.
fn groups(kind: LossMask, grid: PatchGrid) -> Vec<Vec<usize>> {
    if kind == LossMask::Element {
        return (0..grid.image()).map(|element| vec![element]).collect();
    }
    let side = kind.side(grid);
    let columns = grid.width.div_ceil(side);
    let mut groups = vec![vec![]; grid.height.div_ceil(side) * columns];
    for element in 0..grid.image() {
        let (y, x) = (element / grid.width % grid.height, element % grid.width);
        groups[y / side * columns + x / side].push(element);
    }
    groups
}

/// `u^T B u`, B the covariance within groups.
fn within(covariance: &[f64], groups: &[Vec<usize>], vector: &[f64]) -> f64 {
    let square = |group: &Vec<usize>| -> f64 {
        let line = |&a: &usize| -> f64 {
            group.iter().map(|&b| covariance[a * vector.len() + b] * vector[b]).sum::<f64>() * vector[a]
        };
        group.iter().map(line).sum()
    };
    groups.iter().map(square).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::DType;
    use crate::base::rng::{Purpose, Stream};
    use crate::data::ingest::ingest;
    use crate::data::npy;
    use crate::data::scratch::Scratch;
    use crate::device::Cpu;

    /// Rows of 2 x 4 x 4 values that depend on each other and have a mean.
    fn spectrum(kind: LossMask, rate: f64) -> MaskSpectrum {
        let rows = 4096;
        let mut noise = vec![0.0f32; rows * 32];
        Stream::new(7, 0, 0, Purpose::Fixture).fill_normals(&mut noise);
        let mixed = |row: &[f32]| -> Vec<f32> {
            (0..32).map(|i| 3.0 + 0.3 * row[i] + row[i / 2] + 2.0 * row[0] * (i as f32 / 9.0).cos()).collect()
        };
        let values: Vec<f32> = noise.chunks_exact(32).flat_map(mixed).collect();
        let scratch = Scratch::new();
        npy::write(&scratch.path("x.npy"), &[rows, 2, 4, 4], &values).unwrap();
        ingest(&scratch.path("x.npy"), None, &scratch.path("x.store"), &mut |_, _| {}).unwrap();
        let store = Store::open(&scratch.path("x.store")).unwrap();
        let device = Device::cpu(Cpu::new(None, DType::F32).unwrap());
        MaskSpectrum::new(&device, &store, (kind, rate), 2, 5, &|_| {}).unwrap()
    }

    #[test]
    fn masked_data_have_the_predicted_spectrum_whatever_is_masked_together() {
        for kind in [LossMask::Element, LossMask::Pixel, LossMask::Patch, LossMask::Block(2)] {
            for rate in [0.5, 0.95] {
                let spectrum = spectrum(kind, rate);
                assert_eq!(spectrum.agreeing(4.5), [32, 32], "{kind} {rate}: {:?}", spectrum.directions);
                // 95 % of 32, and three of its deviations less; and the errors are no larger than they should be.
                assert!(spectrum.agreeing(2.0)[0] >= 26 && spectrum.agreeing(0.5)[0] <= 26, "{kind} {rate}");
                let [data, masked] = spectrum.spread();
                assert!(masked < data, "{kind} {rate}: {data} {masked}");
            }
        }
    }

    #[test]
    fn the_prediction_of_one_kind_of_mask_is_not_that_of_another() {
        let [element, patch] = [LossMask::Element, LossMask::Patch].map(|kind| spectrum(kind, 0.5));
        let off = |(a, b): &(&Direction, &Direction)| (a.predicted - b.measured).abs() > 4.5 * b.error;
        let differing = element.directions.iter().zip(&patch.directions).filter(off).count();
        assert!(differing > 16, "{differing}");
    }

    #[test]
    fn without_a_mask_nothing_changes() {
        let spectrum = spectrum(LossMask::Pixel, 0.0);
        let largest = spectrum.directions[0].variance;
        for one in &spectrum.directions {
            // Rounding of sums over 4,096 rows and 32 values, against the largest variance.
            let allowed = 1e-12 * largest;
            assert!((one.variance - one.measured).abs() < allowed && (one.variance - one.predicted).abs() < allowed);
        }
    }
}
