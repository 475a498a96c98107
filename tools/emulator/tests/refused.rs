//! What PTX does not define is refused where it is loaded, and what it defines narrowly is not read widely.

mod common;

use common::{lanes::*, *};
use emulator::Policy;

#[test]
fn what_the_manual_does_not_define_is_refused() {
    let refusal = |body: &str| {
        let declared = format!(
            ".shared .align 16 .b8 s[64];\n.reg .b32 %s, %x;\n.reg .b64 %a;\n.reg .pred %p;\nmov.u32 %s, s;\n{body}"
        );
        let text = kernel(&declared, 0, 0).replacen(".visible", ".global .align 4 .b8 far[4];\n.visible", 1);
        let refused = device(Policy::Eager).load(&text).and_then(|module| module.function("vector"));
        refused.err().map(|error| error.to_string())
    };
    assert_eq!(refusal("mov.u64 %a, far;\nsetp.lt.s32 %p, %t, 4;\nst.release.gpu.global.u32 [%out], %t;"), None);
    for (body, why) in [
        ("setp.lt.ftz.s32 %p, %t, 4;", ".ftz: not defined for .s32"),
        ("mov.u32 %x, far;", "does not fit 32 bits"),
        ("st.acquire.gpu.global.u32 [%out], %t;", "a store cannot acquire"),
        ("ld.release.gpu.global.u32 %x, [%out];", "a load cannot release"),
        (
            "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%s], [%in], 16;",
            "the wrong number of operands",
        ),
        ("mbarrier.arrive.relaxed.cta.shared::cta.b64 _, [%s];", ".relaxed is not supported"),
        ("mbarrier.try_wait.parity.relaxed.cluster.shared::cta.b64 %p, [%s], 0;", ".relaxed is not supported"),
    ] {
        let refusal = refusal(body);
        assert!(refusal.as_ref().is_some_and(|message| message.contains(why)), "{body}: {refusal:?}");
    }
}

#[test]
fn a_siblings_shared_memory_is_of_the_cluster_and_not_of_the_cta() {
    let body = ".shared .align 16 .b8 s[64];\n.reg .b64 %a, %b;\n.reg .b32 %x, %y, %rank;\n.reg .pred %p;\n\
        cvta.shared.u64 %a, s;\nmov.u32 %rank, %cluster_ctarank;\nmov.u32 %x, 0;\n\
        isspacep.shared::cta %p, %a;\nselp.b32 %y, 1, 0, %p;\nor.b32 %x, %x, %y;\n\
        mapa.u64 %b, %a, %rank;\nisspacep.shared %p, %b;\nselp.b32 %y, 2, 0, %p;\nor.b32 %x, %x, %y;\n\
        xor.b32 %rank, %rank, 1;\nmapa.u64 %b, %a, %rank;\n\
        isspacep.shared::cta %p, %b;\nselp.b32 %y, 4, 0, %p;\nor.b32 %x, %x, %y;\n\
        isspacep.shared::cluster %p, %b;\nselp.b32 %y, 8, 0, %p;\nor.b32 %x, %x, %y;\n\
        mov.u32 %rank, %cluster_ctarank;\nmul.wide.u32 %a, %rank, 128;\nadd.s64 %out, %out, %a;\n\
        st.global.u32 [%out], %x;";
    let mut device = device(Policy::Lazy);
    let text = kernel(body, 0, 4);
    let function = device.load(&text).and_then(|m| m.function("vector")).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let out = device.alloc("out", 256).expect("memory is left");
    let shape = emulator::Launch { grid: [2, 1, 1], cluster: [2, 1, 1], ..launch(32) };
    device.launch(&function, shape, &[&0u64, &out, &0u64, &0u64]).unwrap_or_else(|error| panic!("{error}"));
    let got = device.download(out, 256).expect("inside");
    assert!(got.chunks(4).all(|word| word == [1 | 2 | 8, 0, 0, 0]), "{got:?}");
}

#[test]
fn constants_move_no_sectors_of_global_memory() {
    let mut device = device(Policy::Lazy);
    let text = kernel(".reg .b32 %x;\nld.const.u32 %x, [table+4];\nst.global.u32 [%out], %x;", 0, 4);
    let text = text.replacen(".visible", ".const .align 4 .b8 table[8] = {0, 0, 0, 0, 7, 0, 0, 0};\n.visible", 1);
    let function = device.load(&text).and_then(|m| m.function("vector")).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let out = device.alloc("out", 128).expect("memory is left");
    let report = device.launch(&function, launch(32), &[&0u64, &out, &0u64, &0u64]).expect("no fault");
    assert!(device.download(out, 128).expect("inside").chunks(4).all(|word| word == [7, 0, 0, 0]));
    let total = report.total();
    assert_eq!((total.global_bytes, total.global_sectors, report.counts.unique_bytes), (128, 4, 128));
}

#[test]
fn a_predicate_that_nothing_has_written_holds_for_every_other_lane() {
    let body = ".reg .pred %p;\n.reg .b32 %x;\nselp.b32 %x, 1, 0, %p;\nst.global.b64 [%out], 0;\n\
        st.global.b32 [%out], %x;\nsetp.eq.u32 %p, %t, %t;";
    let got = run(body, &words()).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(got.iter().filter(|x| **x == 1).count(), 16, "{got:?}");
}
