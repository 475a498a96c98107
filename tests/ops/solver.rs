use crate::common::{devices, normals};
use engine::base::rng::{Draw, Purpose, Stream};
use engine::base::{DType, Denoise, PatchGrid};
use engine::ops::solver::{advance, denoise, guide};
use engine::tensor::Tensor;

/// Two roundings of terms of this size.
fn close(ours: f32, exact: f64, size: f64) -> bool {
    (f64::from(ours) - exact).abs() <= 2.0 * f64::from(f32::EPSILON) * size
}

#[test]
fn an_advance_is_a_step_along_the_velocity() {
    // The last length crosses the blocks in which a device works.
    for n in [1, 33, 40_001] {
        let (z, v, step) = (normals(0, n, 1.0), normals(1, n, 1.0), -0.3f32);
        for (name, device) in devices() {
            let [tz, tv] = [&z, &v].map(|x| Tensor::from_slice(&device, "test", [n], x));
            let mut out = Tensor::new(&device, "test", [n], DType::F32);
            advance(&device, &tz, &tv, step, &mut out);
            for ((&out, &z), &v) in out.to_vec::<f32>().iter().zip(&z).zip(&v) {
                let (z, change) = (f64::from(z), f64::from(step) * f64::from(v));
                assert!(close(out, z + change, z.abs() + change.abs()), "{name}: {out} for {z} + {change}");
            }
        }
    }
}

#[test]
fn guidance_moves_the_first_channels_away_from_the_unconditional_prediction() {
    let grid = PatchGrid { channels: 3, height: 4, width: 6, patch: 2 };
    let (weights, pixels) = ([2.5f32, 1.0, -0.7, 0.0, 4.0], grid.height * grid.width);
    let batch = weights.len();
    let n = batch * grid.image();
    let (v, u) = (normals(0, n, 1.0), normals(1, n, 1.0));
    for channels in 0..=grid.channels {
        for (name, device) in devices() {
            let pair = Tensor::from_slice(&device, "test", [2, n], &[&v[..], &u].concat());
            let mut out = Tensor::new(&device, "test", [n], DType::F32);
            let of_images = Tensor::from_slice(&device, "test", [batch], &weights);
            guide(&device, &pair, &of_images, channels, grid, &mut out);
            for (i, &guided) in out.to_vec::<f32>().iter().enumerate() {
                let weight = weights[i / grid.image()];
                if i / pixels % grid.channels >= channels || weight == 1.0 {
                    assert_eq!(guided, v[i], "{name}: channel {} keeps v", i / pixels % grid.channels);
                    continue;
                }
                let (v, u, weight) = (f64::from(v[i]), f64::from(u[i]), f64::from(weight));
                let size = u.abs() + weight.abs() * (v.abs() + u.abs());
                assert!(close(guided, u + weight * (v - u), size), "{name}: element {i} is {guided}");
            }
        }
    }
}

#[test]
fn a_step_back_adds_its_parts_and_the_noise_of_each_image() {
    let draw = Draw { seed: 5, step: 3, first: 2 };
    let whole = Denoise { x_of: [1.7, -0.9], bound: 0.8, x: 0.4, z: -0.3, p: 0.2, noise: 0.6 };
    let steps =
        [whole, Denoise { noise: 0.0, ..whole }, Denoise { bound: f32::INFINITY, x_of: [0.0; 2], x: 0.0, ..whole }];
    // The last length crosses the blocks in which a device works.
    for (batch, image) in [(1, 1), (3, 33), (2, 5001)] {
        let (z, p) = (normals(0, batch * image, 1.0), normals(1, batch * image, 1.0));
        let mut n = vec![0.0; batch * image];
        for (sample, n) in (2..).zip(n.chunks_mut(image)) {
            Stream::new(5, sample, 3, Purpose::Sampling).fill_normals(n);
        }
        for (name, device) in devices() {
            let [tz, tp] = [&z, &p].map(|x| Tensor::from_slice(&device, "test", [batch, image], x));
            for step in steps {
                let mut out = Tensor::new(&device, "test", [batch, image], DType::F32);
                denoise(&device, &tz, &tp, step, draw, &mut out);
                let Denoise { x_of, bound, x, z: of_z, p: of_p, noise } = step;
                for (i, &out) in out.to_vec::<f32>().iter().enumerate() {
                    let [z, p, n] = [z[i], p[i], n[i]].map(f64::from);
                    let [x_z, x_p, bound, x, of_z, of_p, noise] =
                        [x_of[0], x_of[1], bound, x, of_z, of_p, noise].map(f64::from);
                    let data = (x_z * z + x_p * p).clamp(-bound, bound);
                    let exact = x * data + of_z * z + of_p * p + noise * n;
                    let size = x.abs() * ((x_z * z).abs() + (x_p * p).abs());
                    let size = 2.0 * (size + (of_z * z).abs() + (of_p * p).abs() + (noise * n).abs());
                    assert!(close(out, exact, size), "{name}: element {i} of {image}: {out} for {exact}");
                }
            }
        }
    }
}

#[test]
fn a_step_back_from_what_is_no_number_is_none() {
    let step = Denoise { x_of: [1.0, 0.0], bound: 1.0, x: 1.0, z: 0.0, p: 0.0, noise: 0.0 };
    for (name, device) in devices() {
        let z = Tensor::from_slice(&device, "test", [1, 2], &[f32::NAN, 3.0]);
        let mut out = Tensor::new(&device, "test", [1, 2], DType::F32);
        denoise(
            &device,
            &z,
            &Tensor::from_slice(&device, "test", [1, 2], &[0.0f32; 2]),
            step,
            Draw { seed: 0, step: 0, first: 0 },
            &mut out,
        );
        let out = out.to_vec::<f32>();
        assert!(out[0].is_nan() && out[1] == 1.0, "{name}: {out:?}");
    }
}
