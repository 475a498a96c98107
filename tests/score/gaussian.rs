use super::common::normals;
use super::{row, store, words};
use engine::base::{DType, Path, Prediction};
use engine::data::tensors::FileDType;
use engine::device::{Cpu, Device};
use engine::diffusion::Sampler;
use engine::score::{GaussianScore, GaussianVelocity};
use engine::tensor::Tensor;

const WIDTH: usize = 12;

/// Solves `a x = b` by elimination with pivots.
fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
    for k in 0..b.len() {
        let pivot = (k..b.len()).max_by(|&i, &j| a[i][k].abs().total_cmp(&a[j][k].abs())).unwrap();
        a.swap(k, pivot);
        b.swap(k, pivot);
        for i in 0..b.len() {
            if i != k {
                let factor = a[i][k] / a[k][k];
                let (line, pivot) = (a[i].clone(), a[k].clone());
                a[i] = line.iter().zip(&pivot).map(|(x, p)| x - factor * p).collect();
                b[i] -= factor * b[k];
            }
        }
    }
    (0..b.len()).map(|i| b[i] / a[i][i]).collect()
}

#[test]
fn the_score_of_a_normal_distribution_is_that_of_its_mean_and_covariance() {
    let device = Device::cpu(Cpu::new(None, DType::F32).unwrap());
    for count in [5usize, 300] {
        let pixels: Vec<u8> = words(51, count * WIDTH).iter().map(|x| *x as u8).collect();
        let store = store(FileDType::U8, WIDTH, &pixels, &[]);
        let gaussian = GaussianScore::new(&device, &store, Path::Linear).unwrap();
        let rows: Vec<Vec<f64>> = (0..count as u32).map(|i| row(&store, i)).collect();
        let average = |f: &dyn Fn(&[f64]) -> f64| rows.iter().map(|x| f(x)).sum::<f64>() / count as f64;
        let mean: Vec<f64> = (0..WIDTH).map(|i| average(&|x| x[i])).collect();
        let covariance = |i: usize, j: usize| average(&|x| (x[i] - mean[i]) * (x[j] - mean[j]));
        let z: Vec<f64> = normals(2, 3 * WIDTH, 1.0).into_iter().map(f64::from).collect();
        for t in [0.05, 0.5, 0.95, 1.0] {
            let (alpha, sigma) = (1.0 - t, t);
            let ours = [gaussian.score(&z, t), gaussian.denoised(&z, t), gaussian.velocity(&z, t)];
            for (p, z) in z.chunks(WIDTH).enumerate() {
                let identity = |i, j| if i == j { sigma * sigma } else { 0.0 };
                let entry = |i, j| alpha * alpha * covariance(i, j) + identity(i, j);
                let matrix = (0..WIDTH).map(|i| (0..WIDTH).map(|j| entry(i, j)).collect()).collect();
                let score = solve(matrix, (0..WIDTH).map(|i| alpha * mean[i] - z[i]).collect());
                for i in 0..WIDTH {
                    // The condition of the matrix is below 1e4.
                    let near = |ours: f64, exact: f64| {
                        assert!((ours - exact).abs() < 1e-10 * (1.0 + exact.abs()), "t = {t}: {ours} {exact}");
                    };
                    near(ours[0][p * WIDTH + i], score[i]);
                    // Tweedie: m = (z + sigma^2 s) / alpha, times alpha, which may be 0.
                    let m = ours[1][p * WIDTH + i];
                    near(alpha * m, z[i] + sigma * sigma * score[i]);
                    near(ours[2][p * WIDTH + i], -m - sigma * score[i]);
                }
            }
        }
    }
}

#[test]
fn samplers_integrate_the_field_to_the_mean_and_covariance_of_the_data() {
    const POINTS: usize = 4000;
    let device = Device::cpu(Cpu::new(None, DType::F32).unwrap());
    // Three values, of which two go together.
    let bytes = words(52, 200 * 3);
    let pixels: Vec<u8> =
        bytes.chunks(3).flat_map(|x| [x[0] as u8, (x[0] as u8 / 2) + (x[1] as u8 / 4), x[2] as u8 / 8]).collect();
    let store = store(FileDType::U8, 3, &pixels, &[]);
    let gaussian = GaussianScore::new(&device, &store, Path::Linear).unwrap();
    let mut z = Tensor::from_slice(&device, "test", [POINTS, 3], &normals(3, POINTS * 3, 1.0));
    let course = Sampler::Heun.course(Path::Linear, Prediction::V, 200);
    let mut field = GaussianVelocity { device: &device, score: &gaussian };
    Sampler::Heun.integrate(&mut field, &mut z, &course, &mut |_, _| {});
    let moments = |rows: &[Vec<f64>]| {
        let count = rows.len() as f64;
        let mean: [f64; 3] = std::array::from_fn(|i| rows.iter().map(|x| x[i]).sum::<f64>() / count);
        let covariance =
            |i: usize, j: usize| rows.iter().map(|x| (x[i] - mean[i]) * (x[j] - mean[j])).sum::<f64>() / count;
        (mean, [covariance(0, 0), covariance(0, 1), covariance(1, 1), covariance(2, 2)])
    };
    let drawn: Vec<Vec<f64>> = z.to_vec::<f32>().chunks(3).map(|x| x.iter().map(|&x| f64::from(x)).collect()).collect();
    let (ours, exact) = (moments(&drawn), moments(&(0..200).map(|i| row(&store, i)).collect::<Vec<_>>()));
    // Five deviations of the mean and of the variance of as many points, which are below 0.6 and 0.36.
    let root = (POINTS as f64).sqrt();
    assert!(ours.0.iter().zip(exact.0).all(|(a, b)| (a - b).abs() < 5.0 * 0.6 / root), "{ours:?} {exact:?}");
    assert!(ours.1.iter().zip(exact.1).all(|(a, b)| (a - b).abs() < 5.0 * 0.36 * 1.5 / root), "{ours:?} {exact:?}");
}
