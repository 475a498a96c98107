//! The one door from code for any CPU to code for this one.

use crate::{
    check::Fault,
    ir::Kernel,
    run::{self, Launch, Settings, Stage},
};

/// Whether this CPU has the instructions that the interpreter is compiled for.
pub fn supported() -> bool {
    #[cfg(target_arch = "x86_64")]
    let supported = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("popcnt");
    #[cfg(not(target_arch = "x86_64"))]
    let supported = true;
    supported
}

/// Runs a launch; see `run::run`.
///
/// # Panics
/// When the CPU lacks the instructions; `Device::new` has asked before.
#[cfg_attr(target_arch = "x86_64", allow(unsafe_code))]
pub fn run(kernel: &Kernel, launch: Launch, settings: Settings, stage: Stage) -> Result<(), Box<Fault>> {
    assert!(supported(), "the emulator needs an x86-64-v3 CPU: avx2, fma, f16c, bmi, lzcnt, popcnt");
    #[cfg(target_arch = "x86_64")]
    // SAFETY: `run::run` is unsafe to call only because it is compiled with the target features that `supported` has
    // just found. Compiled for every CPU, a fused multiply-add would be a library call of a hundred cycles.
    let result = unsafe { run::run(kernel, launch, settings, stage) };
    #[cfg(not(target_arch = "x86_64"))]
    let result = run::run(kernel, launch, settings, stage);
    result
}
