use super::common::normals;
use super::oracle::{Exact, exact};
use super::{row, store, words};
use engine::base::{DType, Path};
use engine::data::Store;
use engine::data::tensors::FileDType;
use engine::device::{Cpu, Device};
use engine::score::{EmpiricalScore, Queries, Request, Scores};

/// The true errors of an answer: score and log p.
fn errors(scores: &Scores, i: usize, exact: &Exact) -> [f64; 2] {
    let ours = &scores.score[i * exact.score.len()..][..exact.score.len()];
    let squares = ours.iter().zip(&exact.score).map(|(ours, exact)| ((ours - exact.0) - exact.1).powi(2));
    [squares.sum::<f64>().sqrt(), ((scores.log_p[i] - exact.log_p.0) - exact.log_p.1).abs()]
}

/// Rows of one of four kinds: apart, in a cluster, equal but for one value, of very different lengths.
fn rows(case: u32, count: usize, width: usize) -> Store {
    let words = words(1000 + case, count * width);
    let uniform = |at: usize| (words[at] >> 8) as f32 / (1 << 23) as f32 - 1.0;
    let value = |at: usize| match case % 4 {
        0 => 2.0 * uniform(at),
        1 => uniform(at % width) + 1e-3 * uniform(at),
        2 => uniform(at % width) + if at.is_multiple_of(width) { 1e-6 * uniform(at) } else { 0.0 },
        _ => uniform(at) * (1u32 << (at / width % 20)) as f32 / 1024.0,
    };
    let values: Vec<f32> = (0..count * width).map(value).collect();
    match case / 4 % 3 {
        0 => {
            let pixels: Vec<u8> = values.iter().map(|x| ((x.clamp(-1.0, 1.0) + 1.0) * 127.5) as u8).collect();
            store(FileDType::U8, width, &pixels, &[])
        }
        1 => {
            let halves: Vec<half::f16> = values.iter().map(|&x| half::f16::from_f32(x)).collect();
            store(FileDType::F16, width, bytemuck::cast_slice(&halves), &[])
        }
        _ => store(FileDType::F32, width, bytemuck::cast_slice(&values), &[]),
    }
}

#[test]
fn the_certificate_is_never_smaller_than_the_true_error_in_ten_thousand_cases() {
    let device = Device::cpu(Cpu::new(None, DType::F32).unwrap());
    let mut cases = 0;
    for case in 0..250 {
        // Every tenth data set is large enough for the dense regime.
        let (count, width) =
            if case % 10 == 9 { (1024 + case as usize, 5) } else { (2 + case as usize % 37, 1 + case as usize % 90) };
        let store = rows(case, count, width);
        let score = EmpiricalScore::new(&device, &store, Path::Linear).unwrap();
        let words = words(case, 200);
        let (mut z, mut t) = (vec![], vec![]);
        for query in 0..40 {
            let [word, kind, first, second] = [0, 1, 2, 3].map(|k| words[4 * query + k]);
            let fraction = f64::from(word) / f64::from(u32::MAX);
            // Times evenly, near both ends, and so small that the last digits of f64 decide.
            let time = match kind % 4 {
                0 | 1 => 1e-3 + (1.0 - 1e-3) * fraction,
                2 => 1.0 - 1e-3 * fraction,
                _ => 10f64.powf(-9.0 * fraction),
            };
            let [a, b] = [first, second].map(|word| row(&store, word % count as u32));
            let eps = normals(1000 * case + query as u32, width, 1.0);
            let mix = [0.0, 0.0, 0.5, 0.5 + 1e-7][kind as usize / 4 % 4];
            let far = if kind / 16 % 8 == 0 { 100.0 } else { 1.0 };
            let at = |j: usize| (1.0 - time) * ((1.0 - mix) * a[j] + mix * b[j]) + far * time * f64::from(eps[j]);
            z.extend((0..width).map(at));
            t.push(time);
        }
        let scores = score.answer(Queries { z: &z, t: &t }, &Request::default()).unwrap();
        for (i, z) in z.chunks(width).enumerate() {
            let truth = exact(&store, 0..store.rows(), z, t[i]);
            let certificate = scores.certificate[i];
            let [of_score, of_log_p] = errors(&scores, i, &truth);
            let what = format!("rows {case}, query {i}, t = {}: {certificate:?}", t[i]);
            assert!(of_score <= certificate.score, "{what}: s* is off by {of_score}");
            assert!(of_log_p <= certificate.log_p, "{what}: log p is off by {of_log_p}");
            cases += 1;
        }
    }
    assert_eq!(cases, 10_000);
}
