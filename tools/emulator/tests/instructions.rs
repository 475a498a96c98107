//! Instructions beyond those of the test kernels: each computes what its definition says, or is refused by its name.

mod common;

use common::*;
use emulator::{Error, Fault, Kind, Launch, Policy};
use half::{bf16, f16};

fn launch(threads: u32) -> Launch {
    Launch { grid: [1; 3], block: [threads, 1, 1], cluster: [1; 3], dynamic_shared: 0 }
}

/// Runs a body for 32 lanes with three 8-byte words of input each; what they leave in eight bytes each.
fn run(body: &str, input: &[[u64; 3]; 32]) -> Result<Vec<u64>, Box<Fault>> {
    let mut device = device(Policy::Lazy);
    let text = kernel(body, 24, 8);
    let function = device.load(&text).and_then(|m| m.function("vector")).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let bytes: Vec<u8> = input.iter().flatten().flat_map(|word| word.to_le_bytes()).collect();
    let from = device.alloc("input", bytes.len()).expect("memory is left");
    device.upload(from, &bytes).expect("inside");
    let to = device.alloc("output", 256).expect("memory is left");
    device.fill(to, 0, 256).expect("inside");
    match device.launch(&function, launch(32), &[&from, &to, &0u64, &0u64]) {
        Ok(_) => {}
        Err(Error::Fault(fault)) => return Err(fault),
        Err(other) => panic!("{other}\n{text}"),
    }
    let bytes = device.download(to, 256).expect("inside");
    Ok(bytes.chunks(8).map(|b| u64::from_le_bytes(b.try_into().expect("chunks of 8"))).collect())
}

/// One instruction of two or three sources `%a`, `%b`, `%c` into `%d`.
fn apply(instruction: &str, out: &str, args: &[&str], input: &[[u64; 3]; 32]) -> Vec<u64> {
    let mut body = format!(".reg .{out} %d;\n");
    for (k, ty) in args.iter().enumerate() {
        let name = ["%a", "%b", "%c"][k];
        body += &format!(".reg .{ty} {name};\nld.global.{ty} {name}, [%in+{}];\n", 8 * k);
    }
    body += &format!("{instruction}\nst.global.{out} [%out], %d;");
    run(&body, input).unwrap_or_else(|fault| panic!("{fault}"))
}

/// Words with every bit in play.
fn words() -> [[u64; 3]; 32] {
    let mut state = 7u64;
    std::array::from_fn(|lane| {
        std::array::from_fn(|k| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            match lane % 4 {
                0 => state >> 33 & 0xff,
                _ => state ^ state >> (29 + k),
            }
        })
    })
}

/// The nearest bf16. What `rounded` gives is exact in f32.
fn bf16_bits(x: f64) -> u16 {
    bf16::from_f32(rounded(x, 8, -133) as f32).to_bits()
}

/// The nearest f16. What `rounded` gives is exact in f32, or too large for either.
fn f16_bits(x: f64) -> u16 {
    f16::from_f32(rounded(x, 11, -24) as f32).to_bits()
}

/// Pairs of 16-bit floats near 1, so that sums, products and comparisons stay finite.
fn pairs(bits: impl Fn(f32) -> u16) -> [[u64; 3]; 32] {
    let values = random(5, 192);
    std::array::from_fn(|lane| {
        std::array::from_fn(|k| {
            let at = 6 * lane + 2 * k;
            u64::from(bits(2.0 * values[at])) | u64::from(bits(2.0 * values[at + 1])) << 16
        })
    })
}

#[test]
fn bits_move_as_the_manual_says() {
    let input = words();
    let check = |instruction: &str, ty: &str, args: &[&str], want: &dyn Fn(u64, u64, u64) -> u64| {
        let got = apply(instruction, ty, args, &input);
        for (got, [a, b, c]) in got.iter().zip(input) {
            assert_eq!(*got, want(a, b, c), "{instruction} of {a:#x}, {b:#x}, {c:#x}");
        }
    };
    let low = |x: u64| x as u32;
    let three = ["b32"; 3];
    check("lop3.b32 %d, %a, %b, %c, 0xe8;", "b32", &three, &|a, b, c| u64::from(low(a & b | a & c | b & c)));
    check("lop3.b32 %d, %a, %b, %c, 0x96;", "b32", &three, &|a, b, c| u64::from(low(a ^ b ^ c)));
    let pair = |a: u64, b: u64| u64::from(low(a)) | b << 32;
    check("shf.l.wrap.b32 %d, %a, %b, %c;", "b32", &three, &|a, b, c| (pair(a, b) << (c & 31)) >> 32);
    check("shf.r.clamp.b32 %d, %a, %b, %c;", "b32", &three, &|a, b, c| u64::from(low(pair(a, b) >> low(c).min(32))));
    check("prmt.b32 %d, %a, %b, 0x7ace;", "b32", &three[..2], &|a, b, _| {
        let bytes = pair(a, b).to_le_bytes();
        // Selectors e, c and a replicate the sign of bytes 6, 4 and 2.
        let sign = |k: usize| if bytes[k] >= 128 { 255 } else { 0 };
        u64::from(u32::from_le_bytes([sign(6), sign(4), sign(2), bytes[7]]))
    });
    check("bfe.u32 %d, %a, 5, 11;", "b32", &three[..1], &|a, _, _| a >> 5 & 0x7ff);
    check("bfe.s64 %d, %a, 60, 9;", "b64", &["b64"], &|a, _, _| (a as i64 >> 60) as u64);
    check("bfi.b32 %d, %a, %b, 9, 7;", "b32", &three[..2], &|a, b, _| {
        u64::from(low(b & !(0x7f << 9) | (a & 0x7f) << 9))
    });
    check("slct.s32.s32 %d, %a, %b, %c;", "b32", &three, &|a, b, c| u64::from(low(if c as i32 >= 0 { a } else { b })));
    check("sad.s32 %d, %a, %b, %c;", "b32", &three, &|a, b, c| {
        u64::from((a as i32).abs_diff(b as i32).wrapping_add(low(c)))
    });
    check("mul.hi.s16 %d, %a, %b;", "b16", &["b16", "b16"], &|a, b, _| {
        u64::from(((i32::from(a as i16) * i32::from(b as i16)) >> 16) as u16)
    });
    check("max.s16x2 %d, %a, %b;", "b32", &three[..2], &|a, b, _| {
        let half = |shift: u32| u64::from(((a >> shift) as i16).max((b >> shift) as i16) as u16) << shift;
        half(0) | half(16)
    });
    check("shl.b64 %d, %a, %c;", "b64", &["b64", "b64", "b32"], &|a, _, c| a.checked_shl(low(c)).unwrap_or(0));
    check("shr.u64 %d, %a, %c;", "b64", &["b64", "b64", "b32"], &|a, _, c| a.checked_shr(low(c)).unwrap_or(0));
    for by in [0, 1, 31, 32, 33, 63, 64] {
        check(&format!("shl.b64 %d, %a, {by};"), "b64", &["b64"], &|a, _, _| a.checked_shl(by).unwrap_or(0));
        check(&format!("shr.b64 %d, %a, {by};"), "b64", &["b64"], &|a, _, _| a.checked_shr(by).unwrap_or(0));
    }
    check("add.s64 %d, %a, %b;", "b64", &["b64", "b64"], &|a, b, _| a.wrapping_add(b));
    check("sub.s64 %d, %a, %b;", "b64", &["b64", "b64"], &|a, b, _| a.wrapping_sub(b));
    check("mul.wide.u32 %d, %a, %b;", "b64", &["b32", "b32"], &|a, b, _| u64::from(low(a)) * u64::from(low(b)));
    check("mul.wide.s32 %d, %a, %b;", "b64", &["b32", "b32"], &|a, b, _| {
        (i64::from(a as i32) * i64::from(b as i32)) as u64
    });
}

#[test]
fn carries_pass_from_one_word_to_the_next() {
    let input = words();
    let halves = ".reg .b32 %x<6>;\nmov.b64 {%x0, %x1}, %a;\nmov.b64 {%x2, %x3}, %b;\n";
    let whole = "mov.b64 %d, {%x4, %x5};";
    let check = |code: &str, want: &dyn Fn(u64, u64) -> u64| {
        let got = apply(&format!("{halves}{code}{whole}"), "b64", &["b64", "b64"], &input);
        for (got, [a, b, _]) in got.iter().zip(input) {
            assert_eq!(*got, want(a, b), "{code} of {a:#x}, {b:#x}");
        }
    };
    check("add.cc.u32 %x4, %x0, %x2;\naddc.u32 %x5, %x1, %x3;\n", &|a, b| a.wrapping_add(b));
    check("sub.cc.u32 %x4, %x0, %x2;\nsubc.u32 %x5, %x1, %x3;\n", &|a, b| a.wrapping_sub(b));
    check(
        "mul.lo.u32 %x4, %x0, %x2;\nmul.hi.u32 %x5, %x0, %x2;\nmad.lo.cc.u32 %x4, %x1, %x3, %x4;\n\
         madc.hi.u32 %x5, %x1, %x3, %x5;\n",
        &|a, b| {
            let product = |a: u64, b: u64| (a & 0xffff_ffff).wrapping_mul(b & 0xffff_ffff);
            product(a, b).wrapping_add(product(a >> 32, b >> 32))
        },
    );
}

#[test]
fn pairs_of_16_bit_floats_round_each_result_once() {
    type Half = (&'static str, fn(f32) -> u16, fn(u16) -> f64, fn(f64) -> u16);
    let kinds: [Half; 2] = [
        ("bf16x2", |x| bf16::from_f32(x).to_bits(), |b| bf16::from_bits(b).to_f64(), bf16_bits),
        ("f16x2", |x| f16::from_f32(x).to_bits(), |b| f16::from_bits(b).to_f64(), f16_bits),
    ];
    type Reference = (&'static str, usize, fn(f64, f64, f64) -> f64, f64);
    let operations: [Reference; 10] = [
        ("add.rn", 2, |a, b, _| a + b, 0.0),
        ("sub.rn", 2, |a, b, _| a - b, 0.0),
        ("mul.rn", 2, |a, b, _| a * b, 0.0),
        ("fma.rn", 3, |a, b, c| a * b + c, 0.0),
        ("fma.rn.relu", 3, |a, b, c| (a * b + c).max(0.0), 0.0),
        ("max", 2, |a, b, _| a.max(b), 0.0),
        ("min", 2, |a, b, _| a.min(b), 0.0),
        ("max.NaN", 2, |a, b, _| a.max(b), 0.0),
        // Approximations: f32 mathematics rounded once more.
        ("ex2.approx.ftz", 1, |a, _, _| a.exp2(), 1.0),
        ("tanh.approx", 1, |a, _, _| a.tanh(), 1.0),
    ];
    for (ty, encode, decode, round) in kinds {
        let input = pairs(encode);
        for (operation, sources, want, ulps) in operations {
            let list = ["%a", "%b", "%c"][..sources].join(", ");
            let got = apply(&format!("{operation}.{ty} %d, {list};"), "b32", &["b32", "b32", "b32"], &input);
            for (got, words) in got.iter().zip(input) {
                for shift in [0, 16] {
                    let [a, b, c] = words.map(|w| decode((w >> shift) as u16));
                    let (got, want) = ((got >> shift) as u16, round(want(a, b, c)));
                    let apart = f64::from(got.abs_diff(want));
                    assert!(apart <= ulps, "{operation}.{ty} of {a}, {b}, {c}: {}, not {}", decode(got), decode(want));
                }
            }
        }
        for (test, holds) in [("gt", 0usize), ("le", 1), ("ne", 2)] {
            let got = apply(&format!("set.{test}.{ty}.{ty} %d, %a, %b;"), "b32", &["b32", "b32"], &input);
            for (got, words) in got.iter().zip(input) {
                for shift in [0, 16] {
                    let [a, b, _] = words.map(|w| decode((w >> shift) as u16));
                    let want = [a > b, a <= b, a != b][holds];
                    assert_eq!(decode((got >> shift) as u16), f64::from(u8::from(want)), "set.{test}.{ty} of {a}, {b}");
                }
            }
        }
    }
}

#[test]
fn conversions_round_once_in_their_direction() {
    let mut input = words();
    for (lane, words) in input.iter_mut().enumerate() {
        words[1] = u64::from((random(lane as u64, 1)[0] * 3000.0).to_bits());
    }
    for (suffix, pick) in [("rn", 0), ("rz", 1), ("rm", 2), ("rp", 3)] {
        for ty in ["bf16", "f16"] {
            let got = apply(&format!("cvt.{suffix}.{ty}.f32 %d, %b;"), "b16", &["b64", "f32"], &input);
            for (got, words) in got.iter().zip(input) {
                let x = f64::from(f32::from_bits(words[1] as u32));
                let value = |bits: u16| {
                    if ty == "bf16" { bf16::from_bits(bits).to_f64() } else { f16::from_bits(bits).to_f64() }
                };
                let (got, up, down) = (value(*got as u16), value(*got as u16 + 1), value(*got as u16 - 1));
                // The neighbours by magnitude.
                let (outer, inner) = (up, down);
                let fits = match pick {
                    0 => (got - x).abs() <= (outer - x).abs() && (got - x).abs() <= (inner - x).abs(),
                    1 => got.abs() <= x.abs() && outer.abs() > x.abs(),
                    2 => got <= x && (if x < 0.0 { inner } else { outer }) > x,
                    _ => got >= x && (if x < 0.0 { outer } else { inner }) < x,
                };
                assert!(fits, "cvt.{suffix}.{ty}.f32 of {x}: {got}");
            }
        }
    }
    let got = apply("cvt.rn.bf16.s32 %d, %a;", "b16", &["s32"], &input);
    for (got, words) in got.iter().zip(input) {
        assert_eq!(*got as u16, bf16_bits(f64::from(words[0] as i32)), "{}", words[0] as i32);
    }
    let got = apply("cvt.rn.bf16x2.f32 %d, %b, %c;", "b32", &["b64", "f32", "f32"], &input);
    for (got, words) in got.iter().zip(input) {
        let (high, low) = (f32::from_bits(words[1] as u32), f32::from_bits(words[2] as u32));
        assert_eq!((*got >> 16) as u16, bf16::from_f32(high).to_bits());
        assert!(low.is_nan() || *got as u16 == bf16::from_f32(low).to_bits(), "{low}");
    }
}

#[test]
fn f16_keeps_what_an_f32_in_between_would_lose() {
    // 683/512 * 3/4 = 1 + 2^-11, half way between two f16; the smallest f16 decides.
    let [a, b, tiny] = [683.0 / 512.0, 0.75, f64::from_bits(0x3e70 << 48)].map(|x| u64::from(f16_bits(x)));
    assert_eq!(tiny, 1);
    for (c, want) in [(tiny, 0x3c01), (tiny | 0x8000, 0x3c00), (0, 0x3c00)] {
        let got = apply("fma.rn.f16 %d, %a, %b, %c;", "b16", &["b16"; 3], &[[a, b, c]; 32]);
        assert!(got.iter().all(|got| *got == want), "{c:#x}: {got:x?}");
        let [a, b, c] = [a, b, c].map(|x| x << 16 | x);
        let got = apply("fma.rn.f16x2 %d, %a, %b, %c;", "b32", &["b32"; 3], &[[a, b, c]; 32]);
        assert!(got.iter().all(|got| *got == (want << 16 | want)), "{c:#x}: {got:x?}");
    }
    // Ties and their neighbours, in the normal and the subnormal range, and around the largest number.
    let ties = [1.0 + 2f64.powi(-11), 1.0 + 3.0 * 2f64.powi(-11), 3.5 * 2f64.powi(-24), 65520.0, 1e300, 1e-300];
    for tie in ties {
        let near = [tie, tie.next_up(), tie.next_down(), -tie, (-tie).next_up(), (-tie).next_down()];
        let input: [[u64; 3]; 32] = std::array::from_fn(|lane| [near[lane % 6].to_bits(), 0, 0]);
        let got = apply("cvt.rn.f16.f64 %d, %a;", "b16", &["f64"], &input);
        for (lane, got) in got.iter().enumerate() {
            assert_eq!(*got as u16, f16_bits(near[lane % 6]), "{:e}", near[lane % 6]);
        }
    }
    for (ty, value) in [("u32", 2049 << 12 | 1), ("s32", 2049 << 3 | 1), ("u64", 2049 << 4 | 1), ("s64", 2049 << 1)] {
        let got = apply(&format!("cvt.rn.f16.{ty} %d, %a;"), "b16", &[ty], &[[value, 0, 0]; 32]);
        assert!(got.iter().all(|got| *got as u16 == f16_bits(value as f64)), "{ty} {value}: {got:x?}");
    }
}

#[test]
fn a_nan_becomes_an_integer_as_the_manual_says() {
    let sources = [
        ("f16", "b16", 0x7e01u64),
        ("bf16", "b16", 0x7fc1),
        ("f32", "f32", 0xffc0_0001),
        ("f64", "f64", 0x7ff8 << 48 | 1),
    ];
    for rounding in ["rzi", "rni", "rmi", "rpi"] {
        for (source, register, nan) in sources {
            for bits in [8u32, 16, 32, 64] {
                for sign in ["s", "u"] {
                    for ftz in ["", ".ftz"] {
                        if !ftz.is_empty() && (source != "f32" || bits < 32) {
                            continue;
                        }
                        // A zero source is a number of the same form, and must not give the same.
                        let input: [[u64; 3]; 32] = std::array::from_fn(|lane| [nan * (lane as u64 % 2), 0, 0]);
                        let out = format!("b{}", bits.max(16));
                        let form = format!("cvt.{rounding}{ftz}.{sign}{bits}.{source}");
                        let got = apply(&format!("{form} %d, %a;"), &out, &[register], &input);
                        let top = if source == "f64" || bits == 64 { 1 << (bits - 1) } else { 0 };
                        for (lane, got) in got.iter().enumerate() {
                            let want = if lane % 2 == 1 { top } else { 0 };
                            assert_eq!(got & u64::MAX >> (64 - bits), want, "{form}");
                        }
                    }
                }
            }
        }
    }
}

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
fn comparisons_give_two_predicates_and_take_a_third() {
    let input = words();
    let body = "{\n.reg .pred %p, %q, %r;\nsetp.ne.s32 %r, %c, 0;\nsetp.lt.and.s32 %p|%q, %a, %b, %r;\n\
                .reg .b32 %x, %y;\nselp.b32 %x, 1, 0, %p;\nselp.b32 %y, 2, 0, %q;\nor.b32 %d, %x, %y;\n}";
    let got = apply(body, "b32", &["b32", "b32", "b32"], &input);
    for (got, [a, b, c]) in got.iter().zip(input) {
        let (less, other) = ((a as i32) < b as i32, c as u32 != 0);
        assert_eq!(*got, u64::from(less && other) + 2 * u64::from(!less && other));
    }
    let got = apply("set.lt.u32.s32 %d, %a, %b;", "b32", &["s32", "s32"], &input);
    for (got, [a, b, _]) in got.iter().zip(input) {
        assert_eq!(*got as u32, if (a as i32) < b as i32 { u32::MAX } else { 0 });
    }
}

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
