use super::recipe::{ModelSection, Recipe, Stage, Times, in_stage, wrong};
use super::step::Settings;
use crate::base::{self, Error, Law, Mask, Rate, Result};
use crate::data::Store;
use crate::diffusion::{Guidance, Request};
use crate::nn::{Config, Family, Size};
use crate::ops::noise::Noise;
use crate::ops::update::AdamW;
use crate::tape::Keep;

/// A recipe for a data set: everything that a run decides, checked before it touches a device or a folder.
#[derive(Clone, Debug)]
pub struct Plan {
    pub recipe: Recipe,
    pub model: Config,
    /// Steps of the run before those of this plan, which may be that of a stage.
    pub begin: u64,
}

impl Plan {
    pub fn new(recipe: Recipe, store: &Store) -> Result<Plan> {
        let (wanted, shape) = (&recipe.data.shape, store.shape());
        if !wanted.is_empty() && *wanted != shape {
            let given = match recipe.data.store.as_str() {
                "" => "the embedded images are",
                _ => "those of the store are",
            };
            let instead = "give --data a store of such images, or see with --dry-run what it would do";
            return Err(wrong("data.shape", format!("{wanted:?}"), format_args!("{given} {shape:?}; {instead}")));
        }
        Plan::of(recipe, shape, store.classes())
    }

    /// As [`Plan::new`], for data of which no more than this is known.
    pub fn of(recipe: Recipe, shape: [usize; 3], classes: usize) -> Result<Plan> {
        let classes = if recipe.data.labels { classes } else { 0 };
        let [channels, height, columns] = shape;
        let ModelSection { depth, width, heads, patch, learn_sigma, .. } = recipe.model;
        if [height, columns] == [1, 1] && patch > 1 {
            let what = format_args!("the data has rows of {channels} values, and no images");
            let what = format_args!("{what}; ingest it as (M, C, H, W), or give 1 to take a row as one patch");
            return Err(wrong("model.patch", patch, what));
        }
        let family = Size::preset(&recipe.model.preset).map_or(Family::default(), |size| size.family);
        let size = Size { family, depth, width, heads, patch };
        let model = size.config(shape, classes, learn_sigma);
        model.check().map_err(|what| Error::Usage(format!("[model]: {what}")))?;
        if recipe.sample.channels > channels {
            let what = format_args!("the data has {channels} channels; give at most as many");
            return Err(wrong("sample.channels", recipe.sample.channels, what));
        }
        let plan = Plan { recipe, model, begin: 0 };
        for stage in plan.recipe.stages() {
            let named = |error| if plan.recipe.stage.is_empty() { error } else { in_stage(stage.number, error) };
            check_stage(&stage.recipe, &model).map_err(named)?;
        }
        let sample = &plan.recipe.sample;
        if sample.every > 0 && sample.guidance != 1.0 && model.classes > 0 && !plan.can_guide() {
            let what =
                "guidance needs a network that saw no label at times; give diffusion.label_dropout = 0.1, or 1 here";
            return Err(wrong("sample.guidance", sample.guidance, what));
        }
        Ok(plan)
    }

    /// What the run does in `stage`, one of its recipe's.
    pub fn of_stage(&self, stage: &Stage) -> Plan {
        Plan { recipe: stage.recipe.clone(), begin: stage.begin, ..*self }
    }

    /// Whether the network knows images with a label and without.
    pub fn can_guide(&self) -> bool {
        self.model.classes > 0 && self.recipe.diffusion.label_dropout > 0.0
    }

    /// What every step of the run has in common.
    pub fn settings(&self) -> Settings {
        let Recipe { diffusion, mask, train, optimizer, .. } = &self.recipe;
        let rate = |start, end| Rate { start, end, ramp: mask.ramp, from: self.begin };
        Settings {
            model: self.model,
            batch: train.batch_size,
            mask: Mask {
                tokens: mask.kind.clone(),
                drop: rate(mask.drop, mask.drop_end),
                loss: mask.loss_kind,
                loss_drop: rate(mask.loss_drop, mask.loss_drop_end),
                norm: mask.loss_norm,
            },
            noise: Noise {
                path: diffusion.path,
                prediction: diffusion.prediction,
                times: base::Times {
                    law: match diffusion.times {
                        Times::Uniform => Law::Uniform,
                        Times::LogitNormal => Law::LogitNormal { mean: diffusion.mean, deviation: diffusion.std },
                    },
                    shift: diffusion.shift,
                    strata: if diffusion.stratified { train.batch_size as u32 } else { 1 },
                },
                weighting: diffusion.weighting,
                // Where no label is told, none is known to the posterior either.
                label_dropout: if self.recipe.data.labels { diffusion.label_dropout as f32 } else { 1.0 },
                null_label: self.model.classes as u32,
                seed: train.seed,
            },
            adamw: AdamW {
                beta1: optimizer.betas[0] as f32,
                beta2: optimizer.betas[1] as f32,
                epsilon: optimizer.epsilon as f32,
                weight_decay: optimizer.weight_decay as f32,
            },
            clip: Some(optimizer.clip as f32).filter(|&clip| clip > 0.0),
            averages: train.ema.iter().map(|&decay| decay as f32).collect(),
            keep: if train.recompute { Keep::BlockOutputs } else { Keep::Everything },
            seed: train.seed,
        }
    }

    /// The picture that shows the run's progress: the classes in turn.
    pub fn samples(&self) -> Request {
        let sample = &self.recipe.sample;
        let classes = self.model.classes.max(1);
        Request {
            labels: (0..sample.count).map(|i| (i % classes) as u32).collect(),
            path: self.recipe.diffusion.path,
            prediction: self.recipe.diffusion.prediction,
            sampler: sample.sampler,
            steps: sample.steps,
            bound: (sample.bound > 0.0).then_some(sample.bound as f32),
            guidance: Guidance {
                weight: if self.can_guide() { sample.guidance as f32 } else { 1.0 },
                channels: (sample.channels > 0).then_some(sample.channels),
                interval: sample.interval,
            },
            seed: self.recipe.train.seed,
            batch: self.recipe.train.batch_size.min(sample.count),
        }
    }
}

/// Checks what a stage does against the patches of the model.
fn check_stage(recipe: &Recipe, model: &Config) -> Result<()> {
    let mask = &recipe.mask;
    for kind in &mask.kind.0 {
        kind.check(model.grid).map_err(|what| wrong("mask.kind", kind, what))?;
    }
    mask.loss_kind.check(model.grid).map_err(|what| wrong("mask.loss_kind", mask.loss_kind, what))?;
    recipe.check_decay()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::fashion_mnist;
    use crate::train::recipe::Change;

    fn plan(sets: &[&str]) -> Result<Plan> {
        let changes: Vec<Change> = sets.iter().map(|set| Change::set(set).unwrap()).collect();
        Plan::new(Recipe::read("r", "[model]\npreset = \"sit-xs-4\"\n[mask]\ndrop = 0.5", &changes)?, &fashion_mnist()?)
    }

    #[test]
    fn what_does_not_fit_the_data_is_refused() {
        for (set, expected) in [
            ("model.patch=8", "[model]: a patch of 8 does not divide images of 28 x 28; give one that does"),
            ("model.heads=3", "[model]: 3 heads do not divide the width 128; give a number that does"),
            (
                "mask.kind=block:4",
                "mask.kind = block:4: blocks of 4 x 4 patches do not divide a grid of 7 x 7; give a side that does",
            ),
            (
                "mask.kind='patch, crop:8'",
                "mask.kind = crop:8: a crop of 8 x 8 patches does not fit a grid of 7 x 7; give at most 7",
            ),
            (
                "mask.loss_kind=block:2",
                "mask.loss_kind = block:2: blocks of 2 x 2 patches do not divide a grid of 7 x 7; give a side that does",
            ),
            ("sample.channels=2", "sample.channels = 2: the data has 1 channels; give at most as many"),
            (
                "diffusion.label_dropout=0",
                "sample.guidance = 4: guidance needs a network that saw no label at times; give diffusion.label_dropout = 0.1, or 1 here",
            ),
        ] {
            assert_eq!(plan(&[set]).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn what_a_recipe_says_of_the_noise_is_what_steps_do() {
        let sets = [
            "diffusion.path=gvp",
            "diffusion.prediction=score",
            "diffusion.times=logit-normal",
            "diffusion.mean=0.25",
            "diffusion.std=1.5",
            "diffusion.shift=3",
            "diffusion.stratified=true",
            "diffusion.weighting=min-snr:5",
            "train.batch_size=12",
        ];
        let noise = plan(&sets).unwrap().settings().noise;
        assert_eq!((noise.path, noise.prediction), (base::Path::Gvp, base::Prediction::Score));
        let law = Law::LogitNormal { mean: 0.25, deviation: 1.5 };
        assert_eq!(noise.times, base::Times { law, shift: 3.0, strata: 12 });
        assert_eq!(noise.weighting, base::Weighting::MinSnr(5.0));
        let plain = plan(&["diffusion.times=uniform"]).unwrap().settings().noise;
        assert_eq!((plain.times, plain.weighting), (base::Times::UNIFORM, base::Weighting::None));
    }

    #[test]
    fn dropped_patches_are_rounded_down() {
        for (drop, kept) in [("0.0", 49), ("0.02", 49), ("0.021", 48), ("0.5", 25), ("0.99", 1)] {
            assert_eq!(plan(&[&format!("mask.drop={drop}")]).unwrap().settings().tokens(0), kept, "{drop}");
        }
    }
}
