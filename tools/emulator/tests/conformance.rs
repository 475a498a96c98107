//! Kernels of one instruction each, for what only hardware can settle: fragment layouts, descriptors and swizzles, the
//! rounding of tensor cores, approximate functions, conversions.
//!
//! Every kernel takes an input, an output and two numbers. Run with CONFORMANCE_DIR=folder, this test writes texts and
//! inputs there; `record.py folder` runs them on a GPU and leaves `NAME.out`. Copied into `golden/`, these become the
//! truth that the emulator must reproduce: bit by bit, but for approximate functions, which have 2^-21.

mod common;

use common::*;
use emulator::Launch;
use half::{bf16, f16};
use std::path::Path;

struct Vector {
    name: String,
    ptx: String,
    input: Vec<u8>,
    output: usize,
    numbers: [u64; 2],
    threads: u32,
    /// The result in f64 where it is known, one for each f32 or s32 of the output.
    want: Option<Vec<f64>>,
    integer: bool,
}

/// f32 bits that bring out what approximations do: all exponents, both signs, edges.
fn floats() -> Vec<u32> {
    let mut out = vec![0, 1, 0x007f_ffff, 0x0080_0000, 0x7f7f_ffff, 0x7f80_0000, 0x7fc0_0000, 0x3f7f_ffff];
    out.extend((1..255).step_by(2).map(|exponent| (exponent << 23) | ((exponent * 0x9e37) & 0x007f_ffff)));
    let negative: Vec<u32> = out.iter().map(|bits| bits | 1 << 31).collect();
    out.extend(negative);
    out.resize(256, 0x4049_0fdb);
    out
}

fn unary() -> Vec<Vector> {
    let input: Vec<u8> = floats().iter().flat_map(|bits| bits.to_le_bytes()).collect();
    let approximate = [
        "ex2.approx.f32",
        "lg2.approx.f32",
        "rsqrt.approx.f32",
        "rcp.approx.ftz.f32",
        "sin.approx.f32",
        "cos.approx.f32",
        "tanh.approx.f32",
        "sqrt.approx.f32",
        "ex2.approx.ftz.f32",
    ];
    let exact = [
        "rcp.rn.f32",
        "sqrt.rn.f32",
        "cvt.rni.f32.f32",
        "cvt.rzi.s32.f32",
        "cvt.rmi.s32.f32",
        "cvt.sat.f32.f32",
        "cvt.rna.tf32.f32",
        "cvt.rn.bf16x2.f32",
        "cvt.rn.f16x2.f32",
    ];
    approximate
        .iter()
        .chain(&exact)
        .map(|opcode| {
            let out = if opcode.contains("s32") || opcode.contains("x2") || opcode.contains("tf32") { "%i" } else { "%y" };
            let sources = if opcode.contains("x2.f32") { "%x, %x" } else { "%x" };
            let body = format!(
                ".reg .f32 %x, %y;\n.reg .b32 %i;\nld.global.f32 %x, [%in];\n{opcode} {out}, {sources};\nst.global.b32 [%out], {out};"
            );
            Vector {
                name: opcode.replace('.', "-"),
                ptx: kernel(&body, 4, 4),
                input: input.clone(),
                output: 1024,
                numbers: [0; 2],
                threads: 256,
                want: None,
                integer: true,
            }
        })
        .collect()
}

fn fragments() -> Vec<Vector> {
    let mut out = vec![];
    for (name, shape, a, b, c, ty) in [
        ("bf16", "m16n8k16.row.col.f32.bf16.bf16.f32", 4, 2, 4, "f32"),
        ("bf16-k8", "m16n8k8.row.col.f32.bf16.bf16.f32", 2, 1, 4, "f32"),
        ("f16", "m16n8k16.row.col.f32.f16.f16.f32", 4, 2, 4, "f32"),
        ("f16-f16", "m16n8k16.row.col.f16.f16.f16.f16", 4, 2, 2, "b32"),
        ("tf32", "m16n8k8.row.col.f32.tf32.tf32.f32", 4, 2, 4, "f32"),
        ("s8", "m16n8k32.row.col.s32.s8.s8.s32", 4, 2, 4, "b32"),
        ("u8", "m16n8k16.row.col.s32.u8.s8.s32", 2, 1, 4, "b32"),
    ] {
        let list = |prefix: &str, n: usize| (0..n).map(|i| format!("%{prefix}{i}")).collect::<Vec<_>>().join(", ");
        let loads = |prefix: &str, n: usize, from: usize, ty: &str| {
            (0..n).map(|i| format!("ld.global.{ty} %{prefix}{i}, [%in+{}];\n", from + 4 * i)).collect::<String>()
        };
        let stores: String = (0..c).map(|i| format!("st.global.{ty} [%out+{}], %d{i};\n", 4 * i)).collect();
        let body = format!(
            ".reg .b32 %a<4>, %b<2>;\n.reg .{ty} %c<4>, %d<4>;\n{}{}{}\
             mma.sync.aligned.{shape} {{{}}}, {{{}}}, {{{}}}, {{{}}};\n{stores}",
            loads("a", a, 0, "b32"),
            loads("b", b, 16, "b32"),
            loads("c", c, 24, ty),
            list("d", c),
            list("a", a),
            list("b", b),
            list("c", c)
        );
        let element: fn(f32) -> Vec<u8> = match name {
            "bf16" | "bf16-k8" => |x| bf16::from_f32(x).to_le_bytes().into(),
            "f16" | "f16-f16" => |x| f16::from_f32(x).to_le_bytes().into(),
            "tf32" => |x| x.to_le_bytes().into(),
            _ => |x| vec![(x * 127.0) as i8 as u8],
        };
        let mut input = vec![];
        for (lane, values) in random(17, 32 * 64).chunks(64).enumerate() {
            let ab: Vec<u8> = values.iter().flat_map(|v| element(*v)).take(24).collect();
            input.extend(ab);
            input.extend((0..4).flat_map(|i| match ty {
                "f32" => values[60 + i].to_le_bytes(),
                _ if name == "f16-f16" => [0; 4],
                _ => (lane as i32 * 100 - i as i32).to_le_bytes(),
            }));
        }
        let ptx = kernel(&body, 40, 16);
        let (name, integer) = (format!("mma-{name}"), true);
        out.push(Vector { name, ptx, input, output: 512, numbers: [0; 2], threads: 32, want: None, integer });
    }
    for transposed in ["", ".trans"] {
        let body = format!(
            ".reg .b32 %r<6>;\n.shared .align 128 .b8 s[512];\nmov.u32 %r4, s;\nmad.lo.s32 %r4, %t, 16, %r4;\n\
             .reg .b32 %w<4>;\nld.global.v4.u32 {{%w0, %w1, %w2, %w3}}, [%in];\nst.shared.v4.u32 [%r4], {{%w0, %w1, %w2, %w3}};\n\
             bar.warp.sync -1;\nldmatrix.sync.aligned.m8n8.x4{transposed}.shared.b16 {{%r0, %r1, %r2, %r3}}, [%r4];\n\
             st.global.v4.u32 [%out], {{%r0, %r1, %r2, %r3}};"
        );
        out.push(Vector {
            name: format!("ldmatrix{}", transposed.replace('.', "-")),
            ptx: kernel(&body, 16, 16),
            input: (0..256u16).flat_map(u16::to_le_bytes).collect(),
            output: 512,
            numbers: [0; 2],
            threads: 32,
            want: None,
            integer: true,
        });
    }
    out
}

/// Where element (line along M or N, k) lies in a tile, by the canonical layouts: byte offset, leading and stride.
fn place(width: usize, transposed: bool, size: usize, line: usize, k: usize) -> usize {
    // Distances between atoms are chosen larger than they must be, so that a mix-up shows.
    let (leading, stride) = offsets(width, transposed);
    if width == 16 {
        return if transposed {
            line / 8 * stride + k / 8 * leading + k % 8 * 16 + line % 8 * 2
        } else {
            line / 8 * stride + k * size / 16 * leading + line % 8 * 16 + k * size % 16
        };
    }
    let mix = |row: usize| row % 8 / (128 / width);
    if transposed {
        let lines = width / 2;
        let chunk = (line % lines / 8) ^ mix(k);
        line / lines * leading + k / 8 * stride + k % 8 * width + chunk * 16 + line % 8 * 2
    } else {
        let chunk = (k * size / 16) ^ mix(line);
        line / 8 * stride + line % 8 * width + chunk * 16 + k * size % 16
    }
}

/// Leading and stride byte offsets of the tiles.
fn offsets(width: usize, transposed: bool) -> (usize, usize) {
    match (width, transposed) {
        (16, _) => (128, 512),
        (_, false) => (16, 1024),
        (_, true) => (4096, 1024),
    }
}

/// C = A B by one wgmma of m64n32 with both operands under one swizzle.
fn wgmma(element: &str, width: usize, a_in_registers: bool, a_transposed: bool, b_transposed: bool) -> Vector {
    let (m, n) = (64usize, 32usize);
    let size = match element {
        "s8" => 1,
        "tf32" => 4,
        _ => 2,
    };
    let k = 32 / size;
    let number =
        |seed: u64, count: usize| -> Vec<f32> { random(seed, count).into_iter().map(|x| (x * 8.0).round()).collect() };
    let (a, b) = (number(1, m * k), number(2, n * k));
    let encode = |x: f32| -> Vec<u8> {
        match element {
            "bf16" => bf16::from_f32(x).to_le_bytes().into(),
            "f16" => f16::from_f32(x).to_le_bytes().into(),
            "tf32" => x.to_le_bytes().into(),
            _ => vec![x as i8 as u8],
        }
    };
    // Shared memory: A at 0, B at 16 KiB; registers of A follow at 32 KiB.
    let mut input = vec![0; 32768 + 2048];
    let mut put = |at: usize, x: f32| input[at..at + size].copy_from_slice(&encode(x));
    for at in 0..k {
        (0..m).for_each(|row| put(place(width, a_transposed, size, row, at), a[row * k + at]));
        (0..n).for_each(|column| put(16384 + place(width, b_transposed, size, column, at), b[column * k + at]));
    }
    for thread in 0..128 {
        let (warp, g, t) = (thread / 32, thread % 32 / 4, thread % 4);
        for register in 0..4 {
            let row = 16 * warp + g + 8 * (register % 2);
            for i in 0..4 / size {
                let column = (4 / size) * (4 * (register / 2) + t) + i;
                put(32768 + thread * 16 + register * 4 + i * size, a[row * k + column]);
            }
        }
    }
    let descriptor = |start: usize, transposed: bool| {
        let (leading, stride) = offsets(width, transposed);
        let swizzle: u64 = match width {
            16 => 0,
            32 => 3,
            64 => 2,
            _ => 1,
        };
        (start >> 4) as u64 | ((leading >> 4) as u64) << 16 | ((stride >> 4) as u64) << 32 | swizzle << 62
    };
    let numbers = [descriptor(0, a_transposed), descriptor(16384, b_transposed)];
    let (ty, shape, flags) = match element {
        "s8" => ("b32", "m64n32k32.s32.s8.s8".to_string(), String::new()),
        "tf32" => ("f32", "m64n32k8.f32.tf32.tf32".to_string(), ", 1, 1".to_string()),
        _ => {
            let majors = if a_in_registers {
                format!("{}", b_transposed as u8)
            } else {
                format!("{}, {}", a_transposed as u8, b_transposed as u8)
            };
            ("f32", format!("m64n32k16.f32.{element}.{element}"), format!(", 1, 1, {majors}"))
        }
    };
    let list = (0..16).map(|i| format!("%d{i}")).collect::<Vec<_>>().join(", ");
    let stores: String = (0..16).map(|i| format!("st.global.{ty} [%out+{}], %d{i};\n", 4 * i)).collect();
    let a_operand = if a_in_registers { "{%a0, %a1, %a2, %a3}" } else { "%n0" };
    let body = format!(
        ".shared .align 1024 .b8 s[32768];\n.reg .{ty} %d<16>;\n.reg .b32 %a<4>, %i<6>;\n.reg .b64 %s, %from, %u<2>;\n\
         .reg .pred %more, %no;\n\
         mov.u32 %i0, s;\nmad.lo.s32 %i1, %t, 16, %i0;\nadd.s32 %i2, %i0, 32768;\nmov.b64 %from, %in;\n\
         COPY:\nld.global.v2.u64 {{%u0, %u1}}, [%from];\nst.shared.v2.u64 [%i1], {{%u0, %u1}};\nadd.s32 %i1, %i1, 2048;\n\
         add.s64 %from, %from, 2048;\nsetp.lt.u32 %more, %i1, %i2;\n@%more bra COPY;\n\
         ld.global.v4.u32 {{%a0, %a1, %a2, %a3}}, [%from];\n\
         fence.proxy.async;\nbar.sync 0;\n\
         and.b32 %i3, %i0, 262143;\nshr.u32 %i3, %i3, 4;\ncvt.u64.u32 %s, %i3;\nadd.s64 %n0, %n0, %s;\nadd.s64 %n1, %n1, %s;\n\
         setp.ne.u32 %no, %t, %t;\nwgmma.fence.sync.aligned;\n\
         wgmma.mma_async.sync.aligned.{shape} {{{list}}}, {a_operand}, %n1, %no{flags};\n\
         wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n{stores}"
    );
    let mut want = vec![0.0; 128 * 16];
    for thread in 0..128 {
        let (warp, g, t) = (thread / 32, thread % 32 / 4, thread % 4);
        for register in 0..16 {
            let (row, column) = (16 * warp + g + 8 * (register / 2 % 2), 8 * (register / 4) + 2 * t + register % 2);
            want[thread * 16 + register] =
                (0..k).map(|at| f64::from(a[row * k + at]) * f64::from(b[column * k + at])).sum();
        }
    }
    let form = if a_in_registers { "rs" } else { "ss" };
    Vector {
        name: format!("wgmma-{element}-{width}-{form}-{}{}", a_transposed as u8, b_transposed as u8),
        ptx: kernel(&body, 16, 64),
        input,
        output: 128 * 64,
        numbers,
        threads: 128,
        want: Some(want),
        integer: element == "s8",
    }
}

fn vectors() -> Vec<Vector> {
    let mut all = unary();
    all.extend(fragments());
    for width in [16, 32, 64, 128] {
        all.push(wgmma("s8", width, false, false, false));
        all.push(wgmma("s8", width, true, false, false));
        all.push(wgmma("tf32", width, false, false, false));
        all.push(wgmma("tf32", width, true, false, false));
        for element in ["bf16", "f16"] {
            for (a, b) in [(false, false), (true, false), (false, true), (true, true)] {
                all.push(wgmma(element, width, false, a, b));
            }
            all.push(wgmma(element, width, true, false, false));
            all.push(wgmma(element, width, true, false, true));
        }
    }
    all
}

fn run(vector: &Vector, policy: emulator::Policy) -> Vec<u8> {
    let mut device = device(policy);
    let function = device.load(&vector.ptx).unwrap_or_else(|e| panic!("{}: {e}\n{}", vector.name, vector.ptx));
    let function = function.function("vector").expect("it is there");
    let input = device.alloc("input", vector.input.len()).expect("memory is left");
    device.upload(input, &vector.input).expect("inside");
    let output = device.alloc("output", vector.output).expect("memory is left");
    let launch = Launch { grid: [1; 3], block: [vector.threads, 1, 1], cluster: [1; 3], dynamic_shared: 0 };
    device
        .launch(&function, launch, &[&input, &output, &vector.numbers[0], &vector.numbers[1]])
        .unwrap_or_else(|error| panic!("{}: {error}", vector.name));
    device.download(output, vector.output).expect("inside")
}

#[test]
fn every_form_of_wgmma_multiplies() {
    for vector in vectors().iter().filter(|v| v.want.is_some()) {
        for policy in POLICIES {
            let bytes = run(vector, policy);
            let got: Vec<f64> = if vector.integer {
                bytes.chunks(4).map(|b| i32::from_le_bytes(b.try_into().expect("chunks of 4")).into()).collect()
            } else {
                f32s(&bytes).into_iter().map(f64::from).collect()
            };
            // Small integers: every sum is exact.
            assert_eq!(&got, vector.want.as_ref().expect("filtered"), "{}", vector.name);
        }
    }
}

#[test]
fn recorded_vectors_are_reproduced() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let export = std::env::var_os("CONFORMANCE_DIR");
    let (mut recorded, all) = (0, vectors());
    for vector in &all {
        let [eager, lazy] = POLICIES.map(|policy| run(vector, policy));
        assert_eq!(eager, lazy, "{}", vector.name);
        if let Some(folder) = &export {
            let base = Path::new(folder).join(&vector.name);
            let numbers = format!("{} {} {} {}", vector.threads, vector.output, vector.numbers[0], vector.numbers[1]);
            std::fs::write(base.with_extension("ptx"), &vector.ptx).expect("CONFORMANCE_DIR can be written");
            std::fs::write(base.with_extension("in"), &vector.input).expect("CONFORMANCE_DIR can be written");
            std::fs::write(base.with_extension("args"), numbers).expect("CONFORMANCE_DIR can be written");
        }
        let Ok(want) = std::fs::read(golden.join(&vector.name).with_extension("out")) else { continue };
        recorded += 1;
        if vector.name.contains("approx") {
            for (got, want) in f32s(&eager).into_iter().zip(f32s(&want)) {
                let same = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
                assert!(same || (got - want).abs() <= want.abs() * 2f32.powi(-21), "{}: {got}, {want}", vector.name);
            }
        } else {
            assert_eq!(eager, want, "{}", vector.name);
        }
    }
    println!("{recorded} of {} vectors are recorded on hardware", all.len());
}
