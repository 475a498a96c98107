use crate::common::{cpu, devices, normals};
use engine::base::rng::{Draw, Purpose, Stream};
use engine::base::{Law, Mask, PatchGrid, Path, Prediction, Times, Weighting};
use engine::device::Device;
use engine::ops::mask::mask;
use engine::ops::noise::{Batch, Noise, Noised, noise};
use engine::tensor::Tensor;

const GRID: PatchGrid = PatchGrid { channels: 3, height: 10, width: 6, patch: 2 };

/// What a network may learn of each path.
const PROCESSES: [(Path, Prediction); 10] = [
    (Path::Linear, Prediction::V),
    (Path::Linear, Prediction::X),
    (Path::Gvp, Prediction::V),
    (Path::Gvp, Prediction::Score),
    (Path::Vp, Prediction::V),
    (Path::Vp, Prediction::Eps),
    (Path::DdpmLinear, Prediction::Eps),
    (Path::DdpmLinear, Prediction::X),
    (Path::DdpmCosine, Prediction::Eps),
    (Path::DdpmCosine, Prediction::X),
];

fn settings(times: Times, seed: u64) -> Noise {
    let (path, prediction, weighting) = (Path::Linear, Prediction::V, Weighting::None);
    Noise { path, prediction, times, weighting, label_dropout: 0.3, null_label: 9, seed }
}

fn noised(device: &Device, times: Times, draw: Draw, batch: usize) -> (Vec<f32>, Noised) {
    noised_along(device, settings(times, draw.seed), draw, batch)
}

fn noised_along(device: &Device, settings: Noise, draw: Draw, batch: usize) -> (Vec<f32>, Noised) {
    let mut data = Batch::new(device, batch, GRID);
    // Sample i of the global batch has the same data wherever it is computed.
    let x = (0..batch).flat_map(|i| normals(draw.first + i as u32, GRID.image(), 1.0)).collect::<Vec<_>>();
    data.fill(&settings, &x, &vec![1; batch], draw.step, draw.first);
    let mut out = Noised::new(device, batch, GRID);
    noise(device, settings, &data, &mut out);
    (x, out)
}

#[test]
fn z_and_the_target_follow_the_path() {
    let draw = Draw { seed: 5, step: 7, first: 2 };
    for (name, device) in devices() {
        for (path, prediction) in PROCESSES {
            let noise = Noise { path, prediction, ..settings(Times::UNIFORM, draw.seed) };
            let (x, out) = noised_along(&device, noise, draw, 4);
            for sample in 0..4 {
                let mut eps = vec![0.0; GRID.image()];
                Stream::new(5, 2 + sample as u32, 7, Purpose::Noise).fill_normals(&mut eps);
                let [told, z, target] = [&out.t, &out.z, &out.target].map(|tensor| tensor.to_vec::<f32>());
                let t = prediction.time(path, Times::UNIFORM.draw(draw, sample));
                assert_eq!(told[sample], path.told(t) as f32, "{name}: {path}: the time that the network is told");
                let [of_x, of_eps] = match prediction {
                    Prediction::V => [path.alpha_rate(t), path.sigma_rate(t)],
                    Prediction::X => [1.0, 0.0],
                    Prediction::Eps => [0.0, 1.0],
                    Prediction::Score => [0.0, -1.0 / path.sigma(t)],
                };
                for (i, &eps) in eps.iter().enumerate() {
                    let at = sample * GRID.image() + i;
                    let (x, eps) = (f64::from(x[at]), f64::from(eps));
                    let close = |ours: f32, of_x: f64, of_eps: f64| {
                        let (exact, size) = (of_x * x + of_eps * eps, (of_x * x).abs() + (of_eps * eps).abs());
                        (f64::from(ours) - exact).abs() <= 4.0 * f64::from(f32::EPSILON) * size
                    };
                    assert!(close(z[at], path.alpha(t), path.sigma(t)), "{name}: {path}: z");
                    assert!(close(target[at], of_x, of_eps), "{name}: {path}: {prediction}");
                }
            }
        }
    }
}

#[test]
fn draws_do_not_depend_on_how_the_batch_is_split() {
    let bits = |x: &Tensor| x.to_vec::<f32>().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let times = Times { law: Law::LogitNormal { mean: 0.0, deviation: 1.0 }, ..Times::UNIFORM };
    let mut devices = devices();
    let (_, first) = devices.remove(0);
    let (_, whole) = noised(&first, times, Draw { seed: 1, step: 3, first: 0 }, 6);
    for (name, device) in devices {
        for (start, len) in [(0, 2), (2, 4)] {
            let (_, part) = noised(&device, times, Draw { seed: 1, step: 3, first: start as u32 }, len);
            let image = start * GRID.image()..(start + len) * GRID.image();
            assert_eq!(bits(&part.t), bits(&whole.t)[start..start + len], "{name}: t");
            assert_eq!(part.y.to_vec::<u32>(), whole.y.to_vec::<u32>()[start..start + len], "{name}: labels");
            match &device {
                Device::Cpu(_) => assert_eq!(bits(&part.z), bits(&whole.z)[image], "{name}: z"),
                // The draws are the same bits on a card, what is computed from them is only close.
                Device::Cuda(_) => {
                    let (z, all) = (part.z.to_vec::<f32>(), whole.z.to_vec::<f32>());
                    let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 4.0 * f32::EPSILON * b.abs().max(1.0);
                    assert!(z.iter().zip(&all[image]).all(close), "{name}: z");
                }
            }
        }
    }
}

#[test]
fn times_and_dropped_labels_have_their_distributions() {
    let device = cpu(2);
    let n = 20_000;
    for law in [Law::Uniform, Law::LogitNormal { mean: 0.5, deviation: 0.7 }] {
        let times = Times { law, ..Times::UNIFORM };
        let draw = |i: u32| times.draw(Draw { seed: 3, step: 0, first: 0 }, i as usize);
        // The fourth central moment over the squared variance says how far a sample's variance scatters.
        let (mean, deviation, kurtosis) = match law {
            Law::Uniform => (0.5, (1.0f64 / 12.0).sqrt(), 1.8),
            Law::LogitNormal { mean, deviation } => (mean, deviation, 3.0),
        };
        let value = |t: f64| if law == Law::Uniform { t } else { (t / (1.0 - t)).ln() };
        let average = (0..n).map(|i| value(draw(i))).sum::<f64>() / f64::from(n);
        assert!((average - mean).abs() < 4.0 * deviation / f64::from(n).sqrt(), "{times:?}: mean {average}");
        let variance = (0..n).map(|i| (value(draw(i)) - mean).powi(2)).sum::<f64>() / f64::from(n);
        let scatter = ((kurtosis - 1.0) / f64::from(n)).sqrt();
        assert!((variance / (deviation * deviation) - 1.0).abs() < 4.0 * scatter, "{times:?}: variance {variance}");
        assert!((0..n).all(|i| 0.0 < draw(i) && draw(i) < 1.0), "{times:?} stays inside (0, 1)");
    }
    let (_, out) = noised(&device, Times::UNIFORM, Draw { seed: 8, step: 0, first: 0 }, 4000);
    let dropped = out.y.u32().iter().filter(|&&y| y == 9).count() as f64;
    assert!(out.y.u32().iter().all(|&y| y == 1 || y == 9));
    assert!((dropped - 1200.0).abs() < 4.0 * (4000.0f64 * 0.3 * 0.7).sqrt(), "{dropped} labels dropped");
}

#[test]
fn a_time_counts_as_its_weighting_says_in_the_loss() {
    let draw = Draw { seed: 4, step: 2, first: 0 };
    for (name, device) in devices() {
        let weighting = Weighting::MinSnr(5.0);
        let settings = Noise { weighting, ..settings(Times::UNIFORM, draw.seed) };
        let mut batch = Batch::new(&device, 4, GRID);
        batch.draw(&settings, draw.step, draw.first);
        let weights = mask(&device, 0, &Mask::none(), None, &batch, GRID).weight.to_vec::<f32>();
        for (sample, weight) in weights.into_iter().enumerate() {
            let t = Times::UNIFORM.draw(draw, sample);
            // The data are z - t v, of which errors are t times those of the velocity.
            let expected = ((1.0 - t) / t).powi(2).min(5.0) * t * t / (4 * GRID.image()) as f64;
            let error = (f64::from(weight) / expected - 1.0).abs();
            assert!(error <= 2.0 * f64::from(f32::EPSILON), "{name}: sample {sample} counts {weight}");
        }
    }
}
