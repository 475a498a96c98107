//! `ldmatrix`, `stmatrix` and `mma.sync`.

use super::{
    Touch, World,
    access::{Access, Place, addresses},
    warp::Warp,
};
use crate::{
    check::{Checked, Kind, accuse},
    ir::{Accumulator, Matrices, Mma},
    regs::each,
    tensor::{Number, fragment},
};

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
                let touch = Touch { cta, offset, size: 16, lane, lanes: u32::MAX };
                self.shared_readable_by(warp, touch, false)?;
                let bytes = &self.ctas[cta].shared.block.bytes[offset..offset + 16];
                for (element, chunk) in elements.iter_mut().zip(bytes.chunks_exact(2)) {
                    *element = u16::from_le_bytes(chunk.try_into().expect("chunks of 2"));
                }
            }
            let at = |row: usize, column: usize| {
                u32::from(if matrices.transposed { tile[column][row] } else { tile[row][column] })
            };
            let words = each(|lane| {
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
                self.touch_shared(warp, Touch { cta, offset, size: 16, lane, lanes: u32::MAX }, true, false)?;
                self.ctas[cta].shared.block.write(offset, &bytes);
            }
        }
        self.count_shared(warp, &access);
        Ok(())
    }

    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt"))]
    pub(super) fn mma(&mut self, warp: &mut Warp, mma: &Mma, active: u32) -> Checked {
        self.whole_warp(active)?;
        let packed = mma.accumulator == Accumulator::F16;
        if mma.accumulator == Accumulator::S32 {
            multiply::<i32>(warp, mma, false);
        } else {
            multiply::<f32>(warp, mma, packed);
        }
        self.counts.by_instruction[warp.split.pc as usize].matrix_fma += 16 * 8 * mma.k as u64;
        Ok(())
    }
}

/// Takes A, B and C from their registers and leaves A B + C in those of D. K is at most 32.
#[inline(always)]
fn multiply<T: Number>(warp: &mut Warp, mma: &Mma, packed: bool) {
    let (mut a, mut b, mut c) = ([T::default(); 16 * 32], [T::default(); 32 * 8], [T::default(); 16 * 8]);
    for (register, slot) in mma.a.iter().enumerate() {
        fragment::gather_a(warp.regs.row(*slot), register, mma.a_type, mma.k, &mut a);
    }
    for (register, slot) in mma.b.iter().enumerate() {
        fragment::gather_b(warp.regs.row(*slot), register, mma.b_type, &mut b);
    }
    for (register, slot) in mma.c.iter().enumerate() {
        fragment::gather(warp.regs.row(*slot), register, packed, 8, &mut c);
    }
    T::accumulate(&mut c, &a[..16 * mma.k], &b[..8 * mma.k], 8, mma.k);
    for (register, slot) in mma.d.iter().enumerate() {
        *warp.regs.row_mut(*slot) = fragment::scatter(&c, register, packed, 8);
    }
}
