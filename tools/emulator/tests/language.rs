//! What CUDA C++ compiles to besides arithmetic: printf, assert, switches, local arrays, the mathematical library, votes.

mod common;

use common::*;
use emulator::{Error, Kind, Launch};

fn line(grid: [u32; 3], block: u32) -> Launch {
    Launch { grid, block: [block, 1, 1], cluster: [1; 3], dynamic_shared: 0 }
}

const ARCHS: &[&str] = &["sm_80", "sm_90a"];

#[test]
fn printf_formats_like_c() {
    for_each("print.cu", ARCHS, |device, ptx| {
        let function = device.load(ptx).expect("it loads").function("print_lines").expect("it is there");
        let report = device.launch(&function, line([1; 3], 32), &[&2i32, &1.5f32]).expect("no fault");
        let want = "lane 0 of   2: 0.000 even 1.5e+00 1.5 a %\nlane 1 of   2: 1.500 odd 1.5e+00 1.5 b %\n";
        assert_eq!(report.output, want);
    });
}

#[test]
fn a_failed_assertion_names_its_lane_and_source_line() {
    for_each("print.cu", ARCHS, |device, ptx| {
        let function = device.load(ptx).expect("it loads").function("assert_small").expect("it is there");
        let mut values = [7u8; 128];
        values[20] = 200;
        let base = device.alloc("values", 128).expect("memory is left");
        device.upload(base, &values.map(|_| 0)).expect("inside");
        device.launch(&function, line([1; 3], 32), &[&base]).expect("no fault");
        device.upload(base, &values).expect("inside");
        match device.launch(&function, line([1; 3], 32), &[&base]) {
            Err(Error::Fault(fault)) => {
                assert_eq!((fault.kind, fault.lane), (Kind::Trap, Some(0)));
                assert!(fault.message.contains("assertion `values[threadIdx.x] < 100` failed"), "{fault}");
                assert!(fault.source.as_ref().is_some_and(|(file, _)| file.ends_with("print.cu")), "{fault}");
            }
            other => panic!("{other:?}"),
        }
    });
}

/// The reference of `functions` and the relative error that its algorithm or CUDA's table of errors allows.
fn reference(function: usize, x: f64) -> (f64, f64) {
    let small = 4e-6;
    match function {
        0 => (x.sin(), small),
        1 => (x.exp(), small),
        2 => (x.abs().powf(1.3f32.into()), 1e-5),
        3 => (libm_erf(x), 1e-5),
        4 => (x.tanh(), small),
        5 => (x.abs().ln_1p(), small),
        6 => ((f64::from(x as f32 * 1000.0)).cos(), 1e-5),
        7 => (x % f64::from(0.3f32), small),
        8 => {
            let x = x as f32;
            (
                (x * 7.0).trunc() as f64 + (x * 5.0).round_ties_even() as f64 * 10.0 + (x * 3.0).floor() as f64 * 100.0,
                0.0,
            )
        }
        9 => {
            let half = rounded(x, 11, -24);
            (rounded(half * half + 1.0, 11, -24), 0.0)
        }
        10 => ((x * x + 1.0).sqrt(), small),
        _ => (x.cbrt(), small),
    }
}

/// erf by its Maclaurin series, for |x| < 1.1.
fn libm_erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..40 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

#[test]
fn the_mathematical_library_runs_from_its_own_code() {
    for_each("print.cu", ARCHS, |device, ptx| {
        let module = device.load(ptx).expect("it loads");
        let function = module.function("functions").expect("it is there");
        let (scales, size) = module.variable("scales").expect("it is there");
        assert_eq!(size, 16);
        device.upload(scales, &bytes_of_f32(&[1.0, 2.0, 0.5, 1.0])).expect("inside");
        let x = random(9, 77);
        let (dx, out) = (upload_f32(device, "x", &x), device.alloc("out", 12 * 77 * 4).expect("memory is left"));
        device.launch(&function, line([2, 12, 1], 64), &[&dx, &out, &77i32]).unwrap_or_else(|error| panic!("{error}"));
        let got = f32s(&device.download(out, 12 * 77 * 4).expect("inside"));
        for f in 0..12 {
            for (i, x) in x.iter().enumerate() {
                let (want, error) = reference(f, f64::from(*x));
                let scale = [1.0, 2.0, 0.5, 1.0][f & 3];
                let got = f64::from(got[f * 77 + i]) / scale;
                assert!((got - want).abs() <= error * want.abs().max(0.01), "function {f} of {x}: {got}, not {want}");
            }
        }
        let (calls, _) = module.variable("calls").expect("it is there");
        assert_eq!(device.download(calls, 4).expect("inside"), 15i32.to_le_bytes());
    });
}

fn integers(x: i32, y: i32) -> [i32; 16] {
    let (ux, uy) = (x as u32, y as u32);
    let wide = i64::from(x) * i64::from(y);
    let bytes = [x.to_le_bytes(), y.to_le_bytes()].concat();
    let dot: i32 =
        x.to_le_bytes().iter().zip(y.to_le_bytes()).map(|(a, b)| i32::from(*a as i8) * i32::from(b as i8)).sum();
    let ffs = if x == 0 { 0 } else { x.trailing_zeros() as i32 + 1 };
    [
        x.checked_div(y).unwrap_or(0),
        x.checked_rem(y).unwrap_or(0),
        ux.checked_div(uy).unwrap_or(0) as i32,
        x.count_ones() as i32 + 100 * x.leading_zeros() as i32 + 10000 * ffs,
        x.reverse_bits(),
        i32::from_le_bytes([1, 4, 7, 2].map(|k: usize| bytes[k])),
        ((u64::from(ux) | u64::from(uy) << 32) << (ux & 31) >> 32) as i32,
        (wide >> 32) as i32,
        ((u64::from(ux) * u64::from(uy)) >> 32) as i32,
        (wide / 7) as i32,
        x.max(y).wrapping_sub(ux.min(uy) as i32),
        5 + dot,
        (x >> (y & 31)) ^ (ux << (y & 31)) as i32,
        (ux.abs_diff(uy).wrapping_add(3)) as i32,
        (i64::from(x) * 3) as f32 as i32,
        (x as f32 * 0.001).floor() as i32 + (y as f32 * 0.001).ceil() as i32,
    ]
}

#[test]
fn integer_operations_and_local_arrays_agree_with_rust() {
    for_each("print.cu", ARCHS, |device, ptx| {
        let function = device.load(ptx).expect("it loads").function("integers").expect("it is there");
        let n = 99usize;
        let number = |seed: u64| -> Vec<i32> {
            let wide = random(seed, n).into_iter().map(|v| (v * 2147483520.0) as i32);
            wide.enumerate().map(|(k, v)| if k % 3 == 0 { v >> 20 } else { v }).collect()
        };
        let (a, b) = (number(1), number(2));
        let mut upload = |name: &str, values: &[i32]| {
            let base = device.alloc(name, values.len() * 4).expect("memory is left");
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            device.upload(base, &bytes).expect("inside");
            base
        };
        let (da, db) = (upload("a", &a), upload("b", &b));
        let out = device.alloc("out", n * 64).expect("memory is left");
        device
            .launch(&function, line([2, 1, 1], 64), &[&da, &db, &out, &(n as i32)])
            .unwrap_or_else(|error| panic!("{error}"));
        let bytes = device.download(out, n * 64).expect("inside");
        let got: Vec<i32> = bytes.chunks(4).map(|c| i32::from_le_bytes(c.try_into().expect("chunks of 4"))).collect();
        for i in 0..n {
            let want = integers(a[i], b[i]);
            for k in 0..16 {
                let got = got[16 * i + k];
                assert_eq!(got, want[(k + n) & 15], "operation {} of {} and {}", (k + n) & 15, a[i], b[i]);
            }
        }
    });
}

#[test]
fn votes_and_scans_see_the_lanes_that_take_part() {
    for_each("print.cu", ARCHS, |device, ptx| {
        let function = device.load(ptx).expect("it loads").function("votes").expect("it is there");
        let x: Vec<i32> = (0..64).map(|i| (i * 37 + 11) % 100).collect();
        let bytes: Vec<u8> = x.iter().flat_map(|v| v.to_le_bytes()).collect();
        let dx = device.alloc("x", 256).expect("memory is left");
        device.upload(dx, &bytes).expect("inside");
        let out = device.alloc("out", 64 * 16).expect("memory is left");
        device.launch(&function, line([1; 3], 64), &[&dx, &out]).unwrap_or_else(|error| panic!("{error}"));
        let bytes = device.download(out, 64 * 16).expect("inside");
        let got: Vec<i32> = bytes.chunks(4).map(|c| i32::from_le_bytes(c.try_into().expect("chunks of 4"))).collect();
        let odd_threads = x.iter().filter(|v| *v & 1 == 1).count() as i32;
        for (warp, x) in x.chunks(32).enumerate() {
            let ballot = x.iter().enumerate().fold(0u32, |m, (l, v)| m | ((*v & 1) as u32) << l);
            let odd_sum: i32 = x.iter().filter(|v| *v & 1 == 1).sum();
            for (lane, v) in x.iter().enumerate() {
                let same = x.iter().filter(|w| *w % 3 == v % 3).count() as i32;
                let any = i32::from(x.iter().any(|v| *v > 90));
                let inside = if v & 1 == 1 { odd_sum + (v & 7) * ((v & 7) - 1) / 2 } else { 0 };
                let want =
                    [ballot as i32, same + 100 * any + 1000, x[..=lane].iter().sum(), inside + odd_threads * 100000];
                assert_eq!(got[4 * (32 * warp + lane)..][..4], want, "warp {warp} lane {lane}");
            }
        }
    });
}

#[test]
fn a_lane_that_copies_nothing_gets_zeros_wherever_the_others_read() {
    for_each("copy.cu", ARCHS, |device, ptx| {
        let function = device.load(ptx).expect("it loads").function("copy_by_half").expect("it is there");
        let bytes: Vec<u8> = (0..512).map(|i| 1 + (i / 16) as u8).collect();
        let from = device.alloc("from", 512).expect("memory is left");
        device.upload(from, &bytes).expect("inside");
        let to = device.alloc("to", 512).expect("memory is left");
        // All at one place, side by side, and apart.
        for (stride, lanes) in [(0usize, 32), (1, 32), (2, 16)] {
            let launch = line([1; 3], lanes as u32);
            device.launch(&function, launch, &[&from, &to, &(stride as i32)]).expect("no fault");
            let got = device.download(to, 16 * lanes).expect("inside");
            let want: Vec<u8> =
                (0..16 * lanes).map(|i| if i / 16 % 2 == 0 { bytes[i / 16 * stride * 16] } else { 0 }).collect();
            assert_eq!(got, want, "stride {stride}");
        }
    });
}
