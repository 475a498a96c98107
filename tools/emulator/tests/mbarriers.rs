//! mbarriers: what lies in them, who learns from them, and when their waits may fail.

mod common;

use common::lanes::*;
use emulator::{Error, Kind, Policy};

/// A warp that initialises the mbarrier at `%b` and then does `rest`; `%s` is 64 bytes further on, and `%first` lane 0.
fn with_mbarrier(rest: &str) -> String {
    format!(
        ".shared .align 128 .b8 s[512];\n.reg .b32 %b, %s, %x, %y;\n.reg .pred %first, %done;\nmov.u32 %b, s;\n\
         add.s32 %s, %b, 64;\nsetp.eq.u32 %first, %t, 0;\nmov.u32 %x, 0;\n\
         @%first mbarrier.init.shared::cta.b64 [%b], 1;\nfence.proxy.async;\nbar.sync 0;\n{rest}"
    )
}

#[test]
fn data_must_keep_out_of_an_mbarrier_in_use() {
    let copies = "@%first mbarrier.arrive.expect_tx.shared::cta.b64 _, [%b], 32;\n@%first cp.async.bulk.shared::cluster.global.mbarrier\
         ::complete_tx::bytes [%TO], [%in], 32, [%b];\nWAIT:\nmbarrier.try_wait.parity.shared::cta.b64 %done, [%b], 0;\n@!%done bra WAIT;";
    for (access, elsewhere) in [
        ("@%first st.shared.u32 [%b+4], %x;", "@%first st.shared.u32 [%b+8], %x;"),
        ("@%first st.shared.v4.u32 [%b], {%x, %x, %x, %x};", "@%first st.shared.v4.u32 [%b+16], {%x, %x, %x, %x};"),
        ("@%first ld.shared.u32 %x, [%b];", "@%first st.shared.u32 [%s], %x;\n@%first ld.shared.u32 %x, [%s];"),
        (
            "@%first atom.shared.add.u32 %x, [%b], 1;",
            "@%first st.shared.u32 [%s], %x;\n@%first atom.shared.add.u32 %x, [%s], 1;",
        ),
        ("@%first cp.async.ca.shared.global [%b], [%in], 8;", "@%first cp.async.ca.shared.global [%b+8], [%in], 8;"),
        (&copies.replace("%TO", "%b"), &copies.replace("%TO", "%s")),
        // Lane 0 reaches it, the others lie behind.
        ("mad.lo.s32 %y, %t, 4, %b;\nst.shared.u32 [%y], %x;", "mad.lo.s32 %y, %t, 4, %b;\nst.shared.u32 [%y+8], %x;"),
    ] {
        let fault = run(&with_mbarrier(access), &words()).expect_err(access);
        assert!(fault.kind == Kind::Sync && fault.message.contains("an mbarrier in use"), "{fault}");
        let result = run(&with_mbarrier(elsewhere), &words());
        assert!(result.is_ok(), "{elsewhere}: {:?}", result.err());
    }
    let freed = "@%first mbarrier.inval.shared::cta.b64 [%b];\n@%first st.shared.u32 [%b], %x;";
    assert!(run(&with_mbarrier(freed), &words()).is_ok());
}

#[test]
fn a_wait_asked_once_is_lucky_if_its_phase_has_ended_already() {
    // The first warp arrives; the second opens the barrier behind it, so that the phase has ended when it asks.
    let body = |between: &str, wait: &str| {
        format!(
            ".shared .align 8 .b8 b[8];\n.shared .align 4 .b8 s[4];\n.reg .b32 %b, %x;\n.reg .pred %first, %done, %one;\n\
             mov.u32 %b, b;\nmov.u32 %x, 0;\nsetp.eq.u32 %first, %t, 0;\n@%first mbarrier.init.shared::cta.b64 [%b], 1;\n\
             bar.sync 0;\nsetp.ge.u32 %one, %t, 32;\n@%one bra ASK;\n@!%first bra ON;\nst.shared.u32 [s], %t;\n\
             mbarrier.arrive.shared::cta.b64 _, [%b];\nON:\n{between}\nbra END;\nASK:\n{between}\n{wait}\nREAD:\n\
             ld.shared.u32 %x, [s];\nEND:\nst.global.u32 [%out], %x;"
        )
    };
    let ask = "AGAIN:\nmbarrier.try_wait.parity.shared::cta.b64 %done, [%b], 0;\n";
    let once = format!("{ask}@%done bra READ;");
    let polled = format!("{ask}@%done bra READ;\nadd.s32 %x, %x, 1;\nst.global.u32 [%out], %x;\nbra AGAIN;");
    // The first half of a barrier passes knowledge on to nobody who only arrives.
    for (between, wait, legal) in [
        ("", &once, false),
        ("", &format!("{ask}@!%done bra AGAIN;"), true),
        ("", &polled, true),
        // Whoever knows that the phase has ended may ask once.
        ("bar.sync 1;", &once, true),
    ] {
        let result = launched(&body(between, wait), Policy::Lazy, 64, 1);
        match result {
            Err(Error::Fault(fault)) => {
                assert!(!legal && matches!(fault.kind, Kind::Race | Kind::Init), "{between} {wait}: {fault}");
            }
            result => assert!(legal, "{between} {wait}: {:?}", result.err()),
        }
    }
}

#[test]
fn an_arrival_of_copies_orders_them_before_those_who_wait_for_it() {
    let body = |wait: &str| {
        with_mbarrier(&format!(
            "@%first mbarrier.inval.shared::cta.b64 [%b];\n@%first mbarrier.init.shared::cta.b64 [%b], 32;\nbar.sync 0;\n\
             mad.lo.s32 %s, %t, 4, %s;\ncp.async.ca.shared.global [%s], [%in], 4;\n\
             cp.async.mbarrier.arrive.noinc.shared.b64 [%b];\n{wait}\nld.shared.u32 %x, [%s];\nst.global.u32 [%out], %x;"
        ))
    };
    let own = run(&body(""), &words()).expect_err("the lane has not waited");
    assert!(own.kind == Kind::Race && own.message.contains("a cp.async of warp 0"), "{own}");
    for wait in [
        "WAIT:\nmbarrier.try_wait.parity.shared::cta.b64 %done, [%b], 0;\n@!%done bra WAIT;",
        "cp.async.wait_all;",
        "cp.async.commit_group;\ncp.async.wait_group 0;",
    ] {
        let got = run(&body(wait), &words()).unwrap_or_else(|fault| panic!("{wait}: {fault}"));
        assert!(got.iter().zip(words()).all(|(got, [word, ..])| *got as u32 == word as u32), "{wait}");
    }
    // A group that is committed behind the arrival holds what was copied before it, and no group is counted for the arrival.
    let early = run(&body("cp.async.commit_group;\ncp.async.wait_group 1;"), &words()).expect_err("one is pending");
    assert_eq!(early.kind, Kind::Race, "{early}");
}
