//! The explicit Runge-Kutta method of order 5(4) of Dormand and Prince (1980), with steps that follow its own estimate of the error.
//!
//! ```text
//! k_i = v(z + h sum_j A_ij k_j, t + c_i h)        z' = z + h sum_i b_i k_i, whose velocity is the last k
//! e   = rms( h sum_i E_i k_i / (atol + rtol max(|z|, |z'|)) )        the step is taken if e <= 1
//! h  <- h min(10, max(0.9 e^(-1/5), 0.2, or 1 after a step that is taken))
//! ```
//! First step and control are those of Hairer, Norsett and Wanner, *Solving Ordinary Differential Equations I*, section II.4, with
//! the constants of torchdiffeq. State and stages are f64 on the host, which has to know the error of every step anyway.

use std::ops::Range;

/// Dormand and Prince's method with its tolerances.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dopri5 {
    pub rtol: f64,
    pub atol: f64,
    pub norm: Norm,
}

/// Of what the error of a step is the root of the mean square.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// An image: each has steps of its own, so that it does not depend on the batch.
    Image,
    /// All of the batch, as torchdiffeq: one image decides how the others are integrated.
    Batch,
}

/// What an integration did with each image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    pub accepted: usize,
    pub rejected: usize,
    pub evaluations: usize,
}

/// A velocity: of points (B, d), each at its time (B), written to (B, d).
pub type Velocity<'a> = &'a mut dyn FnMut(&[f64], &[f64], &mut [f64]);

/// Told the number of a time, the values of the images that are there, and their state.
pub type Seen<'a> = &'a mut dyn FnMut(usize, Range<usize>, &[f64]);

/// Of the solution.
const ORDER: f64 = 5.0;

const STAGES: usize = 7;

/// Where the stages are in a step; the last two are at its end.
const C: [f64; STAGES] = [0.0, 1.0 / 5.0, 3.0 / 10.0, 4.0 / 5.0, 8.0 / 9.0, 1.0, 1.0];

/// The row of a stage says how it is made of the ones before; that of the last is the solution.
const A: [&[f64]; STAGES] = [
    &[],
    &[1.0 / 5.0],
    &[3.0 / 40.0, 9.0 / 40.0],
    &[44.0 / 45.0, -56.0 / 15.0, 32.0 / 9.0],
    &[19372.0 / 6561.0, -25360.0 / 2187.0, 64448.0 / 6561.0, -212.0 / 729.0],
    &[9017.0 / 3168.0, -355.0 / 33.0, 46732.0 / 5247.0, 49.0 / 176.0, -5103.0 / 18656.0],
    &[35.0 / 384.0, 0.0, 500.0 / 1113.0, 125.0 / 192.0, -2187.0 / 6784.0, 11.0 / 84.0],
];

/// The solution less that of order 4: of Shampine's choice of the latter, as in torchdiffeq.
const ERROR: [f64; STAGES] = [
    35.0 / 384.0 - 1951.0 / 21600.0,
    0.0,
    500.0 / 1113.0 - 22642.0 / 50085.0,
    125.0 / 192.0 - 451.0 / 720.0,
    -2187.0 / 6784.0 + 12231.0 / 42400.0,
    11.0 / 84.0 - 649.0 / 6300.0,
    -1.0 / 60.0,
];

/// The middle of a step to order 4 (Shampine, *Some Practical Runge-Kutta Formulas*, 1986).
const MIDDLE: [f64; STAGES] = [
    6025192743.0 / 30085553152.0 / 2.0,
    0.0,
    51252292925.0 / 65400821598.0 / 2.0,
    -2691868925.0 / 45128329728.0 / 2.0,
    187940372067.0 / 1594534317056.0 / 2.0,
    -1776094331.0 / 19743644256.0 / 2.0,
    11237099.0 / 235043384.0 / 2.0,
];

/// Images that step together.
struct Group {
    /// Their values.
    range: Range<usize>,
    t: f64,
    /// The length of the next step.
    h: f64,
    /// Where the step that is tried ends.
    end: f64,
    /// The first of the times that is not reached.
    next: usize,
    steps: Steps,
}

/// An integration: `point` are the places of the next evaluation, `k` what the stages of a step found, with the sign of the
/// direction.
struct Course<'a> {
    how: Dopri5,
    velocity: Velocity<'a>,
    times: &'a [f64],
    sign: f64,
    /// Values of an image.
    width: usize,
    z: &'a mut [f64],
    point: Vec<f64>,
    k: [Vec<f64>; STAGES],
    groups: Vec<Group>,
}

impl Dopri5 {
    /// Takes `z`, `count` images, from the first of `times` to the last, each of which is farther than the one before.
    ///
    /// `seen` is called with the number of a time from the second on, the values of the images that are there, and their state:
    /// between the ends of a step by the polynomial of fourth degree through its ends and its middle. The last step ends where
    /// the last time is. `wanted` is asked before every step. An image that leaves the finite numbers becomes NaN.
    pub fn integrate(
        self,
        velocity: Velocity<'_>,
        z: &mut [f64],
        count: usize,
        times: &[f64],
        seen: Seen<'_>,
        wanted: &dyn Fn() -> bool,
    ) -> Vec<Steps> {
        let (start, width) = (times[0], z.len() / count);
        let size = if self.norm == Norm::Image { width } else { z.len() };
        let groups = (0..z.len() / size).map(|i| Group {
            range: i * size..(i + 1) * size,
            t: start,
            h: 0.0,
            end: start,
            next: 1,
            steps: Steps::default(),
        });
        let groups = groups.collect();
        let sign = if times[times.len() - 1] < start { -1.0 } else { 1.0 };
        let k = std::array::from_fn(|_| vec![0.0; z.len()]);
        let mut course = Course { how: self, velocity, times, sign, width, point: z.to_vec(), z, k, groups };
        if times.len() > 1 {
            course.begin();
        }
        while course.groups.iter().any(|group| group.next < times.len()) && wanted() {
            course.attempt(seen);
        }
        course.groups.iter().flat_map(|group| vec![group.steps; group.range.len() / width]).collect()
    }
}

impl Course<'_> {
    /// Asks for stage `stage` at `point`, each image at the end of its step or at this part of it.
    fn evaluate(&mut self, stage: usize, part: f64) {
        let time = |group: &Group| if part == 1.0 { group.end } else { group.t + self.sign * part * group.h };
        let times = self.groups.iter().flat_map(|group| vec![time(group); group.range.len() / self.width]);
        let times: Vec<f64> = times.collect();
        (self.velocity)(&self.point, &times, &mut self.k[stage]);
        self.k[stage].iter_mut().for_each(|v| *v *= self.sign);
        for group in self.groups.iter_mut().filter(|group| group.next < self.times.len()) {
            group.steps.evaluations += 1;
        }
    }

    /// Finds the first velocity and the length of the first step, for which it looks a little ahead.
    fn begin(&mut self) {
        self.evaluate(0, 0.0);
        let last = self.times[self.times.len() - 1];
        let mut first = Vec::new();
        for group in &mut self.groups {
            let (z, f) = (&self.z[group.range.clone()], &self.k[0][group.range.clone()]);
            let scaled = |x: &[f64]| rms(x.iter().zip(z).map(|(x, z)| x / self.how.tolerance(z.abs())));
            let [size, speed] = [scaled(z), scaled(f)];
            let ahead = if size < 1e-5 || speed < 1e-5 { 1e-6 } else { 0.01 * size / speed };
            group.h = ahead.min((last - group.t).abs());
            let point = &mut self.point[group.range.clone()];
            point.iter_mut().zip(z.iter().zip(f)).for_each(|(point, (z, f))| *point = z + group.h * f);
            group.end = group.t + self.sign * group.h;
            first.push((ahead, speed));
        }
        self.evaluate(1, 1.0);
        for (group, (ahead, speed)) in self.groups.iter_mut().zip(first) {
            let range = group.range.clone();
            let change = self.k[1][range.clone()].iter().zip(&self.k[0][range.clone()]).zip(&self.z[range]);
            let bend = rms(change.map(|((then, now), z)| (then - now) / self.how.tolerance(z.abs()))) / group.h;
            let far = if speed <= 1e-15 && bend <= 1e-15 {
                1e-6f64.max(1e-3 * ahead)
            } else {
                (0.01 / speed.max(bend)).powf(1.0 / ORDER)
            };
            group.h = far.min(100.0 * ahead);
        }
    }

    /// Tries a step of every image that is not at the last time.
    fn attempt(&mut self, seen: Seen<'_>) {
        let last = self.times[self.times.len() - 1];
        for group in self.groups.iter_mut().filter(|group| group.next < self.times.len()) {
            group.end = group.t + self.sign * group.h;
            if self.sign * (group.end - last) > 0.0 {
                (group.end, group.h) = (last, self.sign * (last - group.t));
            }
        }
        for stage in 1..STAGES {
            for group in self.groups.iter().filter(|group| group.next < self.times.len()) {
                for at in group.range.clone() {
                    self.point[at] = self.z[at] + group.h * weighted(&self.k, A[stage], at);
                }
            }
            self.evaluate(stage, C[stage]);
        }
        for i in 0..self.groups.len() {
            if self.groups[i].next < self.times.len() {
                self.judge(i, seen);
            }
        }
    }

    /// Takes the step of group `i` or leaves it, and decides how long the next one is.
    fn judge(&mut self, i: usize, seen: Seen<'_>) {
        let Course { how, times, sign, z, point, k, groups, .. } = self;
        let group = &mut groups[i];
        let error = rms(group
            .range
            .clone()
            .map(|at| group.h * weighted(k, &ERROR, at) / how.tolerance(z[at].abs().max(point[at].abs()))));
        let taken = error <= 1.0;
        if error.is_nan() || group.t + *sign * group.h == group.t {
            z[group.range.clone()].fill(f64::NAN);
            for number in group.next..times.len() {
                seen(number, group.range.clone(), &z[group.range.clone()]);
            }
            group.next = times.len();
            return;
        }
        if taken {
            while group.next < times.len() && *sign * (group.end - times[group.next]) >= 0.0 {
                let part = (times[group.next] - group.t) / (group.end - group.t);
                let state = |at: usize| match part {
                    1.0 => point[at],
                    _ => between(
                        part,
                        group.h,
                        [z[at], point[at]],
                        [k[0][at], k[STAGES - 1][at]],
                        weighted(k, &MIDDLE, at),
                    ),
                };
                seen(group.next, group.range.clone(), &group.range.clone().map(state).collect::<Vec<f64>>());
                group.next += 1;
            }
            for at in group.range.clone() {
                z[at] = point[at];
                k[0][at] = k[STAGES - 1][at];
            }
            group.t = group.end;
        }
        let counted = if taken { &mut group.steps.accepted } else { &mut group.steps.rejected };
        *counted += 1;
        let least = if taken { 1.0 } else { 0.2 };
        group.h *= (0.9 * error.powf(-1.0 / ORDER)).max(least).min(10.0);
    }
}

impl Dopri5 {
    /// The error of a value of this size that counts as 1.
    fn tolerance(self, size: f64) -> f64 {
        self.atol + self.rtol * size
    }
}

/// The sum of the stages' values at one place, weighted.
fn weighted(k: &[Vec<f64>; STAGES], weights: &[f64], at: usize) -> f64 {
    weights.iter().zip(k).map(|(weight, k)| weight * k[at]).sum()
}

fn rms(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), x| (sum + x * x, count + 1));
    (sum / count as f64).sqrt()
}

/// The polynomial of fourth degree with the values and slopes of both ends of a step, and `middle` h above the first in its middle.
fn between(part: f64, h: f64, [z, end]: [f64; 2], [slope, end_slope]: [f64; 2], middle: f64) -> f64 {
    let middle = z + h * middle;
    let fourth = 2.0 * h * (end_slope - slope) - 8.0 * (end + z) + 16.0 * middle;
    let third = h * (5.0 * slope - 3.0 * end_slope) + 18.0 * z + 14.0 * end - 32.0 * middle;
    let second = h * (end_slope - 4.0 * slope) - 11.0 * z - 5.0 * end + 16.0 * middle;
    z + part * (h * slope + part * (second + part * (third + part * fourth)))
}
