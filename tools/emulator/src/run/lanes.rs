//! Shuffles, votes, matches and reductions among the lanes of a warp.

use super::{World, barrier::uniform, warp::Warp};
use crate::{
    check::{Checked, Kind, accuse},
    ir::{Redux, Shuffle, ShuffleMode, Vote},
    regs::{LANES, Slot, each, lanes},
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
        let sources = match shuffle.mode {
            ShuffleMode::Up => {
                sources(&by, &clamps, |own, by, _, end| (own.wrapping_sub(by), own as i32 - by as i32 >= end as i32))
            }
            ShuffleMode::Down => sources(&by, &clamps, |own, by, _, end| (own + by, own + by <= end)),
            ShuffleMode::Butterfly => sources(&by, &clamps, |own, by, _, end| (own ^ by, own ^ by <= end)),
            ShuffleMode::Index => sources(&by, &clamps, |own, by, segment, end| {
                let source = (own & segment) | (by & !segment);
                (source, source <= end)
            }),
        };
        let from = |lane: usize| sources[lane] as usize % LANES;
        if active != u32::MAX
            && let Some(lane) = lanes(active).find(|lane| active >> from(*lane) & 1 == 0)
        {
            let message = format!("lane {} is read and does not take part", from(lane));
            return accuse(Kind::Sync, lane, message);
        }
        let out = each(|lane| values[from(lane)]);
        let valid = (0..LANES).fold(0, |valid, lane| valid | u32::from(sources[lane] < OUTSIDE) << lane);
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

/// Added to the source of a lane that asks for none in range, and so reads itself.
const OUTSIDE: u32 = LANES as u32;

/// The lane that each lane reads. `rule` makes it of the lane, what it asks for, the bits of the lane that name its segment,
/// and the lane that its segment ends at, and says whether it is in range.
#[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt"))]
#[inline]
fn sources(by: &[u32; LANES], clamps: &[u32; LANES], rule: impl Fn(u32, u32, u32, u32) -> (u32, bool)) -> [u32; LANES] {
    each(|lane| {
        let (own, segment) = (lane as u32, clamps[lane] >> 8 & 31);
        let end = (own & segment) | (clamps[lane] & 31 & !segment);
        let (source, inside) = rule(own, by[lane] & 31, segment, end);
        if inside { source } else { own + OUTSIDE }
    })
}
