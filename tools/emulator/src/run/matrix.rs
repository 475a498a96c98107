//! `ldmatrix`, `stmatrix` and `mma.sync`.

use super::{
    Touch, World,
    access::{Access, Place, addresses},
    warp::Warp,
};
use crate::{
    alu::packed::f16_nearest,
    check::{Checked, Kind, accuse},
    ir::{Accumulator, Element, Matrices, Mma},
    regs::{LANES, Slot},
    tensor::{self, fragment},
};
use half::f16;

impl World<'_> {
    /// Collective instructions need every lane of the warp.
    pub(super) fn whole_warp(&self, active: u32) -> Checked {
        if active == u32::MAX {
            return Ok(());
        }
        accuse(Kind::Sync, None, format!("lanes {active:#010x} execute it: all 32 must"))
    }

    fn matrix_rows(&self, warp: &Warp, matrices: &Matrices, active: u32) -> Checked<Access> {
        self.whole_warp(active)?;
        // Lanes 8q..8q+7 give the rows of matrix q; further lanes' addresses are not used.
        let rows = u32::MAX >> (32 - 8 * matrices.slots.len() as u32);
        let mut access =
            Access { addresses: addresses(&warp.regs, matrices.address), active: rows, size: 16, strong: false };
        if matrices.address.wide {
            self.resolve(crate::types::Space::Shared, &mut access.addresses, rows)?;
        }
        super::access::aligned(&access)?;
        Ok(access)
    }

    pub(super) fn load_matrix(&mut self, warp: &mut Warp, matrices: &Matrices, active: u32) -> Checked {
        let access = self.matrix_rows(warp, matrices, active)?;
        for (q, slot) in matrices.slots.iter().enumerate() {
            let mut tile = [[0u16; 8]; 8];
            for (row, elements) in tile.iter_mut().enumerate() {
                let lane = 8 * q + row;
                let Place { cta, offset } = self.shared_place(warp, &access, lane)?;
                self.shared_readable(warp, cta, offset, &access, lane)?;
                let bytes = &self.ctas[cta].shared.block.bytes[offset..offset + 16];
                for (element, chunk) in elements.iter_mut().zip(bytes.chunks_exact(2)) {
                    *element = u16::from_le_bytes(chunk.try_into().expect("chunks of 2"));
                }
            }
            let at = |row: usize, column: usize| {
                u32::from(if matrices.transposed { tile[column][row] } else { tile[row][column] })
            };
            let words = std::array::from_fn(|lane| {
                let (row, column) = (lane / 4, 2 * (lane % 4));
                at(row, column) | at(row, column + 1) << 16
            });
            warp.regs.set_row(*slot, active, &words);
        }
        self.count_shared(warp, &access);
        Ok(())
    }

    pub(super) fn store_matrix(&mut self, warp: &mut Warp, matrices: &Matrices, active: u32) -> Checked {
        let access = self.matrix_rows(warp, matrices, active)?;
        for (q, slot) in matrices.slots.iter().enumerate() {
            let words = *warp.regs.row(*slot);
            for row in 0..8 {
                let mut bytes = [0; 16];
                for (column, chunk) in bytes.chunks_exact_mut(2).enumerate() {
                    let (r, c) = if matrices.transposed { (column, row) } else { (row, column) };
                    let word = words[4 * r + c / 2];
                    chunk.copy_from_slice(&((word >> (16 * (c % 2))) as u16).to_le_bytes());
                }
                let lane = 8 * q + row;
                let Place { cta, offset } = self.shared_place(warp, &access, lane)?;
                self.touch_shared(warp, Touch { cta, offset, size: 16, lane: Some(lane) }, true, false)?;
                self.ctas[cta].shared.block.write(offset, &bytes);
            }
        }
        self.count_shared(warp, &access);
        Ok(())
    }

    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt"))]
    pub(super) fn mma(&mut self, warp: &mut Warp, mma: &Mma, active: u32) -> Checked {
        self.whole_warp(active)?;
        let rows = |slots: &[Slot]| slots.iter().map(|s| *warp.regs.row(*s)).collect::<Vec<[u32; LANES]>>();
        let (a, b, c) = (rows(&mma.a), rows(&mma.b), rows(&mma.c));
        let packed = mma.accumulator == Accumulator::F16;
        let d = if mma.accumulator == Accumulator::S32 {
            let number = |element| move |bits| tensor::integer(element, bits);
            let a = a_matrix(&a, mma.k, mma.a_type, number(mma.a_type));
            let b = b_matrix(&b, mma.k, mma.b_type, number(mma.b_type));
            let mut sums = fragment::gather(&c, 8, false, |w| w as i32, |_| 0);
            for (row, a) in sums.chunks_exact_mut(8).zip(a.chunks_exact(mma.k)) {
                tensor::accumulate_integers(row, a, &b);
            }
            fragment::scatter(&sums, 8, mma.d.len(), false, |v| v as u32, |_| 0)
        } else {
            let number = |element| move |bits| tensor::number(element, bits);
            let a = a_matrix(&a, mma.k, mma.a_type, number(mma.a_type));
            let b = b_matrix(&b, mma.k, mma.b_type, number(mma.b_type));
            let mut sums = fragment::gather(&c, 8, packed, f32::from_bits, |h| f16::from_bits(h).to_f32());
            for (row, a) in sums.chunks_exact_mut(8).zip(a.chunks_exact(mma.k)) {
                tensor::accumulate(row, a, &b);
            }
            fragment::scatter(&sums, 8, mma.d.len(), packed, f32::to_bits, |v| f16_nearest(v).to_bits())
        };
        for (slot, words) in mma.d.iter().zip(&d) {
            warp.regs.set_row(*slot, active, words);
        }
        self.counts.by_instruction[warp.split.pc as usize].matrix_fma += 16 * 8 * mma.k as u64;
        Ok(())
    }
}

/// The 16 rows of A, each K long.
#[inline(always)]
fn a_matrix<T: Copy + Default>(words: &[[u32; LANES]], k: usize, of: Element, number: impl Fn(u32) -> T) -> Vec<T> {
    let per_register = 4 / of.size();
    let mut out = vec![T::default(); 16 * k];
    for (register, words) in words.iter().enumerate() {
        for (lane, word) in words.iter().enumerate() {
            let (row, column) = fragment::a(lane, register, per_register);
            for i in 0..per_register {
                out[row * k + column + i] = number(fragment::part(*word, i, per_register));
            }
        }
    }
    out
}

/// The K rows of B, each 8 long.
#[inline(always)]
fn b_matrix<T: Copy + Default>(words: &[[u32; LANES]], k: usize, of: Element, number: impl Fn(u32) -> T) -> Vec<T> {
    let per_register = 4 / of.size();
    let mut out = vec![T::default(); k * 8];
    for (register, words) in words.iter().enumerate() {
        for (lane, word) in words.iter().enumerate() {
            let (row, column) = fragment::b(lane, register, per_register);
            for i in 0..per_register {
                out[(row + i) * 8 + column] = number(fragment::part(*word, i, per_register));
            }
        }
    }
    out
}
