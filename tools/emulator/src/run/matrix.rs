//! `ldmatrix`, `stmatrix` and `mma.sync`.

use super::{
    World,
    access::{Access, addresses},
    warp::Warp,
};
use crate::{
    check::{Checked, Kind, accuse},
    ir::{Accumulator, Matrices, Mma},
    regs::{LANES, each},
    tensor::{Number, accumulate, fragment},
    types::{Order, Space, Ty},
};

impl World<'_> {
    /// Collective instructions need every lane of the warp.
    pub(super) fn whole_warp(&self, active: u32) -> Checked {
        if active == u32::MAX {
            return Ok(());
        }
        accuse(Kind::Sync, None, format!("lanes {active:#010x} execute it: all 32 must"))
    }

    /// Lanes 8q..8q+7 give the addresses of the rows of matrix q; those of further lanes are not used.
    fn matrix_rows(&self, warp: &Warp, matrices: &Matrices, active: u32) -> Checked<Access> {
        self.whole_warp(active)?;
        let rows = u32::MAX >> (32 - 8 * matrices.slots.len() as u32);
        let mut access = Access::new(addresses(&warp.regs, matrices.address), rows, 16, Order::default());
        access.collective = true;
        if matrices.address.wide {
            self.resolve(Space::Shared, &mut access.addresses, rows)?;
        }
        access.aligned()?;
        Ok(access)
    }

    pub(super) fn load_matrix(&mut self, warp: &mut Warp, matrices: &Matrices, active: u32) -> Checked {
        let access = self.matrix_rows(warp, matrices, active)?;
        // Word t of row r of matrix q, for lane 8q + r.
        let mut rows = [[0; LANES]; 4];
        self.load_shared(warp, &access, Ty::B32, &mut rows)?;
        for (q, slot) in matrices.slots.iter().enumerate() {
            let words = each(|lane| rows[lane % 4][8 * q + lane / 4]);
            *warp.regs.row_mut(*slot) = if matrices.transposed { transpose(&words) } else { words };
        }
        Ok(())
    }

    pub(super) fn store_matrix(&mut self, warp: &mut Warp, matrices: &Matrices, active: u32) -> Checked {
        let access = self.matrix_rows(warp, matrices, active)?;
        let mut rows = [[0; LANES]; 4];
        for (q, slot) in matrices.slots.iter().enumerate() {
            let words = *warp.regs.row(*slot);
            let words = if matrices.transposed { transpose(&words) } else { words };
            (0..LANES).for_each(|lane| rows[lane % 4][8 * q + lane / 4] = words[lane]);
        }
        self.store_shared(warp, &access, Ty::B32, &rows)
    }

    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt"))]
    pub(super) fn mma(&mut self, warp: &mut Warp, mma: &Mma, active: u32) -> Checked {
        self.whole_warp(active)?;
        let packed = mma.accumulator == Accumulator::F16;
        match (mma.accumulator, mma.k) {
            (Accumulator::S32, 16) => multiply::<i32, 16>(warp, mma, false),
            (Accumulator::S32, _) => multiply::<i32, 32>(warp, mma, false),
            (_, 4) => multiply::<f32, 4>(warp, mma, packed),
            (_, 8) => multiply::<f32, 8>(warp, mma, packed),
            _ => multiply::<f32, 16>(warp, mma, packed),
        }
        self.counts.by_instruction[warp.split.pc as usize].matrix_fma += 16 * 8 * mma.k as u64;
        Ok(())
    }
}

/// The 8x8 matrix of 16-bit elements that a register holds, two of a row in each lane, transposed.
#[inline(always)]
fn transpose(words: &[u32; LANES]) -> [u32; LANES] {
    let at = |row: usize, column: usize| words[4 * row + column / 2] >> (16 * (column % 2)) & 0xffff;
    each(|lane| {
        let (row, column) = (lane / 4, 2 * (lane % 4));
        at(column, row) | at(column + 1, row) << 16
    })
}

/// Takes A, B and C from their registers and leaves A B + C in those of D.
#[inline(always)]
fn multiply<T: Number, const K: usize>(warp: &mut Warp, mma: &Mma, packed: bool) {
    let (mut a, mut b, mut c) = ([[T::default(); 16]; K], [[T::default(); 8]; K], [[T::default(); 8]; 16]);
    let (a, b, c) = (a.as_flattened_mut(), b.as_flattened_mut(), c.as_flattened_mut());
    for (register, slot) in mma.a.iter().enumerate() {
        fragment::gather_a(warp.regs.row(*slot), register, mma.a_type, a);
    }
    for (register, slot) in mma.b.iter().enumerate() {
        fragment::gather_b(warp.regs.row(*slot), register, mma.b_type, b);
    }
    fragment::gather(&warp.regs, &mma.c, packed, 8, c);
    accumulate(c, a, b, 16, 8);
    fragment::scatter(c, packed, 8, &mma.d, &mut warp.regs);
}
