//! Kernels of one instruction each, for what only hardware can settle: fragment layouts, descriptors and swizzles, the
//! edges of tensor tiles, the rounding of tensor cores, approximate functions, conversions.
//!
//! Every kernel takes an input, an output, two numbers and, where it moves tiles, a tensor map. What the manual defines
//! is compared with references written here from its tables. Run with CONFORMANCE_DIR=folder, the last test writes texts,
//! inputs and launches there; `record.py folder` runs them on a GPU and leaves `NAME.out`. Copied into `golden/`, these
//! become the truth that the emulator must reproduce.

#[path = "../common/mod.rs"]
mod common;
mod dots;
mod fragments;
mod scalar;
mod tiles;
mod wgmma;

use common::*;
use emulator::{Argument, Launch, TensorMap};
use half::{bf16, f16};
use std::path::Path;

struct Vector {
    name: String,
    ptx: String,
    input: Vec<u8>,
    output: usize,
    numbers: [u64; 2],
    threads: u32,
    map: Option<Map>,
    want: Want,
}

/// Absolute error that the manual grants at an argument and its value; None: it grants none.
type Bound = fn(f64, f64) -> Option<f64>;

/// What an output must be.
enum Want {
    /// Only hardware knows; these bits.
    Recorded,
    /// f32 of a function of the input's f32, as near as the manual grants.
    About {
        value: fn(f64) -> f64,
        bound: Bound,
    },
    Exactly(Vec<u8>),
    /// Sums of f32, or of f16 where `half`, each within a bound: value and bound.
    Near {
        half: bool,
        sums: Vec<(f64, f64)>,
    },
}

/// A tensor over the input or the output. Its base is not known before the launch.
struct Map {
    of_output: bool,
    tensor: TensorMap,
}

impl Vector {
    /// A kernel of one warp.
    fn warp(name: String, ptx: String, input: Vec<u8>, output: usize, want: Want) -> Vector {
        Vector { name, ptx, input, output, numbers: [0; 2], threads: 32, map: None, want }
    }

    fn run(&self, policy: emulator::Policy) -> Vec<u8> {
        let mut device = device(policy);
        let function = device.load(&self.ptx).unwrap_or_else(|e| panic!("{}: {e}\n{}", self.name, self.ptx));
        let function = function.function("vector").unwrap_or_else(|e| panic!("{}: {e}\n{}", self.name, self.ptx));
        let input = device.alloc("input", self.input.len()).expect("memory is left");
        device.upload(input, &self.input).expect("inside");
        let output = device.alloc("output", self.output).expect("memory is left");
        device.fill(output, FILL, self.output).expect("inside");
        let launch = Launch { grid: [1; 3], block: [self.threads, 1, 1], cluster: [1; 3], dynamic_shared: 0 };
        let mut arguments: Vec<&dyn Argument> = vec![&input, &output, &self.numbers[0], &self.numbers[1]];
        let tensor = self.map.as_ref().map(|map| {
            let base = if map.of_output { output } else { input };
            TensorMap { base, ..map.tensor.clone() }
        });
        arguments.extend(tensor.iter().map(|tensor| tensor as &dyn Argument));
        device.launch(&function, launch, &arguments).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        device.download(output, self.output).expect("inside")
    }

    /// Asserts that an output is what it must be, as far as that is known.
    fn judge(&self, got: &[u8], whose: &str) {
        match &self.want {
            Want::Recorded => {}
            Want::About { value, bound } => {
                let inputs = f32s(&self.input);
                assert_eq!(got.len(), 4 * inputs.len(), "{}", self.name);
                // The manual's tables are of normal numbers.
                let plain = |x: f32| x == 0.0 || x.is_normal();
                for (got, x) in f32s(got).into_iter().zip(inputs) {
                    let want = value(f64::from(x));
                    let Some(bound) = bound(f64::from(x), want).filter(|_| plain(x) && plain(want as f32)) else {
                        continue;
                    };
                    // And of numbers of any length: the result is one of f32 next to such a one.
                    let bound = bound + (want.abs() * 2f64.powi(-24)).max(2f64.powi(-150));
                    let error = (f64::from(got) - want).abs();
                    assert!(
                        error <= bound,
                        "{}, {whose}: {got:e} of {x:e} is not within {bound:e} of {want:e}",
                        self.name
                    );
                }
            }
            Want::Exactly(want) => {
                let differs = got.iter().zip(want).position(|(got, want)| got != want);
                assert_eq!(differs, None, "{}, {whose}: byte at which it differs", self.name);
                assert_eq!(got.len(), want.len(), "{}", self.name);
            }
            Want::Near { half, sums } => {
                let got: Vec<f64> = match half {
                    true => halves(got).map(|bits| f16::from_bits(bits).to_f64()).collect(),
                    false => f32s(got).into_iter().map(f64::from).collect(),
                };
                let largest = if *half { 65504.0 } else { f64::from(f32::MAX) };
                assert_eq!(got.len(), sums.len(), "{}", self.name);
                for (k, (got, (want, bound))) in got.iter().zip(sums).enumerate() {
                    let near = match want.is_finite() {
                        // A finite sum beyond the largest number may have become infinite.
                        true => (got.clamp(-largest, largest) - want.clamp(-largest, largest)).abs() <= *bound,
                        false => got == want || got.is_nan() && want.is_nan(),
                    };
                    assert!(near, "{}, {whose}, {k}: {got:e} is not within {bound:e} of {want:e}", self.name);
                }
            }
        }
    }

    /// Writes what `record.py` needs.
    fn export(&self, folder: &Path) {
        let base = folder.join(&self.name);
        let write = |extension: &str, bytes: &[u8]| {
            std::fs::write(base.with_extension(extension), bytes).expect("CONFORMANCE_DIR can be written");
        };
        let mut launch = format!("{} {} {} {}\n", self.threads, self.output, self.numbers[0], self.numbers[1]);
        if let Some(Map { of_output, tensor }) = &self.map {
            let list = |values: &[u64]| values.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
            let tile: Vec<u64> = tensor.tile.iter().map(|side| u64::from(*side)).collect();
            launch += &format!(
                "{} {:?} {:?} {} {} {}\n",
                if *of_output { "output" } else { "input" },
                tensor.ty,
                tensor.swizzle,
                list(&tensor.extents),
                // A tensor of one dimension has none.
                if tensor.strides.is_empty() { "-".to_string() } else { list(&tensor.strides) },
                list(&tile)
            );
        }
        write("ptx", self.ptx.as_bytes());
        write("in", &self.input);
        write("launch", launch.as_bytes());
    }
}

/// What outputs hold before the launch, here and in `record.py`.
const FILL: u8 = 0xcd;

fn halves(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.chunks_exact(2).map(|b| u16::from_le_bytes(b.try_into().expect("chunks of 2")))
}

/// A number as a matrix element or an accumulator holds it.
fn encode(ty: &str, x: f64) -> Vec<u8> {
    match ty {
        "bf16" => bf16::from_f64(x).to_le_bytes().into(),
        "f16" => f16::from_f64(x).to_le_bytes().into(),
        "f32" => (x as f32).to_le_bytes().into(),
        "tf32" => ((x as f32).to_bits() & !0x1fff).to_le_bytes().into(),
        "s8" => vec![x as i8 as u8],
        "u8" => vec![x as u8],
        // Integer accumulators wrap.
        "s32" => (x as i64 as i32).to_le_bytes().into(),
        other => panic!("{other}: no element"),
    }
}

/// The bytes of an element of A or B.
fn size(ty: &str) -> usize {
    encode(ty, 0.0).len()
}

/// `%a0, %a1`
fn registers(prefix: &str, count: usize) -> String {
    (0..count).map(|i| format!("%{prefix}{i}")).collect::<Vec<_>>().join(", ")
}

fn vectors() -> Vec<Vector> {
    [scalar::vectors(), fragments::vectors(), dots::vectors(), wgmma::vectors(), tiles::vectors()]
        .into_iter()
        .flatten()
        .collect()
}

#[test]
fn every_instruction_does_what_the_manual_says_under_both_policies() {
    let mut names = std::collections::HashSet::new();
    for vector in vectors() {
        assert!(names.insert(vector.name.clone()), "{}: twice", vector.name);
        let [eager, lazy] = POLICIES.map(|policy| vector.run(policy));
        assert_eq!(eager, lazy, "{}", vector.name);
        vector.judge(&eager, "emulator");
    }
}

#[test]
fn recorded_vectors_are_reproduced() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let (mut recorded, all) = (0, vectors());
    for vector in &all {
        if let Some(folder) = std::env::var_os("CONFORMANCE_DIR") {
            vector.export(Path::new(&folder));
        }
        let Ok(want) = std::fs::read(golden.join(&vector.name).with_extension("out")) else { continue };
        recorded += 1;
        vector.judge(&want, "hardware");
        let got = vector.run(emulator::Policy::Lazy);
        match vector.want {
            // Judged above: the emulator computes them with host mathematics and in an order of its own.
            Want::Near { .. } | Want::About { .. } => {}
            Want::Recorded | Want::Exactly(_) => assert_eq!(got, want, "{}", vector.name),
        }
    }
    println!("{recorded} of {} vectors are recorded on hardware", all.len());
}
