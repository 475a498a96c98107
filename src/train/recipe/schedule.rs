//! The learning rate as a function of the step.

use super::{Decay, Recipe, wrong};
use crate::base::Result;
use std::f64::consts::PI;

impl Recipe {
    /// The step at which a cosine comes to 0.
    pub fn decay_end(&self) -> u64 {
        if self.optimizer.decay_steps > 0 { self.optimizer.decay_steps } else { self.train.steps }
    }

    /// The learning rate of `step`, counted from 0: a linear warm-up, then constant or half a cosine to 0.
    pub fn learning_rate(&self, step: u64) -> f32 {
        let optimizer = &self.optimizer;
        if step < optimizer.warmup {
            return (optimizer.lr * (step + 1) as f64 / optimizer.warmup as f64) as f32;
        }
        let factor = match optimizer.decay {
            Decay::Constant => 1.0,
            Decay::Cosine => {
                let length = self.decay_end().saturating_sub(optimizer.warmup).max(1);
                let progress = (step - optimizer.warmup) as f64 / length as f64;
                0.5 * (1.0 + (PI * progress.min(1.0)).cos())
            }
        };
        (optimizer.lr * factor) as f32
    }

    /// Whether a checkpoint belongs to `step` but for the ends of stages: every so many steps, and at the run's end.
    pub(in crate::train) fn is_saved_at(&self, step: u64) -> bool {
        step == self.train.steps || step.is_multiple_of(self.checkpoint.every)
    }

    /// Refuses steps at learning rate 0.
    pub(in crate::train) fn check_decay(&self) -> Result<()> {
        let (steps, end) = (self.train.steps, self.decay_end());
        if self.optimizer.decay == Decay::Constant || steps <= end {
            return Ok(());
        }
        let what = format_args!("the learning rate is 0 from step {end} on, as optimizer.decay_steps has it");
        let instead = format_args!("give --set optimizer.decay_steps={steps} too, or at most {end} steps");
        Err(wrong("train.steps", steps, format_args!("{what}; {instead}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::recipe::Change;

    #[test]
    fn the_learning_rate_rises_and_falls_to_zero_at_the_last_step_or_where_it_is_told() {
        let rates = |sets: &[&str]| {
            let sets = ["optimizer.lr=0.5", "optimizer.warmup=4", "train.steps=12"].iter().chain(sets);
            let changes: Vec<Change> = sets.map(|set| Change::set(set).unwrap()).collect();
            let recipe = Recipe::read("r", "", &changes).unwrap();
            [0, 1, 3, 4, 8, 12, 20].map(|step| recipe.learning_rate(step))
        };
        assert_eq!(rates(&["optimizer.decay=constant"]), [0.125, 0.25, 0.5, 0.5, 0.5, 0.5, 0.5]);
        assert_eq!(rates(&["optimizer.decay=cosine"]), [0.125, 0.25, 0.5, 0.5, 0.25, 0.0, 0.0]);
        let longer = rates(&["optimizer.decay=cosine", "optimizer.decay_steps=20"]);
        assert_eq!(longer[5..], [0.25, 0.0]);
    }
}
