//! What a recipe must hold whatever it is trained on.

use super::{MaskSection, ModelSection, ObjectiveSection, Recipe, Target, nearest};
use crate::base::{Error, Prediction, Result, TokenMask};
use crate::nn::Size;
use crate::ops::update::MOST_AVERAGES;
use std::fmt::Display;

/// Draws count steps in 32 bits.
const MAX_STEPS: u64 = u32::MAX as u64;

impl Recipe {
    /// Fills in the sizes that the preset decides.
    pub(super) fn complete(&mut self) -> Result<()> {
        let ModelSection { preset, depth, width, heads, patch, .. } = &mut self.model;
        let size = size_of(format_args!("model.preset = {preset}"), preset)?;
        for (slot, value) in [(depth, size.depth), (width, size.width), (heads, size.heads), (patch, size.patch)] {
            if *slot == 0 {
                *slot = value;
            }
        }
        Ok(())
    }

    /// Checks every range.
    pub(super) fn check(&self) -> Result<()> {
        let Recipe { diffusion, objective, mask, train, optimizer, checkpoint, sample, .. } = self;
        let shape = &self.data.shape;
        if !shape.is_empty() && (shape.len() != 3 || shape.contains(&0)) {
            let given = format!("{shape:?}");
            return Err(wrong("data.shape", given, "is no image; give channels, height and width, as [3, 64, 64]"));
        }
        share("diffusion.label_dropout", diffusion.label_dropout, true)?;
        number("diffusion.mean", diffusion.mean, f64::NEG_INFINITY)?;
        number("diffusion.std", diffusion.std, 0.0)?;
        number("diffusion.shift", diffusion.shift, 1e-3)?;
        let (path, prediction) = (diffusion.path, diffusion.prediction);
        prediction.check(path).map_err(|what| wrong("diffusion.prediction", prediction, what))?;
        let weighting = diffusion.weighting;
        weighting.check(path, prediction).map_err(|what| wrong("diffusion.weighting", weighting, what))?;
        let ObjectiveSection { target, score, region, .. } = *objective;
        if target != Target::Data && (path.steps().is_some() || prediction != Prediction::V) {
            let what = format_args!("is a velocity, and the network predicts {prediction} along {path}; give data");
            return Err(wrong(
                "objective.target",
                if target == Target::Exact { "exact" } else { "posterior-sample" },
                what,
            ));
        }
        if target == Target::Data && score > 0 {
            let what =
                "has no meaning where the target is the data; give objective.region, or another objective.target";
            return Err(wrong("objective.score", score, what));
        }
        if region > 0 && target != Target::Data && !(1..=region).contains(&score) {
            let what =
                format_args!("is not within the {region} images of a class that are trained on; give 1 to {region}");
            return Err(wrong("objective.score", score, what));
        }
        share("mask.drop", mask.drop, false)?;
        share("mask.drop_end", mask.drop_end, false)?;
        share("mask.loss_drop", mask.loss_drop, false)?;
        share("mask.loss_drop_end", mask.loss_drop_end, false)?;
        whole("mask.ramp", mask.ramp, 0, MAX_STEPS)?;
        let dropped = mask.drop > 0.0 || mask.ramp > 0 && mask.drop_end > 0.0;
        let crops = mask.kind.0.iter().filter(|kind| matches!(kind, TokenMask::Crop(_))).count();
        if !dropped && crops == 0 && mask.kind != MaskSection::default().kind {
            return Err(wrong("mask.kind", &mask.kind, "drops nothing, since mask.drop is 0; give mask.drop a share"));
        }
        if dropped && crops == mask.kind.0.len() {
            let what = format_args!("mask.kind = {} drops what its side says, whatever the share; give 0", mask.kind);
            return Err(wrong("mask.drop", mask.drop, what));
        }

        self.check_steps()?;
        whole("train.batch_size", train.batch_size as u64, 1, 1 << 20)?;
        if train.ema.len() > MOST_AVERAGES {
            let (decays, count) = (format!("{:?}", train.ema), train.ema.len());
            let what = format_args!("are {count} moving averages; give at most {MOST_AVERAGES}");
            return Err(wrong("train.ema", decays, what));
        }
        for (i, &decay) in train.ema.iter().enumerate() {
            share("train.ema", decay, false)?;
            if train.ema[..i].iter().any(|&other| other as f32 == decay as f32) {
                return Err(wrong("train.ema", decay, "is there twice; give each decay once"));
            }
        }

        number("optimizer.lr", optimizer.lr, 0.0)?;
        optimizer.betas.iter().try_for_each(|&beta| share("optimizer.betas", beta, false))?;
        number("optimizer.epsilon", optimizer.epsilon, 0.0)?;
        if optimizer.epsilon as f32 == 0.0 {
            let what = "divides by 0 where a gradient is 0; give a number from 1e-45 on";
            return Err(wrong("optimizer.epsilon", optimizer.epsilon, what));
        }
        number("optimizer.weight_decay", optimizer.weight_decay, 0.0)?;
        number("optimizer.clip", optimizer.clip, 0.0)?;
        whole("optimizer.warmup", optimizer.warmup, 0, MAX_STEPS)?;
        whole("optimizer.decay_steps", optimizer.decay_steps, 0, MAX_STEPS)?;

        whole("checkpoint.every", checkpoint.every, 1, MAX_STEPS)?;
        number("checkpoint.minutes", checkpoint.minutes, 0.0)?;
        whole("checkpoint.keep", checkpoint.keep as u64, 1, 1 << 20)?;

        whole("sample.every", sample.every, 0, MAX_STEPS)?;
        whole("sample.count", sample.count as u64, 1, 1 << 16)?;
        whole("sample.steps", sample.steps as u64, 1, 1 << 20)?;
        if sample.every > 0 {
            let steps = sample.sampler.check(path, prediction, sample.steps);
            steps.map_err(|what| wrong("sample.sampler", sample.sampler, what))?;
        }
        number("sample.bound", sample.bound, 0.0)?;
        number("sample.guidance", sample.guidance, f64::NEG_INFINITY)?;
        for end in sample.interval {
            share("sample.interval", end, true)?;
        }
        if sample.interval[0] > sample.interval[1] {
            let interval = format!("{:?}", sample.interval);
            return Err(wrong("sample.interval", interval, "ends before it begins; give the smaller time first"));
        }
        Ok(())
    }

    pub(super) fn check_steps(&self) -> Result<()> {
        whole("train.steps", self.train.steps, 1, MAX_STEPS)
    }
}

/// The size of a preset, or an error about what was `given` that names the nearest one.
pub fn size_of(given: impl Display, preset: &str) -> Result<Size> {
    let unknown = || {
        let names = Size::presets();
        let near = nearest(preset, names.iter().map(String::as_str)).unwrap_or_default();
        let what = format_args!("there is no such preset; did you mean {near}? There are {}", names.join(", "));
        Error::Usage(format!("{given}: {what}"))
    };
    Size::preset(preset).ok_or_else(unknown)
}

/// An error about the value of a key.
pub fn wrong(key: &str, value: impl Display, what: impl Display) -> Error {
    Error::Usage(format!("{key} = {value}: {what}"))
}

fn number(key: &str, value: f64, least: f64) -> Result<()> {
    if value.is_finite() && value >= least && value.abs() <= f64::from(f32::MAX) {
        return Ok(());
    }
    let least = if least.is_finite() { format!(" from {least} on") } else { String::new() };
    Err(wrong(key, value, format_args!("is out of range; give a finite number{least}")))
}

fn whole(key: &str, value: u64, least: u64, most: u64) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(wrong(key, value, format_args!("is out of range; give {least} to {most}")))
}

/// A share is from 0 to 1; without `whole`, 1 itself is too much, and so is what is 1 in the 32 bits of a step.
fn share(key: &str, value: f64, whole: bool) -> Result<()> {
    if (0.0..1.0).contains(&value) && (whole || value as f32 != 1.0) || whole && value == 1.0 {
        return Ok(());
    }
    let what = if (0.0..1.0).contains(&value) { "is 1 in 32 bits" } else { "is out of range" };
    let end = if whole { "and including" } else { "but not including" };
    Err(wrong(key, value, format_args!("{what}; give a number from 0 up to, {end}, 1")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::recipe::Change;

    #[test]
    fn values_out_of_range_are_refused_with_the_range() {
        for (set, expected) in [
            ("train.steps=0", "train.steps = 0: is out of range; give 1 to 4294967295"),
            ("train.batch_size=0", "train.batch_size = 0: is out of range; give 1 to 1048576"),
            (
                "train.ema=[0.9, 1.0]",
                "train.ema = 1: is out of range; give a number from 0 up to, but not including, 1",
            ),
            ("train.ema=[0.9, 0.9]", "train.ema = 0.9: is there twice; give each decay once"),
            (
                "train.ema=[0.1, 0.2, 0.3, 0.4, 0.5]",
                "train.ema = [0.1, 0.2, 0.3, 0.4, 0.5]: are 5 moving averages; give at most 4",
            ),
            (
                "train.ema=[0.99999999]",
                "train.ema = 0.99999999: is 1 in 32 bits; give a number from 0 up to, but not including, 1",
            ),
            ("train.ema=[0.9, 0.90000000001]", "train.ema = 0.90000000001: is there twice; give each decay once"),
            (
                "optimizer.betas=[0.9, 0.99999999]",
                "optimizer.betas = 0.99999999: is 1 in 32 bits; give a number from 0 up to, but not including, 1",
            ),
            (
                "optimizer.epsilon=1e-50",
                "optimizer.epsilon = 0.00000000000000000000000000000000000000000000000001: divides by 0 where a gradient is 0; give a number from 1e-45 on",
            ),
            (
                "optimizer.epsilon=0.0",
                "optimizer.epsilon = 0: divides by 0 where a gradient is 0; give a number from 1e-45 on",
            ),
            ("mask.drop=1.0", "mask.drop = 1: is out of range; give a number from 0 up to, but not including, 1"),
            ("mask.drop=nan", "mask.drop = NaN: is out of range; give a number from 0 up to, but not including, 1"),
            (
                "mask.loss_drop=1.0",
                "mask.loss_drop = 1: is out of range; give a number from 0 up to, but not including, 1",
            ),
            ("mask.kind=block:4", "mask.kind = block:4: drops nothing, since mask.drop is 0; give mask.drop a share"),
            ("optimizer.lr=-1.0", "optimizer.lr = -1: is out of range; give a finite number from 0 on"),
            ("optimizer.lr=inf", "optimizer.lr = inf: is out of range; give a finite number from 0 on"),
            (
                "diffusion.label_dropout=1.5",
                "diffusion.label_dropout = 1.5: is out of range; give a number from 0 up to, and including, 1",
            ),
            (
                "sample.interval=[0.5, 0.2]",
                "sample.interval = [0.5, 0.2]: ends before it begins; give the smaller time first",
            ),
            (
                "diffusion.path=ddpm-linear",
                "diffusion.prediction = v: ddpm-linear has steps and no velocity; give eps, x or score",
            ),
            (
                "diffusion.prediction=score",
                "diffusion.weighting = none: a score grows as 1 / sigma, and at small t would alone count; give noise or another",
            ),
            (
                "diffusion.weighting=likelihood",
                "diffusion.weighting = likelihood: at t = 0 a v of linear would count without end; predict x, eps or score",
            ),
            ("sample.bound=-1", "sample.bound = -1: is out of range; give a finite number from 0 on"),
            ("checkpoint.keep=0", "checkpoint.keep = 0: is out of range; give 1 to 1048576"),
            ("checkpoint.minutes=-5", "checkpoint.minutes = -5: is out of range; give a finite number from 0 on"),
        ] {
            let changes = [Change::set(set).unwrap()];
            assert_eq!(Recipe::read("r", "", &changes).unwrap_err().to_string(), expected);
        }
        let steps = "[diffusion]\npath = \"ddpm-cosine\"\nprediction = \"x\"\n";
        for (more, expected) in [
            (
                "",
                "sample.sampler = euler: ddpm-cosine has steps and no velocity; give ddim, ddim:ETA, ancestral or dpm-solver++",
            ),
            (
                "[objective]\ntarget = \"exact\"",
                "objective.target = exact: is a velocity, and the network predicts x along ddpm-cosine; give data",
            ),
        ] {
            let message = Recipe::read("r", &format!("{steps}{more}"), &[]).unwrap_err().to_string();
            assert_eq!(message, expected);
        }
    }

    #[test]
    fn an_unknown_preset_names_the_nearest_one() {
        let changes = [Change::set("model.preset=sit-x-2").unwrap()];
        let of_key = Recipe::read("r", "", &changes).unwrap_err().to_string();
        let of_flag = size_of("--preset SiT-XXL/2", "SiT-XXL/2").unwrap_err().to_string();
        for (message, expected) in [
            (of_key, "model.preset = sit-x-2: there is no such preset; did you mean sit-xs-2? There are sit-xs-2, "),
            (of_flag, "--preset SiT-XXL/2: there is no such preset; did you mean sit-xl-2? There are sit-xs-2, "),
        ] {
            assert!(message.starts_with(expected) && message.ends_with(", uvit-h-8"), "{message}");
        }
    }
}
