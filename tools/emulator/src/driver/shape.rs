//! Whether a kernel takes a shape and arguments.

use super::{Argument, Result, invalid};
use crate::{ir::Kernel, regs::LANES, run::Launch, window::SHARED_BASE};

/// The limits of a launch on devices of capability 8.0 to 9.0.
pub fn check(kernel: &Kernel, launch: Launch) -> Result<()> {
    let Launch { grid, block, cluster, dynamic_shared } = launch;
    let name = &kernel.name;
    let volume = |shape: [u32; 3]| shape.iter().map(|n| u64::from(*n)).product::<u64>();
    if volume(grid) == 0 || grid[0] > i32::MAX as u32 || grid[1] > 65535 || grid[2] > 65535 {
        return invalid(format!("{name}, grid {grid:?}: each extent is at least 1, y and z at most 65535"));
    }
    let most = kernel.max_threads.unwrap_or(1024).min(1024);
    if volume(block) == 0 || volume(block) > most.into() || block[2] > 64 {
        return invalid(format!("{name}, block {block:?}: 1 to {most} threads, z at most 64"));
    }
    if volume(cluster) == 0 || volume(cluster) > 8 || (0..3).any(|axis| !grid[axis].is_multiple_of(cluster[axis])) {
        return invalid(format!("{name}, cluster {cluster:?}: at most 8 CTAs, dividing the grid {grid:?}"));
    }
    if let Some(wanted) = kernel.cluster.filter(|wanted| *wanted != cluster) {
        return invalid(format!("{name}, cluster {cluster:?}: the kernel is compiled for {wanted:?}"));
    }
    let warps = volume(block).div_ceil(LANES as u64) * volume(cluster);
    let bytes = warps * LANES as u64 * (4 * kernel.rows as u64 + u64::from(kernel.local));
    if bytes > MOST_OF_CLUSTER {
        return invalid(format!(
            "{name}: the registers and local memory of {warps} warps take {bytes} bytes, {MOST_OF_CLUSTER} at most; \
             launch smaller blocks or clusters"
        ));
    }
    let shared = kernel.dynamic_shared - SHARED_BASE;
    // 227 KiB of an H200's 228, 163 of an A100's 164; a CTA reserves one.
    let most = if kernel.target.starts_with("sm_8") { 163 << 10 } else { 227 << 10 };
    if u64::from(shared) + u64::from(dynamic_shared) > most {
        return invalid(format!(
            "{name}: {shared} bytes of static and {dynamic_shared} of dynamic shared memory exceed {most}"
        ));
    }
    Ok(())
}

/// Bytes that the registers and the local memory of one cluster may take: an SM has 256 KiB of registers, and local memory
/// is seldom more than a few hundred bytes of a lane.
const MOST_OF_CLUSTER: u64 = 4 << 30;

/// Lays the arguments out as the kernel's parameters.
pub fn pack(kernel: &Kernel, arguments: &[&dyn Argument]) -> Result<Vec<u8>> {
    if arguments.len() != kernel.params.len() {
        return invalid(format!(
            "{}: {} arguments given, the kernel takes {}",
            kernel.name,
            arguments.len(),
            kernel.params.len()
        ));
    }
    let mut packed = vec![];
    for (k, (argument, param)) in arguments.iter().zip(&kernel.params).enumerate() {
        let bytes = argument.bytes();
        if bytes.len() != param.size as usize {
            return invalid(format!(
                "{}, argument {k}: {} bytes given, its parameter has {}",
                kernel.name,
                bytes.len(),
                param.size
            ));
        }
        packed.resize(param.offset as usize, 0);
        packed.extend_from_slice(&bytes);
    }
    Ok(packed)
}
