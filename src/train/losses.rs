//! The losses of a run as a picture.

use super::recipe::Recipe;
use crate::base::{Error, Result};
use crate::data::svg::{Axis, Chart, Mark, Series, write_charts};
use serde::Deserialize;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Points that the losses of many steps are thinned to.
const POINTS: usize = 400;

/// What a line of `metrics.jsonl` says of losses; one that is not finite is null.
#[derive(Deserialize)]
struct Line {
    step: u64,
    loss: Option<f64>,
    held_out_loss: Option<f64>,
}

/// Draws `loss.svg` in the folder of a run from its `metrics.jsonl`: the losses of all its stages and starts, means of as many
/// steps each, and the held-out losses.
pub fn draw_losses(folder: &Path, recipe: &Recipe) -> Result<()> {
    let path = folder.join("metrics.jsonl");
    let failed = |error| Error::file(&path, error);
    let (mut losses, mut held_out) = (vec![], vec![]);
    for line in BufReader::new(File::open(&path).map_err(failed)?).lines() {
        // A line that a full disk cut has no loss.
        if let Ok(Line { step, loss, held_out_loss }) = serde_json::from_str(&line.map_err(failed)?) {
            losses.extend(loss.map(|loss| [step as f64, loss]));
            held_out.extend(held_out_loss.map(|loss| [step as f64, loss]));
        }
    }
    let losses = thinned(&losses);
    let stages = recipe.stages();
    let last = losses.last().map_or(0.0, |point| point[0]);
    let ends = stages.iter().map(|stage| stage.end as f64).filter(|&end| end < last);
    let ends: Vec<[f64; 2]> =
        ends.filter_map(|end| Some([end, losses.iter().rfind(|point| point[0] <= end)?[1]])).collect();
    let mut series = vec![Series { name: "loss of a step", mark: Mark::Line, points: losses }];
    if !held_out.is_empty() {
        series.push(Series { name: "held-out loss", mark: Mark::Dots(3.0), points: held_out });
    }
    if !ends.is_empty() {
        series.push(Series { name: "end of a stage", mark: Mark::Dots(4.0), points: ends });
    }
    let chart = Chart {
        title: recipe.model.preset.clone(),
        x: Axis { label: "step", log: false },
        y: Axis { label: "loss", log: true },
        series,
    };
    write_charts(&folder.join("loss.svg"), &[chart])
}

/// The means of equal shares of the points, at most [`POINTS`].
fn thinned(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let share = points.len().div_ceil(POINTS).max(1);
    let mean =
        |share: &[[f64; 2]]| [0, 1].map(|at| share.iter().map(|point| point[at]).sum::<f64>() / share.len() as f64);
    points.chunks(share).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_steps_are_thinned_to_means_and_few_are_left_as_they_are() {
        let points: Vec<[f64; 2]> = (1..=1000).map(|step| [f64::from(step), 2.0 * f64::from(step)]).collect();
        let thin = thinned(&points);
        assert_eq!((thin.len(), thin[0], thin[333]), (334, [2.0, 4.0], [1000.0, 2000.0]));
        assert_eq!(thinned(&points[..400]), points[..400]);
        assert!(thinned(&[]).is_empty());
    }
}
