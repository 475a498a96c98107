//! dopri5 against torchdiffeq's, on a field that is known in f64, and images against the batch that they are integrated in.

mod common;

use common::mixture::Mixture;
use engine::base::{Path, Prediction};
use engine::diffusion::{Dopri5, Norm, Steps};
use serde::Deserialize;
use std::cell::Cell;

/// tests/golden/dopri5.json
#[derive(Deserialize)]
struct Golden {
    mixture: Mixture,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    rtol: f64,
    atol: f64,
    times: Vec<f64>,
    points: Vec<[f64; 2]>,
    states: Vec<Vec<[f64; 2]>>,
    /// Taken, left, evaluations
    steps: [usize; 3],
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/dopri5.json")).unwrap()
}

/// The states at the times after the first, for each time all points, and the steps of each point.
fn integrate(mixture: &Mixture, how: Dopri5, times: &[f64], points: &[[f64; 2]]) -> (Vec<Vec<[f64; 2]>>, Vec<Steps>) {
    let mut z = points.concat();
    let mut states = vec![vec![[f64::NAN; 2]; points.len()]; times.len() - 1];
    let calls = Cell::new(0);
    let mut velocity = |z: &[f64], t: &[f64], v: &mut [f64]| {
        calls.set(calls.get() + 1);
        for ((z, v), &t) in z.chunks_exact(2).zip(v.chunks_exact_mut(2)).zip(t) {
            v.copy_from_slice(&mixture.predict(Path::Linear, Prediction::V, [z[0], z[1]], t));
        }
    };
    let mut seen = |number: usize, range: std::ops::Range<usize>, state: &[f64]| {
        for (i, state) in (range.start / 2..).zip(state.chunks_exact(2)) {
            states[number - 1][i] = [state[0], state[1]];
        }
    };
    let steps = how.integrate(&mut velocity, &mut z, points.len(), times, &mut seen, &|| true);
    assert_eq!(steps.iter().map(|steps| steps.evaluations).max(), Some(calls.get()), "evaluations are those made");
    let last: Vec<[f64; 2]> = z.chunks_exact(2).map(|z| [z[0], z[1]]).collect();
    assert_eq!(states.last(), Some(&last), "the last time is where the integration ends");
    (states, steps)
}

#[test]
fn with_the_error_of_the_batch_steps_evaluations_and_states_are_torchdiffeqs() {
    let Golden { mixture, cases } = golden();
    assert_eq!(cases.len(), 9);
    for Case { rtol, atol, times, points, states, steps: [accepted, rejected, evaluations] } in cases {
        let (ours, steps) = integrate(&mixture, Dopri5 { rtol, atol, norm: Norm::Batch }, &times, &points);
        assert_eq!(steps, vec![Steps { accepted, rejected, evaluations }; points.len()], "{rtol} {times:?}");
        for (ours, theirs) in ours.concat().concat().into_iter().zip(states.concat().concat()) {
            assert!((ours - theirs).abs() <= 1e-8, "{rtol} {times:?}: {ours}, not {theirs}");
        }
    }
}

#[test]
fn with_the_error_of_each_image_it_is_the_same_bits_alone_and_in_any_batch() {
    let (Golden { mixture, .. }, times) = (golden(), [1.0, 0.6, 0.1, 0.0]);
    let points = [[0.3, -0.7], [-1.4, 0.2], [2.1, 1.3], [-0.1, -2.2], [0.9, 0.05]];
    let how = Dopri5 { rtol: 1e-4, atol: 1e-6, norm: Norm::Image };
    let (whole, steps) = integrate(&mixture, how, &times, &points);
    assert!(steps.iter().any(|one| *one != steps[0]), "images have steps of their own: {steps:?}");
    for (i, point) in points.into_iter().enumerate() {
        let (alone, of_one) = integrate(&mixture, how, &times, &[point]);
        let bits = |states: &[Vec<[f64; 2]>], i: usize| -> Vec<[u64; 2]> {
            states.iter().map(|at| at[i].map(f64::to_bits)).collect()
        };
        assert_eq!((bits(&alone, 0), of_one[0]), (bits(&whole, i), steps[i]), "point {i}");
        // An image alone has the same error, whatever it is said to be of.
        let (batch, of_batch) = integrate(&mixture, Dopri5 { norm: Norm::Batch, ..how }, &times, &[point]);
        assert_eq!((batch, of_batch), (alone, of_one));
    }
}

#[test]
fn there_and_back_is_where_it_began() {
    let (Golden { mixture, .. }, points) = (golden(), [[0.3, -0.7], [-1.4, 0.2]]);
    let how = Dopri5 { rtol: 1e-10, atol: 1e-10, norm: Norm::Image };
    let (there, _) = integrate(&mixture, how, &[1.0, 0.0], &points);
    let (back, _) = integrate(&mixture, how, &[0.0, 1.0], &there[0]);
    for (back, start) in back[0].concat().into_iter().zip(points.concat()) {
        assert!((back - start).abs() < 1e-7, "{back}, not {start}");
    }
}

#[test]
fn an_image_that_leaves_the_finite_numbers_is_none_and_stops_no_other() {
    let how = Dopri5 { rtol: 1e-4, atol: 1e-6, norm: Norm::Image };
    let mut velocity = |z: &[f64], _: &[f64], v: &mut [f64]| {
        v.iter_mut().zip(z).for_each(|(v, z)| *v = if *z > 0.0 { -z * z } else { *z });
    };
    // dz/dt = -z^2 from t = 1 down grows as 1 / (t - 1 + 1/z), which is infinite at t = 1/2 for z = 2.
    let mut z = [2.0, -1.0];
    let mut seen = |_: usize, _: std::ops::Range<usize>, _: &[f64]| ();
    how.integrate(&mut velocity, &mut z, 2, &[1.0, 0.0], &mut seen, &|| true);
    assert!(z[0].is_nan(), "{z:?}");
    assert!((z[1] + (-1.0f64).exp()).abs() < 1e-4, "{z:?}");
}
