//! The command line: what it prints says what it rests on.

use std::{
    fs,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

const STORE: &str = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry store(.param .u64 p)\n{\n\
    .reg .b32 %t;\n.reg .b64 %p, %o;\nld.param.u64 %p, [p];\nmov.u32 %t, %tid.x;\nmul.wide.u32 %o, %t, 4;\n\
    add.s64 %p, %p, %o;\nst.global.u32 [%p], %t;\nret;\n}\n";

/// Standard output and standard error of a verb on a kernel that takes a buffer of four words.
fn output(verb: &str, text: &str) -> (String, String) {
    with(verb, text, &["--block", "4", "--arg", "+u32[4]=zeros"])
}

fn plain(verb: &str, text: &str) -> (String, String) {
    with(verb, text, &[])
}

fn with(verb: &str, text: &str, options: &[&str]) -> (String, String) {
    // Tests run side by side.
    static FILES: AtomicU32 = AtomicU32::new(0);
    let number = FILES.fetch_add(1, Ordering::Relaxed);
    let file = std::env::temp_dir().join(format!("emulator-{}-{number}.ptx", std::process::id()));
    fs::write(&file, text).expect("the folder for temporary files is writable");
    let output = Command::new(env!("CARGO_BIN_EXE_emulator"))
        .args([verb, file.to_str().expect("a name in UTF-8")])
        .args(options)
        .output()
        .expect("it starts");
    fs::remove_file(&file).expect("it is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (String::from_utf8_lossy(&output.stdout).into(), String::from_utf8_lossy(&output.stderr).into())
}

#[test]
fn every_verb_says_that_nothing_has_been_compared_with_hardware() {
    for verb in ["run", "check", "count"] {
        let (out, err) = output(verb, STORE);
        let all = format!("{out}{err}");
        assert!(all.contains("unvalidated: no result here has been compared with hardware"), "{verb}: {all}");
        assert!(all.contains("unvalidated: counters"), "{verb}: {all}");
        assert!(!all.contains("conversions"), "{verb}: {all}");
    }
}

#[test]
fn run_prints_buffers_alone_on_standard_output() {
    assert_eq!(output("run", STORE).0, "0 1 2 3\n");
}

#[test]
fn list_names_kernels_parameters_and_refusals() {
    let refused = STORE.replace("entry store", "entry other").replace("mov.u32 %t, %tid.x;", "fns.b32 %t, %t, 0, 1;");
    let (out, _) = plain("list", &format!("{STORE}{}", &refused[refused.find(".visible").expect("it is there")..]));
    assert_eq!(out.lines().next_back(), Some("store: 1 parameters of 8 bytes"), "{out}");
    assert!(out.starts_with("other: refused: PTX line") && out.contains("fns.b32"), "{out}");
}

#[test]
fn count_tells_what_each_source_line_does() {
    let text =
        STORE.replace(".visible", ".file 1 \"store.cu\"\n.visible").replace("st.global", ".loc 1 7 0\nst.global");
    let text = text.replace("ret;", ".loc 1 9 0\nbar.sync 0;\nret;");
    let options = ["--lines", "--block", "4", "--arg", "+u32[4]=zeros", "--kernel", "sto"];
    let (out, _) = with("count", &text, &options);
    assert!(out.contains("store.cu:7: 1 warp instructions (GlobalMemory 1), 1 global sectors\n"), "{out}");
    assert!(out.contains("store.cu:9: 2 warp instructions (Control 1, Barrier 1)\n"), "{out}");
}

#[test]
fn features_that_a_kernel_uses_are_named() {
    let more = "fence.proxy.async;\ncp.async.wait_all;\n{ .reg .f32 %f; cvt.rn.f32.u32 %f, %t; }\n\
        { .reg .pred %q; elect.sync _|%q, 15; }\nret;";
    let text = STORE.replace("sm_80", "sm_90a").replace("ret;", more);
    let (out, _) = output("check", &text);
    for feature in ["fence.proxy", "cp.async", "conversions", "elect"] {
        assert!(out.contains(&format!("unvalidated: {feature}")), "{feature}: {out}");
    }
}
