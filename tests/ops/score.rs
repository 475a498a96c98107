use crate::common::{devices, normals};
use engine::data::{Store, fashion_mnist};
use engine::ops::score::{Query, Rows, Select};

fn row(store: &Store, row: u32) -> Vec<f64> {
    let mut x = vec![0.0; store.width()];
    store.read(&[row], &mut x).unwrap();
    x.into_iter().map(f64::from).collect()
}

/// The rows in question, across the ends of leaves.
const RANGE: std::ops::Range<usize> = 100..1391;

/// Points at several times, and the exact logits of the rows.
fn points(store: &Store) -> Vec<(Vec<f64>, f64, Vec<f64>)> {
    let times = [0.02, 0.3, 0.7, 0.9, 1.0];
    times
        .into_iter()
        .zip(0u32..)
        .map(|(t, i)| {
            let (alpha, sigma) = (1.0 - t, t);
            let eps = normals(i, store.width(), sigma as f32);
            let z: Vec<f64> =
                row(store, 200 * i + 150).iter().zip(eps).map(|(x, e)| alpha * x + f64::from(e)).collect();
            let logit = |i: usize| {
                let squares = row(store, i as u32).into_iter().zip(&z).map(|(x, z)| (z - alpha * x).powi(2));
                -squares.sum::<f64>() / (2.0 * sigma * sigma)
            };
            let logits = RANGE.map(logit).collect();
            (z, t, logits)
        })
        .collect()
}

#[test]
fn a_selection_leaves_out_only_rows_beyond_the_cut() {
    let store = fashion_mnist().unwrap();
    let points = points(&store);
    let queries: Vec<Query<'_>> = points.iter().map(|(z, t, _)| Query { z, alpha: 1.0 - t, sigma: *t }).collect();
    let what = Select { cut: 30.0, nearest: 7, shell: Some(store.width() as f64) };
    let mut first = None;
    for (name, device) in devices() {
        let rows = Rows::new(&device, &store).unwrap();
        let selected = rows.select(RANGE, &queries, what);
        for ((selected, (z, t, logits)), i) in selected.iter().zip(&points).zip(0..) {
            let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let missing = |rows: &[u32], wanted: &dyn Fn(usize) -> bool| {
                (0..logits.len()).find(|&i| wanted(i) && !rows.contains(&((RANGE.start + i) as u32)))
            };
            let within = |i: usize| logits[i] >= largest - 30.0;
            assert_eq!(missing(&selected.rows, &within), None, "{name}, query {i}: rows");
            let mut sorted = logits.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            assert_eq!(missing(&selected.nearest, &|i| logits[i] > sorted[7]), None, "{name}, query {i}: nearest");
            let ratio = |i: usize| ((-2.0 * logits[i]).sqrt() / (z.len() as f64).sqrt() - 1.0).abs();
            let closest = (0..logits.len()).min_by(|&a, &b| ratio(a).total_cmp(&ratio(b))).unwrap();
            assert_eq!(missing(&selected.shell, &|i| i == closest), None, "{name}, query {i}: shell");
            assert!(*t > 0.5 || selected.rows.len() < 20, "{name}, query {i}: {} rows", selected.rows.len());
            for rows in [&selected.rows, &selected.nearest, &selected.shell] {
                assert!(rows.is_sorted(), "{name}, query {i}");
            }
        }
        let all: Vec<_> = selected.into_iter().map(|s| (s.rows, s.nearest, s.shell)).collect();
        assert_eq!(
            first.get_or_insert_with(|| all.clone()),
            &all,
            "{name}: whole numbers, so the same on every device"
        );
    }
}

#[test]
fn logits_and_weighted_sums_of_all_rows_keep_their_bounds() {
    let store = fashion_mnist().unwrap();
    let points = points(&store);
    for (name, device) in devices() {
        let rows = Rows::new(&device, &store).unwrap();
        for (z, t, exact) in &points {
            let query = Query { z, alpha: 1.0 - t, sigma: *t };
            let (logits, error) = (rows.logits(RANGE, &[query]), rows.logits_error(query));
            let worst = logits[0].iter().zip(exact).fold(0.0, |worst: f64, (a, b)| worst.max((a - b).abs()));
            assert!(worst <= error, "{name}, t = {t}: logits are off by {worst}, not {error}");
        }
        let weights: Vec<f64> = normals(9, RANGE.len(), 1.0).iter().map(|x| f64::from(x.abs())).collect();
        let picks: Vec<u32> = RANGE.map(|i| i as u32).collect();
        let exact = rows.means(&[picks], &[&weights]);
        let sums = rows.weighted_sums(RANGE, &[&weights, &weights, &weights]);
        let bound = rows.means_error() * rows.radius() * weights.iter().sum::<f64>();
        for sums in sums.chunks(store.width()) {
            let error = sums.iter().zip(&exact).map(|(sum, exact)| (sum - exact).powi(2)).sum::<f64>().sqrt();
            assert!(error <= bound, "{name}: a sum is off by {error}, not {bound}");
        }
    }
}
