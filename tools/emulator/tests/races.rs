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

#[test]
fn the_last_cta_may_read_what_the_others_published_before_their_tickets() {
    // Words 0..4: one of each CTA; word 200: tickets; word 201: the sum that the last CTA makes.
    let body = "setp.ne.u32 %p, %t, 0;\n@%p bra DONE;\nmul.wide.u32 %o, %c, 4;\nadd.s64 %o, %o, %out;\nadd.s32 %x, %c, 1;\n\
        st.global.u32 [%o], %x;\nFENCE\nTICKET\nsetp.ne.u32 %q, %y, 3;\n@%q bra DONE;\n\
        ld.global.u32 %x, [%out];\nld.global.u32 %y, [%out+4];\nadd.s32 %x, %x, %y;\nst.global.u32 [%out+804], %x;\nDONE:";
    let with = |fence: &str, ticket: &str| body.replace("FENCE", fence).replace("TICKET", ticket);
    let ticket = "atom.global.add.u32 %y, [%out+800], 1;";
    let got = no_race(&with("membar.gl;", ticket));
    assert_eq!(got[804..808], 3u32.to_le_bytes());
    no_race(&with("", "atom.acq_rel.gpu.global.add.u32 %y, [%out+800], 1;"));
    // Without a fence, with one for the CTA only, and without a ticket.
    race(&with("", ticket));
    race(&with("membar.cta;", ticket));
    race(&with("membar.gl;", "mov.u32 %y, %c;"));
}
