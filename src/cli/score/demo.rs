//! The picture of `engine score --demo`.

use crate::base::rng::{Purpose, Stream};
use crate::base::{DType, Path as DiffusionPath, Prediction, Result};
use crate::data::{Store, fashion_mnist, png};
use crate::device::Device;
use crate::diffusion::{Field, Sampler};
use crate::score::{EmpiricalScore, EmpiricalVelocity, Queries, Request};
use crate::tensor::Tensor;
use std::path::Path;

/// Times of the lines of images, and the nearest rows that each shows beside the noised image and its denoising.
const TIMES: [f64; 6] = [0.2, 0.4, 0.6, 0.8, 0.9, 0.97];
const NEAREST: usize = 5;
/// The rows that are noised; the first is shown.
const ROWS: [u32; 4] = [9_210, 1_234, 4_321, 7_777];
/// Times of the curves: steps of the solver, too.
const STEPS: usize = 40;
/// Pixels of an image's pixel, between images, and of the plot.
const SCALE: usize = 3;
const GAP: usize = 4;
const PLOT: usize = 240;

/// Draws one of the embedded images noised, denoised and with its nearest rows, and r* over t below.
pub fn draw(device: &Device, path: DiffusionPath, out: &Path) -> Result<()> {
    let store = fashion_mnist()?;
    let score = EmpiricalScore::new(device, &store, path)?;
    let [_, height, width] = store.shape();
    let (line, column) = (height * SCALE + GAP, width * SCALE + GAP);
    let mut canvas = Canvas::new((NEAREST + 2) * column - GAP, TIMES.len() * line + PLOT);
    for (i, &t) in TIMES.iter().enumerate() {
        let z = noised(&store, path, ROWS[0], 0, t)?;
        let asked = Request { nearest: NEAREST, ..Request::default() };
        let answer = score.answer(Queries { z: &z, t: &[t] }, &asked)?;
        let nearest = answer.nearest.iter().map(|&row| values(&store, row));
        let images = [Ok(z), Ok(answer.denoised)].into_iter().chain(nearest);
        for (j, image) in images.enumerate() {
            canvas.image(j * column, i * line, width, &image?);
        }
        println!("t = {t:<5} log p {:11.2}   effective rows {:.1}", answer.log_p[0], answer.n_effective[0]);
    }
    let training = curves(&score, path)?;
    let mut trajectory = Recorded { inner: EmpiricalVelocity::new(device, &score, None), seen: vec![] };
    let mut start = vec![0.0; store.width()];
    Stream::new(0, 0, 0, Purpose::Start).fill_normals(&mut start);
    let mut z = Tensor::from_slice(device, "sampler", [1, store.width()], &start);
    let course = Sampler::Euler.course(path, Prediction::V, STEPS);
    Sampler::Euler.integrate(&mut trajectory, &mut z, &course, &mut |_, _| {});
    let top = TIMES.len() * line + GAP;
    canvas.axes(top);
    for curve in &training {
        canvas.curve(top, curve, 0.2);
    }
    canvas.curve(top, &trajectory.seen, 1.0);
    png::write_grid(out, &canvas.pixels, [1, 1, canvas.height, canvas.width])?;
    println!(
        "{}: a noised image, its exact denoising and its {NEAREST} nearest rows, a line for each t;",
        out.display()
    );
    println!(
        "below, r* from {LOW} to {HIGH} over t from 0 to 1: grey noised images, white along a trajectory of the exact field"
    );
    Ok(())
}

fn values(store: &Store, row: u32) -> Result<Vec<f64>> {
    let mut x = vec![0.0; store.width()];
    store.read(&[row], &mut x)?;
    Ok(x.into_iter().map(f64::from).collect())
}

/// `alpha x + sigma eps`, eps that of `sample`.
fn noised(store: &Store, path: DiffusionPath, row: u32, sample: u32, t: f64) -> Result<Vec<f64>> {
    let mut eps = vec![0.0; store.width()];
    Stream::new(0, sample, 0, Purpose::Noise).fill_normals(&mut eps);
    let mix = |(x, eps)| path.alpha(t) * x + path.sigma(t) * f64::from(eps);
    Ok(values(store, row)?.into_iter().zip(eps).map(mix).collect())
}

/// (t, r*) of noised images, a curve for each.
fn curves(score: &EmpiricalScore<'_>, path: DiffusionPath) -> Result<Vec<Vec<(f64, f64)>>> {
    let times: Vec<f64> = (1..=STEPS).map(|step| step as f64 / STEPS as f64).collect();
    let asked = Request { r_star: true, ..Request::default() };
    let curve = |(sample, row)| {
        let points: Result<Vec<Vec<f64>>> =
            times.iter().map(|&t| noised(score.store(), path, row, sample, t)).collect();
        let r_star = score.answer(Queries { z: &points?.concat(), t: &times }, &asked)?.r_star;
        Ok(times.iter().copied().zip(r_star).collect())
    };
    (0..).zip(ROWS).map(curve).collect()
}

/// The exact field, which remembers r* where it was asked.
struct Recorded<'a> {
    inner: EmpiricalVelocity<'a>,
    seen: Vec<(f64, f64)>,
}

impl Field for Recorded<'_> {
    fn device(&self) -> &Device {
        self.inner.device()
    }

    fn process(&self) -> (DiffusionPath, Prediction) {
        self.inner.process()
    }

    fn predict(&mut self, z: &Tensor, t: &[f64], v: &mut Tensor) {
        assert_eq!(v.dtype(), DType::F32);
        self.seen.push((t[0], self.inner.r_star(z, t[0])));
        self.inner.predict(z, t, v);
    }
}

/// r* at the lower and the upper edge of the plot.
const LOW: f64 = 0.85;
const HIGH: f64 = 1.15;

/// A gray picture, values in [-1, 1].
struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<f32>,
}

impl Canvas {
    fn new(width: usize, height: usize) -> Canvas {
        Canvas { width, height, pixels: vec![-0.8; width * height] }
    }

    fn image(&mut self, left: usize, top: usize, width: usize, values: &[f64]) {
        for (y, line) in values.chunks(width).enumerate() {
            for (x, &value) in line.iter().enumerate() {
                for (dy, dx) in (0..SCALE * SCALE).map(|at| (at / SCALE, at % SCALE)) {
                    let at = (top + y * SCALE + dy) * self.width + left + x * SCALE + dx;
                    self.pixels[at] = value as f32;
                }
            }
        }
    }

    /// The line of r* = 1, and marks at every tenth of t.
    fn axes(&mut self, top: usize) {
        for x in 0..self.width {
            self.point(top, x as f64 / self.width as f64, 1.0, -0.3);
        }
        for tenth in 1..10 {
            for r in 0..8 {
                self.point(top, f64::from(tenth) / 10.0, LOW + 0.0015 * f64::from(r), -0.3);
            }
        }
    }

    fn curve(&mut self, top: usize, points: &[(f64, f64)], value: f32) {
        for pair in points.windows(2) {
            for i in 0..=self.width {
                let f = i as f64 / self.width as f64;
                let between = |a: f64, b: f64| a + f * (b - a);
                self.point(top, between(pair[0].0, pair[1].0), between(pair[0].1, pair[1].1), value);
            }
        }
    }

    fn point(&mut self, top: usize, t: f64, r: f64, value: f32) {
        let x = (t * (self.width - 1) as f64) as usize;
        let y = ((HIGH - r) / (HIGH - LOW)).clamp(0.0, 1.0) * (PLOT - GAP - 1) as f64;
        self.pixels[(top + y as usize) * self.width + x] = value;
    }
}
