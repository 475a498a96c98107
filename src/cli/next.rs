//! What to do after a run, as commands that a shell takes as they are.

use crate::base::shell::quoted;
use crate::data::png;
use crate::train::Plan;
use crate::train::recipe::Decay;
use std::path::Path;

/// What can follow the run of the process `argv` in `out`; of one that was finished before, how to train longer.
pub fn commands(argv: &[String], out: &Path, plan: &Plan, was_finished: bool) -> String {
    let recipe = &plan.recipe;
    let last = recipe.stage_of(recipe.train.steps);
    let (steps, end, optimizer) = (recipe.train.steps, last.decay_end(), &last.recipe.optimizer);
    let longer = match optimizer.decay {
        Decay::Cosine if steps < end => again(argv, end, None),
        Decay::Cosine if recipe.stage.is_empty() && optimizer.decay_steps > 0 => {
            again(argv, 2 * steps, Some(2 * steps))
        }
        Decay::Cosine | Decay::Constant => again(argv, 2 * steps, None),
    };
    if was_finished {
        return format!("train longer  {longer}");
    }
    let (program, run) = (quoted(&argv[0]), out.to_string_lossy());
    let images = if png::has_picture(plan.model.grid.channels) { "more.png" } else { "more.npy" };
    let class = if plan.model.classes > 0 { " --class 0" } else { "" };
    let sample = format_args!("{program} sample --run {}{class} --out {images}", quoted(&run));
    let told = format!("draw more     {sample}\ntrain longer  {longer}");
    if !recipe.data.store.is_empty() {
        return told;
    }
    let ingest = format_args!("{program} data ingest --from FOLDER --side 32 --out my.store");
    format!("{told}\ntrain yours   {ingest} && {program} train --data my.store --out runs/mine")
}

/// The command `argv`, `PROGRAM train ...`, with other `steps` and, where one is given, another end of the cosine.
fn again(argv: &[String], steps: u64, decay_steps: Option<u64>) -> String {
    let replaced = |assignment: &str| {
        let key = assignment.split('=').next().unwrap_or_default().trim();
        key == "train.steps" || decay_steps.is_some() && key == "optimizer.decay_steps"
    };
    let mut words: Vec<String> = argv.iter().take(2).map(|word| quoted(word).into_owned()).collect();
    words.push(format!("--steps {steps}"));
    words.extend(decay_steps.map(|end| format!("--set optimizer.decay_steps={end}")));
    let mut rest = argv.iter().skip(2).peekable();
    while let Some(word) = rest.next() {
        match word.split_once('=').unwrap_or((word, "")) {
            ("--steps", "") => drop(rest.next()),
            ("--steps", _) => {}
            ("--set", "") if rest.peek().is_some_and(|next| replaced(next)) => drop(rest.next()),
            ("--set", assignment) if replaced(assignment) => {}
            _ => words.push(quoted(word).into_owned()),
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_given_again_with_its_steps_replaced_wherever_they_stood() {
        for (words, decay, expected) in [
            ("engine train", None, "engine train --steps 20"),
            ("engine train --steps 10 --out a", None, "engine train --steps 20 --out a"),
            ("engine train r.toml --steps=10", None, "engine train --steps 20 r.toml"),
            ("engine train --set train.steps=10 --seed 3", None, "engine train --steps 20 --seed 3"),
            (
                "engine train --set=train.steps=10 --set optimizer.decay_steps=10",
                None,
                "engine train --steps 20 --set optimizer.decay_steps=10",
            ),
            (
                "engine train --set optimizer.decay_steps=10 --set optimizer.lr=1",
                Some(20),
                "engine train --steps 20 --set optimizer.decay_steps=20 --set optimizer.lr=1",
            ),
            ("engine train -- r.toml", None, "engine train --steps 20 -- r.toml"),
        ] {
            let argv: Vec<String> = words.split(' ').map(Into::into).collect();
            assert_eq!(again(&argv, 20, decay), expected);
        }
    }
}
