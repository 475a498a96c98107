//! Lanes that wait inside a branch meet the others behind it, as nvcc's `if (t == 0) wait(mbarrier); __syncthreads();`.

mod common;

use common::*;
use emulator::{Error, Kind, Launch};

/// Lane 0 of each warp of `threads` waits for a bulk copy of 128 bytes; then `meet`, and all lanes read it.
fn wait_then(meet: &str, wait: &str) -> String {
    let body = format!(
        ".shared .align 8 .b8 b[8];\n.shared .align 128 .b8 s[128];\n.reg .b32 %b, %s, %l, %x, %y;\n\
         .reg .pred %other, %rest;\n.reg .b64 %st;\nmov.u32 %b, b;\nmov.u32 %s, s;\nand.b32 %l, %t, 31;\n\
         setp.ne.u32 %other, %l, 0;\nsetp.ne.u32 %rest, %t, 0;\n@%rest bra READY;\n\
         mbarrier.init.shared::cta.b64 [%b], 1;\nfence.mbarrier_init.release.cluster;\n\
         mbarrier.arrive.expect_tx.shared::cta.b64 %st, [%b], 128;\n\
         cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%s], [%in], 128, [%b];\n\
         READY:\nbar.sync 0;\n@%other bra MEET;\n{wait}\nMEET:\n{meet}\n\
         mad.lo.u32 %l, %l, 4, %s;\nld.shared.u32 %x, [%l];\nst.global.u32 [%out], %x;"
    );
    kernel(&body, 0, 4)
}

fn launched(text: &str, threads: u32) {
    for policy in POLICIES {
        let mut device = device(policy);
        let function = device.load(text).and_then(|m| m.function("vector")).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let bytes: Vec<u8> = (0..128).collect();
        let from = device.alloc("in", 128).expect("memory is left");
        device.upload(from, &bytes).expect("inside");
        let to = device.alloc("out", 4 * threads as usize).expect("memory is left");
        let launch = Launch { grid: [1; 3], block: [threads, 1, 1], cluster: [1; 3], dynamic_shared: 0 };
        device.launch(&function, launch, &[&from, &to, &0u64, &0u64]).unwrap_or_else(|e| panic!("{policy:?}: {e}"));
        for warp in device.download(to, 4 * threads as usize).expect("inside").chunks(128) {
            assert_eq!(warp, bytes, "{policy:?}");
        }
    }
}

const TRY: &str = "{ .reg .pred p; W: mbarrier.try_wait.parity.shared::cta.b64 p, [%b], 0; @!p bra W; }";
/// The loop as nvcc compiles it, with the predicate as a number.
const NUMBER: &str = "W:\n{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%b], 0; selp.u32 %y, 1, 0, p; }\n\
    { .reg .pred q; setp.eq.u32 q, %y, 0; @q bra W; }";

#[test]
fn a_barrier_behind_a_wait_of_one_lane_is_reached_by_all() {
    for wait in [TRY, NUMBER] {
        for threads in [32, 96] {
            launched(&wait_then("bar.sync 0;", wait), threads);
        }
    }
}

#[test]
fn a_shuffle_behind_a_wait_of_one_lane_is_reached_by_all() {
    launched(&wait_then("shfl.sync.idx.b32 %y, %l, 0, 31, -1;\nadd.u32 %l, %l, %y;", NUMBER), 32);
    launched(&wait_then("vote.sync.all.pred %other, %other, -1;", TRY), 64);
}

#[test]
fn lanes_that_meet_inside_a_branch_that_ends_there_go_on_with_the_others() {
    // The last instruction before the join waits, so the split wakes at its join.
    let inside = "{ .reg .pred h; setp.gt.u32 h, %t, 15; @h bra A; bar.warp.sync 0x1; A: }";
    launched(&wait_then("bar.sync 0;", &format!("{TRY}\n{inside}")), 32);
    let split = "{ .reg .pred h; setp.gt.u32 h, %l, 15; @h bra A; bar.warp.sync 0xffffffff; bra B; A:\n\
         bar.warp.sync 0xffffffff; B: }\nbar.sync 0;";
    launched(&wait_then(split, TRY), 32);
}

#[test]
fn a_guarded_exit_before_a_join_leaves_the_rest_to_meet_there() {
    let body = ".reg .pred %low, %gone;\n.reg .b32 %x;\nsetp.lt.u32 %low, %t, 16;\nsetp.lt.u32 %gone, %t, 4;\n\
        mov.u32 %x, 7;\n@!%low bra MEET;\nmov.u32 %x, 9;\n@%gone exit;\nMEET:\nbar.sync 0;\nst.global.u32 [%out], %x;";
    for policy in POLICIES {
        let mut device = device(policy);
        let function = device.load(&kernel(body, 0, 4)).and_then(|m| m.function("vector")).expect("it loads");
        let to = device.alloc("out", 128).expect("memory is left");
        device.upload(to, &[0; 128]).expect("inside");
        let launch = Launch { grid: [1; 3], block: [32, 1, 1], cluster: [1; 3], dynamic_shared: 0 };
        device.launch(&function, launch, &[&0u64, &to, &0u64, &0u64]).unwrap_or_else(|e| panic!("{policy:?}: {e}"));
        let got = device.download(to, 128).expect("inside");
        let want: Vec<u8> = (0..32u32)
            .flat_map(|t| {
                if t < 4 {
                    0u32
                } else if t < 16 {
                    9
                } else {
                    7
                }
                .to_le_bytes()
            })
            .collect();
        assert_eq!(got, want);
    }
}

#[test]
fn a_barrier_inside_a_branch_is_still_a_fault() {
    for policy in POLICIES {
        let mut device = device(policy);
        let text = wait_then("", "bar.sync 0;");
        let function = device.load(&text).and_then(|m| m.function("vector")).expect("it loads");
        let base = device.alloc("both", 256).expect("memory is left");
        device.upload(base, &[0; 256]).expect("inside");
        let launch = Launch { grid: [1; 3], block: [32, 1, 1], cluster: [1; 3], dynamic_shared: 0 };
        let outcome = device.launch(&function, launch, &[&base, &(base + 128), &0u64, &0u64]);
        assert!(matches!(&outcome, Err(Error::Fault(fault)) if fault.kind == Kind::Sync), "{outcome:?}");
    }
}
