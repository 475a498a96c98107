use super::common::{cards, cpus, devices};
use super::oracle::{Exact, exact};
use super::{noised, row, store, words};
use engine::base::{DType, Path};
use engine::data::tensors::FileDType;
use engine::data::{Store, fashion_mnist};
use engine::device::{Cpu, Device, Isa};
use engine::score::{EmpiricalScore, Queries, Request, Scores};
use half::f16;
use std::num::NonZero;

const TIMES: [f64; 10] = [0.02, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0];

/// Random rows of each type, among them exact and near duplicates.
fn stores(count: usize, width: usize) -> Vec<(String, Store)> {
    let words = words(0, count * width);
    // Row 1 repeats row 0; row 2 differs from it in one value by one unit.
    let copied = |at: usize| if (1..3).contains(&(at / width)) { at % width } else { at };
    let pixels: Vec<u8> =
        (0..words.len()).map(|at| (words[copied(at)] >> 24) as u8 ^ u8::from(at == 2 * width)).collect();
    let floats: Vec<f32> = (0..words.len())
        .map(|at| {
            let value = (words[copied(at)] >> 8) as f32 / (1 << 22) as f32 - 2.0;
            if at == 2 * width { value + 1.0 / 1024.0 } else { value }
        })
        .collect();
    let halves: Vec<f16> = floats.iter().map(|&x| f16::from_f32(x)).collect();
    let rows: [(FileDType, &[u8]); 3] = [
        (FileDType::U8, &pixels),
        (FileDType::F16, bytemuck::cast_slice(&halves)),
        (FileDType::F32, bytemuck::cast_slice(&floats)),
    ];
    rows.map(|(dtype, bytes)| (format!("{count} x {width} of {dtype:?}"), store(dtype, width, bytes, &[]))).into()
}

/// Noised rows, a row itself, the middle of two rows and of two near duplicates, and a point far from all, at one time.
fn points(store: &Store, t: f64) -> Vec<f64> {
    let last = store.rows() - 1;
    let rows = [0, 2, last / 2, last].map(|i| row(store, i));
    let middle = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (1.0 - t) * 0.5 * (a + b)).collect::<Vec<f64>>();
    [
        noised(&rows[0], t, 1),
        noised(&rows[2], t, 2),
        rows[3].clone(),
        middle(&rows[2], &rows[3]),
        middle(&rows[0], &rows[1]),
        rows[2].iter().map(|x| 3.0 - 2.0 * x).collect(),
    ]
    .concat()
}

fn request() -> Request {
    Request { nearest: 5, r_star: true, ..Request::default() }
}

fn answer(device: &Device, store: &Store, z: &[f64], t: &[f64]) -> Scores {
    let score = EmpiricalScore::new(device, store, Path::Linear).unwrap();
    score.answer(Queries { z, t }, &request()).unwrap()
}

fn check(name: &str, store: &Store, (z, t): (&[f64], f64), scores: &Scores, exact: &[Exact]) {
    let width = store.width();
    for (i, exact) in exact.iter().enumerate() {
        let part = |values: &[f64]| values[i * width..][..width].to_vec();
        let size = |values: &[f64]| values.iter().map(|x| x * x).sum::<f64>().sqrt();
        let off = |ours: &[f64], exact: &[f64]| size(&ours.iter().zip(exact).map(|(a, b)| a - b).collect::<Vec<f64>>());
        let score: Vec<f64> = exact.score.iter().map(|s| s.get()).collect();
        let name = format!("{name}, query {i}");
        // Half way between two rows s* vanishes, and the velocity elsewhere; what is left is the rounding of their terms.
        let terms = (size(&exact.denoised) + size(&z[i * width..][..width])) / (t * t);
        let error = off(&part(&scores.score), &score);
        assert!(error <= 1e-6 * size(&score) + 1e-9 * terms, "{name}: s* is off by {error} of {}", size(&score));
        let error = off(&part(&scores.denoised), &exact.denoised) / size(&exact.denoised);
        assert!(error <= 1e-5, "{name}: the mean is off by {error}");
        let error = off(&part(&scores.velocity), &exact.velocity);
        assert!(error <= 1e-6 * size(&exact.velocity) + 1e-5 * t * terms, "{name}: the velocity is off by {error}");
        let error = (scores.log_p[i] - exact.log_p.0 - exact.log_p.1).abs();
        assert!(error <= 1e-6, "{name}: log p {} is off by {error}", scores.log_p[i]);
        assert!((scores.n_effective[i] / exact.n_effective - 1.0).abs() <= 1e-5, "{name}: {}", scores.n_effective[i]);
        let mut order: Vec<usize> = (0..exact.distances.len()).collect();
        order.sort_by(|&a, &b| exact.distances[a].total_cmp(&exact.distances[b]));
        for (j, &nearest) in order[..5].iter().enumerate() {
            let (ours, distance) = (scores.nearest[5 * i + j] as usize, scores.nearest_distance[5 * i + j]);
            // Half way between two rows the last digit of f64 decides; values are of size 2.
            let close = (exact.distances[ours] - exact.distances[nearest]).abs() < 1e-14;
            assert!(ours == nearest || close, "{name}: place {j} is {ours}, not {nearest}");
            assert!((distance - exact.distances[nearest]).abs() <= 1e-12 * distance, "{name}: distance {distance}");
        }
        let places = scores.nearest_distance[5 * i..5 * i + 5].iter().zip(&scores.nearest[5 * i..]);
        let places: Vec<(&f64, &u32)> = places.collect();
        assert!(places.is_sorted(), "{name}: of equal distances the first row comes first: {places:?}");
        assert!((scores.r_star[i] - exact.r_star).abs() <= 1e-12, "{name}: r* {}", scores.r_star[i]);
        let certificate = scores.certificate[i];
        assert!(certificate.log_p < 1.1e-2 && certificate.total_variation < 1.1e-2, "{name}: {certificate:?}");
    }
}

#[test]
fn every_answer_is_that_of_the_definition_on_every_device() {
    let devices = [cpus(DType::F32), cards(DType::F32), cards(DType::BF16)].concat();
    for (name, store) in stores(300, 67).into_iter().chain(stores(1500, 40)) {
        let scores: Vec<_> =
            devices.iter().map(|(_, device)| EmpiricalScore::new(device, &store, Path::Linear).unwrap()).collect();
        for (i, t) in TIMES.into_iter().enumerate() {
            let z = points(&store, t);
            let exact: Vec<Exact> = z.chunks(store.width()).map(|z| exact(&store, 0..store.rows(), z, t)).collect();
            for ((device, here), score) in devices.iter().zip(&scores) {
                // Emulated cards are slow, and the last times are alike to them.
                if here.runs_later() && i % 3 > 0 {
                    continue;
                }
                let scores = score.answer(Queries { z: &z, t: &vec![t; exact.len()] }, &request()).unwrap();
                check(&format!("{name}, t = {t}, {device}"), &store, (&z, t), &scores, &exact);
            }
        }
    }
}

/// Sums of products of bytes that 32 bits do not hold.
#[test]
fn rows_as_wide_as_large_pictures_are_answered() {
    for (name, store) in stores(7, 70_001) {
        for t in [0.3, 0.95] {
            let z = noised(&row(&store, 1), t, 3);
            let exact = exact(&store, 0..store.rows(), &z, t);
            for (device, scores) in devices().iter().map(|(name, device)| (name, answer(device, &store, &z, &[t]))) {
                check(&format!("{name}, t = {t}, {device}"), &store, (&z, t), &scores, std::slice::from_ref(&exact));
            }
        }
    }
}

#[test]
fn rows_that_are_all_equal_share_the_weight() {
    // In a wide row what its values were rounded by adds up, for all rows alike.
    for (count, width) in [(2000, 48), (1100, 3072)] {
        let pixels: Vec<u8> = words(3, width).iter().map(|x| *x as u8).collect();
        let store = store(FileDType::U8, width, &pixels.repeat(count), &[]);
        let fastest = ("cpu".into(), Device::cpu(Cpu::new(None, DType::F32).unwrap()));
        let devices = [vec![fastest], cards(DType::F32)].concat();
        let of = |device| EmpiricalScore::new(device, &store, Path::Linear).unwrap();
        let scores: Vec<_> = devices.iter().map(|(name, device)| (name, of(device))).collect();
        for (i, t) in TIMES.into_iter().enumerate() {
            let z = [noised(&row(&store, 0), t, 7), row(&store, 0)].concat();
            let exact: Vec<Exact> = z.chunks(width).map(|z| exact(&store, 0..count as u32, z, t)).collect();
            for (name, score) in &scores[..if i % 4 == 2 && width < 1000 { scores.len() } else { 1 }] {
                let scores = score.answer(Queries { z: &z, t: &[t; 2] }, &request()).unwrap();
                check(&format!("{width} wide, t = {t}, {name}"), &store, (&z, t), &scores, &exact);
                assert!((scores.n_effective[0] - count as f64).abs() < 1e-6);
                assert_eq!(scores.nearest, [0, 1, 2, 3, 4].repeat(2));
            }
        }
    }
}

#[test]
fn the_embedded_images_and_each_of_their_classes_are_answered() {
    let store = fashion_mnist().unwrap();
    let device = Device::cpu(Cpu::new(None, DType::F32).unwrap());
    let score = EmpiricalScore::new(&device, &store, Path::Linear).unwrap();
    for (i, t) in TIMES.into_iter().enumerate() {
        let z = noised(&row(&store, 997 * i as u32), t, 8);
        let all = score.answer(Queries { z: &z, t: &[t] }, &request()).unwrap();
        check(&format!("t = {t}"), &store, (&z, t), &all, &[exact(&store, 0..store.rows(), &z, t)]);
        let class = Request { class: Some(3), ..request() };
        let mut of_class = score.answer(Queries { z: &z, t: &[t] }, &class).unwrap();
        assert!(of_class.nearest.iter().all(|&row| store.label(row) == 3));
        of_class.nearest.iter_mut().for_each(|row| *row -= store.class(3).start);
        check(&format!("class 3, t = {t}"), &store, (&z, t), &of_class, &[exact(&store, store.class(3), &z, t)]);
    }
}

#[test]
fn at_time_one_the_score_is_minus_z_to_the_last_bit() {
    for (name, store) in stores(300, 67).into_iter().chain(stores(1500, 40)) {
        let z = noised(&row(&store, 0), 1.0, 4);
        let scores = answer(&Device::cpu(Cpu::new(None, DType::F32).unwrap()), &store, &z, &[1.0]);
        assert!(scores.score.iter().zip(&z).all(|(score, z)| *score == -z), "{name}");
        assert_eq!(scores.n_effective, [f64::from(store.rows())], "{name}");
    }
}

#[test]
fn an_answer_has_the_same_bits_in_any_batch_and_on_any_number_of_threads() {
    let cpu = |threads| Device::cpu(Cpu::new(NonZero::new(threads), DType::F32).unwrap().with_isa(Isa::detect()));
    let cards = cards(DType::F32).into_iter().map(|(_, card)| [card.clone(), card]);
    for devices in cards.chain([[cpu(1), cpu(5)]]) {
        for (name, store) in stores(1500, 40) {
            let times = if devices[0].runs_later() { &[0.3, 0.8][..] } else { &TIMES };
            same_bits(&format!("{name}, {}", devices[0].describe()), &store, &devices, times);
        }
    }
}

/// On one device whole, on the other whole and in batches.
fn same_bits(name: &str, store: &Store, devices: &[Device; 2], times: &[f64]) {
    let t: Vec<f64> = times.iter().flat_map(|&t| [t; 6]).collect();
    let z: Vec<f64> = times.iter().flat_map(|&t| points(store, t)).collect();
    let asked = Request { draws: 9, seed: 3, ..request() };
    let score = [0, 1].map(|i| EmpiricalScore::new(&devices[i], store, Path::Linear).unwrap());
    let whole = score[0].answer(Queries { z: &z, t: &t }, &asked).unwrap();
    assert_eq!(whole, score[1].answer(Queries { z: &z, t: &t }, &asked).unwrap(), "{name}");
    for batch in [1, 7] {
        let mut parts = Scores::default();
        for (i, (z, t)) in z.chunks(batch * store.width()).zip(t.chunks(batch)).enumerate() {
            let asked = Request { first: (i * batch) as u32, ..asked.clone() };
            let part = score[1].answer(Queries { z, t }, &asked).unwrap();
            parts.score.extend(part.score);
            parts.log_p.extend(part.log_p);
            parts.draws.extend(part.draws);
            parts.certificate.extend(part.certificate);
        }
        assert_eq!(parts.score, whole.score, "{name}, batches of {batch}");
        assert_eq!((parts.log_p, parts.draws), (whole.log_p.clone(), whole.draws.clone()), "{name}");
        assert_eq!(parts.certificate, whole.certificate, "{name}");
    }
}

#[test]
fn what_cannot_be_answered_is_refused_in_a_sentence() {
    let device = Device::cpu(Cpu::new(None, DType::F32).unwrap());
    let store = store(FileDType::U8, 2, &[1, 2, 3, 4, 5, 6], &[2, 0, 1]);
    let score = EmpiricalScore::new(&device, &store, Path::Linear).unwrap();
    let refused = |z: &[f64], t: &[f64], request: Request| {
        score.answer(Queries { z, t }, &request).map(|_| ()).unwrap_err().to_string()
    };
    let plain = Request::default;
    let sentence = "t[0] = 0: sigma is 0, where the mixture is no density and has no score; give a larger t";
    assert_eq!(refused(&[0.0; 2], &[0.0], plain()), sentence);
    for t in [-0.1, 1.5, f64::NAN] {
        assert!(refused(&[0.0; 2], &[t], plain()).contains("is no time of the path; give one above 0, up to 1"));
    }
    assert!(refused(&[0.0; 3], &[0.5], plain()).starts_with("queries: 3 values are no 1 points of 2;"));
    assert_eq!(refused(&[0.0, f64::NAN], &[0.5], plain()), "query 0: value 1 is NaN; give finite points");
    let class = |class| Request { class: Some(class), ..plain() };
    assert_eq!(refused(&[0.0; 2], &[0.5], class(1)), "class 1: has no rows; give another");
    assert_eq!(refused(&[0.0; 2], &[0.5], class(3)), "class 3: the data have the classes 0 to 2; give one");
    let nearest = Request { nearest: 4, ..plain() };
    assert_eq!(refused(&[0.0; 2], &[0.5], nearest), "nearest 4: there are 3 rows; ask for fewer");
    let steps = EmpiricalScore::new(&device, &store, Path::DdpmCosine).map(|_| ()).unwrap_err().to_string();
    assert_eq!(steps, "path ddpm-cosine: has steps, and the score answers with a velocity; give a continuous path");
    let infinite = super::store(FileDType::F16, 1, &[0, 0, 0, 0x7c], &[]);
    let message = EmpiricalScore::new(&device, &infinite, Path::Linear).map(|_| ()).unwrap_err().to_string();
    assert_eq!(message, "test.store: value 0 of row 1 is inf; ingest finite data");
}

/// Classes of 0, 7, 600 and 1,093 rows, so that some are answered at once and others row by row.
#[test]
fn answers_of_all_classes_and_of_all_rows_come_from_one_pass() {
    let counts = [7, 0, 600, 1093];
    let (width, all) = (12, 1700);
    let pixels: Vec<u8> = words(31, all * width).iter().map(|x| (x >> 24) as u8).collect();
    let store = store(FileDType::U8, width, &pixels, &counts);
    let device = Device::cpu(Cpu::new(None, DType::F32).unwrap());
    let score = EmpiricalScore::new(&device, &store, Path::Linear).unwrap();
    for t in TIMES {
        let z = points(&store, t);
        let t = vec![t; z.len() / width];
        let queries = Queries { z: &z, t: &t };
        let answers = score.answer_by_class(queries, &request()).unwrap();
        let exact: Vec<Exact> = z.chunks(width).map(|z| exact(&store, 0..store.rows(), z, t[0])).collect();
        check(&format!("t = {}", t[0]), &store, (&z, t[0]), &answers.all, &exact);
        for (i, exact) in exact.iter().enumerate() {
            let certificate = answers.all.certificate[i];
            let ours = &answers.all.score[i * width..][..width];
            let off = ours.iter().zip(&exact.score).map(|(a, b)| ((a - b.0) - b.1).powi(2)).sum::<f64>().sqrt();
            assert!(off <= certificate.score, "t = {}, query {i}: {off}, {certificate:?}", t[0]);
            let off = ((answers.all.log_p[i] - exact.log_p.0) - exact.log_p.1).abs();
            assert!(off <= certificate.log_p, "t = {}, query {i}: {off}, {certificate:?}", t[0]);
        }
        let classes: Vec<u32> = answers.classes.iter().map(|(class, _)| *class).collect();
        assert_eq!(classes, [0, 2, 3]);
        for (class, of) in answers.classes {
            let asked = Request { class: Some(class), r_star: true, ..Request::default() };
            assert_eq!(of, score.answer(queries, &asked).unwrap(), "class {class}");
        }
    }
    let refused = |score: &EmpiricalScore<'_>, class| {
        let (width, asked) = (score.store().width(), Request { class, ..Request::default() });
        let queries = Queries { z: &vec![0.0; width], t: &[0.5] };
        score.answer_by_class(queries, &asked).map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(refused(&score, Some(0)), "class 0: answers by class are those of every class; leave it out");
    let (_, plain) = stores(7, 4).remove(0);
    let score = EmpiricalScore::new(&device, &plain, Path::Linear).unwrap();
    let message = "answers by class: the data have no classes; ask for those of all rows";
    assert_eq!(refused(&score, None), message);
}
