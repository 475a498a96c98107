//! What the tests share: compiling kernels, devices, numbers.

#![allow(dead_code)]

pub mod cases;
pub mod lanes;

use emulator::{Checks, Config, Device, Policy};
use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

pub const POLICIES: [Policy; 2] = [Policy::Eager, Policy::Lazy];

/// PTX of a file in `kernels/` for an architecture such as `sm_90a`; None, said aloud, where no nvcc is found.
///
/// Each is compiled once in a test binary.
pub fn ptx(file: &str, arch: &str) -> Option<String> {
    static TEXTS: Mutex<BTreeMap<(String, String), Option<String>>> = Mutex::new(BTreeMap::new());
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    let text = texts.entry((file.to_string(), arch.to_string())).or_insert_with(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels").join(file);
        compile(&source, arch)
    });
    text.clone()
}

/// Runs a test on a fresh device for every architecture and policy.
pub fn for_each(file: &str, archs: &[&str], mut test: impl FnMut(&mut Device, &str)) {
    for arch in archs {
        let Some(ptx) = ptx(file, arch) else { return };
        for policy in POLICIES {
            test(&mut device(policy), &ptx);
        }
    }
}

/// PTX of a CUDA source.
pub fn compile(source: &Path, arch: &str) -> Option<String> {
    let Some(nvcc) = nvcc() else {
        // Not eprintln, which the test harness holds back from tests that pass.
        let message = format!("SKIPPED {}: no nvcc; install it with tools/nvcc\n", source.display());
        std::io::stderr().write_all(message.as_bytes()).expect("stderr is open");
        return None;
    };
    let output = Command::new(&nvcc)
        .args(["-std=c++17", "-O3", "-lineinfo", "-ptx", "-o", "-"])
        .arg(format!("-arch={}", arch.replace("sm_", "compute_")))
        .arg(source)
        .output()
        .expect("nvcc starts");
    assert!(output.status.success(), "{}: {}", source.display(), String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).expect("PTX is ASCII"))
}

/// nvcc by NVCC, CUDA_HOME, CUDA_PATH, the folder that `tools/nvcc` fills, PATH, or the usual place.
fn nvcc() -> Option<PathBuf> {
    let home = |name| std::env::var_os(name).map(|home| Path::new(&home).join("bin/nvcc"));
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../nvcc-toolkit/site/nvidia/cu13/bin/nvcc");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates =
        [std::env::var_os("NVCC").map(PathBuf::from), home("CUDA_HOME"), home("CUDA_PATH"), Some(installed)]
            .into_iter()
            .flatten()
            .chain(std::env::split_paths(&path).map(|folder| folder.join("nvcc")))
            .chain([PathBuf::from("/usr/local/cuda/bin/nvcc")]);
    candidates.into_iter().find(|nvcc| nvcc.is_file())
}

/// A device with every check on.
pub fn device(policy: Policy) -> Device {
    Device::new(Config { policy, checks: Checks::ALL, limit: 1 << 26, ..Config::default() }).expect("a supported CPU")
}

/// Numbers of a linear congruential generator, uniform in -1..1.
pub fn random(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2862933555777941757).wrapping_add(3037000493);
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// The same, rounded to bf16.
pub fn random_bf16(seed: u64, count: usize) -> Vec<half::bf16> {
    random(seed, count).into_iter().map(half::bf16::from_f32).collect()
}

/// The nearest number of `digits` significant bits and at least 2^lowest apart, ties to even; exact in f64. For f16 11
/// and -24, for bf16 8 and -133.
pub fn rounded(x: f64, digits: i32, lowest: i32) -> f64 {
    let exponent = (x.to_bits() >> 52 & 0x7ff) as i32 - 1023;
    let unit = f64::from_bits(((exponent + 1 - digits).max(lowest) + 1023) as u64 * (1 << 52));
    (x / unit).round_ties_even() * unit
}

pub fn bytes_of_f32(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

pub fn bytes_of_bf16(values: &[half::bf16]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

pub fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("chunks of 4"))).collect()
}

pub fn bf16s(bytes: &[u8]) -> Vec<f64> {
    bytes.chunks_exact(2).map(|b| half::bf16::from_le_bytes(b.try_into().expect("chunks of 2")).to_f64()).collect()
}

/// Copies values to fresh device memory.
pub fn upload_f32(device: &mut Device, name: &str, values: &[f32]) -> u64 {
    let base = device.alloc(name, values.len() * 4).expect("memory is left");
    device.upload(base, &bytes_of_f32(values)).expect("it fits");
    base
}

pub fn upload_bf16(device: &mut Device, name: &str, values: &[half::bf16]) -> u64 {
    let base = device.alloc(name, values.len() * 2).expect("memory is left");
    device.upload(base, &bytes_of_bf16(values)).expect("it fits");
    base
}

/// Asserts |got - want| <= tolerance(want) for every element.
pub fn assert_close(got: &[f64], want: &[f64], tolerance: impl Fn(f64) -> f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    for (k, (got, want)) in got.iter().zip(want).enumerate() {
        let bound = tolerance(*want);
        assert!((got - want).abs() <= bound, "{what}[{k}]: {got} is not within {bound:e} of {want}");
    }
}

/// A kernel around a body that finds `%in`, `%out` (advanced by 16 bytes a thread), `%t` and the two numbers.
pub fn kernel(body: &str, in_stride: u32, out_stride: u32) -> String {
    format!(
        ".version 8.0\n.target sm_90a\n.address_size 64\n\
         .visible .entry vector(.param .u64 p0, .param .u64 p1, .param .u64 p2, .param .u64 p3)\n{{\n\
         .reg .b64 %in, %out, %n0, %n1, %o;\n.reg .b32 %t;\n\
         ld.param.u64 %in, [p0];\nld.param.u64 %out, [p1];\nld.param.u64 %n0, [p2];\nld.param.u64 %n1, [p3];\n\
         mov.u32 %t, %tid.x;\nmul.wide.u32 %o, %t, {in_stride};\nadd.s64 %in, %in, %o;\n\
         mul.wide.u32 %o, %t, {out_stride};\nadd.s64 %out, %out, %o;\n{body}\nret;\n}}\n"
    )
}
