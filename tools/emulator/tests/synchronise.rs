//! Barriers, copies and fences: each orders what the manual says, and no more.

mod common;

use common::{lanes::*, *};
use emulator::{Error, Kind, Policy};

#[test]
fn a_warp_that_only_arrives_learns_nothing() {
    // Warp 0 arrives and then overwrites what warp 1 reads before it waits: nothing orders the two.
    let body = |arrive: &str, count: &str| {
        format!(
            ".shared .align 16 .b8 s[128];\n.reg .b32 %s, %l, %x;\n.reg .pred %first;\nmov.u32 %s, s;\nand.b32 %l, %t, 31;\n\
             mad.lo.u32 %s, %l, 4, %s;\nsetp.lt.u32 %first, %t, 32;\n@%first bra READY;\nst.shared.u32 [%s], %t;\nREADY:\n\
             bar.sync 0;\n@%first bra ARRIVE;\nld.shared.u32 %x, [%s];\n{count}\nst.global.u32 [%out], %x;\nbra END;\n\
             ARRIVE:\n{arrive}\nmov.u32 %x, 999;\nst.shared.u32 [%s], %x;\nEND:"
        )
    };
    for policy in POLICIES {
        let launched = |arrive: &str| {
            let mut device = device(policy);
            let text = kernel(&body(arrive, "bar.sync 1, 64;"), 0, 4);
            let function =
                device.load(&text).and_then(|m| m.function("vector")).unwrap_or_else(|e| panic!("{e}\n{text}"));
            let out = device.alloc("out", 256).expect("memory is left");
            device.launch(&function, launch(64), &[&0u64, &out, &0u64, &0u64])
        };
        let arrived = launched("bar.arrive 1, 64;");
        assert!(matches!(&arrived, Err(Error::Fault(fault)) if fault.kind == Kind::Race), "{arrived:?}");
        assert!(launched("bar.sync 1, 64;").is_ok());
    }
}

#[test]
fn lanes_with_copies_must_all_wait_for_them() {
    let body = |wait: &str| {
        format!(
            ".shared .align 16 .b8 s[128];\n.reg .b32 %s, %x;\n.reg .pred %first;\nmov.u32 %s, s;\nmad.lo.u32 %s, %t, 4, %s;\n\
             setp.eq.u32 %first, %t, 0;\ncp.async.ca.shared.global [%s], [%in], 4;\ncp.async.commit_group;\n{wait}\n\
             bar.warp.sync -1;\nld.shared.u32 %x, [%s];\nst.global.u32 [%out], %x;"
        )
    };
    for wait in ["cp.async.wait_group 0;", "cp.async.wait_all;"] {
        assert!(run(&body(wait), &words()).is_ok());
        assert!(run(&body(&format!("{wait}\n@%first {wait}")), &words()).is_ok(), "there is nothing left to wait for");
        let fault = run(&body(&format!("@%first {wait}")), &words()).expect_err("31 lanes do not wait");
        assert_eq!((fault.kind, fault.lane), (Kind::Unsupported, Some(1)), "{fault}");
    }
}

#[test]
fn a_proxy_fence_for_global_memory_does_nothing_for_shared_memory() {
    let body = |space: &str| {
        format!(
            ".shared .align 128 .b8 s[256];\n.reg .b32 %s, %x;\n.reg .pred %other;\nmov.u32 %s, s;\nmad.lo.u32 %x, %t, 8, %s;\n\
             st.shared.v2.u32 [%x], {{%t, %t}};\nfence.proxy.async{space};\nbar.sync 0;\nsetp.ne.u32 %other, %t, 0;\n\
             @%other bra END;\ncp.async.bulk.global.shared::cta.bulk_group [%out], [%s], 256;\n\
             cp.async.bulk.commit_group;\ncp.async.bulk.wait_group 0;\nEND:"
        )
    };
    for space in ["", ".shared::cta", ".shared::cluster"] {
        assert!(run(&body(space), &words()).is_ok(), "{space}");
    }
    assert!(run(&body(".global"), &words()).is_err_and(|fault| fault.kind == Kind::Race));
}

#[test]
fn aligned_instructions_of_warpgroups_need_the_whole_warp() {
    for instruction in
        ["wgmma.fence.sync.aligned;", "wgmma.commit_group.sync.aligned;", "wgmma.wait_group.sync.aligned 0;"]
    {
        assert!(run(instruction, &words()).is_ok());
        let guarded = format!(".reg .pred %first;\nsetp.eq.u32 %first, %t, 0;\n@%first {instruction}");
        assert!(run(&guarded, &words()).is_err_and(|fault| fault.kind == Kind::Sync), "{instruction}");
    }
}

#[test]
fn a_warp_arrives_and_another_waits() {
    let body = |arrive: &str| {
        format!(
            ".shared .align 16 .b8 s[256];\n.reg .b32 %w, %x, %s, %u;\n.reg .pred %second;\nmov.u32 %s, s;\n\
             shr.u32 %w, %t, 5;\nsetp.ne.u32 %second, %w, 0;\nand.b32 %u, %t, 31;\nmad.lo.s32 %s, %u, 4, %s;\n\
             @%second bra PRODUCE;\nbar.sync 1, 64;\nld.shared.u32 %x, [%s];\nst.global.u32 [%out], %x;\nbra DONE;\n\
             PRODUCE:\nmul.lo.s32 %x, %u, 3;\nst.shared.u32 [%s], %x;\n{arrive}\nDONE:"
        )
    };
    let launched = |arrive: &str| {
        let mut device = device(Policy::Lazy);
        let text = kernel(&body(arrive), 0, 4);
        let function = device.load(&text).and_then(|m| m.function("vector")).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let out = device.alloc("out", 256).expect("memory is left");
        device.launch(&function, launch(64), &[&0u64, &out, &0u64, &0u64])?;
        device.download(out, 128)
    };
    let want: Vec<u8> = (0..32u32).flat_map(|i| (3 * i).to_le_bytes()).collect();
    assert_eq!(launched("bar.arrive 1, 64;").expect("no fault"), want);
    assert!(matches!(launched(""), Err(Error::Fault(fault)) if fault.kind == Kind::Deadlock));
}

#[test]
fn copies_arrive_on_an_mbarrier_once_they_have_landed() {
    let body = |arrive: &str| {
        format!(
            ".shared .align 16 .b8 s[128];\n.shared .align 8 .b8 b[8];\n.reg .b32 %s, %b, %o, %x;\n.reg .pred %first, %done;\n\
             mov.u32 %s, s;\nmov.u32 %b, b;\nmad.lo.s32 %s, %t, 4, %s;\nsetp.eq.u32 %first, %t, 0;\n\
             @%first mbarrier.init.shared::cta.b64 [%b], 32;\nbar.sync 0;\n\
             cp.async.ca.shared.global [%s], [%in], 4;\n{arrive}\n\
             WAIT:\nmbarrier.try_wait.parity.shared::cta.b64 %done, [%b], 0;\n@!%done bra WAIT;\n\
             xor.b32 %o, %s, 4;\nld.shared.u32 %x, [%o];\nst.global.u32 [%out], %x;"
        )
    };
    let input = words();
    let got = run(&body("cp.async.mbarrier.arrive.noinc.shared.b64 [%b];"), &input).expect("no fault");
    for (lane, got) in got.iter().enumerate() {
        assert_eq!(*got, input[lane ^ 1][0] & 0xffff_ffff);
    }
    let early = run(&body("{ .reg .b64 %g; mbarrier.arrive.shared::cta.b64 %g, [%b]; }"), &input);
    assert!(early.is_err_and(|fault| matches!(fault.kind, Kind::Race | Kind::Init)));
    let counted = run(&body("cp.async.mbarrier.arrive.shared.b64 [%b];"), &input);
    assert!(counted.is_err_and(|fault| fault.kind == Kind::Unsupported));
}

#[test]
fn a_flag_orders_what_its_release_and_its_acquire_do() {
    // Warp 0 writes and raises a flag; warp 1 sees it raised and reads.
    let body = |raise: &str, see: &str| {
        format!(
            ".shared .align 16 .b8 s[16];\n.reg .b32 %s, %x, %f;\n.reg .pred %second, %first;\nmov.u32 %s, s;\n\
             setp.ge.u32 %second, %t, 32;\nand.b32 %x, %t, 31;\nsetp.ne.u32 %first, %x, 0;\n@%first bra END;\n\
             mov.u32 %f, 1;\n@%second bra SEE;\nst.shared.u32 [%s], %t;\n{raise}\nbra END;\n\
             SEE:\n{see}\nld.shared.u32 %x, [%s];\nst.global.u32 [%out], %x;\nEND:"
        )
    };
    let launched = |raise: &str, see: &str, policy| {
        let mut device = device(policy);
        let text = kernel(&body(raise, see), 0, 4);
        let function = device.load(&text).and_then(|m| m.function("vector")).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let out = device.alloc("out", 256).expect("memory is left");
        device.launch(&function, launch(64), &[&0u64, &out, &0u64, &0u64])
    };
    let (relaxed_raise, relaxed_see) =
        ("st.relaxed.cta.shared.u32 [%s+8], %f;", "ld.relaxed.cta.shared.u32 %f, [%s+8];");
    let fenced_raise = format!("fence.acq_rel.cta;\n{relaxed_raise}");
    let fenced_see = format!("{relaxed_see}\nfence.acq_rel.cta;");
    let volatile =
        ["membar.cta;\nst.volatile.shared.u32 [%s+8], %f;", "ld.volatile.shared.u32 %f, [%s+8];\nmembar.cta;"];
    let (release, acquire) = ("st.release.cta.shared.u32 [%s+8], %f;", "ld.acquire.cta.shared.u32 %f, [%s+8];");
    let added = "atom.release.cta.shared.exch.b32 %x, [%s+8], %f;";
    let initial = "st.relaxed.cta.shared.u32 [%s+8], %f;\n";
    for policy in POLICIES {
        for (raise, see) in [
            (release, acquire),
            (&fenced_raise, acquire),
            (release, &fenced_see),
            (&fenced_raise, &fenced_see),
            (volatile[0], volatile[1]),
            (&format!("{initial}{added}"), acquire),
            // A plain write of the same warp does not take its release away.
            (&format!("{release}\n{relaxed_raise}"), acquire),
        ] {
            let result = launched(raise, see, policy);
            assert!(result.is_ok(), "{raise}\n{see}: {:?}", result.err());
        }
        for (raise, see) in [
            (relaxed_raise, relaxed_see),
            (release, relaxed_see),
            (relaxed_raise, acquire),
            (relaxed_raise, &fenced_see),
            (&fenced_raise, relaxed_see),
            // The fences stand on the wrong sides, and the flag of the acquire is another word.
            (&format!("{relaxed_raise}\nfence.acq_rel.cta;"), acquire),
            (release, &format!("fence.acq_rel.cta;\n{relaxed_see}")),
            (
                release,
                "ld.relaxed.cta.shared.u32 %f, [%s+8];\nst.relaxed.cta.shared.u32 [%s+12], %f;\nld.acquire.cta.shared.u32 %f, [%s+12];",
            ),
            // A release is for its own word, and a plain write of another warp takes its place.
            (&format!("{}\n{relaxed_raise}", release.replace("+8", "+12")), acquire),
            (release, &format!("{relaxed_raise}\n{acquire}")),
        ] {
            let result = launched(raise, see, policy);
            assert!(
                matches!(&result, Err(Error::Fault(f)) if f.kind == Kind::Race),
                "{raise}\n{see}: {:?}",
                result.err()
            );
        }
    }
}

#[test]
fn scopes_must_reach_the_other_cta_of_a_cluster() {
    let body = |scope: &str| {
        format!(
            ".shared .align 16 .b8 s[16];\n.reg .b32 %s, %x, %f, %rank;\n.reg .pred %second, %other;\nmov.u32 %s, s;\n\
             mov.u32 %rank, %cluster_ctarank;\nsetp.ne.u32 %second, %rank, 0;\nsetp.ne.u32 %other, %t, 0;\nmov.u32 %f, 1;\n\
             mapa.shared::cluster.u32 %s, %s, 0;\n@%other bra END;\n@%second bra SEE;\n\
             st.shared::cluster.u32 [%s], %f;\nst.release.{scope}.shared::cluster.u32 [%s+8], %f;\nbra END;\n\
             SEE:\nld.acquire.{scope}.shared::cluster.u32 %f, [%s+8];\nld.shared::cluster.u32 %x, [%s];\n\
             st.global.u32 [%out], %x;\nEND:\nbarrier.cluster.arrive.relaxed;\nbarrier.cluster.wait;"
        )
    };
    let launched = |scope: &str| {
        let mut device = device(Policy::Lazy);
        let text = kernel(&body(scope), 0, 4);
        let function = device.load(&text).and_then(|m| m.function("vector")).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let out = device.alloc("out", 256).expect("memory is left");
        let shape = emulator::Launch { grid: [2, 1, 1], cluster: [2, 1, 1], ..launch(32) };
        device.launch(&function, shape, &[&0u64, &out, &0u64, &0u64])
    };
    for scope in ["cluster", "gpu", "sys"] {
        assert!(launched(scope).is_ok(), "{scope}: {:?}", launched(scope));
    }
    assert!(matches!(launched("cta"), Err(Error::Fault(fault)) if fault.kind == Kind::Race));
}

#[test]
fn a_loop_without_end_around_a_barrier_meets_the_limit() {
    let mbarrier = ".shared .align 8 .b8 b[8];\n.reg .b32 %b, %parity;\n.reg .pred %other, %done;\nmov.u32 %b, b;\n\
        setp.ne.u32 %other, %t, 0;\n@!%other mbarrier.init.shared::cta.b64 [%b], 64;\nbar.sync 0;\n\
        mov.u32 %parity, 0;\nAGAIN:\nmbarrier.arrive.shared::cta.b64 _, [%b];\n\
        WAIT:\nmbarrier.try_wait.parity.shared::cta.b64 %done, [%b], %parity;\n@!%done bra WAIT;\n\
        xor.b32 %parity, %parity, 1;\nbra AGAIN;";
    for body in [
        "AGAIN:\nbar.sync 0;\nbra AGAIN;",
        mbarrier,
        "AGAIN:\nbarrier.cluster.arrive;\nbarrier.cluster.wait;\nbra AGAIN;",
    ] {
        for policy in POLICIES {
            let result = launched(body, policy, 64, 1);
            assert!(matches!(&result, Err(Error::Fault(f)) if f.kind == Kind::Limit), "{body}: {:?}", result.err());
        }
    }
}

#[test]
fn a_wait_that_fails_must_be_asked_again() {
    // The second warp opens the barrier, and so asks before the first has produced anything.
    let body = |wait: &str| {
        format!(
            ".shared .align 8 .b8 b[8];\n.shared .align 4 .b8 s[4];\n.reg .b32 %b, %x;\n.reg .pred %first, %done, %one;\n\
             mov.u32 %b, b;\nsetp.eq.u32 %first, %t, 0;\n@%first mbarrier.init.shared::cta.b64 [%b], 32;\nbar.sync 0;\n\
             setp.lt.u32 %one, %t, 32;\n@%one bra PRODUCE;\n{wait}\nON:\nld.shared.u32 %x, [s];\n\
             st.global.u32 [%out], %x;\nbra END;\nPRODUCE:\nsetp.eq.u32 %first, %t, 31;\n\
             @%first st.shared.u32 [s], %t;\nmbarrier.arrive.shared::cta.b64 _, [%b];\nEND:"
        )
    };
    let ask = "WAIT:\nmbarrier.try_wait.parity.shared::cta.b64 %done, [%b], 0;\n";
    for policy in POLICIES {
        for again in ["@!%done bra WAIT;", "@%done bra ON;\nbra WAIT;", "@%done bra ON;\nnanosleep.u32 20;\nbra WAIT;"]
        {
            let result = launched(&body(&format!("{ask}{again}")), policy, 64, 1);
            assert!(result.is_ok(), "{again} {policy:?}: {:?}", result.err());
        }
    }
    let once = launched(&body(&format!("{ask}@%done bra ON;")), Policy::Lazy, 64, 1);
    assert!(matches!(&once, Err(Error::Fault(f)) if matches!(f.kind, Kind::Race | Kind::Init)), "{:?}", once.err());
}

#[test]
fn arrivals_and_waits_of_the_cta_pass_nothing_to_its_siblings() {
    let body = |arrive: &str, wait: &str| {
        format!(
            ".shared .align 8 .b8 b[8];\n.shared .align 4 .b8 s[4];\n.reg .b32 %b, %s, %rank, %x;\n\
             .reg .pred %other, %done, %zero;\nmov.u32 %b, b;\nmov.u32 %s, s;\nmov.u32 %rank, %cluster_ctarank;\n\
             setp.ne.u32 %other, %t, 0;\n@%other bra READY;\nmbarrier.init.shared::cta.b64 [%b], 1;\nREADY:\n\
             barrier.cluster.arrive;\nbarrier.cluster.wait;\n@%other bra END;\nsetp.eq.u32 %zero, %rank, 0;\n\
             @%zero bra WAIT;\nmapa.shared::cluster.u32 %s, %s, 0;\nmapa.shared::cluster.u32 %b, %b, 0;\n\
             st.shared::cluster.u32 [%s], 5;\nmbarrier.arrive{arrive}.shared::cluster.b64 _, [%b];\nbra END;\n\
             WAIT:\nmbarrier.try_wait.parity{wait}.shared::cta.b64 %done, [%b], 0;\n@!%done bra WAIT;\n\
             ld.shared.u32 %x, [%s];\nst.global.u32 [%out], %x;\nEND:\n\
             barrier.cluster.arrive.relaxed;\nbarrier.cluster.wait;"
        )
    };
    let (release, acquire) = (".release.cluster", ".acquire.cluster");
    for policy in POLICIES {
        for (arrive, wait, ordered) in [
            (release, acquire, true),
            (release, "", true),
            (".release.cta", acquire, false),
            (release, ".acquire.cta", false),
        ] {
            let result = launched(&body(arrive, wait), policy, 32, 2);
            let race = matches!(&result, Err(Error::Fault(f)) if f.kind == Kind::Race);
            assert!(if ordered { result.is_ok() } else { race }, "{arrive} {wait}: {:?}", result.err());
        }
    }
}

#[test]
fn lanes_apart_are_accused_at_an_aligned_barrier_and_refused_at_another() {
    let apart = |barrier: &str| {
        let body = format!(
            ".reg .pred %even;\n.reg .b32 %x;\nand.b32 %x, %t, 1;\nsetp.eq.u32 %even, %x, 0;\n@%even bra EVEN;\n{barrier}\n\
             bra END;\nEVEN:\n{barrier}\nEND:"
        );
        match launched(&body, Policy::Lazy, 32, 1) {
            Err(Error::Fault(fault)) => fault.kind,
            other => panic!("{barrier}: {:?}", other.err()),
        }
    };
    for (barrier, kind) in [
        ("bar.sync 0;", Kind::Sync),
        ("barrier.sync.aligned 0;", Kind::Sync),
        ("barrier.sync 0;", Kind::Unsupported),
        ("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;", Kind::Sync),
        ("barrier.cluster.arrive;\nbarrier.cluster.wait;", Kind::Unsupported),
    ] {
        assert_eq!(apart(barrier), kind, "{barrier}");
    }
}
