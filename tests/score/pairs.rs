use super::{noised, row, store, words};
use engine::base::{DType, Path};
use engine::data::Store;
use engine::data::tensors::FileDType;
use engine::device::{Cpu, Device};
use engine::score::{EmpiricalScore, Pair, Queries, Request, Shell};

/// The closest pair, by all of them.
fn brute(store: &Store, rows: std::ops::Range<u32>) -> Option<Pair> {
    let values: Vec<Vec<f64>> = rows.clone().map(|i| row(store, i)).collect();
    let mut closest: Option<Pair> = None;
    for i in 0..values.len() {
        for j in i + 1..values.len() {
            let distance = values[i].iter().zip(&values[j]).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
            if closest.is_none_or(|closest| distance < closest.distance) {
                closest = Some(Pair { rows: [rows.start + i as u32, rows.start + j as u32], distance });
            }
        }
    }
    closest
}

fn check(name: &str, store: &Store) {
    let device = Device::cpu(Cpu::new(None, DType::F32).unwrap());
    let score = EmpiricalScore::new(&device, store, Path::Linear).unwrap();
    let classes = (0..store.classes() as u32).map(|class| (Some(class), store.class(class)));
    for (class, range) in [(None, 0..store.rows())].into_iter().chain(classes) {
        match (score.closest_pair(class).unwrap(), brute(store, range)) {
            (Some(ours), Some(exact)) => {
                assert_eq!(ours.rows, exact.rows, "{name}, class {class:?}: {ours:?} {exact:?}");
                assert!((ours.distance - exact.distance).abs() <= 1e-12 * exact.distance, "{name}: {ours:?} {exact:?}");
            }
            (ours, exact) => assert_eq!(ours, exact, "{name}, class {class:?}"),
        }
    }
}

#[test]
fn the_closest_pair_is_that_of_all_pairs() {
    let random = words(31, 400 * 20);
    let pixels: Vec<u8> = random.iter().map(|x| *x as u8).collect();
    check("pixels", &store(FileDType::U8, 20, &pixels, &[150, 1, 249]));
    let halves: Vec<half::f16> = random.iter().map(|&x| half::f16::from_f32(x as f32 / 1e9 - 2.0)).collect();
    check("latents", &store(FileDType::F16, 20, bytemuck::cast_slice(&halves), &[100, 300]));
    // Two pairs of equal rows: the first counts. Two rows that differ in one value.
    let mut copies = pixels.clone();
    copies.copy_within(20 * 350..20 * 351, 20 * 300);
    copies.copy_within(20 * 90..20 * 91, 20 * 200);
    check("copies", &store(FileDType::U8, 20, &copies, &[]));
    let mut near = pixels;
    near.copy_within(20 * 399..20 * 400, 20 * 3);
    near[20 * 3] ^= 1;
    check("near", &store(FileDType::U8, 20, &near, &[]));
}

#[test]
fn the_overlap_of_two_rows_is_their_bhattacharyya_coefficient() {
    let pair = Pair { rows: [0, 1], distance: 3.0 };
    // The integral of the root of the product of two normal densities, 3 alpha apart.
    for t in [0.2, 0.5, 0.8] {
        let (shift, sigma) = (3.0 * (1.0 - t), t);
        let density = |x: f64, mean: f64| (-(x - mean).powi(2) / (2.0 * sigma * sigma)).exp();
        let step = 1e-3;
        let root =
            |x: f64| (density(x, 0.0) * density(x, shift)).sqrt() / (sigma * (2.0 * std::f64::consts::PI).sqrt());
        let integral: f64 = (-20_000..20_000).map(|i| step * root(f64::from(i) * step)).sum();
        assert!((pair.overlap(Path::Linear, t) - integral).abs() < 1e-9, "{t}: {integral}");
    }
    assert_eq!([pair.overlap(Path::Linear, 0.0), pair.overlap(Path::Linear, 1.0)], [0.0, 1.0]);
    assert_eq!(Pair { distance: 0.0, ..pair }.overlap(Path::Linear, 0.0), 1.0);
}

#[test]
fn noised_rows_lie_in_the_region_as_often_as_it_says() {
    let device = Device::cpu(Cpu::new(None, DType::F32).unwrap());
    // Rows far apart in many dimensions: no other shell is near.
    let pixels: Vec<u8> = words(32, 20 * 300).iter().map(|x| *x as u8).collect();
    let store = store(FileDType::U8, 300, &pixels, &[]);
    let score = EmpiricalScore::new(&device, &store, Path::Linear).unwrap();
    let (count, t) = (2000, 0.05);
    let z: Vec<f64> = (0..count).flat_map(|i| noised(&row(&store, i % 20), t, 100 + i)).collect();
    let asked = Request { r_star: true, ..Request::default() };
    let times = vec![t; count as usize];
    let r_star = score.answer(Queries { z: &z, t: &times }, &asked).unwrap().r_star;
    for delta in [0.5, 0.1] {
        let inside = |shell: Shell| r_star.iter().filter(|&&r| shell.holds(r, 300, delta)).count() as f64;
        let [chi, tight, literal] = [Shell::Chi, Shell::Tight, Shell::Literal].map(inside);
        // Five deviations of a binomial distribution.
        let (expected, deviation) =
            (f64::from(count) * (1.0 - delta), (f64::from(count) * delta * (1.0 - delta)).sqrt());
        assert!((chi - expected).abs() < 5.0 * deviation, "{delta}: {chi} of {expected}");
        assert!(tight > expected && literal == f64::from(count), "{delta}: {tight} {literal}");
    }
}
