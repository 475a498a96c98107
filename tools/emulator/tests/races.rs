//! Races in global memory: found where nothing orders two accesses, and not where a barrier, a ticket or the end of a
//! launch does.

mod common;

use common::*;
use emulator::{Checks, Config, Error, Fault, Kind, Launch, Policy};

/// Runs a body in four CTAs of 64 threads each; `%out` is the same 1024 bytes of zeros for all of them.
fn run(body: &str, checks: Checks) -> Result<Vec<u8>, Box<Fault>> {
    let mut device = device(Policy::Lazy);
    device.configure(Config { checks, ..device.config() });
    let text = kernel(
        &format!(".reg .b32 %c, %w, %x, %y;\n.reg .pred %p, %q;\nmov.u32 %c, %ctaid.x;\nshr.u32 %w, %t, 5;\n{body}"),
        0,
        0,
    );
    let function = device.load(&text).and_then(|m| m.function("vector")).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let out = device.alloc("out", 1024).expect("memory is left");
    device.fill(out, 0, 1024).expect("inside");
    let launch = Launch { grid: [4, 1, 1], block: [64, 1, 1], cluster: [1; 3], dynamic_shared: 0 };
    match device.launch(&function, launch, &[&0u64, &out, &0u64, &0u64]) {
        Ok(_) => Ok(device.download(out, 1024).expect("inside")),
        Err(Error::Fault(fault)) => Err(fault),
        Err(other) => panic!("{other}\n{text}"),
    }
}

/// Address of the CTA's own 64 words, and of the thread's among them.
const OWN: &str = "mad.lo.s32 %x, %c, 64, %t;\nmul.wide.u32 %o, %x, 4;\nadd.s64 %o, %o, %out;\n";

fn race(body: &str) -> String {
    let without = Checks { global_race: false, ..Checks::ALL };
    assert!(run(body, without).is_ok(), "{body}");
    match run(body, Checks::ALL) {
        Err(fault) if fault.kind == Kind::Race => fault.message,
        other => panic!("{other:?}\n{body}"),
    }
}

fn no_race(body: &str) -> Vec<u8> {
    run(body, Checks::ALL).unwrap_or_else(|fault| panic!("{fault}\n{body}"))
}

#[test]
fn ctas_that_write_the_same_word_race() {
    let message = race("setp.eq.u32 %p, %t, 0;\n@%p st.global.u32 [%out], %c;");
    assert!(message.contains("out, offset 0x0: written by warp 0 of the CTA (0, 0, 0)"), "{message}");
    no_race("red.global.add.u32 [%out], 1;");
    no_race(&format!("{OWN}st.global.u32 [%o], %c;\nld.global.u32 %y, [%o];"));
    // Bytes of one word belong to different CTAs.
    no_race("setp.eq.u32 %p, %t, 0;\ncvt.u64.u32 %o, %c;\nadd.s64 %o, %o, %out;\n@%p st.global.u8 [%o], %c;");
}

#[test]
fn a_read_of_what_another_cta_writes_races_in_either_order() {
    let body = format!("{OWN}ld.global.u32 %y, [%o+OFFSET];\nst.global.u32 [%o], %y;");
    // CTA 1 reads what CTA 0 has written, or writes what it has read.
    assert!(
        race(&body.replace("+OFFSET", "+-4").replace("ld.global", "setp.ne.s32 %p, %x, 0;\n@%p ld.global"))
            .contains("written")
    );
    assert!(
        race(&body.replace("+OFFSET", "+4").replace("ld.global", "setp.lt.s32 %p, %x, 255;\n@%p ld.global"))
            .contains("read")
    );
}

#[test]
fn warps_of_a_cta_need_a_barrier() {
    let body = format!(
        "{OWN}st.global.u32 [%o], %t;\nBARRIER\nxor.b32 %y, %t, 32;\nmad.lo.s32 %x, %c, 64, %y;\nmul.wide.u32 %o, %x, 4;\nadd.s64 %o, %o, %out;\nld.global.u32 %y, [%o];"
    );
    no_race(&body.replace("BARRIER", "bar.sync 0;"));
    let message = race(&body.replace("BARRIER", "bar.warp.sync -1;"));
    assert!(message.contains("read by warp 0 at PTX line"), "{message}");
}

/// CTAs 0 to 3 each write a word, draw a ticket from word 200, and the last of them reads the first two words.
fn tickets(before: &str, ticket: &str, after: &str) -> String {
    format!(
        "setp.ne.u32 %p, %t, 0;\n@%p bra DONE;\nmul.wide.u32 %o, %c, 4;\nadd.s64 %o, %o, %out;\nadd.s32 %x, %c, 1;\n\
         st.global.u32 [%o], %x;\n{before}\n{ticket}\nsetp.ne.u32 %q, %y, 3;\n@%q bra DONE;\n{after}\n\
         ld.global.u32 %x, [%out];\nld.global.u32 %y, [%out+4];\nadd.s32 %x, %x, %y;\nst.global.u32 [%out+804], %x;\nDONE:"
    )
}

#[test]
fn the_last_cta_may_read_what_the_others_released_with_their_tickets() {
    let atom = |order: &str| format!("atom{order}.global.add.u32 %y, [%out+800], 1;");
    let got = no_race(&tickets("membar.gl;", &atom(""), "membar.gl;"));
    assert_eq!(got[804..808], 3u32.to_le_bytes());
    no_race(&tickets("", &atom(".acq_rel.gpu"), ""));
    no_race(&tickets("", &atom(".release.gpu"), "fence.acq_rel.gpu;"));
    no_race(&tickets("fence.sc.sys;", &atom(".acquire.sys"), ""));
    // Without a fence on one side or the other, with fences of the CTA, and without a ticket.
    race(&tickets("", &atom(""), "membar.gl;"));
    race(&tickets("membar.gl;", &atom(""), ""));
    race(&tickets("membar.cta;", &atom(""), "membar.gl;"));
    race(&tickets("membar.gl;", &atom(""), "membar.cta;"));
    race(&tickets("membar.gl;", "mov.u32 %y, %c;", "membar.gl;"));
    // Relaxed tickets, tickets of half a pattern, tickets of the CTA.
    race(&tickets("", &atom(".relaxed.gpu"), ""));
    race(&tickets("", &atom(".release.gpu"), ""));
    race(&tickets("", &atom(".acquire.gpu"), ""));
    race(&tickets("", &atom(".acq_rel.cta"), ""));
    race(&tickets("membar.gl;", &atom(".relaxed.cta"), "membar.gl;"));
    // Each CTA has a word of its own.
    let own = "atom.acq_rel.gpu.global.add.u32 %y, [%o+800], 1;\nmov.u32 %y, %c;";
    race(&tickets("membar.gl;", own, "membar.gl;"));
}

#[test]
fn what_a_cta_has_acquired_it_releases_with_its_own() {
    // CTA c takes the flag of CTA c - 1 and raises its own; the last reads what the first wrote.
    let chain = |take: &str, raise: &str| {
        format!(
            "setp.ne.u32 %p, %t, 0;\n@%p bra DONE;\nmul.wide.u32 %o, %c, 4;\nadd.s64 %o, %o, %out;\nsetp.eq.u32 %q, %c, 0;\n\
             @%q st.global.u32 [%out], %c;\n@!%q {take}.global.u32 %x, [%o+396];\nmov.u32 %y, 1;\n\
             {raise}.global.u32 [%o+400], %y;\nsetp.ne.u32 %q, %c, 3;\n@!%q ld.global.u32 %x, [%out];\nDONE:"
        )
    };
    no_race(&chain("ld.acquire.gpu", "st.release.gpu"));
    race(&chain("ld.relaxed.gpu", "st.release.gpu"));
    race(&chain("ld.acquire.gpu", "st.relaxed.gpu"));
    race(&chain("ld.acquire.gpu", "st.release.cta"));
}

#[test]
fn strong_accesses_of_different_ctas_race_unless_their_scope_reaches_both() {
    for access in ["red.relaxed.SCOPE.global.add.u32 [%out], 1;", "st.relaxed.SCOPE.global.u32 [%out], %c;"] {
        let guarded = format!("setp.eq.u32 %p, %t, 0;\n@%p {access}");
        no_race(&guarded.replace("SCOPE", "gpu"));
        race(&guarded.replace("SCOPE", "cta"));
    }
}

#[test]
fn a_write_must_be_ordered_behind_the_reads_of_every_warp() {
    // Both warps of every CTA read a word; the second draws a ticket, and that of the last CTA overwrites the word.
    let body = |between: &str| {
        format!(
            "ld.global.u32 %y, [%out];\n{between}\nsetp.ne.u32 %p, %t, 32;\n@%p bra DONE;\nmembar.gl;\n\
             atom.global.add.u32 %y, [%out+800], 1;\nmembar.gl;\nsetp.ne.u32 %q, %y, 3;\n@%q bra DONE;\n\
             st.global.u32 [%out], %y;\nDONE:"
        )
    };
    no_race(&body("bar.sync 0;"));
    let message = race(&body(""));
    assert!(message.contains("read by warp 0"), "{message}");
}

#[test]
fn a_write_of_half_a_word_leaves_the_other_half_as_it_was() {
    let body = |offset: u32| {
        format!(
            ".reg .b16 %h;\ncvt.u16.u32 %h, %c;\nsetp.ne.u32 %p, %t, 0;\n@%p bra DONE;\nsetp.eq.u32 %p, %c, 0;\n\
             @%p st.global.u16 [%out], %h;\nsetp.eq.u32 %p, %c, 1;\n@%p st.global.u16 [%out+2], %h;\n\
             setp.eq.u32 %p, %c, 2;\n@%p ld.global.u16 %h, [%out+{offset}];\nDONE:"
        )
    };
    assert!(race(&body(0)).contains("written by warp 0 of the CTA (0, 0, 0)"));
    assert!(race(&body(2)).contains("written by warp 0 of the CTA (1, 0, 0)"));
    no_race(&body(4));
}

/// Lane 0 of the first warp of the first CTA does `first` with 16 bytes at `%s` and an mbarrier at `%b`, and `second` follows
/// behind a barrier in the other warp.
fn one_behind_the_other(first: &str, second: &str) -> String {
    format!(
        ".shared .align 16 .b8 s[32];\n.reg .b32 %s, %b;\nsetp.ne.u32 %p, %c, 0;\n@%p bra DONE;\nmov.u32 %s, s;\n\
         add.s32 %b, %s, 16;\nsetp.ne.u32 %q, %t, 0;\n@%q bra ON;\nst.shared.v4.u32 [%s], {{%t, %t, %t, %t}};\n\
         mbarrier.init.shared::cta.b64 [%b], 1;\nfence.proxy.async;\n{first}\nON:\nbar.sync 0;\nsetp.lt.u32 %q, %t, 32;\n\
         @%q bra DONE;\n{second}\nDONE:"
    )
}

#[test]
fn a_bulk_store_waited_for_with_read_has_not_written() {
    let store = |read: &str| {
        let store = "cp.async.bulk.global.shared::cta.bulk_group [%out], [%s], 16;\ncp.async.bulk.commit_group;";
        one_behind_the_other(&format!("{store}\ncp.async.bulk.wait_group{read} 0;"), "ld.global.u32 %x, [%out];")
    };
    no_race(&store(""));
    assert!(race(&store(".read")).contains("written by a bulk store of warp 0, lane 0"));
}

#[test]
fn a_bulk_load_has_read_once_its_mbarrier_says_so() {
    let load = "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%b], 16;\ncp.async.bulk.shared::cluster.global.mbarrier\
                ::complete_tx::bytes [%s], [%out], 16, [%b];\n";
    let wait = "WAIT:\nmbarrier.try_wait.parity.shared::cta.b64 %p, [%b], 0;\n@!%p bra WAIT;\n";
    let write = "st.global.u32 [%out], %t;\n";
    no_race(&one_behind_the_other(&format!("{load}{wait}"), write));
    let early = race(&one_behind_the_other(load, &format!("{write}{wait}")));
    assert!(early.contains("read by a bulk copy"), "{early}");
}
