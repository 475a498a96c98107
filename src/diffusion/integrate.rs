//! The steps of samplers on a field.

use super::dopri5::Dopri5;
use super::{Course, Field, Sampler};
use crate::base::rng::Draw;
use crate::base::{DType, Denoise, Prediction};
use crate::device::Device;
use crate::ops::solver::{advance, denoise};
use crate::tensor::Tensor;

/// What steps that add no noise take for a draw.
const NO_DRAW: Draw = Draw { seed: 0, step: 0, first: 0 };

impl Sampler {
    /// Takes `z` (B, C, H, W) from the first time of `course` to the last in place, calls `seen` with the number of every later time
    /// and the state there, and returns how often the field was evaluated for each image.
    ///
    /// # Panics
    /// Where [`Sampler::check`] refuses what the field predicts, and at times outside of its interval, 0 at the end excepted.
    pub fn integrate(
        self,
        field: &mut impl Field,
        z: &mut Tensor,
        course: &Course,
        seen: &mut dyn FnMut(usize, &Tensor),
    ) -> Vec<usize> {
        match self {
            Sampler::Dopri5(how) => adaptive(how, field, z, course, seen),
            _ => {
                let images = z.shape().extents()[0];
                vec![self.fixed(field, z, course, seen); images]
            }
        }
    }

    /// In steps from each time to the next.
    fn fixed(
        self,
        field: &mut impl Field,
        z: &mut Tensor,
        course: &Course,
        seen: &mut dyn FnMut(usize, &Tensor),
    ) -> usize {
        let device = field.device().clone();
        let new = || Tensor::new(&device, "sampler", *z.shape(), DType::F32);
        let (path, prediction) = field.process();
        let [first, _] = prediction.interval(path);
        let steps = course.times.len() - 1;
        // All of it from the beginning: a card that records an evaluation must find the same memory free each time.
        let (mut p, mut next) = (new(), new());
        let mut more = match self {
            Sampler::Heun if steps > 1 => Some([new(), new()]),
            Sampler::DpmSolver => Some([new(), new()]),
            _ => None,
        };
        let mut converted = (prediction != Prediction::V).then(new);
        let (mut evaluations, mut before) = (0, None);
        for (step, ends) in course.times.windows(2).enumerate() {
            if !field.wanted() {
                break;
            }
            let &[t, s] = ends else { unreachable!("windows of two") };
            let draw = Draw { seed: course.seed, step: step as u32, first: course.first };
            evaluations += 1;
            match (self, &mut more) {
                // Below the first time at which the field can be asked there is no velocity to go along.
                (Sampler::Euler | Sampler::Heun, more) if s >= first => {
                    velocity(field, z, t, &mut p, &mut converted);
                    advance(&device, z, &p, (s - t) as f32, &mut next);
                    if let Some([v_next, half]) = more
                        && step + 1 < steps
                    {
                        velocity(field, &next, s, v_next, &mut converted);
                        evaluations += 1;
                        advance(&device, z, &p, (0.5 * (s - t)) as f32, half);
                        advance(&device, half, v_next, (0.5 * (s - t)) as f32, &mut next);
                    }
                }
                (Sampler::DpmSolver, Some([x, x_before])) => {
                    predict(field, z, t, &mut p);
                    denoise(&device, z, &p, Denoise::data(path, prediction, t, course.bound), NO_DRAW, x);
                    let of = dpm_solver(|t| [path.alpha(t), path.sigma(t)], before.filter(|_| s > 0.0), t, s);
                    let weighted = |z, x| Denoise::sum([z, x]);
                    denoise(&device, z, x, weighted(of[0], of[1]), NO_DRAW, &mut p);
                    // Before there is another prediction, its memory says nothing.
                    match before {
                        Some(_) => advance(&device, &p, x_before, of[2] as f32, &mut next),
                        None => std::mem::swap(&mut p, &mut next),
                    }
                    std::mem::swap(x, x_before);
                    before = Some(t);
                }
                _ => {
                    predict(field, z, t, &mut p);
                    let how = match self {
                        Sampler::Ancestral => Denoise::ancestral(path, prediction, [t, s], course.bound),
                        Sampler::Ddim(eta) => Denoise::ddim(path, prediction, [t, s], eta, course.bound),
                        Sampler::EulerMaruyama(diffusion) if s > 0.0 => {
                            Denoise::euler_maruyama(path, prediction, [t, s], diffusion)
                        }
                        _ => Denoise::ddim(path, prediction, [t, s], 0.0, None),
                    };
                    denoise(&device, z, &p, how, draw, &mut next);
                }
            }
            std::mem::swap(z, &mut next);
            seen(step + 1, z);
        }
        evaluations
    }
}

/// The weights of z, of the data predicted at t and of those predicted at `before` in z at s.
///
/// ```text
/// z_s = sigma_s / sigma_t z + (alpha_s - alpha_t sigma_s / sigma_t) D        D = x + h / (2 h_before) (x - x_before)
/// ```
/// where h is the growth of ln(alpha / sigma) in a step. Without a `before` D is x.
fn dpm_solver(at: impl Fn(f64) -> [f64; 2], before: Option<f64>, t: f64, s: f64) -> [f64; 3] {
    let signal = |t: f64| {
        let [alpha, sigma] = at(t);
        (alpha / sigma).ln()
    };
    let ([alpha, sigma], [alpha_next, sigma_next]) = (at(t), at(s));
    let of_data = alpha_next - alpha * sigma_next / sigma;
    // At t = 1 of a path that ends in noise alone the step before was endless, and says nothing of the slope.
    let slope = before.map_or(0.0, |before| 0.5 * (signal(s) - signal(t)) / (signal(t) - signal(before)));
    [sigma_next / sigma, of_data * (1.0 + slope), -of_data * slope]
}

/// Asks for all images at one time.
fn predict(field: &mut impl Field, z: &Tensor, t: f64, p: &mut Tensor) {
    field.predict(z, &vec![t; z.shape().extents()[0]], p);
}

/// Writes the velocity, by way of `converted` where the field predicts another quantity.
fn velocity(field: &mut impl Field, z: &Tensor, t: f64, v: &mut Tensor, converted: &mut Option<Tensor>) {
    predict(field, z, t, v);
    if let Some(converted) = converted {
        let (path, prediction) = field.process();
        let step = Denoise::sum(prediction.convert(Prediction::V, path, t));
        denoise(field.device(), z, v, step, NO_DRAW, converted);
        std::mem::swap(v, converted);
    }
}

/// In steps that each image finds for itself, in f64 on the host.
fn adaptive(
    how: Dopri5,
    field: &mut impl Field,
    z: &mut Tensor,
    course: &Course,
    seen: &mut dyn FnMut(usize, &Tensor),
) -> Vec<usize> {
    let device: Device = field.device().clone();
    let (path, prediction) = field.process();
    let [first, _] = prediction.interval(path);
    let (shape, images) = (*z.shape(), z.shape().extents()[0]);
    let end = course.times[course.times.len() - 1];
    // Down to the first time that has a velocity; from there to the predicted data.
    let times: Vec<f64> = course.times.iter().map(|t| t.max(first)).collect();
    let mut point = Tensor::new(&device, "sampler", shape, DType::F32);
    let mut p = Tensor::new(&device, "sampler", shape, DType::F32);
    let mut state: Vec<f64> = z.to_vec::<f32>().into_iter().map(f64::from).collect();
    let mut course_of = vec![vec![0.0f32; state.len()]; times.len()];
    let field = std::cell::RefCell::new(field);
    let mut velocity = |z: &[f64], t: &[f64], v: &mut [f64]| {
        point.write(&z.iter().map(|&z| z as f32).collect::<Vec<_>>());
        field.borrow_mut().predict(&point, t, &mut p);
        let weights: Vec<[f64; 2]> = t.iter().map(|&t| prediction.convert(Prediction::V, path, t)).collect();
        let width = z.len() / t.len();
        for (i, (v, p)) in v.iter_mut().zip(p.to_vec::<f32>()).enumerate() {
            let [of_z, of_p] = weights[i / width];
            *v = of_z * z[i] + of_p * f64::from(p);
        }
    };
    let mut keep = |number: usize, range: std::ops::Range<usize>, state: &[f64]| {
        course_of[number][range].iter_mut().zip(state).for_each(|(kept, &z)| *kept = z as f32);
    };
    let wanted = || field.borrow().wanted();
    let steps = how.integrate(&mut velocity, &mut state, images, &times, &mut keep, &wanted);
    let mut evaluations: Vec<usize> = steps.iter().map(|steps| steps.evaluations).collect();
    if !wanted() {
        return evaluations;
    }
    let field = field.into_inner();
    for (number, values) in course_of.iter().enumerate().skip(1) {
        z.write(values);
        if number + 1 == times.len() && end < first {
            predict(field, z, first, &mut p);
            denoise(&device, z, &p, Denoise::ddim(path, prediction, [first, end], 0.0, None), NO_DRAW, &mut point);
            std::mem::swap(z, &mut point);
            evaluations.iter_mut().for_each(|count| *count += 1);
        }
        seen(number, z);
    }
    evaluations
}

#[cfg(test)]
mod tests {
    use super::dpm_solver;
    use crate::base::Path;

    #[test]
    fn the_weights_of_dpm_solver_are_those_of_diffusers() {
        type Row = (Path, (Option<f64>, f64, f64), [f64; 3]);
        let rows: Vec<Row> = serde_json::from_str(include_str!("../../tests/golden/dpm-solver.json")).unwrap();
        assert_eq!(rows.len(), 48);
        for (path, (before, t, s), [of_z, of_x, of_before]) in rows {
            let ours = dpm_solver(|t| [path.alpha(t), path.sigma(t)], before.filter(|_| s > 0.0), t, s);
            // diffusers multiplies z in f32, and the rest in f64.
            let close = |ours: f64, theirs: f64, unit: f64| (ours - theirs).abs() <= unit * theirs.abs().max(0.01);
            assert!(close(ours[0], of_z, f64::from(f32::EPSILON)), "{path} {t} to {s}: {ours:?}");
            assert!(close(ours[1], of_x, 1e-10) && close(ours[2], of_before, 1e-10), "{path} {t} to {s}: {ours:?}");
        }
    }
}
