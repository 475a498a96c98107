//! Which lanes of a warp know of each other's accesses: nothing keeps them in step but what they wait for together.

use crate::regs::{LANES, lanes};

/// A warp counts its steps, and each of its lanes knows what every other has done before one of them.
#[derive(Debug, Default)]
pub struct Steps {
    now: u32,
    /// All lanes know of all before this step.
    common: u32,
    /// By lane, the step before which it knows of each other lane, where some know more.
    apart: Option<Box<[[u32; LANES]; LANES]>>,
}

impl Steps {
    /// The step that accesses belong to now.
    pub fn now(&self) -> u32 {
        self.now
    }

    /// Begins another step, of which nobody knows who knows of this one.
    pub fn tick(&mut self) {
        self.now += 1;
    }

    /// All lanes have waited for each other.
    pub fn meet_all(&mut self) {
        self.now += 1;
        self.common = self.now;
        self.apart = None;
    }

    /// Some lanes have waited for each other.
    pub fn meet(&mut self, members: u32) {
        self.now += 1;
        self.learn(members, members, self.now);
    }

    /// Lanes learn what others had done before a step, and what those know.
    pub fn learn(&mut self, learners: u32, of: u32, before: u32) {
        let apart = self.apart.get_or_insert_with(|| Box::new([[self.common; LANES]; LANES]));
        let mut known = [self.common; LANES];
        for lane in lanes(of) {
            known.iter_mut().zip(&apart[lane]).for_each(|(known, step)| *known = (*known).max(*step));
            known[lane] = known[lane].max(before);
        }
        for lane in lanes(learners) {
            apart[lane].iter_mut().zip(&known).for_each(|(step, known)| *step = (*step).max(*known));
        }
    }

    /// Whether each of the lanes `by` knows what others have done in a step.
    #[inline]
    pub fn ordered(&self, step: u32, of: u32, by: u32) -> bool {
        let one = of == by && of.count_ones() <= 1;
        let knows = |lane: usize, other: usize| self.apart.as_ref().is_some_and(|apart| step < apart[lane][other]);
        one || step < self.common || lanes(by).all(|lane| lanes(of & !(1 << lane)).all(|other| knows(lane, other)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_know_of_those_they_have_met_and_of_whom_those_had_met() {
        let mut steps = Steps::default();
        assert!(steps.ordered(0, 1, 1) && !steps.ordered(0, 1, 2) && !steps.ordered(0, 3, 1));
        steps.meet(0b011);
        assert!(steps.ordered(0, 0b01, 0b10) && steps.ordered(0, 0b11, 0b11) && !steps.ordered(0, 0b001, 0b100));
        assert!(!steps.ordered(steps.now(), 0b01, 0b10));
        steps.meet(0b110);
        assert!(steps.ordered(0, 0b001, 0b100) && !steps.ordered(1, 0b001, 0b100) && !steps.ordered(0, 0b100, 0b001));
        steps.meet_all();
        assert!(steps.ordered(1, u32::MAX, u32::MAX));
    }
}
