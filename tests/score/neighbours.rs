use super::{noised, row, store, words};
use engine::base::{DType, Path};
use engine::data::tensors::FileDType;
use engine::device::{Cpu, Device};
use engine::score::EmpiricalScore;

#[test]
fn neighbours_memorisation_and_calibrated_distances_are_those_of_brute_force() {
    const ROWS: u32 = 500;
    const WIDTH: usize = 24;
    let device = Device::cpu(Cpu::new(None, DType::F32).unwrap());
    let mut pixels: Vec<u8> = words(41, ROWS as usize * WIDTH).iter().map(|x| *x as u8).collect();
    pixels.copy_within(7 * WIDTH..8 * WIDTH, 400 * WIDTH);
    let store = store(FileDType::U8, WIDTH, &pixels, &[200, 300]);
    let score = EmpiricalScore::new(&device, &store, Path::Linear).unwrap();
    // Rows themselves, a row that is there twice, rows moved a little and far.
    let rows: Vec<u32> = vec![3, 400, 7, 60, 250, 499, 120, 10];
    let moved = [0.0, 0.0, 0.0, 0.02, 0.1, 0.5, 0.9, 1.0];
    let x: Vec<f64> = rows.iter().zip(moved).flat_map(|(&i, t)| noised(&row(&store, i), t, i)).collect();
    for (class, range) in [(None, 0..ROWS), (Some(1), 200..ROWS)] {
        let ours = score.neighbours(&x, class, 50).unwrap();
        for (i, x) in x.chunks(WIDTH).enumerate() {
            let squared = |j: u32| row(&store, j).iter().zip(x).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
            let mut all: Vec<(f64, u32)> = range.clone().map(|j| (squared(j).sqrt(), j)).collect();
            all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let (rows, distances) = (&ours.rows[50 * i..][..50], &ours.distances[50 * i..][..50]);
            assert_eq!(rows, all[..50].iter().map(|pair| pair.1).collect::<Vec<_>>(), "point {i}, class {class:?}");
            assert!(distances.iter().zip(&all).all(|(a, b)| (a - b.0).abs() <= 1e-12 * (1.0 + b.0)));
        }
    }
    let all = score.neighbours(&x, None, 50).unwrap();
    // A copy of the row it came from has the same distance.
    assert_eq!(score.returned(&x, &rows).unwrap()[..4], [true; 4]);
    let returned = score.returned(&x, &rows).unwrap();
    for (i, &row) in rows.iter().enumerate().filter(|(_, row)| ![7, 400].contains(*row)) {
        assert_eq!(returned[i], all.rows[50 * i] == row, "point {i}");
    }
    assert!(returned.contains(&false), "some point went elsewhere");
    let calibrated = score.calibrated_distances(&x, 50).unwrap();
    for (ours, distances) in calibrated.iter().zip(all.distances.chunks(50)) {
        let mean = distances.iter().map(|distance| distance.powi(2)).sum::<f64>() / 50.0;
        assert!((ours - distances[0].powi(2) / mean).abs() < 1e-14);
    }
    assert!(calibrated[0] == 0.0 && calibrated[7] > 0.5, "{calibrated:?}");
    assert!(score.returned(&x, &[500; 8]).unwrap_err().to_string().starts_with("row 500: there are 500 rows"));
    assert!(score.returned(&x, &[0]).unwrap_err().to_string().starts_with("rows: 1 of them for 8 points"));
}
