use crate::common::{devices, normals};
use engine::base::{DType, PatchGrid};
use engine::ops::solver::{advance, guide};
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
    let (batch, weight, pixels) = (5, 2.5f32, grid.height * grid.width);
    let n = batch * grid.image();
    let (v, u) = (normals(0, n, 1.0), normals(1, n, 1.0));
    for channels in 0..=grid.channels {
        for (name, device) in devices() {
            let pair = Tensor::from_slice(&device, "test", [2, n], &[&v[..], &u].concat());
            let mut out = Tensor::new(&device, "test", [n], DType::F32);
            guide(&device, &pair, weight, channels, grid, &mut out);
            for (i, &guided) in out.to_vec::<f32>().iter().enumerate() {
                if i / pixels % grid.channels >= channels {
                    assert_eq!(guided, v[i], "{name}: channel {} keeps v", i / pixels % grid.channels);
                    continue;
                }
                let (v, u, weight) = (f64::from(v[i]), f64::from(u[i]), f64::from(weight));
                let size = u.abs() + weight * (v.abs() + u.abs());
                assert!(close(guided, u + weight * (v - u), size), "{name}: element {i} is {guided}");
            }
        }
    }
}
