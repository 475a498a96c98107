//! Lane instructions a second on one core: `cargo bench -p emulator [-- KERNEL]`. Counters are always on; the last
//! column is what every check and the lazy policy cost.

#[path = "../tests/common/mod.rs"]
mod common;

use common::*;
use emulator::{Argument, Checks, Config, Device, Launch, Policy, Report, Swizzle, TensorMap, TensorType};
use std::time::{Duration, Instant};

/// A kernel with its data in place.
struct Case {
    file: &'static str,
    kernel: &'static str,
    launch: Launch,
    arguments: fn(&mut Device) -> Vec<Box<dyn Argument>>,
}

fn shape(grid: [u32; 3], block: u32, dynamic_shared: u32) -> Launch {
    Launch { grid, block: [block, 1, 1], cluster: [1; 3], dynamic_shared }
}

fn zeros(device: &mut Device, name: &str, bytes: usize) -> Box<dyn Argument> {
    let base = device.alloc(name, bytes).expect("memory is left");
    device.fill(base, 0, bytes).expect("inside");
    Box::new(base)
}

fn square(device: &mut Device, mapped: bool) -> Vec<Box<dyn Argument>> {
    let mut arguments: Vec<Box<dyn Argument>> = vec![];
    for (name, seed) in [("a", 1), ("b", 2)] {
        let base = upload_bf16(device, name, &random_bf16(seed, 512 * 512));
        let map = TensorMap::tiled(TensorType::Bf16, base, &[512, 512], &[1024], &[64, 128], Swizzle::B128);
        arguments.push(if mapped { Box::new(map.expect("it is legal")) } else { Box::new(base) });
    }
    arguments.push(zeros(device, "c", 512 * 512 * 2));
    (0..3).for_each(|_| arguments.push(Box::new(512i32)));
    arguments
}

fn cases() -> Vec<Case> {
    vec![
        Case {
            file: "norm.cu",
            kernel: "norm_rows",
            launch: shape([512, 1, 1], 128, 0),
            arguments: |device| {
                let x = upload_bf16(device, "x", &random_bf16(1, 2048 * 768));
                let (y, rstds) = (zeros(device, "y", 2048 * 768 * 2), zeros(device, "rstds", 2048 * 4));
                vec![Box::new(x), y, rstds, Box::new(2048i32), Box::new(768i32)]
            },
        },
        Case {
            file: "norm.cu",
            kernel: "sum_all",
            launch: shape([64, 1, 1], 256, 0),
            arguments: |device| {
                let x = upload_f32(device, "x", &random(1, 1 << 20));
                let (partial, total) = (zeros(device, "partial", 256), zeros(device, "total", 4));
                vec![Box::new(x), partial, total, Box::new(1i32 << 20)]
            },
        },
        Case {
            file: "print.cu",
            kernel: "functions",
            launch: shape([512, 12, 1], 128, 0),
            arguments: |device| {
                let x = upload_f32(device, "x", &random(1, 1 << 16));
                vec![Box::new(x), zeros(device, "out", 12 << 18), Box::new(1i32 << 16)]
            },
        },
        Case {
            file: "gemm_mma.cu",
            kernel: "gemm_mma",
            launch: shape([8, 8, 1], 128, 3 * 8192),
            arguments: |device| square(device, false),
        },
        Case {
            file: "attention.cu",
            kernel: "attention",
            launch: shape([8, 2, 1], 128, 0),
            arguments: |device| {
                let mut arguments: Vec<Box<dyn Argument>> = vec![];
                for name in ["q", "k", "v"] {
                    arguments.push(Box::new(upload_bf16(device, name, &random_bf16(1, 2 * 512 * 64))));
                }
                arguments.push(zeros(device, "out", 2 * 512 * 128));
                arguments.push(Box::new(512i32));
                arguments.push(Box::new(0.18f32));
                arguments
            },
        },
        Case {
            file: "gemm_wgmma.cu",
            kernel: "gemm_wgmma",
            launch: shape([4, 4, 1], 384, 3 * 32768),
            arguments: |device| square(device, true),
        },
    ]
}

/// Time this thread has had a core: what a busy machine does not add to. Elsewhere than on Linux, time on the wall.
fn cpu_time(start: Instant) -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    match stat.split(' ').next().and_then(|ns| ns.parse().ok()) {
        Some(ns) => Duration::from_nanos(ns),
        None => start.elapsed(),
    }
}

/// The time of one launch: the best of five times as many as take a tenth of a second.
fn time(ptx: &str, case: &Case, config: Config) -> (Duration, Report) {
    let mut device = Device::new(config).expect("a supported CPU");
    let function = device.load(ptx).expect("it loads").function(case.kernel).expect("it is there");
    let arguments = (case.arguments)(&mut device);
    let arguments: Vec<&dyn Argument> = arguments.iter().map(|a| a.as_ref()).collect();
    let origin = Instant::now();
    let run = |device: &mut Device| {
        let (start, mut launches) = (cpu_time(origin), 0);
        loop {
            let report = device.launch(&function, case.launch, &arguments).unwrap_or_else(|error| panic!("{error}"));
            launches += 1;
            let took = cpu_time(origin) - start;
            if took > Duration::from_millis(100) {
                return (took / launches, report);
            }
        }
    };
    (0..5).map(|_| run(&mut device)).min_by_key(|(time, _)| *time).expect("five runs")
}

fn main() {
    println!("{:<12} {:>10} {:>9} {:>9} {:>9} {:>10}", "kernel", "warp ins", "ns each", "Glane/s", "GFMA/s", "checked");
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    for case in cases().into_iter().filter(|c| wanted.is_empty() || wanted.iter().any(|w| w == c.kernel)) {
        let Some(ptx) = ptx(case.file, "sm_90a") else { return };
        let plain = Config { checks: Checks::NONE, policy: Policy::Eager, ..Config::default() };
        let (fast, report) = time(&ptx, &case, plain);
        let (checked, _) = time(&ptx, &case, Config::default());
        let total = report.total();
        let ns = fast.as_nanos() as f64;
        println!(
            "{:<12} {:>10} {:>9.1} {:>9.2} {:>9.2} {:>9.1}x",
            case.kernel,
            total.warps,
            ns / total.warps as f64,
            total.lanes as f64 / ns,
            total.matrix_fma as f64 / ns,
            checked.as_secs_f64() / fast.as_secs_f64()
        );
    }
}
