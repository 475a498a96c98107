//! Matrix kernels against f64 references, on ragged shapes.

mod common;

use common::*;
use emulator::{Argument, Device, Launch, Swizzle, TensorMap, TensorType};
use half::bf16;

/// A B^T and, for the bound on its error, |A| |B|^T.
fn product(a: &[bf16], b: &[bf16], m: usize, n: usize, k: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut out, mut size) = (vec![0.0; m * n], vec![0.0; m * n]);
    for row in 0..m {
        for column in 0..n {
            for at in 0..k {
                let term = a[row * k + at].to_f64() * b[column * k + at].to_f64();
                out[row * n + column] += term;
                size[row * n + column] += term.abs();
            }
        }
    }
    (out, size)
}

/// Asserts that bf16 results are as close as f32 sums of K terms, rounded once, must be.
fn assert_product(got: &[f64], (want, size): &(Vec<f64>, Vec<f64>), k: usize) {
    assert_eq!(got.len(), want.len());
    for (at, got) in got.iter().enumerate() {
        let bound = want[at].abs() * 2f64.powi(-8) + size[at] * k as f64 * 2f64.powi(-23);
        assert!((got - want[at]).abs() <= bound, "element {at}: {got} is not within {bound:e} of {}", want[at]);
    }
}

fn gemm(device: &mut Device, ptx: &str, (m, n, k): (usize, usize, usize), name: &str, tile: (usize, usize)) {
    let function = device.load(ptx).expect("it loads").function(name).expect("it is there");
    let (a, b) = (random_bf16(1, m * k), random_bf16(2, n * k));
    let (da, db) = (upload_bf16(device, "a", &a), upload_bf16(device, "b", &b));
    let dc = device.alloc("c", m * n * 2).expect("memory is left");
    let grid = [n.div_ceil(tile.1) as u32, m.div_ceil(tile.0) as u32, 1];
    let (mi, ni, ki) = (m as i32, n as i32, k as i32);
    let report = if name == "gemm_wgmma" {
        let map = |base, rows: usize| {
            let (extents, strides) = ([k as u64, rows as u64], [k as u64 * 2]);
            TensorMap::tiled(TensorType::Bf16, base, &extents, &strides, &[64, 128], Swizzle::B128)
                .expect("it is legal")
        };
        let (map_a, map_b) = (map(da, m), map(db, n));
        let launch = Launch { grid, block: [384, 1, 1], cluster: [1; 3], dynamic_shared: 3 * 32768 };
        let arguments: [&dyn Argument; 6] = [&map_a, &map_b, &dc, &mi, &ni, &ki];
        device.launch(&function, launch, &arguments)
    } else {
        let launch = Launch { grid, block: [128, 1, 1], cluster: [1; 3], dynamic_shared: 3 * 8192 };
        device.launch(&function, launch, &[&da, &db, &dc, &mi, &ni, &ki])
    };
    let report = report.unwrap_or_else(|error| panic!("{error}"));
    assert_product(&bf16s(&device.download(dc, m * n * 2).expect("inside")), &product(&a, &b, m, n, k), k);
    let tiles = u64::from(grid[0] * grid[1]) * (tile.0 * tile.1) as u64;
    assert_eq!(report.total().matrix_fma, tiles * k as u64);
}

#[test]
fn mma_multiplies_ragged_matrices() {
    for_each("gemm_mma.cu", &["sm_80", "sm_90a"], |device, ptx| {
        for shape in [(64, 64, 32), (100, 72, 96), (1, 2, 160)] {
            gemm(device, ptx, shape, "gemm_mma", (64, 64));
        }
    });
}

#[test]
fn wgmma_multiplies_ragged_matrices() {
    for_each("gemm_wgmma.cu", &["sm_90a"], |device, ptx| {
        for shape in [(128, 128, 64), (200, 136, 320), (1, 2, 128)] {
            gemm(device, ptx, shape, "gemm_wgmma", (128, 128));
        }
    });
}

#[test]
fn attention_agrees_with_its_definition() {
    for_each("attention.cu", &["sm_80", "sm_90a"], |device, ptx| {
        let function = device.load(ptx).expect("it loads").function("attention").expect("it is there");
        for (heads, tokens) in [(1, 64), (2, 100)] {
            let count = heads * tokens * 64;
            let [q, k, v] = [1, 2, 3].map(|seed| random_bf16(seed, count));
            let [dq, dk, dv] = [(&q, "q"), (&k, "k"), (&v, "v")].map(|(data, name)| upload_bf16(device, name, data));
            let out = device.alloc("out", count * 2).expect("memory is left");
            let scale = 0.125 * std::f32::consts::LOG2_E;
            let grid = [tokens.div_ceil(64) as u32, heads as u32, 1];
            let launch = Launch { grid, block: [128, 1, 1], cluster: [1; 3], dynamic_shared: 0 };
            let result = device.launch(&function, launch, &[&dq, &dk, &dv, &out, &(tokens as i32), &scale]);
            result.unwrap_or_else(|error| panic!("{error}"));
            let got = bf16s(&device.download(out, count * 2).expect("inside"));
            for head in 0..heads {
                let row = |data: &[bf16], r: usize| -> Vec<f64> {
                    data[(head * tokens + r) * 64..][..64].iter().map(|v| v.to_f64()).collect()
                };
                for r in 0..tokens {
                    let query = row(&q, r);
                    let weights: Vec<f64> = (0..tokens)
                        .map(|c| (0.125 * query.iter().zip(row(&k, c)).map(|(a, b)| a * b).sum::<f64>()).exp())
                        .collect();
                    let total: f64 = weights.iter().sum();
                    for d in 0..64 {
                        let terms = (0..tokens).map(|c| weights[c] / total * row(&v, c)[d]);
                        let want: f64 = terms.clone().sum();
                        let size: f64 = terms.map(f64::abs).sum();
                        let got = got[(head * tokens + r) * 64 + d];
                        // The weights are rounded to bf16 once, and so is the result.
                        let bound = (want.abs() + size) * 2f64.powi(-8) + 1e-5;
                        assert!((got - want).abs() <= bound, "head {head} row {r} column {d}: {got}, {want} wanted");
                    }
                }
            }
        }
    });
}
