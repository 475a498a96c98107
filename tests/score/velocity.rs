use super::common::normals;
use super::{row, store, words};
use engine::base::{DType, Path, Prediction};
use engine::data::tensors::FileDType;
use engine::device::{Cpu, Device};
use engine::diffusion::Sampler;
use engine::score::{EmpiricalScore, EmpiricalVelocity};
use engine::tensor::Tensor;

#[test]
fn samplers_integrate_the_ideal_denoiser_back_to_the_rows() {
    let device = Device::cpu(Cpu::new(None, DType::F32).unwrap());
    let pixels: Vec<u8> = words(6, 30 * 20).iter().map(|x| *x as u8).collect();
    let store = store(FileDType::U8, 20, &pixels, &[10, 20]);
    let score = EmpiricalScore::new(&device, &store, Path::Linear).unwrap();
    for (class, rows) in [(None, 0..30), (Some(1), 10..30)] {
        for sampler in [Sampler::Euler, Sampler::Heun] {
            let mut velocity = EmpiricalVelocity::new(&device, &score, class);
            let mut z = Tensor::from_slice(&device, "test", [8, 20], &normals(1, 160, 1.0));
            let course = sampler.course(Path::Linear, Prediction::V, 100);
            sampler.integrate(&mut velocity, &mut z, &course, &mut |_, _| {});
            for z in z.to_vec::<f32>().chunks(20) {
                let distance = |i: u32| {
                    let squares = row(&store, i).into_iter().zip(z).map(|(x, &z)| (x - f64::from(z)).powi(2));
                    squares.sum::<f64>().sqrt()
                };
                // The last Euler step, from t = 1/100 where one row has all the weight, ends at that row.
                let nearest = rows.clone().map(distance).fold(f64::INFINITY, f64::min);
                assert!(nearest < 1e-4, "{sampler}, class {class:?}: {nearest} from the nearest row");
            }
        }
    }
}
