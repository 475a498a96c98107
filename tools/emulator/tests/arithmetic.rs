//! Instructions beyond those of the test kernels: each computes what its definition says.

mod common;

use common::{lanes::*, *};
use half::{bf16, f16};

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
fn max_and_min_order_zeros_and_keep_subnormal_numbers() {
    let (tiny, nan) = (f32::from_bits(0x0000_1234), f32::NAN);
    // Two numbers, their max and min.
    let cases = [
        (0.0, -0.0, 0.0, -0.0),
        (-0.0, 0.0, 0.0, -0.0),
        (tiny, -tiny, tiny, -tiny),
        (tiny, 0.0, tiny, 0.0),
        (nan, 2.0, 2.0, 2.0),
        (2.0, nan, 2.0, 2.0),
        (f32::INFINITY, -1.0, f32::INFINITY, -1.0),
    ];
    let bits = |x: f32| u64::from(x.to_bits());
    let input = std::array::from_fn(|lane| {
        let (a, b, ..) = cases[lane % cases.len()];
        [bits(a), bits(b), 0]
    });
    let flushed = |x: f32| if x.is_subnormal() { 0f32.copysign(x) } else { x };
    for (ftz, kept) in [("", (|x| x) as fn(f32) -> f32), (".ftz", flushed)] {
        let max = apply(&format!("max{ftz}.f32 %d, %a, %b;"), "f32", &["f32"; 2], &input);
        let min = apply(&format!("min{ftz}.f32 %d, %a, %b;"), "f32", &["f32"; 2], &input);
        for (lane, (max, min)) in max.into_iter().zip(min).enumerate() {
            let (a, b, most, least) = cases[lane % cases.len()];
            assert_eq!((max, min), (bits(kept(most)), bits(kept(least))), "{ftz} of {a:e}, {b:e}");
        }
    }
    let nan = apply("max.NaN.f32 %d, %a, %b;", "f32", &["f32"; 2], &input);
    assert!(f32::from_bits(nan[4] as u32).is_nan() && f32::from_bits(nan[5] as u32).is_nan());
}

#[test]
fn a_shuffle_reads_within_its_segment_and_says_where_it_cannot() {
    let input = words();
    for width in [1, 4, 8, 32] {
        for (mode, end) in [("up", 0), ("down", 31), ("bfly", 31), ("idx", 31)] {
            let clamp = (32 - width) << 8 | end;
            // Where there is no such lane, the complement of its own value.
            let instruction = format!(
                "{{ .reg .pred %in; shfl.sync.{mode}.b32 %d|%in, %a, %b, {clamp}, -1; @!%in not.b32 %d, %d; }}"
            );
            let got = apply(&instruction, "b32", &["b32", "b32"], &input);
            for (lane, got) in (0i64..).zip(got) {
                let (first, by) = (lane / width * width, (input[lane as usize][1] % 32) as i64);
                let source = match mode {
                    "up" => Some(lane - by).filter(|source| *source >= first),
                    "down" => Some(lane + by).filter(|source| *source < first + width),
                    "bfly" => Some(lane ^ by).filter(|source| *source < first + width),
                    _ => Some(first + by % width),
                };
                let value = |lane: i64| input[lane as usize][0] as u32;
                let want = source.map_or(!value(lane), value);
                assert_eq!(got as u32, want, "{instruction}, lane {lane} by {by}");
            }
        }
    }
}

#[test]
fn what_a_sum_loses_still_decides_a_tie() {
    // 77 * 5 = 385 lies between the bf16 384 and 386: the least addend decides.
    let bits = |x: f64| u64::from(bf16_bits(x));
    let (half, tiny) = (u64::from(bf16::from_f32(77.0).to_bits()), 2f64.powi(-100));
    let mut input = [[half, bits(5.0), bits(tiny)]; 32];
    input[1][2] = bits(-tiny);
    input[2][2] = bits(0.0);
    input[3] = [bits(-77.0), bits(5.0), bits(-tiny)];
    let got = apply("fma.rn.bf16 %d, %a, %b, %c;", "b16", &["b16"; 3], &input);
    for (lane, want) in [(0, 386.0), (1, 384.0), (2, 384.0), (3, -386.0)] {
        assert_eq!(got[lane], bits(want), "lane {lane}");
    }
    let twice = input.map(|words| words.map(|word| word | word << 16));
    let got = apply("fma.rn.bf16x2 %d, %a, %b, %c;", "b32", &["b32"; 3], &twice);
    assert_eq!((got[0], got[1]), (bits(386.0) * 0x1_0001, bits(384.0) * 0x1_0001));
}

#[test]
fn zeros_that_round_down_are_negative_unless_both_are_positive() {
    let bits = |x: f32| u64::from(x.to_bits());
    let zeros = [(0.0, 0.0), (0.0, -0.0), (-0.0, 0.0), (-0.0, -0.0), (1.5, -1.5)];
    let mut input = [[0; 3]; 32];
    for (words, (a, b)) in input.iter_mut().zip(zeros) {
        *words = [bits(a), bits(b), 0];
    }
    for (instruction, want) in [
        ("add.rm.f32 %d, %a, %b;", [0.0, -0.0, -0.0, -0.0, -0.0]),
        ("add.rp.f32 %d, %a, %b;", [0.0, 0.0, 0.0, -0.0, 0.0]),
        ("sub.rm.f32 %d, %a, %b;", [-0.0, 0.0, -0.0, -0.0, 3.0]),
        ("mul.rm.f32 %d, %a, %b;", [0.0, -0.0, -0.0, 0.0, -2.25]),
    ] {
        let got = apply(instruction, "f32", &["f32"; 2], &input);
        for (lane, want) in want.into_iter().enumerate() {
            assert_eq!(got[lane], bits(want), "{instruction} of {:?}", zeros[lane]);
        }
    }
}
