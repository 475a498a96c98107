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
