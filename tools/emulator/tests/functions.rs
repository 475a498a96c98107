//! Device functions, and what is refused by its name.

mod common;

use common::{lanes::launch, *};
use emulator::{Error, Policy};

/// A module whose kernel adds up what device functions return.
fn calls(functions: &str, call: &str) -> String {
    let text = kernel(
        &format!(".reg .b32 %x, %y;\nld.global.b32 %x, [%in];\nmov.b32 %y, 0;\n{call}\nst.global.b32 [%out], %y;"),
        24,
        8,
    );
    text.replace(".visible .entry", &format!("{functions}\n.visible .entry"))
}

const TWICE: &str = ".func (.param .b32 r) twice(.param .b32 a)\n{\n.reg .b32 %x;\n.reg .pred %odd;\nld.param.b32 %x, [a];\n\
    setp.lt.s32 %odd, %x, 10;\n@%odd bra SMALL;\nadd.s32 %x, %x, %x;\nst.param.b32 [r], %x;\nret;\nSMALL:\n\
    st.param.b32 [r], 1;\nret;\n}\n";

fn call(name: &str, from: &str, to: &str) -> String {
    format!(
        "{{ .param .b32 p; st.param.b32 [p], {from}; .param .b32 q; call.uni (q), {name}, (p); ld.param.b32 {to}, [q]; }}\n"
    )
}

#[test]
fn device_functions_take_the_place_of_their_calls() {
    let four = format!(
        ".func (.param .b32 r) four(.param .b32 a)\n{{\n.reg .b32 %x;\nld.param.b32 %x, [a];\n{}{}st.param.b32 [r], %x;\nret;\n}}\n",
        call("twice", "%x", "%x"),
        call("twice", "%x", "%x")
    );
    let text = calls(&format!("{TWICE}{four}"), &format!("{}{}", call("four", "%x", "%y"), call("twice", "%y", "%y")));
    let mut device = device(Policy::Eager);
    let function = device.load(&text).and_then(|m| m.function("vector")).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let x: Vec<i32> = (0..32).map(|i| i - 3).collect();
    let from = device.alloc("in", 32 * 24).expect("memory is left");
    let to = device.alloc("out", 256).expect("memory is left");
    x.iter().enumerate().for_each(|(i, x)| device.upload(from + 24 * i as u64, &x.to_le_bytes()).expect("inside"));
    device.launch(&function, launch(32), &[&from, &to, &0u64, &0u64]).unwrap_or_else(|error| panic!("{error}"));
    let twice = |x: i32| if x < 10 { 1 } else { 2 * x };
    for (i, x) in x.iter().enumerate() {
        let got = device.download(to + 8 * i as u64, 4).expect("inside");
        assert_eq!(i32::from_le_bytes(got.try_into().expect("four bytes")), twice(twice(twice(*x))), "{x}");
    }
}

/// The refusal of a module or of its kernel.
fn refusal(text: &str) -> String {
    match device(Policy::Eager).load(text).and_then(|module| module.function("vector")) {
        Err(Error::Load(error)) => error.to_string(),
        other => panic!("{other:?}\n{text}"),
    }
}

#[test]
fn what_is_missing_is_refused_by_name() {
    let recursive = ".func (.param .b32 r) again(.param .b32 a)\n{\n.reg .b32 %x;\nld.param.b32 %x, [a];\nCALLst.param.b32 [r], %x;\nret;\n}\n";
    let recursive = recursive.replace("CALL", &call("again", "%x", "%x"));
    assert!(refusal(&calls(&recursive, &call("again", "%x", "%y"))).contains("again calls itself"));
    assert!(refusal(&calls("", &call("malloc", "%x", "%y"))).contains("malloc"));
    let halves = TWICE.replace("ld.param.b32 %x, [a];", "ld.param.b32 %x, [a+4];");
    let wide = call("twice", "%in", "%y").replace("st.param.b32", "st.param.b64");
    assert!(refusal(&calls(&halves, &wide)).contains("different words"));
    let indirect = "{ .reg .b64 %f; .param .b32 p; st.param.b32 [p], %x; .param .b32 q; prototype_0 : .callprototype (.param .b32 _) _ (.param .b32 _);\n\
        call (q), %f, (p), prototype_0; }";
    assert!(refusal(&calls("", indirect)).contains("not a call of a named function"));
    for bad in [
        "{ .reg .b16 %h; .reg .f32 %f; cvt.rn.satfinite.e4m3x2.f32 %h, %f, %f; }",
        "{ .reg .b128 %q; ld.global.b128 %q, [%in]; }",
        "{ .reg .b32 %s; st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%s], %s, [%s]; }",
        "{ .reg .b32 %s; red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u32 [%s], %s, [%s]; }",
        "{ .reg .b32 %s; mov.u32 %s, %envreg2; }",
        "{ .reg .b32 %s; fns.b32 %s, %s, 0, 1; }",
        "{ .reg .b32 %s; vabsdiff4.u32.u32.u32 %s, %s, %s, %s; }",
        "{ .reg .f64 %x; add.rz.f64 %x, %x, %x; }",
        "{ .reg .b32 %s; cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%s], [%in, {%s, %s, %s, %s}], [%s]; }",
        "{ .reg .b32 %s; cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.add.u32 [%s], [%s], %s, [%s]; }",
        "{ brx.idx 0, 0; }",
    ] {
        let message = refusal(&kernel(bad, 24, 8));
        let opcode = bad.split("; ").find(|part| !part.contains(".reg")).unwrap_or(bad);
        let opcode = opcode.trim_start_matches(['{', ' ']).split(' ').next().unwrap_or("");
        assert!(message.contains(opcode) || message.contains("128"), "{message}: {opcode} is not named");
    }
}
