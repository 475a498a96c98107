//! Comparisons that one table line does not hold, and sums with carry.

use super::{World, warp::Warp};
use crate::{
    alu::float::ftz,
    ir::{Carry, CarryKind, Combine, Compared, Halving, Outcome},
    regs::{LANES, Slot, each, lanes},
    types::Ty,
};
use half::f16;

impl World<'_> {
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt"))]
    pub(super) fn compare(&mut self, warp: &mut Warp, compared: &Compared, active: u32) {
        let low = self.test(warp, compared, active, 0);
        let pair = compared.halving.is_some_and(|h| h.pair);
        let high = if pair { self.test(warp, compared, active, 16) } else { low };
        let with = compared
            .combine
            .map(|(how, (slot, negated))| (how, warp.regs.mask(slot) ^ if negated { u32::MAX } else { 0 }));
        let combined = |holds: u32| match with {
            None => holds,
            Some((Combine::And, with)) => holds & with,
            Some((Combine::Or, with)) => holds | with,
            Some((Combine::Xor, with)) => holds ^ with,
        };
        match compared.out {
            Outcome::Predicates { first, second } => {
                warp.regs.set_mask(first, active, combined(low));
                if let Some(second) = second {
                    // Of one comparison the second predicate is its opposite; of a pair, the upper half's.
                    warp.regs.set_mask(second, active, combined(if pair { high } else { !low }));
                }
            }
            Outcome::Value { out, one } => {
                let (low, high) = (combined(low), combined(high));
                let bits = |lane: usize, mask: u32| if mask >> lane & 1 != 0 { u32::MAX } else { 0 };
                let row = match pair {
                    true => each(|l| one & (bits(l, low) & 0xffff | bits(l, high) & 0xffff_0000)),
                    false => each(|l| one & bits(l, low)),
                };
                warp.regs.set_row(out, active, &row);
            }
        }
    }

    /// The lanes for which a comparison holds; of 16-bit floats, of those at bit `shift`.
    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt"))]
    fn test(&mut self, warp: &mut Warp, compared: &Compared, active: u32, shift: u32) -> u32 {
        let (rows, mask) = compared.scratch;
        let mut args = compared.args;
        for (arg, scratch) in args.iter_mut().zip([rows, rows.high()]) {
            if compared.halving.is_none() && !compared.ftz {
                continue;
            }
            let row = *warp.regs.row(*arg);
            *warp.regs.row_mut(scratch) = each(|lane| {
                let wide = match compared.halving {
                    Some(Halving { bf16: true, .. }) => f32::from_bits(row[lane] >> shift << 16),
                    Some(_) => f16::from_bits((row[lane] >> shift) as u16).to_f32(),
                    None => f32::from_bits(row[lane]),
                };
                if compared.ftz && compared.halving.is_none() { ftz(wide).to_bits() } else { wide.to_bits() }
            });
            *arg = scratch;
        }
        compared.op.run(&mut warp.regs, active, mask, &[args[0], args[1], Slot(0), Slot(0)]);
        warp.regs.mask(mask)
    }

    pub(super) fn carry(&mut self, warp: &mut Warp, carry: &Carry, active: u32) {
        let wide = carry.ty.size() == 8;
        let bits = if wide { 64 } else { 32 };
        let value = |slot: Slot| -> [u64; LANES] {
            if wide { warp.regs.get(slot) } else { warp.regs.row(slot).map(u64::from) }
        };
        let [a, b, c] = carry.args.map(value);
        let flag = warp.regs.mask(carry.flag);
        let (mut out, mut over) = ([0u64; LANES], 0);
        for lane in lanes(active) {
            let carried = u128::from(carry.takes && flag >> lane & 1 != 0);
            let signed = |x: u64| if wide { i128::from(x as i64) } else { i128::from(x as u32 as i32) };
            let product = match carry.ty {
                Ty::S32 | Ty::S64 => (signed(a[lane]) * signed(b[lane])) as u128,
                _ => u128::from(a[lane]) * u128::from(b[lane]),
            };
            let within = (1u128 << bits) - 1;
            let sum = match carry.kind {
                CarryKind::Add => u128::from(a[lane]) + u128::from(b[lane]) + carried,
                // The flag of a subtraction is its borrow.
                CarryKind::Subtract => u128::from(a[lane]).wrapping_sub(u128::from(b[lane]) + carried),
                CarryKind::MultiplyLow => (product & within) + u128::from(c[lane]) + carried,
                CarryKind::MultiplyHigh => (product >> bits & within) + u128::from(c[lane]) + carried,
            };
            out[lane] = (sum & within) as u64;
            over |= u32::from(sum > within) << lane;
        }
        if carry.gives {
            warp.regs.set_mask(carry.flag, active, over);
        }
        if wide {
            warp.regs.set(carry.out, active, &out);
        } else {
            warp.regs.set_row(carry.out, active, &out.map(|x| x as u32));
        }
    }
}
