//! Row statistics and sums against f64 references.

mod common;

use common::*;
use emulator::Launch;

/// A one-dimensional launch.
fn line(grid: u32, block: u32, dynamic_shared: u32) -> Launch {
    Launch { grid: [grid, 1, 1], block: [block, 1, 1], cluster: [1; 3], dynamic_shared }
}

#[test]
fn rows_are_normalised() {
    for_each("norm.cu", &["sm_80", "sm_90a"], |device, ptx| {
        let module = device.load(ptx).expect("it loads");
        let function = module.function("norm_rows").expect("it is there");
        for (rows, width) in [(1, 8), (5, 264), (13, 768)] {
            let x = random_bf16(7, rows * width);
            let (xs, ys, rstds) = (
                upload_bf16(device, "x", &x),
                device.alloc("y", rows * width * 2).expect("memory is left"),
                device.alloc("rstds", rows * 4).expect("memory is left"),
            );
            let launch = line(rows.div_ceil(4) as u32, 128, 0);
            device.launch(&function, launch, &[&xs, &ys, &rstds, &(rows as i32), &(width as i32)]).expect("no fault");
            let got = bf16s(&device.download(ys, rows * width * 2).expect("inside"));
            let got_rstds = f32s(&device.download(rstds, rows * 4).expect("inside"));
            for row in 0..rows {
                let values: Vec<f64> = x[row * width..][..width].iter().map(|v| v.to_f64()).collect();
                let mean = values.iter().sum::<f64>() / width as f64;
                let variance = values.iter().map(|v| v * v).sum::<f64>() / width as f64 - mean * mean;
                let rstd = 1.0 / (variance + 1e-6).sqrt();
                let want: Vec<f64> = values.iter().map(|v| (v - mean) * rstd).collect();
                // Half a bf16 ulp is at most 2^-8 of the value; f32 sums of `width` terms add far less.
                let tolerance = |want: f64| want.abs() * 2f64.powi(-8) + 1e-4;
                assert_close(&got[row * width..][..width], &want, tolerance, "y");
                assert!((f64::from(got_rstds[row]) - rstd).abs() <= 1e-5 * rstd);
            }
        }
    });
}

#[test]
fn columns_are_summed_through_shared_atomics() {
    for_each("norm.cu", &["sm_80", "sm_90a"], |device, ptx| {
        let module = device.load(ptx).expect("it loads");
        let function = module.function("sum_columns").expect("it is there");
        for (rows, width) in [(3, 5), (50, 77)] {
            let x = random(3, rows * width);
            let (xs, sums) = (upload_f32(device, "x", &x), upload_f32(device, "columns", &vec![0.0; width]));
            let launch = line(3, 128, width as u32 * 4);
            device.launch(&function, launch, &[&xs, &sums, &(rows as i32), &(width as i32)]).expect("no fault");
            let got: Vec<f64> =
                f32s(&device.download(sums, width * 4).expect("inside")).into_iter().map(f64::from).collect();
            let want: Vec<f64> = (0..width).map(|c| (0..rows).map(|r| f64::from(x[r * width + c])).sum()).collect();
            // Each of `rows` additions of values below `rows` loses at most half an ulp.
            assert_close(&got, &want, |_| (rows * rows) as f64 * 2f64.powi(-24), "columns");
        }
    });
}

#[test]
fn the_last_block_finishes_the_sum_and_every_run_gives_the_same_bits() {
    for_each("norm.cu", &["sm_80", "sm_90a"], |device, ptx| {
        let module = device.load(ptx).expect("it loads");
        let function = module.function("sum_all").expect("it is there");
        let x = random(11, 10_001);
        let (xs, partial, total) = (
            upload_f32(device, "x", &x),
            device.alloc("partial", 7 * 4).expect("memory is left"),
            device.alloc("total", 4).expect("memory is left"),
        );
        let mut seen = vec![];
        for _ in 0..2 {
            let report = device
                .launch(&function, line(7, 256, 0), &[&xs, &partial, &total, &(x.len() as i32)])
                .expect("no fault");
            seen.push((device.download(total, 4).expect("inside"), report.counts));
        }
        assert_eq!(seen[0], seen[1]);
        let want: f64 = x.iter().map(|v| f64::from(*v)).sum();
        assert!((f64::from(f32s(&seen[0].0)[0]) - want).abs() < 1e-2);
    });
}
