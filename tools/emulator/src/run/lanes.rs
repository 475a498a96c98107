//! Shuffles, votes, matches and reductions among the lanes of a warp.

use super::{World, barrier::uniform, warp::Warp};
use crate::{
    check::{Checked, Kind, accuse},
    ir::{Redux, Shuffle, ShuffleMode, Vote},
    regs::{LANES, Slot, lanes},
};

impl World<'_> {
    /// The member mask, which must name exactly the lanes that execute the instruction.
    pub(super) fn members(&self, warp: &Warp, members: Slot, active: u32) -> Checked<u32> {
        let members = uniform(warp.regs.row(members), active, "member mask")?;
        let absent = members & !active;
        let strangers = active & !members;
        if strangers != 0 {
            let message = format!("member mask {members:#010x}: this lane executes it and is not named");
            return accuse(Kind::Sync, lanes(strangers).next(), message);
        }
        // Lanes beyond the block's last thread never existed; code for full warps may name them.
        if absent & warp.live != 0 || warp.live.count_ones() < active.count_ones() {
            let message = format!("member mask {members:#010x}: only lanes {active:#010x} execute it");
            return accuse(Kind::Sync, lanes(absent & warp.live).next(), message);
        }
        Ok(members)
    }

    #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt"))]
    pub(super) fn shuffle(&mut self, warp: &mut Warp, shuffle: &Shuffle, active: u32) -> Checked {
        self.members(warp, shuffle.members, active)?;
        let (values, by, clamps) =
            (*warp.regs.row(shuffle.value), *warp.regs.row(shuffle.lane), *warp.regs.row(shuffle.clamp));
        let mut source = [0; LANES];
        let mut inside = [false; LANES];
        for lane in 0..LANES {
            let (own, by) = (lane as u32, by[lane] & 31);
            let (clamp, segment) = (clamps[lane] & 31, clamps[lane] >> 8 & 31);
            let (last, first) = ((own & segment) | (clamp & !segment), own & segment);
            (source[lane], inside[lane]) = match shuffle.mode {
                ShuffleMode::Up => (own.wrapping_sub(by), own as i32 - by as i32 >= last as i32),
                ShuffleMode::Down => (own + by, own + by <= last),
                ShuffleMode::Butterfly => (own ^ by, own ^ by <= last),
                ShuffleMode::Index => (first | (by & !segment), (first | (by & !segment)) <= last),
            };
        }
        let (mut out, mut valid) = (values, 0);
        for lane in lanes(active) {
            let source = if inside[lane] { source[lane] as usize % LANES } else { lane };
            if active >> source & 1 == 0 {
                let message = format!("lane {source} is read and does not take part");
                return accuse(Kind::Sync, lane, message);
            }
            out[lane] = values[source];
            valid |= u32::from(inside[lane]) << lane;
        }
        warp.regs.set_row(shuffle.out, active, &out);
        if let Some(slot) = shuffle.valid {
            warp.regs.set_mask(slot, active, valid);
        }
        Ok(())
    }

    pub(super) fn vote(
        &mut self,
        warp: &mut Warp,
        mode: Vote,
        out: Slot,
        holds: u32,
        members: Slot,
        active: u32,
    ) -> Checked {
        self.members(warp, members, active)?;
        let holds = holds & active;
        let bit = |holds: bool| if holds { u32::MAX } else { 0 };
        match mode {
            Vote::Ballot => warp.regs.set_row(out, active, &[holds; LANES]),
            Vote::All => warp.regs.set_mask(out, active, bit(holds == active)),
            Vote::Any => warp.regs.set_mask(out, active, bit(holds != 0)),
            Vote::Uniform => warp.regs.set_mask(out, active, bit(holds == 0 || holds == active)),
        }
        Ok(())
    }

    pub(super) fn match_values(
        &mut self,
        warp: &mut Warp,
        (all, out, agree): (bool, Slot, Option<Slot>),
        value: Slot,
        wide: bool,
        members: Slot,
        active: u32,
    ) -> Checked {
        self.members(warp, members, active)?;
        let values: [u64; LANES] = if wide { warp.regs.get(value) } else { warp.regs.row(value).map(u64::from) };
        let same_as =
            |lane: usize| lanes(active).filter(|l| values[*l] == values[lane]).fold(0, |mask, l| mask | 1 << l);
        let mut same = [0; LANES];
        lanes(active).for_each(|lane| same[lane] = same_as(lane));
        if all {
            let agreed = same_as(active.trailing_zeros() as usize) == active;
            same = [if agreed { active } else { 0 }; LANES];
            if let Some(agree) = agree {
                warp.regs.set_mask(agree, active, if agreed { u32::MAX } else { 0 });
            }
        }
        warp.regs.set_row(out, active, &same);
        Ok(())
    }

    pub(super) fn redux(
        &mut self,
        warp: &mut Warp,
        op: Redux,
        out: Slot,
        value: Slot,
        members: Slot,
        active: u32,
    ) -> Checked {
        self.members(warp, members, active)?;
        let values = warp.regs.row(value);
        let reduced = lanes(active)
            .map(|lane| values[lane])
            .reduce(|a, b| match op {
                Redux::Add => a.wrapping_add(b),
                Redux::MinU => a.min(b),
                Redux::MaxU => a.max(b),
                Redux::MinS => (a as i32).min(b as i32) as u32,
                Redux::MaxS => (a as i32).max(b as i32) as u32,
                Redux::And => a & b,
                Redux::Or => a | b,
                Redux::Xor => a ^ b,
            })
            .expect("a lane is active");
        warp.regs.set_row(out, active, &[reduced; LANES]);
        Ok(())
    }
}
