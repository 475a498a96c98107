//! Which lane holds which element: `mma.sync`, `ldmatrix` and `stmatrix`, by the tables of the PTX ISA.

use super::{Vector, Want, common::kernel, encode, registers, size};

/// The elements of a lane, which has group g = lane / 4 and t = lane % 4, as the ISA's "Matrix Fragments for mma.m16n8kK"
/// gives them: element i of A at (row, k), element i of B at (k, column).
pub struct Layout {
    a: usize,
    b: usize,
    a_at: fn(usize, usize, usize) -> (usize, usize),
    b_at: fn(usize, usize, usize) -> (usize, usize),
}

/// The table for elements of `size` bytes.
fn layout(size: usize, k: usize) -> Layout {
    match (size, k) {
        (4, 4) => Layout { a: 2, b: 1, a_at: |g, t, i| (g + 8 * i, t), b_at: |g, t, _| (t, g) },
        (4, 8) => Layout {
            a: 4,
            b: 2,
            a_at: |g, t, i| (if i == 0 || i == 2 { g } else { g + 8 }, if i < 2 { t } else { t + 4 }),
            b_at: |g, t, i| (if i == 0 { t } else { t + 4 }, g),
        },
        (2, 8) => Layout {
            a: 4,
            b: 2,
            a_at: |g, t, i| (if i < 2 { g } else { g + 8 }, 2 * t + i % 2),
            b_at: |g, t, i| (2 * t + i, g),
        },
        (2, 16) => Layout {
            a: 8,
            b: 4,
            a_at: |g, t, i| {
                let row = if i < 2 || (4..6).contains(&i) { g } else { g + 8 };
                (row, 2 * t + i % 2 + if i < 4 { 0 } else { 8 })
            },
            b_at: |g, t, i| (2 * t + i % 2 + if i < 2 { 0 } else { 8 }, g),
        },
        (1, 16) => Layout {
            a: 8,
            b: 4,
            a_at: |g, t, i| (if i < 4 { g } else { g + 8 }, 4 * t + i % 4),
            b_at: |g, t, i| (4 * t + i, g),
        },
        (1, 32) => Layout {
            a: 16,
            b: 8,
            a_at: |g, t, i| {
                let row = if i < 4 || (8..12).contains(&i) { g } else { g + 8 };
                (row, 4 * t + i % 4 + if i < 8 { 0 } else { 16 })
            },
            b_at: |g, t, i| (4 * t + i % 4 + if i < 4 { 0 } else { 16 }, g),
        },
        other => panic!("{other:?}: no such shape"),
    }
}

/// Row and column of accumulator i.
fn accumulator(g: usize, t: usize, i: usize) -> (usize, usize) {
    (if i < 2 { g } else { g + 8 }, 2 * t + i % 2)
}

/// The types of a product: accumulators, A, B.
#[derive(Clone, Copy)]
pub struct Types {
    pub d: &'static str,
    pub a: &'static str,
    pub b: &'static str,
}

/// The order in which `mma` leaves D: lane by lane.
pub fn in_order(d: &[[f64; 8]; 16]) -> impl Iterator<Item = f64> {
    (0..32).flat_map(|lane| (0..4).map(move |i| accumulator(lane / 4, lane % 4, i))).map(|(row, column)| d[row][column])
}

/// D = A B + C by one `mma.sync`, for A of 16 rows of k and B of k rows of 8.
pub fn mma(
    name: String,
    Types { d, a, b }: Types,
    k: usize,
    a_at: impl Fn(usize, usize) -> f64,
    b_at: impl Fn(usize, usize) -> f64,
    c_at: impl Fn(usize, usize) -> f64,
    want: Want,
) -> Vector {
    let table = layout(size(a), k);
    let mut input = vec![];
    for lane in 0..32 {
        let (g, t) = (lane / 4, lane % 4);
        for i in 0..table.a {
            let (row, at) = (table.a_at)(g, t, i);
            input.extend(encode(a, a_at(row, at)));
        }
        for i in 0..table.b {
            let (at, column) = (table.b_at)(g, t, i);
            input.extend(encode(b, b_at(at, column)));
        }
        for i in 0..4 {
            let (row, column) = accumulator(g, t, i);
            input.extend(encode(d, c_at(row, column)));
        }
    }
    let words = |count: usize, ty: &str| count * size(ty) / 4;
    let (of_a, of_b, of_d) = (words(table.a, a), words(table.b, b), words(4, d));
    let held = if d == "f32" { "f32" } else { "b32" };
    let loads = |prefix: &str, count: usize, from: usize, ty: &str| {
        (0..count).map(|i| format!("ld.global.{ty} %{prefix}{i}, [%in+{}];\n", 4 * (from + i))).collect::<String>()
    };
    let stores: String = (0..of_d).map(|i| format!("st.global.{held} [%out+{}], %d{i};\n", 4 * i)).collect();
    let body = format!(
        ".reg .b32 %a<4>, %b<2>;\n.reg .{held} %c<4>, %d<4>;\n{}{}{}\
         mma.sync.aligned.m16n8k{k}.row.col.{d}.{a}.{b}.{d} {{{}}}, {{{}}}, {{{}}}, {{{}}};\n{stores}",
        loads("a", of_a, 0, "b32"),
        loads("b", of_b, of_a, "b32"),
        loads("c", of_d, of_a + of_b, held),
        registers("d", of_d),
        registers("a", of_a),
        registers("b", of_b),
        registers("c", of_d)
    );
    let (of_in, of_out) = (4 * (of_a + of_b + of_d) as u32, 4 * of_d as u32);
    Vector::warp(name, kernel(&body, of_in, of_out), input, 32 * 4 * of_d, want)
}

/// Every shape and type on small integers, whose sums are exact in all accumulators, f16 included.
fn products() -> Vec<Vector> {
    let mut forms: Vec<(Types, usize)> = vec![];
    for (d, element) in [("f32", "bf16"), ("f32", "f16"), ("f16", "f16")] {
        forms.extend([8, 16].map(|k| (Types { d, a: element, b: element }, k)));
    }
    forms.extend([4, 8].map(|k| (Types { d: "f32", a: "tf32", b: "tf32" }, k)));
    for (a, b) in [("s8", "s8"), ("u8", "u8"), ("s8", "u8"), ("u8", "s8")] {
        forms.extend([16, 32].map(|k| (Types { d: "s32", a, b }, k)));
    }
    forms
        .into_iter()
        .map(|(types, k)| {
            let Types { d, a, b } = types;
            // Unsigned bytes take the upper half of their range, which signed ones have not.
            let lift = |ty: &str| if ty == "u8" { 200.0 } else { 0.0 };
            let a_at = |row: usize, at: usize| ((row * 7 + at * 3) % 11) as f64 - 5.0 + lift(a);
            let b_at = |at: usize, column: usize| ((at * 5 + column * 2) % 13) as f64 - 6.0 + lift(b);
            let dot = |row: usize, column: usize| (0..k).map(|at| a_at(row, at) * b_at(at, column)).sum::<f64>();
            // Some integer accumulators overflow, and must wrap.
            let c_at = |row: usize, column: usize| match (d, (row + column) % 5) {
                ("s32", 0) => f64::from(if dot(row, column) > 0.0 { i32::MAX } else { i32::MIN }),
                _ => (row * 8 + column) as f64 - 64.0,
            };
            let mut product = [[0.0; 8]; 16];
            for (row, sums) in product.iter_mut().enumerate() {
                for (column, sum) in sums.iter_mut().enumerate() {
                    *sum = dot(row, column) + c_at(row, column);
                }
            }
            let want = in_order(&product).flat_map(|x| encode(d, x)).collect();
            mma(format!("mma-{d}-{a}-{b}-k{k}"), types, k, a_at, b_at, c_at, Want::Exactly(want))
        })
        .collect()
}

/// Lane l gives the address of row l ^ 5 of 16 bytes.
const ROW: usize = 5;

/// The elements of matrix q that a lane holds, as (row, column): two of a row or, transposed, two of a column.
fn held(lane: usize, transposed: bool) -> [(usize, usize); 2] {
    [0, 1].map(|i| {
        let place = (lane / 4, 2 * (lane % 4) + i);
        if transposed { (place.1, place.0) } else { place }
    })
}

/// `ldmatrix` and `stmatrix` of one, two and four matrices of numbers that tell where they come from.
fn matrices() -> Vec<Vector> {
    let numbers: Vec<u8> = (0..256u16).flat_map(u16::to_le_bytes).collect();
    let rows = format!(
        ".reg .b32 %r<4>, %w<4>, %s, %own, %row;\n.shared .align 128 .b8 s[512];\nmov.u32 %s, s;\n\
         mad.lo.s32 %own, %t, 16, %s;\nxor.b32 %row, %t, {ROW};\nmad.lo.s32 %row, %row, 16, %s;\n"
    );
    let all = "{%w0, %w1, %w2, %w3}";
    let mut out = vec![];
    for count in [1, 2, 4] {
        for transposed in [false, true] {
            let form = format!("x{count}{}", if transposed { ".trans" } else { "" });
            let name = |verb: &str| format!("{verb}-{}", form.replace('.', "-"));
            let list = registers("r", count);
            let body = format!(
                "{rows}ld.global.v4.u32 {all}, [%in];\nst.shared.v4.u32 [%own], {all};\nbar.warp.sync -1;\n\
                 ldmatrix.sync.aligned.m8n8.{form}.shared.b16 {{{list}}}, [%row];\n{}",
                (0..count).map(|q| format!("st.global.u32 [%out+{}], %r{q};\n", 4 * q)).collect::<String>()
            );
            let mut want = vec![];
            for lane in 0..32 {
                for q in 0..count {
                    for (row, column) in held(lane, transposed) {
                        want.extend((8 * ((8 * q + row) ^ ROW) as u16 + column as u16).to_le_bytes());
                    }
                }
            }
            let ptx = kernel(&body, 16, 4 * count as u32);
            out.push(Vector::warp(name("ldmatrix"), ptx, numbers.clone(), 128 * count, Want::Exactly(want)));

            let body = format!(
                "{rows}ld.global.v4.u32 {{%r0, %r1, %r2, %r3}}, [%in];\nmov.u32 %w0, 0;\n\
                 st.shared.v4.u32 [%own], {{%w0, %w0, %w0, %w0}};\nbar.warp.sync -1;\n\
                 stmatrix.sync.aligned.m8n8.{form}.shared.b16 [%row], {{{list}}};\nbar.warp.sync -1;\n\
                 ld.shared.v4.u32 {all}, [%own];\nst.global.v4.u32 [%out], {all};\n"
            );
            let mut want = vec![0; 512];
            for lane in 0..32 {
                for q in 0..count {
                    for (i, (row, column)) in held(lane, transposed).into_iter().enumerate() {
                        let at = 16 * ((8 * q + row) ^ ROW) + 2 * column;
                        want[at..at + 2].copy_from_slice(&((8 * lane + 2 * q + i) as u16).to_le_bytes());
                    }
                }
            }
            let ptx = kernel(&body, 16, 16);
            out.push(Vector::warp(name("stmatrix"), ptx, numbers.clone(), 512, Want::Exactly(want)));
        }
    }
    out
}

pub fn vectors() -> Vec<Vector> {
    let mut all = products();
    all.extend(matrices());
    all
}
