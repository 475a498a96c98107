//! The device as a driver: memory, failures on request, refusals.

mod common;

use common::*;
use emulator::{Config, Device, Error, Kind, Launch, Policy};

/// Adds 1 to each of 32 words.
const ADD: &str = "
.version 8.0
.target sm_80
.address_size 64
.visible .entry add(.param .u64 p)
{
    .reg .b32 %r<3>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [p];
    mov.u32 %r1, %tid.x;
    mul.wide.u32 %rd2, %r1, 4;
    add.s64 %rd1, %rd1, %rd2;
    ld.global.u32 %r2, [%rd1];
    add.s32 %r2, %r2, 1;
    st.global.u32 [%rd1], %r2;
    ret;
}
";

const WARP: Launch = Launch { grid: [1; 3], block: [32, 1, 1], cluster: [1; 3], dynamic_shared: 0 };

fn fault(result: emulator::Result<emulator::Report>) -> emulator::Fault {
    match result {
        Err(Error::Fault(fault)) => *fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_kernel_changes_what_was_uploaded() {
    let mut device = device(Policy::Eager);
    let add = device.load(ADD).expect("it loads").function("add").expect("it is there");
    let base = device.alloc("words", 128).expect("memory is left");
    device.fill(base, 0, 128).expect("inside");
    device.launch(&add, WARP, &[&base]).expect("no fault");
    assert_eq!(device.download(base, 128).expect("inside"), 1u32.to_le_bytes().repeat(32));
    let other = device.alloc("copy", 128).expect("memory is left");
    device.copy(other, base, 64).expect("inside");
    let unwritten = fault(device.launch(&add, WARP, &[&other]));
    assert_eq!((unwritten.kind, unwritten.lane), (Kind::Init, Some(16)));
}

#[test]
fn allocations_and_launches_fail_when_asked_to() {
    let mut device = device(Policy::Eager);
    let add = device.load(ADD).expect("it loads").function("add").expect("it is there");
    device.fail_allocation(1);
    assert!(device.alloc("first", 128).is_ok());
    assert!(matches!(device.alloc("second", 128), Err(Error::Injected(_))));
    device.fail_allocation(1);
    let slab = device.reserve(512);
    assert!(device.alloc_at(slab, "part", 128).is_ok());
    assert!(matches!(device.alloc_at(slab + 256, "next part", 128), Err(Error::Injected(_))));
    assert!(device.alloc_at(slab + 256, "next part", 128).is_ok());
    let base = device.alloc("third", 128).expect("only one fails");
    device.fill(base, 0, 128).expect("inside");
    device.fail_launch(0);
    assert!(matches!(device.launch(&add, WARP, &[&base]), Err(Error::Injected(_))));
    assert!(device.launch(&add, WARP, &[&base]).is_ok());
}

#[test]
fn memory_ends_and_freed_memory_is_missed() {
    let mut device = Device::new(Config { memory: 1000, ..Config::default() }).expect("a supported CPU");
    let add = device.load(ADD).expect("it loads").function("add").expect("it is there");
    let base = device.alloc("words", 128).expect("memory is left");
    assert!(matches!(device.alloc("too much", 900), Err(Error::OutOfMemory { free: 872, .. })));
    device.free(base).expect("it is there");
    assert!(device.alloc("enough", 900).is_ok());
    assert!(device.free(base).is_err());
    let freed = fault(device.launch(&add, WARP, &[&base]));
    assert_eq!(freed.kind, Kind::Memory);
    assert!(freed.message.contains("words was there and is freed"), "{freed}");
}

#[test]
fn a_fault_names_lane_line_and_allocation() {
    let mut device = device(Policy::Eager);
    let add = device.load(ADD).expect("it loads").function("add").expect("it is there");
    let base = device.alloc("short", 40).expect("memory is left");
    device.fill(base, 0, 40).expect("inside");
    let outside = fault(device.launch(&add, WARP, &[&base]));
    assert_eq!((outside.kind, outside.lane, outside.line), (Kind::Memory, Some(10), 13));
    assert!(outside.message.contains("offset 0x28 of short, which has 0x28 bytes"), "{outside}");
    let misaligned = fault(device.launch(&add, WARP, &[&(base + 2)]));
    assert!(misaligned.message.contains("not aligned"), "{misaligned}");
}

#[test]
fn what_is_not_implemented_is_refused_with_its_line() {
    let mut device = device(Policy::Eager);
    for (good, bad, line) in [
        ("add.s32 %r2, %r2, 1;", "fns.b32 %r2, %r2, 0, 1;", 14),
        ("add.s32 %r2, %r2, 1;", "add.s32 %rd2, %r2, 1;", 14),
        ("ld.global.u32", "ld.global.L9::mystery.u32", 13),
        ("ld.global.u32", "ld.surface.u32", 13),
        ("ret;", "bra NOWHERE;", 16),
        ("ret;", "wgmma.mma_async.sync.aligned.m64n8k16.f32.e4m3.e4m3 {%r1}, %rd1, %rd2, 1, 1, 1;", 16),
    ] {
        match device.load(&ADD.replace(good, bad)).and_then(|module| module.function("add")) {
            Err(Error::Load(error)) => assert_eq!(error.line, line, "{error}"),
            other => panic!("{bad}: {other:?}"),
        }
    }
}

#[test]
fn shapes_and_arguments_are_checked() {
    let mut device = device(Policy::Eager);
    let add = device.load(ADD).expect("it loads").function("add").expect("it is there");
    for launch in [
        Launch { block: [1025, 1, 1], ..WARP },
        Launch { grid: [0, 1, 1], ..WARP },
        Launch { cluster: [2, 1, 1], ..WARP },
        Launch { dynamic_shared: 200 << 10, ..WARP },
    ] {
        assert!(matches!(device.launch(&add, launch, &[&0u64]), Err(Error::Invalid(_))), "{launch:?}");
    }
    assert!(matches!(device.launch(&add, WARP, &[]), Err(Error::Invalid(_))));
    // Eight CTAs of 1024 lanes with a megabyte of local memory each.
    let greedy = ADD.replace(".reg .b32 %r<3>;", ".reg .b32 %r<3>;\n.local .align 8 .b8 much[1000000];");
    let greedy = greedy.replace("add.s32 %r2, %r2, 1;", "st.local.u32 [much], %r2;");
    let greedy = device.load(&greedy).expect("it loads").function("add").expect("it is there");
    let cluster = Launch { grid: [8, 1, 1], block: [1024, 1, 1], cluster: [8, 1, 1], dynamic_shared: 0 };
    match device.launch(&greedy, cluster, &[&0u64]) {
        Err(Error::Invalid(message)) => assert!(message.contains("registers and local memory"), "{message}"),
        other => panic!("{:?}", other.err()),
    }
    assert!(matches!(device.launch(&add, WARP, &[&0u32]), Err(Error::Invalid(_))));
}

#[test]
fn a_kernel_that_waits_for_another_cta_is_reported() {
    let mut device = device(Policy::Eager);
    let spin = ADD.replace("add.s32 %r2, %r2, 1;", "AGAIN: ld.volatile.global.u32 %r2, [%rd1];\nbra AGAIN;");
    let function = device.load(&spin).expect("it loads").function("add").expect("it is there");
    device.configure(Config { limit: 100_000, ..device.config() });
    let base = device.alloc("flag", 128).expect("memory is left");
    device.fill(base, 0, 128).expect("inside");
    assert_eq!(fault(device.launch(&function, WARP, &[&base])).kind, Kind::Limit);
}
