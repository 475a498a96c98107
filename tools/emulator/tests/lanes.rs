//! Lanes of a warp do not run in step: what orders them among each other, and what does not.

mod common;

use common::{POLICIES, lanes::*};
use emulator::{Kind, Policy};

/// Each lane writes a word, and after `between` reads that of its neighbour; lanes 2k and 2k + 1 are neighbours.
fn exchange(between: &str) -> String {
    format!(
        ".shared .align 16 .b8 s[512];\n.reg .b32 %s, %x, %n, %b, %l;\n.reg .pred %first, %done, %low;\nmov.u32 %s, s;\n\
         mov.u32 %b, s;\nadd.s32 %b, %b, 256;\nand.b32 %l, %t, 31;\nsetp.eq.u32 %first, %t, 0;\nsetp.lt.u32 %low, %l, 16;\n\
         @%first mbarrier.init.shared::cta.b64 [%b], 32;\nbar.sync 0;\nmad.lo.s32 %s, %t, 4, %s;\nxor.b32 %n, %s, 4;\n\
         st.shared.u32 [%s], %t;\n{between}\nld.shared.u32 %x, [%n];\nst.global.u32 [%out], %x;"
    )
}

#[test]
fn lanes_that_wait_for_each_other_see_what_they_wrote() {
    for between in [
        "bar.warp.sync -1;",
        "bar.sync 0;",
        "@%low bar.warp.sync 0xffff;\n@!%low bar.warp.sync 0xffff0000;",
        "barrier.cluster.arrive;\nbarrier.cluster.wait;",
        "mbarrier.arrive.shared::cta.b64 _, [%b];\nWAIT:\nmbarrier.try_wait.parity.shared::cta.b64 %done, [%b], 0;\n@!%done bra WAIT;",
    ] {
        for policy in POLICIES {
            let result = launched(&exchange(between), policy, 32, 1);
            assert!(result.is_ok(), "{between}: {:?}", result.err());
        }
    }
}

#[test]
fn fences_arrivals_and_barriers_of_others_order_no_lanes() {
    for between in [
        "",
        "membar.cta;",
        "fence.acq_rel.gpu;",
        "fence.proxy.async;",
        "bar.arrive 1, 64;",
        "mbarrier.arrive.shared::cta.b64 _, [%b];",
        // The barrier of the even lanes, and that of the odd ones: neighbours are in different ones.
        "and.b32 %x, %t, 1;\nsetp.eq.u32 %low, %x, 0;\n@%low bar.warp.sync 0x55555555;\n@!%low bar.warp.sync 0xaaaaaaaa;",
        "mov.b32 %x, %t;\nshfl.sync.bfly.b32 %x, %x, 1, 31, -1;",
    ] {
        let (kind, message) = faulty(&exchange(between), Policy::Lazy, 32, 1);
        assert!(kind == Kind::Race && message.contains("by another of its lanes"), "{between}: {message}");
    }
}

#[test]
fn a_flag_between_lanes_orders_them() {
    // Lane 0 writes and raises a flag, and the others see it raised.
    let body = |raise: &str, see: &str| {
        format!(
            ".shared .align 16 .b8 s[16];\n.reg .b32 %s, %x, %f;\n.reg .pred %other;\nmov.u32 %s, s;\nmov.u32 %f, 1;\n\
             setp.ne.u32 %other, %t, 0;\n@%other bra SEE;\nst.shared.u32 [%s], %t;\n{raise}\nbra END;\nSEE:\n{see}\n\
             ld.shared.u32 %x, [%s];\nst.global.u32 [%out], %x;\nEND:"
        )
    };
    let (release, acquire) = ("st.release.cta.shared.u32 [%s+8], %f;", "ld.acquire.cta.shared.u32 %f, [%s+8];");
    let (raise, see) = ("st.relaxed.cta.shared.u32 [%s+8], %f;", "ld.relaxed.cta.shared.u32 %f, [%s+8];");
    let (fenced_raise, fenced_see) = (format!("membar.cta;\n{raise}"), format!("{see}\nmembar.cta;"));
    for (raise, see, ordered) in [
        (release, acquire, true),
        (&fenced_raise, &fenced_see, true),
        (raise, see, false),
        (&fenced_raise, see, false),
        (raise, &fenced_see, false),
    ] {
        let result = launched(&body(raise, see), Policy::Eager, 32, 1);
        assert_eq!(result.is_ok(), ordered, "{raise} {see}: {:?}", result.err());
    }
}

#[test]
fn what_one_lane_sends_on_its_way_needs_the_others_writes() {
    let store = |between: &str| {
        format!(
            ".shared .align 128 .b8 s[128];\n.reg .b32 %s;\n.reg .pred %other;\nmov.u32 %s, s;\nmad.lo.u32 %s, %t, 4, %s;\n\
             st.shared.u32 [%s], %t;\nfence.proxy.async;\n{between}\nsetp.ne.u32 %other, %t, 0;\n@%other bra END;\n\
             cp.async.bulk.global.shared::cta.bulk_group [%out], [%s], 128;\ncp.async.bulk.commit_group;\n\
             cp.async.bulk.wait_group 0;\nEND:"
        )
    };
    let initialise = |between: &str| {
        format!(
            ".shared .align 8 .b8 b[8];\n.reg .b32 %b;\n.reg .pred %first;\nmov.u32 %b, b;\nsetp.eq.u32 %first, %t, 0;\n\
             @%first mbarrier.init.shared::cta.b64 [%b], 32;\n{between}\nmbarrier.arrive.shared::cta.b64 _, [%b];"
        )
    };
    // Lane 0 overwrites what lane 1 has read.
    let copy = |between: &str| {
        format!(
            ".shared .align 16 .b8 s[128];\n.reg .b32 %s, %x;\n.reg .b64 %g;\n.reg .pred %first;\nmov.u32 %s, s;\n\
             ld.param.u64 %g, [p1];\nst.global.u32 [%out], %t;\nmad.lo.u32 %x, %t, 4, %s;\nst.shared.u32 [%x], %t;\n\
             ld.shared.u32 %x, [%x];\n{between}\nsetp.eq.u32 %first, %t, 0;\n\
             @%first cp.async.ca.shared.global [%s+4], [%g], 4;\ncp.async.wait_all;"
        )
    };
    for body in [store, initialise, copy] as [fn(&str) -> String; 3] {
        for policy in POLICIES {
            let result = launched(&body("bar.warp.sync -1;"), policy, 32, 1);
            assert!(result.is_ok(), "{}: {:?}", body(""), result.err());
            assert_eq!(faulty(&body(""), policy, 32, 1).0, Kind::Race, "{}", body(""));
        }
    }
}
