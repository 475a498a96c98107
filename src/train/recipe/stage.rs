//! Recipes of several stages: `[[stage]]` tables, each laid over the rest of the recipe for so many steps.

use super::read::{check_key, text, typed, unknown, usage};
use super::{Change, Recipe};
use crate::base::{Error, Result};
use toml::{Table, Value};

/// What a message says of keys that no stage has.
const ALLOWED: &str = "a stage has train.steps, train.batch_size, train.ema and the keys of [mask] and [optimizer]";

/// A stretch of a run with a recipe of its own, of its own number of steps. A run without `[[stage]]` is one of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// From 1 on.
    pub number: usize,
    /// Steps of the run before the first and after the last of this stage, if the run goes so far.
    pub begin: u64,
    pub end: u64,
    pub recipe: Recipe,
}

impl Recipe {
    /// The stages of the run, the last one until the end of the run.
    pub fn stages(&self) -> Vec<Stage> {
        if self.stage.is_empty() {
            return vec![Stage { number: 1, begin: 0, end: self.train.steps, recipe: self.clone() }];
        }
        let (base, mut begin) = (self.table(), 0);
        let stages = self.stage.iter().enumerate().map(|(i, stage)| {
            let mut recipe = typed("stage", &overlaid(&base, stage)).expect("stages were read before");
            if i + 1 == self.stage.len() {
                recipe.train.steps = self.train.steps.saturating_sub(begin).max(1);
            }
            let end = begin + recipe.train.steps;
            Stage { number: i + 1, begin: std::mem::replace(&mut begin, end), end, recipe }
        });
        stages.collect()
    }

    /// The stage of the next step, after `done` steps.
    pub fn stage_after(&self, done: u64) -> Stage {
        let mut stages = self.stages();
        let at = stages.iter().position(|stage| done < stage.end).unwrap_or(stages.len() - 1);
        stages.swap_remove(at)
    }

    /// The stage of the last of `done` steps, or the first.
    pub fn stage_of(&self, done: u64) -> Stage {
        self.stage_after(done.saturating_sub(1))
    }

    /// Takes `stages`, whose keys are known, into the recipe, and checks it; without a number of steps of its own the run has
    /// theirs.
    pub(super) fn with_stages(mut self, stages: Vec<Table>, steps_given: bool) -> Result<Recipe> {
        if stages.is_empty() {
            self.check()?;
            return Ok(self);
        }
        let base = self.table();
        let mut total = 0u64;
        for (i, mut stage) in stages.into_iter().enumerate() {
            let recipe = typed(&called(i), &overlaid(&base, &stage))?;
            if stage.get("train").and_then(|train| train.get("steps")).is_none() {
                return Err(usage(&called(i), "there is no train.steps; say how many steps it has"));
            }
            recipe.check().map_err(|error| in_stage(i + 1, error))?;
            total = total.saturating_add(recipe.train.steps);
            // As the types write them, so that two recipes are equal if they mean the same.
            let values = recipe.table();
            each(&mut stage, |section, key, value| *value = values[section][key].clone());
            self.stage.push(stage);
        }
        if !steps_given {
            self.train.steps = total;
        }
        self.check_steps()?;
        Ok(self)
    }

    /// Every key of a stage that differs from `other`'s, which has as many stages: key, our value, the other's.
    pub(super) fn stage_differences(&self, other: &Recipe) -> Vec<[String; 3]> {
        let mut differences = vec![];
        for (i, (ours, theirs)) in self.stage.iter().zip(&other.stage).enumerate() {
            let [base, mut merged] = [other.table(), overlaid(&self.table(), ours)];
            let theirs = overlaid(&base, theirs);
            each(&mut merged, |section, key, value| {
                if *value != theirs[section][key] && stageable(section, key) {
                    let path = format!("stage.{}.{section}.{key}", i + 1);
                    differences.push([path, text(value), text(&theirs[section][key])]);
                }
            });
        }
        differences
    }
}

impl Stage {
    /// The learning rate of `step`, counted from 0 over the whole run; warm-up and decay begin with the stage.
    pub fn learning_rate(&self, step: u64) -> f32 {
        self.recipe.learning_rate(step - self.begin)
    }

    /// The step of the run at which a cosine comes to 0.
    pub fn decay_end(&self) -> u64 {
        self.begin + self.recipe.decay_end()
    }
}

/// Says which stage an error is about.
pub fn in_stage(number: usize, error: Error) -> Error {
    match error {
        Error::Usage(what) => Error::Usage(format!("stage {number}: {what}")),
        other => other,
    }
}

fn called(index: usize) -> String {
    format!("stage {}", index + 1)
}

fn stageable(section: &str, key: &str) -> bool {
    ["mask", "optimizer"].contains(&section) || section == "train" && ["steps", "batch_size", "ema"].contains(&key)
}

/// The tables of `[[stage]]`, taken out of a recipe that messages call `name`, with known keys.
pub(super) fn take(name: &str, table: &mut Table) -> Result<Vec<Table>> {
    let tables = match table.remove("stage") {
        None => return Ok(vec![]),
        Some(Value::Array(tables)) => tables,
        Some(_) => return Err(usage(name, "stage is a list of tables; write [[stage]]")),
    };
    let mut stages = vec![];
    for (i, stage) in tables.into_iter().enumerate() {
        let name = format!("{name}: {}", called(i));
        let Value::Table(stage) = stage else { return Err(usage(&name, "is no table; write [[stage]]")) };
        for (section, keys) in &stage {
            let Value::Table(keys) = keys else { return Err(usage(&name, unknown(section))) };
            for key in keys.keys() {
                check(&name, section, key)?;
            }
        }
        stages.push(stage);
    }
    Ok(stages)
}

/// Refuses keys that are unknown or the same in every stage.
fn check(name: &str, section: &str, key: &str) -> Result<()> {
    check_key(name, &format!("{section}.{key}"))?;
    if stageable(section, key) {
        return Ok(());
    }
    Err(usage(name, format_args!("{section}.{key} is the same in every stage; {ALLOWED}")))
}

/// Lays `change` over the stage that it names, `stage.2.mask.drop`, and returns true; false if it names none.
pub(super) fn lay(change: &Change, stages: &mut [Table]) -> Result<bool> {
    let Some(path) = change.key.strip_prefix("stage.") else {
        let Some((section, key)) = change.key.split_once('.') else { return Ok(false) };
        let by = |stage: &Table| stage.get(section).is_some_and(|keys| keys.get(key).is_some());
        return match stages.iter().position(by) {
            Some(i) if change.key != "train.steps" => {
                let there = format!("stage.{}.{}={}", i + 1, change.key, text(&change.value));
                Err(usage(&change.source, format_args!("{} has its own; give --set {there}", called(i))))
            }
            _ => Ok(false),
        };
    };
    let parts =
        path.split_once('.').and_then(|(number, key)| Some((number.parse::<usize>().ok()?, key.split_once('.')?)));
    let Some((number, (section, key))) = parts else {
        return Err(usage(&change.source, "a key of a stage has its number, for example stage.1.mask.drop=0.5"));
    };
    check(&change.source, section, key)?;
    let count = stages.len();
    let Some(stage) = number.checked_sub(1).and_then(|i| stages.get_mut(i)) else {
        return Err(usage(&change.source, format_args!("there is no stage {number}; the recipe has {count}")));
    };
    let keys = stage.entry(section).or_insert_with(|| Value::Table(Table::new()));
    keys.as_table_mut().expect("a checked section is a table").insert(key.into(), change.value.clone());
    Ok(true)
}

/// `base` with the keys of `stage` in their places.
pub(super) fn overlaid(base: &Table, stage: &Table) -> Table {
    let (mut merged, mut stage) = (base.clone(), stage.clone());
    merged.remove("stage");
    each(&mut stage, |section, key, value| {
        let keys = merged.entry(section).or_insert_with(|| Value::Table(Table::new()));
        keys.as_table_mut().expect("a checked section is a table").insert(key.into(), value.clone());
    });
    merged
}

fn each(table: &mut Table, mut visit: impl FnMut(&str, &str, &mut Value)) {
    for (section, keys) in table.iter_mut() {
        for (key, value) in keys.as_table_mut().into_iter().flat_map(|keys| keys.iter_mut()) {
            visit(section, key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "[mask]\nkind = \"block:4\"\n[optimizer]\nlr = 0.5\nwarmup = 2\n\
                       [[stage]]\ntrain.steps = 6\nmask.drop = 0.9\ntrain.batch_size = 8\n\
                       [[stage]]\ntrain.steps = 4\noptimizer.lr = 1\nmask.kind = \"patch\"\ntrain.ema = [0.5]";

    fn read(text: &str, sets: &[&str]) -> Result<Recipe> {
        let changes: Vec<Change> = sets.iter().map(|set| Change::set(set).unwrap()).collect();
        Recipe::read("r.toml", text, &changes)
    }

    #[test]
    fn a_stage_is_the_recipe_with_its_own_keys_in_their_places() {
        let recipe = read(TWO, &[]).unwrap();
        assert_eq!(recipe.train.steps, 10);
        let [first, second] = &recipe.stages()[..] else { panic!("two stages") };
        assert_eq!((first.number, first.begin, first.end), (1, 0, 6));
        assert_eq!((second.number, second.begin, second.end), (2, 6, 10));
        assert_eq!((first.recipe.mask.drop, second.recipe.mask.drop), (0.9, 0.0));
        assert_eq!((first.recipe.train.batch_size, second.recipe.train.batch_size), (8, 256));
        assert_eq!(second.recipe.train.ema, [0.5]);
        let rates = [0, 1, 5].map(|step| first.learning_rate(step));
        assert_eq!((rates, [6, 7, 9].map(|step| second.learning_rate(step))), ([0.25, 0.5, 0.5], [0.5, 1.0, 1.0]));
        let [next, last] = [6, 10].map(|step| (recipe.stage_after(step).number, recipe.stage_of(step).number));
        assert_eq!((next, last), ((2, 1), (2, 2)), "a border is the end of a stage until its next step");
    }

    #[test]
    fn the_run_may_end_within_a_stage_and_its_last_one_may_be_longer() {
        let ends = |steps: &str| -> Vec<[u64; 2]> {
            let stages = read(TWO, &[steps]).unwrap().stages();
            stages.iter().map(|stage| [stage.begin, stage.end]).collect()
        };
        assert_eq!(ends("train.steps=25"), [[0, 6], [6, 25]]);
        // The first keeps its length, and so its cosine: the run can go on.
        assert_eq!(ends("train.steps=3"), [[0, 6], [6, 7]]);
    }

    #[test]
    fn stages_are_read_back_as_they_are_rendered_and_flags_reach_them_by_number() {
        let recipe = read(TWO, &["stage.2.mask.drop=0.25", "train.steps=12"]).unwrap();
        assert_eq!(recipe.stages()[1].recipe.mask.drop, 0.25);
        assert_eq!(read(&recipe.render(), &[]).unwrap(), recipe);
        let json = serde_json::to_string(&recipe).unwrap();
        assert_eq!(serde_json::from_str::<Recipe>(&json).unwrap(), recipe);
        let plain = read(TWO, &[]).unwrap();
        assert_eq!(
            recipe.differences(&plain),
            [["train.steps", "12", "10"], ["stage.2.mask.drop", "0.25", "0.0"]].map(|row| row.map(String::from))
        );
    }

    #[test]
    fn what_no_stage_can_have_is_refused() {
        for (text, set, expected) in [
            ("stage = 3", "", "r.toml: stage is a list of tables; write [[stage]]"),
            ("[[stage]]\nsteps = 3", "", "r.toml: stage 1: there is no key steps; did you mean train.steps?"),
            ("[[stage]]\nmask.drop = 0.5", "", "stage 1: there is no train.steps; say how many steps it has"),
            (
                "[[stage]]\ntrain.steps = 1\nmodel.depth = 3",
                "",
                "r.toml: stage 1: model.depth is the same in every stage; a stage has train.steps, train.batch_size, train.ema and the keys of [mask] and [optimizer]",
            ),
            ("[[stage]]\ntrain.steps = 0", "", "stage 1: train.steps = 0: is out of range; give 1 to 4294967295"),
            (
                "[[stage]]\ntrain.steps = \"x\"",
                "",
                "r.toml: stage 1: train.steps: \"x\" is no whole number from 0 on; give one such as 400000",
            ),
            (
                TWO,
                "optimizer.lr=2.0",
                "--set optimizer.lr=2.0: stage 2 has its own; give --set stage.2.optimizer.lr=2.0",
            ),
            (TWO, "stage.3.mask.drop=0.5", "--set stage.3.mask.drop=0.5: there is no stage 3; the recipe has 2"),
            (
                TWO,
                "stage.mask.drop=0.5",
                "--set stage.mask.drop=0.5: a key of a stage has its number, for example stage.1.mask.drop=0.5",
            ),
            (
                TWO,
                "stage.1.mask.drp=0.5",
                "--set stage.1.mask.drp=0.5: there is no key mask.drp; did you mean mask.drop?",
            ),
            (
                TWO,
                "stage.2.mask.kind='block:2'",
                "stage 2: mask.kind = block:2: drops nothing, since mask.drop is 0; give mask.drop a share",
            ),
        ] {
            let sets: &[&str] = if set.is_empty() { &[] } else { &[set] };
            assert_eq!(read(text, sets).unwrap_err().to_string(), expected);
        }
    }
}
