//! Clusters, bulk copies and tile stores.

mod common;

use common::*;
use emulator::{Launch, Swizzle, TensorMap, TensorType};
use half::bf16;

#[test]
fn a_cluster_adds_up_through_distributed_shared_memory() {
    for_each("cluster.cu", &["sm_90a"], |device, ptx| {
        let function = device.load(ptx).expect("it loads").function("cluster_sum").expect("it is there");
        let x = random(5, 3 * 4 * 256);
        let (dx, total) = (upload_f32(device, "x", &x), device.alloc("total", 12).expect("memory is left"));
        let launch = Launch { grid: [12, 1, 1], block: [64, 1, 1], cluster: [4, 1, 1], dynamic_shared: 0 };
        let report = device.launch(&function, launch, &[&dx, &total]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(report.total().async_bytes, 12 * 1024);
        let got: Vec<f64> = f32s(&device.download(total, 12).expect("inside")).into_iter().map(f64::from).collect();
        let want: Vec<f64> = x.chunks(1024).map(|c| c.iter().map(|v| f64::from(*v)).sum()).collect();
        assert_close(&got, &want, |_| 1e-3, "total");
    });
}

#[test]
fn a_row_passes_from_one_shared_memory_to_another() {
    for_each("cluster.cu", &["sm_90a"], |device, ptx| {
        let function = device.load(ptx).expect("it loads").function("pass_on").expect("it is there");
        let out = device.alloc("out", 2 * 64 * 4).expect("memory is left");
        let launch = Launch { grid: [2, 1, 1], block: [64, 1, 1], cluster: [2, 1, 1], dynamic_shared: 0 };
        device.launch(&function, launch, &[&out]).unwrap_or_else(|error| panic!("{error}"));
        let got = f32s(&device.download(out, 512).expect("inside"));
        let want: Vec<f32> = (0..128).map(|i| ((1 - i / 64) * 1000 + i % 64) as f32).collect();
        assert_eq!(got, want);
    });
}

#[test]
fn tiles_that_reach_over_the_edge_read_zeros_and_write_nothing() {
    for_each("cluster.cu", &["sm_90a"], |device, ptx| {
        let function = device.load(ptx).expect("it loads").function("double_tile").expect("it is there");
        let (columns, rows) = (48usize, 10usize);
        let x: Vec<bf16> = (0..rows * columns).map(|i| bf16::from_f32((i % 61) as f32 - 30.0)).collect();
        let from = upload_bf16(device, "in", &x);
        let to = upload_bf16(device, "out", &vec![bf16::from_f32(0.5); rows * columns]);
        let sums = upload_f32(device, "sums", &[1.0; 64]);
        let map = |base| {
            let (extents, strides) = ([columns as u64, rows as u64], [columns as u64 * 2]);
            TensorMap::tiled(TensorType::Bf16, base, &extents, &strides, &[32, 8], Swizzle::B64).expect("it is legal")
        };
        let launch = Launch { grid: [2, 2, 1], block: [32, 1, 1], cluster: [1; 3], dynamic_shared: 0 };
        let (map_in, map_out) = (map(from), map(to));
        device.launch(&function, launch, &[&map_in, &map_out, &sums]).unwrap_or_else(|error| panic!("{error}"));
        let got = bf16s(&device.download(to, rows * columns * 2).expect("inside"));
        // Boxes start at columns -8 and 24 and at rows -3 and 5: together they cover all of the tensor.
        let want: Vec<f64> = x.iter().map(|v| 2.0 * v.to_f64()).collect();
        assert_eq!(got, want);
        let got = f32s(&device.download(sums, 256).expect("inside"));
        for (at, got) in got.iter().enumerate() {
            let column = at as i64 - 8;
            let inside = (0..columns as i64).contains(&column);
            let sum: f64 = if inside { (0..rows).map(|r| want[r * columns + column as usize]).sum() } else { 0.0 };
            assert_eq!(f64::from(*got), 1.0 + sum, "column {column}");
        }
    });
}
