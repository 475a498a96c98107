//! Loads, stores and atomics beyond those of the test kernels.

mod common;

use common::{lanes::*, *};
use emulator::{Kind, Policy};

#[test]
fn hints_move_no_data() {
    let body = ".reg .b32 %w<4>;\n.reg .b64 %policy, %from;\n\
        createpolicy.fractional.L2::evict_first.b64 %policy, 1.0;\nmul.wide.u32 %from, %t, 8;\nadd.s64 %from, %from, %in;\n\
        prefetch.global.L2 [%in];\nprefetch.global.L2::evict_last [%in];\nnanosleep.u32 20;\ngriddepcontrol.wait;\n\
        ld.global.nc.L1::no_allocate.L2::256B.v2.u32 {%w0, %w1}, [%in];\n\
        ld.global.L1::evict_last.L2::cache_hint.u32 %w2, [%in], %policy;\n\
        red.global.add.L2::cache_hint.u32 [%out], %w1, %policy;\n\
        st.global.L2::cache_hint.u32 [%out], %w0, %policy;\ngriddepcontrol.launch_dependents;";
    let input = words();
    let got = run(body, &input).unwrap_or_else(|fault| panic!("{fault}"));
    for (got, [a, ..]) in got.iter().zip(input) {
        assert_eq!(*got, a & 0xffff_ffff);
    }
}

#[test]
fn vectors_of_floats_are_added_at_once() {
    let body = ".reg .f32 %x<4>;\n.reg .b64 %o2;\nmov.f32 %x0, 0f3F800000;\nmov.f32 %x1, 0f40000000;\n\
        and.b64 %o2, %out, -16;\nred.global.add.v4.f32 [%o2], {%x0, %x1, %x0, %x1};\n\
        atom.global.add.v2.f32 {%x2, %x3}, [%out], {%x0, %x1};";
    // Lanes 2k and 2k + 1 add to the same 16 bytes, and then each to its own eight.
    for got in run(body, &words()).unwrap_or_else(|fault| panic!("{fault}")) {
        assert_eq!((f32::from_bits(got as u32), f32::from_bits((got >> 32) as u32)), (3.0, 6.0));
    }
}

#[test]
fn lanes_that_all_agree_match() {
    let body = ".reg .b32 %v, %d;\n.reg .pred %p;\n.reg .b32 %e;\nld.global.b32 %v, [%in];\n\
        match.all.sync.b32 %d|%p, %v, -1;\nselp.b32 %e, 7, 5, %p;\nst.global.v2.b32 [%out], {%d, %e};";
    let mut input = [[3u64, 0, 0]; 32];
    assert!(run(body, &input).expect("no fault").iter().all(|got| *got == u64::from(u32::MAX) | 7 << 32));
    input[9][0] = 4;
    assert!(run(body, &input).expect("no fault").iter().all(|got| *got == 5 << 32));
}

/// What an f32 sum leaves, in both words of each lane: the sum and what was there before.
fn sums(add: &str, pairs: &[(f32, f32)]) -> Vec<(f32, f32)> {
    let body = format!(
        ".shared .align 8 .b8 s[256];\n.reg .b32 %s;\n.reg .f32 %a, %b, %old, %new;\nmov.u32 %s, s;\n\
         mad.lo.s32 %s, %t, 8, %s;\nld.global.f32 %a, [%in];\nld.global.f32 %b, [%in+8];\n{add}\n\
         st.global.v2.f32 [%out], {{%new, %old}};"
    );
    let bits = |x: f32| u64::from(x.to_bits());
    let input = std::array::from_fn(|lane| pairs.get(lane).map_or([0; 3], |(a, b)| [bits(*a), bits(*b), 0]));
    let got = run(&body, &input).unwrap_or_else(|fault| panic!("{fault}"));
    got[..pairs.len()].iter().map(|x| (f32::from_bits(*x as u32), f32::from_bits((x >> 32) as u32))).collect()
}

#[test]
fn sums_of_f32_flush_subnormal_numbers_in_global_memory_and_keep_them_in_shared() {
    let (tiny, least) = (f32::from_bits(0x0000_1234), f32::MIN_POSITIVE);
    // What is there, what is added, the sum with and without flushing.
    let cases = [
        (tiny, 0.0, 0.0, tiny),
        (-tiny, -0.0, -0.0, -tiny),
        (1.0, tiny, 1.0, 1.0),
        (least, -1.5 * least, -0.0, -0.5 * least),
        (least, -tiny, least, least - tiny),
        (-0.0, -0.0, -0.0, -0.0),
        (-0.0, 0.0, 0.0, 0.0),
        (f32::INFINITY, -tiny, f32::INFINITY, f32::INFINITY),
    ];
    let pairs: Vec<(f32, f32)> = cases.iter().map(|(a, b, ..)| (*a, *b)).collect();
    let global = |add: &str| {
        format!(
            "st.global.f32 [%out], %a;\nst.global.f32 [%out+4], %a;\nmov.f32 %old, %a;\n{add}\nld.global.f32 %new, [%out];"
        )
    };
    for (add, flushes) in [
        (global("atom.global.add.f32 %old, [%out], %b;"), true),
        (global("atom.add.f32 %old, [%out], %b;"), true),
        (global("red.global.add.f32 [%out], %b;"), true),
        (global("red.global.add.v2.f32 [%out], {%b, %b};"), true),
        ("st.shared.f32 [%s], %a;\natom.shared.add.f32 %old, [%s], %b;\nld.shared.f32 %new, [%s];".to_string(), false),
        (
            "st.shared.f32 [%s], %a;\nmov.f32 %old, %a;\nred.shared.add.f32 [%s], %b;\nld.shared.f32 %new, [%s];"
                .to_string(),
            false,
        ),
    ] {
        for ((new, old), (a, b, flushed, kept)) in sums(&add, &pairs).into_iter().zip(cases) {
            let want = if flushes { flushed } else { kept };
            assert_eq!((new.to_bits(), old.to_bits()), (want.to_bits(), a.to_bits()), "{a:e} + {b:e} by {add}");
        }
    }
}

#[test]
fn atomics_take_the_largest_and_the_least_by_their_sign() {
    let input = words();
    for (ty, wants) in [
        ("s32", [|a: u64, b: u64| (a as i32).max(b as i32) as u64, |a, b| (a as i32).min(b as i32) as u64]),
        ("u32", [|a, b| (a as u32).max(b as u32).into(), |a, b| (a as u32).min(b as u32).into()]),
        ("s64", [|a, b| (a as i64).max(b as i64) as u64, |a, b| (a as i64).min(b as i64) as u64]),
        ("u64", [|a, b| a.max(b), |a, b| a.min(b)]),
    ] {
        let wide = ty.contains("64");
        for (operation, want) in ["max", "min"].into_iter().zip(wants) {
            let held = if wide { "b64" } else { "b32" };
            let body = format!(
                ".reg .{held} %a, %b;\nld.global.{held} %a, [%in];\nld.global.{held} %b, [%in+8];\n\
                 st.global.{held} [%out], %a;\nred.global.{operation}.{ty} [%out], %b;"
            );
            let mask = if wide { u64::MAX } else { u64::from(u32::MAX) };
            for (got, [a, b, _]) in run(&body, &input).expect("no fault").into_iter().zip(input) {
                assert_eq!(got & mask, want(a, b) & mask, "{operation}.{ty} of {a:#x}, {b:#x}");
            }
        }
    }
    // PTX has none on f32.
    for bad in ["red.global.max.f32 [%out], %f;", "red.shared.min.f32 [%s], %f;"] {
        let text = kernel(&format!(".reg .f32 %f;\n.reg .b32 %s;\n{bad}"), 0, 0);
        let refused = device(Policy::Eager).load(&text).and_then(|module| module.function("vector"));
        assert!(refused.expect_err("refused").to_string().contains("not an atomic that PTX defines"), "{bad}");
    }
}

#[test]
fn what_is_read_as_constant_may_not_be_written_in_the_same_launch() {
    let input = words();
    let read = |path: &str, offset: &str| format!("ld.global{path}.u32 %x, [%out{offset}];\n");
    let (store, add) = ("st.global.u32 [%out], %t;\n", "red.global.add.u32 [%out], %t;\n");
    let bulk = ".shared .align 16 .b8 s[256];\n.reg .b32 %s, %y;\n.reg .pred %other;\nmov.u32 %s, s;\nmad.lo.u32 %y, %t, 8, %s;\n\
        st.shared.v2.u32 [%y], {%t, %t};\nfence.proxy.async;\nbar.sync 0;\nsetp.ne.u32 %other, %t, 0;\n@%other bra END;\n\
        cp.async.bulk.global.shared::cta.bulk_group [%out], [%s], 256;\ncp.async.bulk.commit_group;\n\
        cp.async.bulk.wait_group 0;\nEND:\n";
    for write in [store, add, bulk] {
        for (body, legal) in [
            (format!("{}{write}", read(".nc", "")), false),
            (format!("{write}{}", read(".nc", "")), false),
            (format!("{write}{}", read("", "")), true),
            (format!("{}{write}", read("", "")), true),
        ] {
            match run(&format!(".reg .b32 %x;\n{body}"), &input) {
                Ok(_) => assert!(legal, "{body}"),
                Err(fault) => {
                    assert!(!legal && fault.kind == Kind::Race && fault.message.contains(".nc"), "{fault}\n{body}");
                }
            }
        }
    }
    // Words next to those that are written, and words that another lane writes.
    let last = "setp.eq.u32 %p, %t, 31;\n@!%p ";
    assert!(run(&format!(".reg .b32 %x;\n.reg .pred %p;\n{store}{}", read(".nc", "+4")), &input).is_ok());
    let other = format!(".reg .b32 %x;\n.reg .pred %p;\n{store}{last}{}", read(".nc", "+8"));
    assert!(run(&other, &input).is_err_and(|fault| fault.kind == Kind::Race));
}

#[test]
fn what_an_earlier_launch_wrote_is_constant_in_the_next() {
    let mut device = device(Policy::Lazy);
    let mut function = |body: &str| {
        let text = kernel(body, 0, 4);
        device.load(&text).and_then(|module| module.function("vector")).unwrap_or_else(|e| panic!("{e}\n{text}"))
    };
    let write = function("st.global.u32 [%out], %t;");
    let read = function(".reg .b32 %x;\nld.global.nc.u32 %x, [%out];");
    let out = device.alloc("out", 128).expect("memory is left");
    for function in [&write, &read, &write, &read] {
        let launched = device.launch(function, launch(32), &[&0u64, &out, &0u64, &0u64]);
        assert!(launched.is_ok(), "{launched:?}");
    }
}
