//! Tensor tiles: what lies where in shared memory, zeros for what is outside the tensor, and stores that leave it alone.

use super::{FILL, Map, Vector, Want};
use emulator::{Swizzle, TensorMap, TensorType};

/// A tensor of up to three dimensions, innermost first, and the box at `at`.
struct Tile {
    name: String,
    ty: TensorType,
    /// Bytes of an element.
    size: usize,
    extents: Vec<u64>,
    /// Bytes, for each dimension but the first; larger than the rows, so that gaps lie between.
    strides: Vec<u64>,
    sides: Vec<u32>,
    swizzle: Swizzle,
    at: Vec<i32>,
}

/// Bytes of a swizzled row.
fn width(swizzle: Swizzle) -> Option<usize> {
    match swizzle {
        Swizzle::None => None,
        Swizzle::B32 => Some(32),
        Swizzle::B64 => Some(64),
        Swizzle::B128 => Some(128),
    }
}

impl Tile {
    fn bytes(&self) -> usize {
        self.sides.iter().product::<u32>() as usize * self.size
    }

    /// The bytes of the tensor and of what lies between its rows.
    fn span(&self) -> usize {
        match (self.strides.last(), self.extents.last()) {
            (Some(stride), Some(extent)) => (stride * extent) as usize,
            _ => (self.extents[0] as usize * self.size).next_multiple_of(16),
        }
    }

    /// For each element of the box, where it lies in shared memory and, unless it is outside, in the tensor.
    fn elements(&self) -> Vec<(usize, Option<usize>)> {
        let side = |axis: usize| self.sides.get(axis).map_or(1, |side| *side as usize);
        let mut out = vec![];
        for z in 0..side(2) {
            for y in 0..side(1) {
                for x in 0..side(0) {
                    let row = z * side(1) + y;
                    let shared = match width(self.swizzle) {
                        None => row * side(0) * self.size + x * self.size,
                        Some(width) => {
                            // Eight rows of 128 bytes repeat: 16-byte chunks change places with the 128-byte line.
                            let chunk = (x * self.size / 16) ^ (row % 8 / (128 / width));
                            row * width + chunk * 16 + x * self.size % 16
                        }
                    };
                    let index = [x, y, z].into_iter().zip(&self.at).map(|(i, at)| i as i64 + i64::from(*at));
                    let index: Vec<i64> = index.collect();
                    let inside = index.iter().zip(&self.extents).all(|(i, extent)| (0..*extent as i64).contains(i));
                    let strides = [self.size as u64].into_iter().chain(self.strides.iter().copied());
                    let global = inside.then(|| index.iter().zip(strides).map(|(i, s)| *i as usize * s as usize).sum());
                    out.push((shared, global));
                }
            }
        }
        out
    }

    fn vector(self, verb: &str) -> Vector {
        let (bytes, span) = (self.bytes(), self.span());
        let store = verb != "load";
        // No two neighbours are alike, and no byte of the tensor is 0 or the fill.
        let byte = |i: usize| (i * 7 % 199 + 1) as u8;
        let input: Vec<u8> = (0..if store { bytes } else { span }).map(byte).collect();
        let mut want = if store { vec![FILL; span] } else { vec![0; bytes] };
        for (shared, global) in self.elements() {
            let Some(global) = global else { continue };
            for i in 0..self.size {
                match verb {
                    "load" => want[shared + i] = input[global + i],
                    _ => want[global + i] = input[shared + i],
                }
            }
            if verb == "add" {
                let word = u32::from_le_bytes(input[shared..shared + 4].try_into().expect("four bytes"));
                let sum = u32::from_le_bytes([FILL; 4]).wrapping_add(word);
                want[global..global + 4].copy_from_slice(&sum.to_le_bytes());
            }
        }
        let dimensions = self.at.len();
        let set: String = self.at.iter().enumerate().map(|(k, at)| format!("mov.b32 %c{k}, {at};\n")).collect();
        let at: Vec<String> = (0..dimensions).map(|k| format!("%c{k}")).collect();
        let tile = format!("[%map, {{{}}}]", at.join(", "));
        let copy = |from: &str, to: &str, moves: &str| {
            format!(
                "mul.wide.u32 %a, %t, 4;\nadd.s64 %a, %a, {from};\nmad.lo.u32 %w, %t, 4, %s;\n{to}:\n\
                 setp.ge.u32 %over, %w, %end;\n@%over bra {to}END;\n{moves}\nadd.s64 %a, %a, 128;\n\
                 add.u32 %w, %w, 128;\nbra {to};\n{to}END:\n"
            )
        };
        let body = if store {
            let form = if verb == "add" { "cp.reduce.async.bulk.tensor" } else { "cp.async.bulk.tensor" };
            let add = if verb == "add" { ".add" } else { "" };
            format!(
                "{}fence.proxy.async.shared::cta;\nbar.sync 0;\n@%other bra DONE;\n\
                 {form}.{dimensions}d.global.shared::cta{add}.tile.bulk_group {tile}, [%s];\n\
                 cp.async.bulk.commit_group;\ncp.async.bulk.wait_group 0;\nDONE:",
                copy("%in", "FILL", "ld.global.u32 %x, [%a];\nst.shared.u32 [%w], %x;")
            )
        } else {
            format!(
                "@%other bra READY;\nmbarrier.init.shared::cta.b64 [%b], 1;\nfence.mbarrier_init.release.cluster;\n\
                 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%b], {bytes};\n\
                 cp.async.bulk.tensor.{dimensions}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes \
                 [%s], {tile}, [%b];\nREADY:\nbar.sync 0;\n\
                 WAIT:\nmbarrier.try_wait.parity.shared::cta.b64 %done, [%b], 0;\n@!%done bra WAIT;\n{}",
                copy("%out", "DUMP", "ld.shared.u32 %x, [%w];\nst.global.u32 [%a], %x;")
            )
        };
        let ptx = format!(
            ".version 8.0\n.target sm_90a\n.address_size 64\n.visible .entry vector(.param .u64 p0, .param .u64 p1, \
             .param .u64 p2, .param .u64 p3, .param .align 64 .b8 tensor[128])\n{{\n\
             .shared .align 1024 .b8 s[{bytes}];\n.shared .align 8 .b8 bar[8];\n\
             .reg .b64 %in, %out, %map, %a;\n.reg .b32 %t, %s, %b, %w, %x, %end, %c<3>;\n.reg .pred %other, %over, %done;\n\
             ld.param.u64 %in, [p0];\nld.param.u64 %out, [p1];\nmov.b64 %map, tensor;\ncvta.param.u64 %map, %map;\n\
             mov.u32 %t, %tid.x;\nmov.u32 %s, s;\nmov.u32 %b, bar;\nadd.u32 %end, %s, {bytes};\n\
             setp.ne.u32 %other, %t, 0;\n{set}{body}\nret;\n}}\n"
        );
        let tensor = TensorMap::tiled(self.ty, 0, &self.extents, &self.strides, &self.sides, self.swizzle);
        let tensor = tensor.unwrap_or_else(|error| panic!("{}: {error}", self.name));
        Vector {
            name: format!("tile-{verb}-{}", self.name),
            ptx,
            input,
            output: want.len(),
            numbers: [0; 2],
            threads: 32,
            map: Some(Map { of_output: store, tensor }),
            want: Want::Exactly(want),
        }
    }
}

pub fn vectors() -> Vec<Vector> {
    let mut all = vec![];
    for dimensions in 1..=3 {
        for swizzle in [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128] {
            for (place, at) in [
                ("inside", [3, 2, 1]),
                ("below", [-5, -3, -1]),
                ("above", [20, 7, 4]),
                ("below-and-above", [-5, 7, -1]),
                ("outside", [64, 0, 0]),
                ("far-outside", [-200, -300, 90]),
            ] {
                for verb in ["load", "store", "add"] {
                    let (ty, size) = match (verb, dimensions) {
                        ("add", _) => (TensorType::U32, 4),
                        (_, 1) => (TensorType::F32, 4),
                        (_, 2) => (TensorType::Bf16, 2),
                        _ => (TensorType::U8, 1),
                    };
                    let inner = width(swizzle).unwrap_or(48) / size;
                    // The tensor ends inside the box that starts above, and its rows are no multiple of a chunk.
                    let extents = [inner as u64 + 7, 11, 5];
                    let row = (extents[0] * size as u64).next_multiple_of(16) + 16;
                    let strides = [row, row * (extents[1] + 1)];
                    all.push(
                        Tile {
                            name: format!("{dimensions}d-{swizzle:?}-{place}").to_lowercase(),
                            ty,
                            size,
                            extents: extents[..dimensions].into(),
                            strides: strides[..dimensions - 1].into(),
                            sides: [inner as u32, 5, 3][..dimensions].into(),
                            swizzle,
                            at: at[..dimensions].into(),
                        }
                        .vector(verb),
                    );
                }
            }
        }
    }
    all
}
