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
    let (success, out, err) = asked(verb, text, options);
    assert!(success, "{err}");
    (out, err)
}

/// What a verb that cannot do what it is asked says.
fn refused(verb: &str, text: &str, options: &[&str]) -> String {
    let (success, out, err) = asked(verb, text, options);
    assert!(!success, "{out}");
    err
}

fn asked(verb: &str, text: &str, options: &[&str]) -> (bool, String, String) {
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
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
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

#[test]
fn inlined_code_is_told_by_the_line_of_the_kernel() {
    // Line 9 of a header is inlined at line 5 of another function, and that at line 7 of the kernel.
    let locs = ".loc 2 5 3, function_name $L__info_string0, inlined_at 1 7 1\n\
        .loc 2 9 3, function_name $L__info_string1+8, inlined_at 2 5 3\n";
    let text = STORE
        .replace(".visible", ".file 1 \"store.cu\"\n.file 2 \"head.cuh\"\n.visible")
        .replace("st.global", &format!("{locs}st.global"));
    let buffer = ["--block", "4", "--arg", "+u32[4]=zeros", "--lines"];
    assert!(with("count", &text, &buffer).0.contains("store.cu:7: "), "{:?}", with("count", &text, &buffer));
    let small = refused("check", &text, &["--block", "4", "--arg", "u32[3]=zeros"]);
    assert!(small.contains("store.cu:7 (inlined from head.cuh:9)"), "{small}");
    assert!(with("count", STORE, &buffer).0.contains("without -lineinfo"));
}

#[test]
fn a_limit_ends_a_loop_without_end() {
    for text in [STORE.replace("ret;", "L: bra L;"), STORE.replace("ret;", "L: add.u32 %t, %t, 1;\nbra L;")] {
        let fault = refused("run", &text, &["--limit", "1000", "--block", "4", "--arg", "u32[4]=zeros"]);
        assert!(fault.contains("limit: store") && fault.contains("a loop without end"), "{fault}");
    }
}

#[test]
fn structures_and_files_are_arguments() {
    // A structure of two words by value: the second is stored.
    let text = STORE
        .replace("(.param .u64 p)", "(.param .u64 p, .param .align 4 .b8 s[8])")
        .replace("st.global", "ld.param.u32 %t, [s+4];\nst.global");
    let file = std::env::temp_dir().join(format!("emulator-{}.bin", std::process::id()));
    fs::write(&file, [1, 0, 0, 0, 5, 1, 0, 0]).expect("the folder for temporary files is writable");
    let name = file.to_str().expect("a name in UTF-8");
    for structure in ["bytes:0100000005010000".to_string(), format!("bytes:@{name}")] {
        let (out, _) = with("run", &text, &["--block", "1", "--arg", "+u32[2]=zeros", "--arg", &structure]);
        assert_eq!(out, "261 0\n");
    }
    let (out, _) = with("run", STORE, &["--block", "1", "--arg", &format!("+u32[2]=@{name}")]);
    let short = refused("run", STORE, &["--block", "1", "--arg", &format!("u32[3]=@{name}")]);
    fs::remove_file(&file).expect("it is there");
    assert_eq!(out, "0 261\n");
    assert!(short.contains("has 8 bytes, 3 of u32 have 12"), "{short}");
}

#[test]
fn bad_arguments_are_told_what_is_wrong() {
    for (argument, why) in [
        ("i32:x", "x: no number of type i32"),
        ("i16:5", "type i16: one of u8, i32"),
        ("+i32:5", "only a buffer can be printed"),
        ("bytes:0a0", "0a0: two hexadecimal digits"),
        ("bytes:@nowhere", "nowhere: "),
        ("f32", "neither TYPE:VALUE"),
        ("f32[x]=zeros", "x: a number of elements"),
        ("q8[4]=zeros", "type q8: one of u8, bf16"),
        ("f32[4]=zeroes", "content zeroes: random, positive"),
        ("f32[4]=zeros3", "content zeros3: random, positive"),
    ] {
        let error = refused("run", STORE, &["--arg", argument]);
        assert!(error.contains(&format!("--arg {argument}: {why}")), "{argument}: {error}");
    }
}

#[test]
fn a_part_of_several_names_is_refused_with_the_candidates() {
    let other = STORE[STORE.find(".visible").expect("it is there")..].replace("entry store", "entry store_two");
    let text = format!("{STORE}{other}");
    let options = |kernel| ["--kernel", kernel, "--block", "4", "--arg", "+u32[4]=zeros"];
    assert!(refused("run", &text, &options("sto")).contains("--kernel sto: which one of store, store_two?"));
    assert!(
        refused("run", &text, &options("load")).contains("no kernel has it in its name; there are store, store_two")
    );
    assert_eq!(with("run", &text, &options("store")).0, "0 1 2 3\n", "a whole name is no part of another");
    assert_eq!(with("run", &text, &options("two")).0, "0 1 2 3\n");
}

#[test]
fn a_barrier_of_the_grid_is_refused_by_what_it_is() {
    let text = STORE.replace("mov.u32 %t, %tid.x;", "mov.u32 %t, %envreg2;");
    assert!(plain("list", &text).0.contains("a barrier of the grid (cooperative groups)"));
}

#[test]
fn a_text_that_ends_too_early_says_so() {
    let cut = &STORE[..STORE.find("(.param").expect("it is there")];
    let error = refused("list", cut, &[]);
    assert!(error.contains("the end of the text") && !error.contains("None"), "{error}");
}
