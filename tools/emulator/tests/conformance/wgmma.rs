//! `wgmma`: descriptors, swizzles, fragments, scales and accumulators, by the canonical layouts of the PTX ISA.

use super::{Vector, Want, common::kernel, encode, registers, size};

/// One product of 64 x 32, with both operands under one swizzle.
#[derive(Clone, Copy)]
pub struct Product {
    pub d: &'static str,
    /// The elements of A and of B.
    pub element: &'static str,
    /// Bytes of a swizzled row; 16 without a swizzle.
    pub width: usize,
    /// Distances between atoms as small as they can be, or larger, so that a mix-up shows.
    pub dense: bool,
    pub a_in_registers: bool,
    /// M, and N, is contiguous.
    pub a_transposed: bool,
    pub b_transposed: bool,
    /// imm-scale-a and imm-scale-b.
    pub scales: [i32; 2],
    /// D = A B + D rather than A B.
    pub accumulates: bool,
}

pub const M: usize = 64;
pub const N: usize = 32;

/// D += A B, both K-major in shared memory.
pub const PLAIN: Product = Product {
    d: "f32",
    element: "bf16",
    width: 128,
    dense: false,
    a_in_registers: false,
    a_transposed: false,
    b_transposed: false,
    scales: [1, 1],
    accumulates: false,
};

impl Product {
    pub fn k(self) -> usize {
        32 / size(self.element)
    }

    /// Leading and stride byte offsets of the tiles.
    fn offsets(self, transposed: bool) -> (usize, usize) {
        match (self.width, transposed, self.dense) {
            (16, _, false) => (128, 512),
            (16, _, true) => (1024, 128),
            (_, false, false) => (16, 1024),
            (width, false, true) => (16, 8 * width),
            (_, true, false) => (4096, 1024),
            (width, true, true) => (16 * width, 8 * width),
        }
    }

    /// Where element (line along M or N, k) lies in a tile, by the canonical layouts.
    fn place(self, transposed: bool, line: usize, k: usize) -> usize {
        let (width, size) = (self.width, size(self.element));
        let (leading, stride) = self.offsets(transposed);
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

    fn descriptor(self, start: usize, transposed: bool) -> u64 {
        let (leading, stride) = self.offsets(transposed);
        let swizzle: u64 = match self.width {
            16 => 0,
            32 => 3,
            64 => 2,
            _ => 1,
        };
        (start >> 4) as u64 | ((leading >> 4) as u64) << 16 | ((stride >> 4) as u64) << 32 | swizzle << 62
    }

    fn name(self) -> String {
        let Product { d, element, width, scales: [a, b], .. } = self;
        let form = if self.a_in_registers { "rs" } else { "ss" };
        let mut name =
            format!("wgmma-{d}-{element}-{width}-{form}-{}{}", self.a_transposed as u8, self.b_transposed as u8);
        for (holds, suffix) in
            [(self.dense, "-dense"), (a < 0, "-minus-a"), (b < 0, "-minus-b"), (self.accumulates, "-sum")]
        {
            name += if holds { suffix } else { "" };
        }
        name
    }

    /// The vector for A of 64 rows, B of 32 columns and what D holds before.
    pub fn vector(
        self,
        name: String,
        a: impl Fn(usize, usize) -> f64,
        b: impl Fn(usize, usize) -> f64,
        c: impl Fn(usize, usize) -> f64,
        want: Want,
    ) -> Vector {
        let Product { d, element, a_in_registers, a_transposed, b_transposed, .. } = self;
        let (k, size_of) = (self.k(), size(element));
        // Shared memory: A at 0, B at 16 KiB. Each thread's registers of A and of D follow at 32 KiB.
        let of_d = if d == "f16" { 8 } else { 16 };
        let own = 16 + 4 * of_d;
        let mut input = vec![0; 32768 + 128 * own];
        let mut put = |at: usize, x: f64| input[at..at + size_of].copy_from_slice(&encode(element, x));
        for at in 0..k {
            (0..M).for_each(|row| put(self.place(a_transposed, row, at), a(row, at)));
            (0..N).for_each(|column| put(16384 + self.place(b_transposed, column, at), b(at, column)));
        }
        for thread in 0..128 {
            let (warp, g, t) = (thread / 32, thread % 32 / 4, thread % 4);
            for register in 0..4 {
                let row = 16 * warp + g + 8 * (register % 2);
                for i in 0..4 / size_of {
                    let column = (4 / size_of) * (4 * (register / 2) + t) + i;
                    put(32768 + thread * own + register * 4 + i * size_of, a(row, column));
                }
            }
        }
        for (at, x) in in_order(c).enumerate() {
            let (thread, at) = (at / 16, at % 16 * size(d));
            let bytes = encode(d, x);
            input[32768 + thread * own + 16 + at..][..bytes.len()].copy_from_slice(&bytes);
        }
        let held = if d == "f32" { "f32" } else { "b32" };
        let flags = match element {
            "s8" | "u8" => String::new(),
            "tf32" => format!(", {}, {}", self.scales[0], self.scales[1]),
            _ => {
                let a_major = if a_in_registers { String::new() } else { format!(", {}", a_transposed as u8) };
                format!(", {}, {}{a_major}, {}", self.scales[0], self.scales[1], b_transposed as u8)
            }
        };
        let (list, accumulates) = (registers("d", of_d), self.accumulates as u8);
        let loads: String = (0..of_d).map(|i| format!("ld.global.{held} %d{i}, [%own+{}];\n", 16 + 4 * i)).collect();
        let stores: String = (0..of_d).map(|i| format!("st.global.{held} [%out+{}], %d{i};\n", 4 * i)).collect();
        let a_operand = if a_in_registers { "{%a0, %a1, %a2, %a3}" } else { "%n0" };
        let body = format!(
            ".shared .align 1024 .b8 s[32768];\n.reg .{held} %d<16>;\n.reg .b32 %a<4>, %i<6>;\n\
             .reg .b64 %s, %own, %from, %u<2>;\n.reg .pred %more, %sum;\n\
             mul.wide.u32 %own, %t, {own};\nadd.s64 %own, %own, %in;\nadd.s64 %own, %own, 32768;\n\
             mul.wide.u32 %from, %t, 16;\nadd.s64 %from, %from, %in;\n\
             mov.u32 %i0, s;\nmad.lo.s32 %i1, %t, 16, %i0;\nadd.s32 %i2, %i0, 32768;\n\
             COPY:\nld.global.v2.u64 {{%u0, %u1}}, [%from];\nst.shared.v2.u64 [%i1], {{%u0, %u1}};\n\
             add.s32 %i1, %i1, 2048;\nadd.s64 %from, %from, 2048;\nsetp.lt.u32 %more, %i1, %i2;\n@%more bra COPY;\n\
             ld.global.v4.u32 {{%a0, %a1, %a2, %a3}}, [%own];\n{loads}\
             fence.proxy.async;\nbar.sync 0;\n\
             and.b32 %i3, %i0, 262143;\nshr.u32 %i3, %i3, 4;\ncvt.u64.u32 %s, %i3;\nadd.s64 %n0, %n0, %s;\n\
             add.s64 %n1, %n1, %s;\nmov.u32 %i4, {accumulates};\nsetp.ne.u32 %sum, %i4, 0;\n\
             wgmma.fence.sync.aligned;\n\
             wgmma.mma_async.sync.aligned.m64n{N}k{k}.{d}.{element}.{element} {{{list}}}, {a_operand}, %n1, %sum{flags};\n\
             wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n{stores}"
        );
        Vector {
            name,
            ptx: kernel(&body, 0, 4 * of_d as u32),
            input,
            output: 128 * 4 * of_d,
            numbers: [self.descriptor(0, a_transposed), self.descriptor(16384, b_transposed)],
            threads: 128,
            map: None,
            want,
        }
    }

    /// The vector on small integers, whose sums are exact in every accumulator, f16 included.
    fn of_integers(self) -> Vector {
        // Unsigned bytes take the upper half of their range, which signed ones have not.
        let lift = if self.element == "u8" { 200.0 } else { 0.0 };
        let a = |row: usize, at: usize| ((row * 7 + at * 3) % 11) as f64 - 5.0 + lift;
        let b = |at: usize, column: usize| ((at * 5 + column * 2) % 13) as f64 - 6.0 + lift;
        let c = |row: usize, column: usize| ((row * 3 + column) % 17) as f64 - 8.0;
        let sign = f64::from(self.scales[0] * self.scales[1]);
        let d = |row: usize, column: usize| {
            let product: f64 = (0..self.k()).map(|at| a(row, at) * b(at, column)).sum();
            sign * product + if self.accumulates { c(row, column) } else { 0.0 }
        };
        let want = in_order(d).flat_map(|x| encode(self.d, x)).collect();
        self.vector(self.name(), a, b, c, Want::Exactly(want))
    }
}

/// The order in which `wgmma` leaves D: thread by thread, register pairs of rows g and g + 8 of the warp's sixteen.
pub fn in_order(d: impl Fn(usize, usize) -> f64) -> impl Iterator<Item = f64> {
    (0..128 * 16).map(move |at| {
        let (thread, register) = (at / 16, at % 16);
        let (warp, g, t) = (thread / 32, thread % 32 / 4, thread % 4);
        d(16 * warp + g + 8 * (register / 2 % 2), 8 * (register / 4) + 2 * t + register % 2)
    })
}

pub fn vectors() -> Vec<Vector> {
    let mut all = vec![];
    for width in [16, 32, 64, 128] {
        for dense in [false, true] {
            let product = Product { width, dense, ..PLAIN };
            for (d, element) in [("s32", "s8"), ("s32", "u8"), ("f32", "tf32")] {
                for a_in_registers in [false, true] {
                    all.push(Product { d, element, a_in_registers, ..product });
                }
            }
            for (d, element) in [("f32", "bf16"), ("f32", "f16"), ("f16", "f16")] {
                let product = Product { d, element, ..product };
                for (a_transposed, b_transposed) in [(false, false), (true, false), (false, true), (true, true)] {
                    all.push(Product { a_transposed, b_transposed, ..product });
                }
                for b_transposed in [false, true] {
                    all.push(Product { a_in_registers: true, b_transposed, ..product });
                }
            }
        }
    }
    for (d, element) in [("f32", "bf16"), ("f32", "f16"), ("f16", "f16"), ("f32", "tf32")] {
        for a_in_registers in [false, true] {
            for scales in [[1, 1], [-1, 1], [1, -1], [-1, -1]] {
                let b_transposed = element != "tf32";
                all.push(Product { d, element, a_in_registers, b_transposed, scales, accumulates: true, ..PLAIN });
            }
        }
    }
    all.push(Product { d: "s32", element: "s8", accumulates: true, ..PLAIN });
    all.into_iter().map(Product::of_integers).collect()
}
