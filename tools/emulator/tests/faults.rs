//! What a kernel can be accused of: every check fires, by name and at the right place.

mod common;

use common::{lanes::*, *};
use emulator::{Error, Fault, Kind, Policy, Swizzle, TensorMap, TensorType};

/// The fault of a body for some threads of one CTA.
fn fault(threads: u32, body: &str) -> Fault {
    let mut device = device(Policy::Lazy);
    let text = kernel(body, 0, 8);
    let function = device.load(&text).and_then(|m| m.function("vector")).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let out = device.alloc("out", 8 * threads as usize).expect("memory is left");
    match device.launch(&function, launch(threads), &[&0u64, &out, &0u64, &0u64]) {
        Err(Error::Fault(fault)) => *fault,
        Err(other) => panic!("{other}\n{text}"),
        Ok(_) => panic!("no fault\n{text}"),
    }
}

#[test]
fn memory_that_is_not_there_or_not_aligned_or_not_written_is_named() {
    let with = |body: &str| {
        fault(
            32,
            &format!(
                ".shared .align 16 .b8 s[64];\n.local .align 16 .b8 l[16];\n.reg .b32 %s, %x;\nmov.u32 %s, s;\n{body}"
            ),
        )
    };
    for (body, kind, part) in [
        ("st.shared.u32 [%s+64], %t;", Kind::Memory, "shared memory spans"),
        ("st.shared.u32 [%s+2], %t;", Kind::Memory, "not aligned to the 4 bytes"),
        ("st.local.u32 [l+16], %t;", Kind::Memory, "a lane has 16 bytes"),
        ("st.global.u32 [%out+252], %t;", Kind::Memory, "offset 0x104 of out, which has 0x100 bytes"),
        ("ld.shared.u32 %x, [%s];", Kind::Init, "read before it is written"),
        ("ld.local.u32 %x, [l];", Kind::Init, "read before it is written"),
        ("ld.global.u32 %x, [%out];", Kind::Init, "out, offset 0x0: read before it is written"),
        ("trap;", Kind::Trap, "trapped"),
    ] {
        let fault = with(body);
        assert!(fault.kind == kind && fault.message.contains(part), "{fault}");
        assert_eq!((fault.kernel.as_str(), fault.cta, fault.warp), ("vector", [0; 3], 0));
        assert!(body.starts_with(&fault.opcode), "{fault}");
    }
}

#[test]
fn mbarriers_are_missed_exceeded_and_mistaken() {
    let with = |body: &str| {
        let first = "setp.ne.u32 %p, %t, 0;\n@%p bra END;\n";
        fault(
            32,
            &format!(
                ".shared .align 8 .b8 b[16];\n.reg .b32 %b, %x;\n.reg .b64 %g;\n.reg .pred %p, %done;\nmov.u32 %b, b;\n{first}{body}\nEND:"
            ),
        )
    };
    let init = "mbarrier.init.shared::cta.b64 [%b], 2;\n";
    let arrive = "mbarrier.arrive.shared::cta.b64 %g, [%b];\n";
    for (body, kind, part) in [
        (arrive.to_string(), Kind::Sync, "mbarrier"),
        (format!("{init}{init}"), Kind::Sync, "initialised again"),
        (init.replace("], 2", "], 0"), Kind::Sync, "0 arrivals"),
        (init.replace("[%b]", "[%b+4]"), Kind::Memory, "not aligned"),
        (format!("{init}mbarrier.arrive.shared::cta.b64 %g, [%b], 3;"), Kind::Sync, "arriv"),
        (
            format!("{init}WAIT:\nmbarrier.try_wait.parity.shared::cta.b64 %done, [%b], 2;\n@!%done bra WAIT;"),
            Kind::Sync,
            "parity 2",
        ),
        (
            format!("{init}{arrive}WAIT:\nmbarrier.try_wait.parity.shared::cta.b64 %done, [%b], 0;\n@!%done bra WAIT;"),
            Kind::Deadlock,
            "mbarrier at shared address",
        ),
    ] {
        let fault = with(&body);
        assert!(fault.kind == kind && fault.message.contains(part), "{fault}\n{body}");
    }
}

#[test]
fn a_deadlock_names_what_each_warp_waits_for_and_where() {
    let body = ".reg .pred %p;\nsetp.lt.u32 %p, %t, 32;\n@%p bra FIRST;\nbar.sync 2, 96;\nbra END;\nFIRST:\nbar.sync 1, 96;\nEND:";
    let fault = fault(64, body);
    let lines: Vec<u32> = kernel(body, 0, 8)
        .lines()
        .zip(1..)
        .filter(|(line, _)| line.starts_with("bar.sync"))
        .map(|(_, number)| number)
        .collect();
    assert_eq!(fault.kind, Kind::Deadlock);
    for part in [
        format!("warp 0 (PTX line {}) waits for barrier 1, where 1 of 3 warps", lines[1]),
        format!("warp 1 (PTX line {}) waits for barrier 2, where 1 of 3 warps", lines[0]),
    ] {
        assert!(fault.message.contains(&part), "{part}: {fault}");
    }
}

#[test]
fn a_descriptor_must_start_at_a_swizzle_atom() {
    let body = |start: u32, swizzle: u64| {
        let stores = "st.shared.v4.u32 [%i], {%z, %z, %z, %z};\nadd.u32 %i, %i, 2048;\n".repeat(10);
        let list = (0..4).map(|i| format!("%d{i}")).collect::<Vec<_>>().join(", ");
        format!(
            ".shared .align 1024 .b8 s[20480];\n.reg .f32 %d<4>;\n.reg .b32 %i, %s, %z;\n.reg .b64 %a;\n.reg .pred %no;\n\
             mov.u32 %s, s;\nmov.u32 %z, 0;\nmad.lo.u32 %i, %t, 16, %s;\n{stores}fence.proxy.async;\nbar.sync 0;\n\
             add.u32 %s, %s, {start};\nand.b32 %s, %s, 262143;\nshr.u32 %s, %s, 4;\ncvt.u64.u32 %a, %s;\n\
             or.b64 %a, %a, {};\nsetp.ne.u32 %no, %t, %t;\nwgmma.fence.sync.aligned;\n\
             wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {{{list}}}, %a, %a, %no, 1, 1, 0, 0;\n\
             wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\nst.global.f32 [%out], %d0;",
            swizzle << 62 | 64 << 32 | 1 << 16
        )
    };
    // Along a row a start may move; to another row of the eight it may not.
    for (swizzle, row) in [(1, 128), (2, 64), (3, 32)] {
        let fault = fault(128, &body(row, swizzle));
        assert!(fault.kind == Kind::Memory && fault.message.contains("swizzle atom is not aligned"), "{fault}");
    }
    let mut device = device(Policy::Lazy);
    let function = device.load(&kernel(&body(32, 1), 0, 8)).and_then(|m| m.function("vector")).expect("it loads");
    let out = device.alloc("out", 1024).expect("memory is left");
    let result = device.launch(&function, launch(128), &[&0u64, &out, &0u64, &0u64]);
    assert!(result.is_ok(), "{:?}", result.err());
}

#[test]
fn addresses_whose_ends_wrap_around_are_in_no_memory() {
    let mut device = device(Policy::Lazy);
    let small = device.alloc("small", 4).expect("memory is left");
    for body in [
        "mul.wide.u32 %a, %t, 4;\nadd.s64 %a, %a, -64;\nld.global.u32 %x, [%a];",
        "mul.wide.u32 %a, %t, 4;\nadd.s64 %a, %a, -4;\nst.global.u32 [%a], %t;",
        "mul.wide.u32 %a, %t, 4;\nadd.s64 %a, %a, -4;\nred.global.add.u32 [%a], 1;",
        "mul.wide.u32 %a, %t, 4;\nadd.s64 %a, %a, -4;\nld.shared.u32 %x, [%a];",
        "mul.wide.u32 %a, %t, 4;\nneg.s64 %a, %a;\nst.u32 [%a], %t;",
        // Lane 0 prints an argument at the last address.
        "{ .param .b64 f; st.param.b64 [f+0], %in; .param .b64 v; mov.u64 %a, -1; st.param.b64 [v+0], %a; .param .b32 r;\n\
         call.uni (r), vprintf, (f, v); ld.param.b32 %x, [r+0]; }",
    ] {
        let text = kernel(&format!(".reg .b64 %a;\n.reg .b32 %x;\n{body}"), 0, 4);
        let vprintf = ".extern .func (.param .b32 r) vprintf (.param .b64 a, .param .b64 b);\n.visible";
        let text = text.replacen(".visible", vprintf, 1);
        let function = device.load(&text).and_then(|m| m.function("vector")).unwrap_or_else(|e| panic!("{e}\n{text}"));
        device.upload(small, b"%d\0\0").expect("inside");
        match device.launch(&function, launch(32), &[&small, &small, &0u64, &0u64]) {
            Err(Error::Fault(fault)) => assert_eq!(fault.kind, Kind::Memory, "{fault}\n{body}"),
            other => panic!("{body}: {:?}", other.err()),
        }
    }
}

#[test]
fn a_tile_further_out_than_addresses_reach_is_in_no_allocation() {
    let body = ".shared .align 128 .b8 s[256];\n.shared .align 8 .b8 b[8];\n.reg .b32 %s, %b, %far;\n.reg .pred %other;\n\
        setp.ne.u32 %other, %t, 0;\n@%other bra END;\nmov.u32 %s, s;\nmov.u32 %b, b;\nmov.u32 %far, 2147483000;\n\
        mbarrier.init.shared::cta.b64 [%b], 1;\nfence.mbarrier_init.release.cluster;\n\
        mbarrier.arrive.expect_tx.shared::cta.b64 _, [%b], 64;\n\
        cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%s], [%in, {0, %far}], [%b];\nEND:";
    let mut device = device(Policy::Lazy);
    let function = device.load(&kernel(body, 0, 0)).and_then(|m| m.function("vector")).expect("it loads");
    let base = device.alloc("tensor", 256).expect("memory is left");
    let map = device.alloc("map", 128).expect("memory is left");
    let tensor = TensorMap::tiled(TensorType::Bf16, base, &[8, 1 << 32], &[1 << 39], &[8, 4], Swizzle::None);
    let bytes = tensor.expect("a driver takes it").encode();
    device.upload(map, &bytes).expect("inside");
    let result = device.launch(&function, launch(32), &[&map, &0u64, &0u64, &0u64]);
    assert!(matches!(&result, Err(Error::Fault(f)) if f.kind == Kind::Memory), "{:?}", result.err());
}
