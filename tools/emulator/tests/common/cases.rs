//! The kernels as cases that can be run again and again on changed PTX: data, launch, result.

use super::*;
use emulator::{Argument, Error, Launch, Report, Swizzle, TensorMap, TensorType};
use half::bf16;

/// A kernel, its data and where its results lie.
pub struct Case {
    pub file: &'static str,
    pub kernel: &'static str,
    pub archs: &'static [&'static str],
    pub launch: Launch,
    pub place: fn(&mut Device) -> Placed,
}

/// Arguments in device memory, and the results: address, bytes, element size (2: bf16, 4: f32).
pub struct Placed {
    pub arguments: Vec<Box<dyn Argument>>,
    pub results: Vec<(u64, usize, usize)>,
}

/// What a run leaves: its results as they lie in memory, and as numbers.
pub struct Outcome {
    pub report: Report,
    pub bytes: Vec<u8>,
    pub values: Vec<f64>,
}

impl Case {
    /// Runs the kernel of a PTX text on a fresh device.
    pub fn run(&self, ptx: &str, config: Config) -> Result<Outcome, Error> {
        self.run_on(&mut Device::new(config)?, ptx)
    }

    /// The same on a device that others may have used.
    pub fn run_on(&self, device: &mut Device, ptx: &str) -> Result<Outcome, Error> {
        let function = device.load(ptx)?.function(self.kernel)?;
        let placed = (self.place)(device);
        let arguments: Vec<&dyn Argument> = placed.arguments.iter().map(|a| a.as_ref()).collect();
        let report = device.launch(&function, self.launch, &arguments)?;
        let (mut bytes, mut values) = (vec![], vec![]);
        for (base, size, element) in placed.results {
            let own = device.download(base, size)?;
            values.extend(if element == 2 { bf16s(&own) } else { f32s(&own).into_iter().map(f64::from).collect() });
            bytes.extend(own);
        }
        Ok(Outcome { report, bytes, values })
    }
}

const BOTH: &[&str] = &["sm_80", "sm_90a"];
const HOPPER: &[&str] = &["sm_90a"];

fn shape(grid: [u32; 3], block: u32, cluster: u32, dynamic_shared: u32) -> Launch {
    Launch { grid, block: [block, 1, 1], cluster: [cluster, 1, 1], dynamic_shared }
}

/// Memory for results; poison where the kernel must write all of it.
fn fresh(device: &mut Device, name: &str, bytes: usize) -> u64 {
    device.alloc(name, bytes).expect("memory is left")
}

fn matrices(device: &mut Device, (m, n, k): (usize, usize, usize), mapped: bool) -> Placed {
    let mut arguments: Vec<Box<dyn Argument>> = vec![];
    for (name, rows, seed) in [("a", m, 1), ("b", n, 2)] {
        let base = upload_bf16(device, name, &random_bf16(seed, rows * k));
        let (extents, strides) = ([k as u64, rows as u64], [k as u64 * 2]);
        let map = TensorMap::tiled(TensorType::Bf16, base, &extents, &strides, &[64, 128], Swizzle::B128);
        arguments.push(if mapped { Box::new(map.expect("it is legal")) } else { Box::new(base) });
    }
    let c = fresh(device, "c", m * n * 2);
    arguments.push(Box::new(c));
    [m, n, k].into_iter().for_each(|extent| arguments.push(Box::new(extent as i32)));
    Placed { arguments, results: vec![(c, m * n * 2, 2)] }
}

/// The kernels that are mutated, each on a ragged shape of several tiles.
pub fn all() -> Vec<Case> {
    vec![
        Case {
            file: "norm.cu",
            kernel: "norm_rows",
            archs: BOTH,
            launch: shape([4, 1, 1], 128, 1, 0),
            place: |device| {
                let (rows, width) = (13, 264);
                let x = upload_bf16(device, "x", &random_bf16(7, rows * width));
                let (y, rstds) = (fresh(device, "y", rows * width * 2), fresh(device, "rstds", rows * 4));
                let arguments: Vec<Box<dyn Argument>> =
                    vec![Box::new(x), Box::new(y), Box::new(rstds), Box::new(13i32), Box::new(264i32)];
                Placed { arguments, results: vec![(y, rows * width * 2, 2), (rstds, rows * 4, 4)] }
            },
        },
        Case {
            file: "norm.cu",
            kernel: "sum_columns",
            archs: BOTH,
            launch: shape([3, 1, 1], 128, 1, 77 * 4),
            place: |device| {
                let x = upload_f32(device, "x", &random(3, 50 * 77));
                let columns = upload_f32(device, "columns", &[0.0; 77]);
                let arguments: Vec<Box<dyn Argument>> =
                    vec![Box::new(x), Box::new(columns), Box::new(50i32), Box::new(77i32)];
                Placed { arguments, results: vec![(columns, 77 * 4, 4)] }
            },
        },
        Case {
            file: "norm.cu",
            kernel: "sum_all",
            archs: BOTH,
            launch: shape([5, 1, 1], 256, 1, 0),
            place: |device| {
                let x = upload_f32(device, "x", &random(11, 3001));
                let (partial, total) = (fresh(device, "partial", 20), fresh(device, "total", 4));
                let arguments: Vec<Box<dyn Argument>> =
                    vec![Box::new(x), Box::new(partial), Box::new(total), Box::new(3001i32)];
                Placed { arguments, results: vec![(total, 4, 4)] }
            },
        },
        Case {
            file: "gemm_mma.cu",
            kernel: "gemm_mma",
            archs: BOTH,
            launch: shape([2, 2, 1], 128, 1, 3 * 8192),
            place: |device| matrices(device, (100, 72, 160), false),
        },
        Case {
            file: "attention.cu",
            kernel: "attention",
            archs: BOTH,
            launch: shape([3, 1, 1], 128, 1, 0),
            place: |device| {
                let count = 150 * 64;
                let mut arguments: Vec<Box<dyn Argument>> = vec![];
                for (seed, name) in ["q", "k", "v"].into_iter().enumerate() {
                    arguments.push(Box::new(upload_bf16(device, name, &random_bf16(seed as u64, count))));
                }
                let out = fresh(device, "out", count * 2);
                arguments.push(Box::new(out));
                arguments.push(Box::new(150i32));
                arguments.push(Box::new(0.18f32));
                Placed { arguments, results: vec![(out, count * 2, 2)] }
            },
        },
        Case {
            file: "gemm_wgmma.cu",
            kernel: "gemm_wgmma",
            archs: HOPPER,
            launch: shape([2, 2, 1], 384, 1, 3 * 32768),
            place: |device| matrices(device, (200, 136, 832), true),
        },
        Case {
            file: "cluster.cu",
            kernel: "cluster_sum",
            archs: HOPPER,
            launch: shape([8, 1, 1], 64, 4, 0),
            place: |device| {
                let x = upload_f32(device, "x", &random(5, 8 * 256));
                let total = fresh(device, "total", 8);
                Placed { arguments: vec![Box::new(x), Box::new(total)], results: vec![(total, 8, 4)] }
            },
        },
        Case {
            file: "cluster.cu",
            kernel: "pass_on",
            archs: HOPPER,
            launch: shape([2, 1, 1], 64, 2, 0),
            place: |device| {
                let out = fresh(device, "out", 512);
                Placed { arguments: vec![Box::new(out)], results: vec![(out, 512, 4)] }
            },
        },
        Case {
            file: "cluster.cu",
            kernel: "double_tile",
            archs: HOPPER,
            launch: shape([2, 2, 1], 32, 1, 0),
            place: |device| {
                let (columns, rows) = (48u64, 10u64);
                let x: Vec<bf16> = (0..480).map(|i| bf16::from_f32((i % 61) as f32 - 30.0)).collect();
                let from = upload_bf16(device, "in", &x);
                let to = fresh(device, "out", 960);
                let sums = upload_f32(device, "sums", &[1.0; 64]);
                let map = |base| {
                    let map = TensorMap::tiled(
                        TensorType::Bf16,
                        base,
                        &[columns, rows],
                        &[columns * 2],
                        &[32, 8],
                        Swizzle::B64,
                    );
                    Box::new(map.expect("it is legal"))
                };
                let arguments: Vec<Box<dyn Argument>> = vec![map(from), map(to), Box::new(sums)];
                Placed { arguments, results: vec![(to, 960, 2), (sums, 256, 4)] }
            },
        },
    ]
}

fn indices(device: &mut Device, name: &str, count: i32) -> Box<dyn Argument> {
    let base = device.alloc(name, count as usize * 4).expect("memory is left");
    let bytes: Vec<u8> = (0..count).flat_map(|i| ((i * 37 + 11) % 100).to_le_bytes()).collect();
    device.upload(base, &bytes).expect("inside");
    Box::new(base)
}

/// The kernels that are not mutated.
pub fn others() -> Vec<Case> {
    vec![
        Case {
            file: "cluster.cu",
            kernel: "spread_row",
            archs: HOPPER,
            launch: shape([2, 1, 1], 64, 2, 0),
            place: |device| {
                let x = upload_f32(device, "x", &random(3, 64));
                let out = fresh(device, "out", 512);
                Placed { arguments: vec![Box::new(x), Box::new(out)], results: vec![(out, 512, 4)] }
            },
        },
        Case {
            file: "cluster.cu",
            kernel: "move_boxes",
            archs: HOPPER,
            launch: shape([1; 3], 32, 1, 0),
            place: |device| {
                let (from, to) = (upload_f32(device, "in", &random(4, 120)), upload_f32(device, "to", &[-1.0; 120]));
                let out = fresh(device, "out", 64);
                let map = |base, extents: &[u64], strides: &[u64], sides: &[u32]| -> Box<dyn Argument> {
                    let map = TensorMap::tiled(TensorType::F32, base, extents, strides, sides, Swizzle::None);
                    Box::new(map.expect("it is legal"))
                };
                let boxes = |base| map(base, &[8, 5, 3], &[32, 160], &[4, 3, 2]);
                let mut arguments = vec![boxes(from), boxes(to), map(from, &[120], &[], &[16])];
                arguments.push(Box::new(out));
                [6i32, 3, -1].into_iter().for_each(|at| arguments.push(Box::new(at)));
                Placed { arguments, results: vec![(to, 480, 4), (out, 64, 4)] }
            },
        },
        Case {
            file: "copy.cu",
            kernel: "copy_by_half",
            archs: BOTH,
            launch: shape([1; 3], 32, 1, 0),
            place: |device| {
                let (from, to) = (upload_f32(device, "from", &random(5, 128)), fresh(device, "to", 512));
                Placed { arguments: vec![Box::new(from), Box::new(to), Box::new(1i32)], results: vec![(to, 512, 4)] }
            },
        },
        Case {
            file: "print.cu",
            kernel: "print_lines",
            archs: BOTH,
            launch: shape([2, 1, 1], 40, 1, 0),
            place: |_| Placed { arguments: vec![Box::new(35i32), Box::new(0.3f32)], results: vec![] },
        },
        Case {
            file: "print.cu",
            kernel: "assert_small",
            archs: BOTH,
            launch: shape([1; 3], 64, 1, 0),
            place: |device| Placed { arguments: vec![indices(device, "values", 64)], results: vec![] },
        },
        Case {
            file: "print.cu",
            kernel: "functions",
            archs: BOTH,
            launch: shape([2, 12, 1], 64, 1, 0),
            place: |device| {
                let (x, out) = (upload_f32(device, "x", &random(6, 99)), fresh(device, "out", 12 * 99 * 4));
                let arguments: Vec<Box<dyn Argument>> = vec![Box::new(x), Box::new(out), Box::new(99i32)];
                Placed { arguments, results: vec![(out, 12 * 99 * 4, 4)] }
            },
        },
        Case {
            file: "print.cu",
            kernel: "integers",
            archs: BOTH,
            launch: shape([2, 1, 1], 64, 1, 0),
            place: |device| {
                let (a, b, out) = (indices(device, "a", 99), indices(device, "b", 99), fresh(device, "out", 99 * 64));
                Placed { arguments: vec![a, b, Box::new(out), Box::new(99i32)], results: vec![(out, 99 * 64, 4)] }
            },
        },
        Case {
            file: "print.cu",
            kernel: "votes",
            archs: BOTH,
            launch: shape([1; 3], 64, 1, 0),
            place: |device| {
                let (x, out) = (indices(device, "x", 64), fresh(device, "out", 64 * 16));
                Placed { arguments: vec![x, Box::new(out)], results: vec![(out, 64 * 16, 4)] }
            },
        },
    ]
}
