//! From text to a recipe: a file, then flags, each laid over what came before.

use super::{Key, Recipe, library, stage};
use crate::base::{Error, Result};
use std::path::Path;
use toml::{Table, Value};

/// One key given on the command line, with the flag that gave it.
#[derive(Clone, Debug)]
pub struct Change {
    /// `section.key`
    pub key: String,
    pub value: Value,
    /// How messages call it.
    pub source: String,
}

impl Change {
    /// What `flag VALUE` sets.
    pub fn flag(flag: &str, key: &str, value: impl Into<Value>) -> Change {
        let value = value.into();
        Change { key: key.into(), source: format!("{flag} {}", text(&value)), value }
    }

    /// Reads `--set section.key=value`. What is no TOML value is a string, so that words need no quotes.
    pub fn set(assignment: &str) -> Result<Change> {
        let source = format!("--set {assignment}");
        let Some((key, value)) = assignment.split_once('=') else {
            check_key(&source, assignment)?;
            return Err(usage(&source, format_args!("there is no `=`; write --set {}", example(assignment))));
        };
        let (key, value) = (key.trim(), value.trim());
        let parsed = format!("value = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
        let value = parsed.unwrap_or_else(|| Value::String(value.into()));
        Ok(Change { key: key.into(), value, source })
    }
}

impl Recipe {
    /// The recipe in `text`, which `name` calls by its name in messages, with `changes` laid over it in their order.
    ///
    /// Types and ranges are checked, and sizes that the preset decides are filled in.
    pub fn read(name: &str, text: &str, changes: &[Change]) -> Result<Recipe> {
        let mut table: Table = text.parse().map_err(|error: toml::de::Error| usage(name, error.to_string().trim()))?;
        let mut stages = stage::take(name, &mut table)?;
        for (section, keys) in &table {
            let Value::Table(keys) = keys else {
                let known = Recipe::SECTIONS.iter().any(|row| row.0 == section);
                let what = if known { format!("{section} is a section; write [{section}]") } else { unknown(section) };
                return Err(usage(name, what));
            };
            if keys.is_empty() && !Recipe::SECTIONS.iter().any(|row| row.0 == section) {
                return Err(usage(name, unknown(section)));
            }
            for key in keys.keys() {
                check_key(name, &format!("{section}.{key}"))?;
            }
        }
        let mut recipe = typed(name, &table)?;
        for (i, stage) in stages.iter().enumerate() {
            typed(&format!("{name}: stage {}", i + 1), &stage::overlaid(&table, stage))?;
        }
        for change in changes {
            if stage::lay(change, &mut stages)? {
                stages.iter().try_for_each(|stage| typed(&change.source, &stage::overlaid(&table, stage)).map(drop))?;
                continue;
            }
            check_key(&change.source, &change.key)?;
            let (section, key) = change.key.split_once('.').expect("a checked key has a section");
            let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            let section = section.as_table_mut().expect("a checked section is a table");
            section.insert(key.into(), change.value.clone());
            if change.key == "model.preset" {
                // A preset that is given later replaces the sizes that were given before.
                for size in ["depth", "width", "heads", "patch"] {
                    section.remove(size);
                }
            }
            recipe = typed(&change.source, &table)?;
        }
        recipe.complete()?;
        let steps_given = table.get("train").is_some_and(|train| train.get("steps").is_some());
        recipe.with_stages(stages, steps_given)
    }

    /// As [`Recipe::read`], from a file.
    pub fn open(path: &Path, changes: &[Change]) -> Result<Recipe> {
        let name = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound if !name.contains(['.', '/']) => library::no_recipe(&name),
            std::io::ErrorKind::NotFound => usage(&name, "no such recipe; check the path"),
            std::io::ErrorKind::IsADirectory => {
                usage(&name, "is a folder, a recipe is a file; that of a run is its config.resolved.toml")
            }
            _ => usage(&name, error),
        })?;
        match String::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => Recipe::read(&name, &text, changes),
            _ => Err(usage(&name, "is no recipe, which is text; a store goes after --data")),
        }
    }

    /// All values by section and key.
    pub(super) fn table(&self) -> Table {
        Table::try_from(self).expect("every value of a recipe has a form in TOML")
    }

    /// The keys, in the order of declaration, whose values differ from `other`'s: key, our value, the other's. A key of a
    /// stage is compared where both have the stage.
    pub fn differences(&self, other: &Recipe) -> Vec<[String; 3]> {
        let (ours, theirs) = (self.table(), other.table());
        let keys = Recipe::SECTIONS.iter().flat_map(|(section, keys)| keys.iter().map(move |key| (*section, key.name)));
        keys.map(|(section, key)| (format!("{section}.{key}"), &ours[section][key], &theirs[section][key]))
            .filter(|(_, ours, theirs)| ours != theirs)
            .map(|(path, ours, theirs)| [path, text(ours), text(theirs)])
            .chain(self.stage_differences(other))
            .collect()
    }
}

pub(super) fn usage(source: &str, what: impl std::fmt::Display) -> Error {
    Error::Usage(format!("{source}: {what}"))
}

/// A value as TOML writes it.
pub(super) fn text(value: &Value) -> String {
    value.to_string()
}

/// The recipe of `table`, whose keys are known; `source` gave the last of its values.
pub(super) fn typed(source: &str, table: &Table) -> Result<Recipe> {
    table.clone().try_into().map_err(|error: toml::de::Error| {
        // The library says the key on a line of its own, and names the types of this program.
        let message = error.to_string();
        let (said, key) = message.trim().split_once("\nin `").unwrap_or((message.trim(), ""));
        let key = key.trim_end_matches('`');
        let (section, name) = key.split_once('.').unwrap_or((key, ""));
        let given = table.get(section).and_then(|keys| keys.get(name));
        match given.zip(default_of(key)) {
            Some((given, default)) => {
                usage(source, format_args!("{key}: {} {}", text(given), unfit(given, &default, said)))
            }
            None => usage(source, format_args!("{key}: {said}")),
        }
    })
}

/// The default of `section.key`; `None` where there is no such key.
fn default_of(path: &str) -> Option<Value> {
    let (section, key) = path.split_once('.')?;
    Recipe::default().table().get(section)?.get(key).cloned()
}

/// How `--set` takes `section.key`, which there is: with its default.
pub fn example(key: &str) -> String {
    format!("{key}={}", text(&default_of(key).expect("there is such a key")))
}

/// What is wrong with a value in the place of one like `default`, and what to give; `said` is what the library found.
fn unfit(given: &Value, default: &Value, said: &str) -> String {
    match default {
        Value::Integer(_) => format!("is no whole number from 0 on; give one such as {default}"),
        Value::Float(_) => format!("is no number; give one such as {default}"),
        Value::Boolean(_) => "is neither true nor false; give one of them".into(),
        Value::Array(list) if list.len() == 1 && matches!(given, Value::Integer(_) | Value::Float(_)) => {
            format!("is no list; write [{given}]")
        }
        Value::Array(list) if list.len() == 1 => format!("is no list of numbers; write one such as {default}"),
        Value::Array(list) if list.is_empty() => "is no list of whole numbers; write one such as [3, 64, 64]".into(),
        Value::Array(list) => format!("is no list of {} numbers; write one such as {default}", list.len()),
        _ if given.is_str() => {
            let choices = said.split_once("expected ").map_or(said, |(_, choices)| choices);
            format!("is not known; give {}", choices.trim_start_matches("one of "))
        }
        _ => "is no text; write it in quotes".into(),
    }
}

pub(super) fn check_key(source: &str, path: &str) -> Result<()> {
    let known = Recipe::SECTIONS.iter().any(|(section, keys)| {
        path.strip_prefix(section)
            .and_then(|rest| rest.strip_prefix('.'))
            .is_some_and(|key| keys.iter().any(|row| row.name == key))
    });
    if known { Ok(()) } else { Err(usage(source, unknown(path))) }
}

/// What other programs call a key.
const SYNONYMS: [(&str, &str); 19] = [
    ("learning_rate", "optimizer.lr"),
    ("wd", "optimizer.weight_decay"),
    ("eps", "optimizer.epsilon"),
    ("grad_clip", "optimizer.clip"),
    ("max_grad_norm", "optimizer.clip"),
    ("batch", "train.batch_size"),
    ("global_batch_size", "train.batch_size"),
    ("ema_decay", "train.ema"),
    ("max_steps", "train.steps"),
    ("ckpt_every", "checkpoint.every"),
    ("sample_every", "sample.every"),
    ("num_steps", "sample.steps"),
    ("num_samples", "sample.count"),
    ("cfg", "sample.guidance"),
    ("cfg_scale", "sample.guidance"),
    ("guidance_scale", "sample.guidance"),
    ("model", "model.preset"),
    ("mask_ratio", "mask.drop"),
    ("mask_type", "mask.kind"),
];

/// A name as keys have them.
fn as_key(name: &str) -> String {
    name.to_lowercase().replace('-', "_")
}

/// The key `section.key` that is called `name` by other programs or in some section, whatever its case and dashes.
pub fn key_called(name: &str) -> Option<String> {
    let name = as_key(name);
    let of = |keys: &[Key]| keys.iter().any(|key| key.name == name);
    let ours = Recipe::SECTIONS.iter().find(|(_, keys)| of(keys)).map(|(section, _)| format!("{section}.{name}"));
    synonym(&name).map(str::to_owned).or(ours)
}

fn synonym(name: &str) -> Option<&'static str> {
    SYNONYMS.iter().find(|row| row.0 == name).map(|row| row.1)
}

pub(super) fn unknown(path: &str) -> String {
    let (section, last) = path.rsplit_once('.').unwrap_or(("", path));
    let last = &*as_key(last);
    let keys = Recipe::SECTIONS.iter().flat_map(|(of, keys)| keys.iter().map(move |key| (*of, key.name)));
    // A slip within a section is the likeliest; after it the same name in another section, however that is called.
    let edits = |&(of, name): &(&str, &str)| distance(last, name) + distance(section, of).min(2);
    let near = keys.min_by_key(edits).filter(|key| edits(key) <= 2.max(last.len() / 2));
    let near = near.map(|(of, name)| format!("{of}.{name}"));
    let key = synonym(last).map(str::to_owned).or(near);
    let advice = match (key, Recipe::SECTIONS.iter().find(|row| row.0 == section)) {
        (Some(key), _) => format!("did you mean {key}?"),
        (None, Some((of, keys))) => {
            format!("[{of}] has {}", keys.iter().map(|key| key.name).collect::<Vec<_>>().join(", "))
        }
        (None, None) => format!("the sections are {}", Recipe::SECTIONS.map(|row| row.0).join(", ")),
    };
    format!("there is no key {path}; {advice}")
}

/// The nearest of `names`, which are in lower case with dashes, to `name` in any case: SiT-XL/2 is sit-xl-2.
pub(super) fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = name.to_lowercase().replace(['/', '_', ' '], "-");
    names.into_iter().min_by_key(|other| distance(&plain, other))
}

/// Levenshtein's distance: insertions, deletions and replacements from one name to the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.chars().count()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str, sets: &[&str]) -> String {
        let changes: Vec<Change> = sets.iter().map(|set| Change::set(set).unwrap()).collect();
        Recipe::read("r.toml", text, &changes).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_key_names_the_nearest_one() {
        for (text, expected) in [
            ("[train]\nstep = 3", "r.toml: there is no key train.step; did you mean train.steps?"),
            ("[train]\nlr = 3", "r.toml: there is no key train.lr; did you mean optimizer.lr?"),
            ("[optimiser]\nlr = 3", "r.toml: there is no key optimiser.lr; did you mean optimizer.lr?"),
            ("steps = 3", "r.toml: there is no key steps; did you mean train.steps?"),
            ("train = 3", "r.toml: train is a section; write [train]"),
            ("[optim]\nlr = 3", "r.toml: there is no key optim.lr; did you mean optimizer.lr?"),
            ("[train]\nlearning_rate = 3", "r.toml: there is no key train.learning_rate; did you mean optimizer.lr?"),
            ("[optimizer]\neps = 3", "r.toml: there is no key optimizer.eps; did you mean optimizer.epsilon?"),
            ("[model]\nbatch_size = 3", "r.toml: there is no key model.batch_size; did you mean train.batch_size?"),
            ("[sample]\nstep = 3", "r.toml: there is no key sample.step; did you mean sample.steps?"),
            (
                "[checkpoint]\ncolour = 3",
                "r.toml: there is no key checkpoint.colour; [checkpoint] has every, minutes, keep",
            ),
            (
                "[nonsense]\nvocabulary = 3",
                "r.toml: there is no key nonsense.vocabulary; \
                the sections are model, data, diffusion, objective, mask, train, optimizer, checkpoint, sample",
            ),
        ] {
            assert_eq!(message(text, &[]), expected);
        }
        let expected = "--set sample.stps=3: there is no key sample.stps; did you mean sample.steps?";
        assert_eq!(message("", &["sample.stps=3"]), expected);
    }

    #[test]
    fn a_value_of_the_wrong_type_names_its_key_and_where_it_was_given() {
        for (set, expected) in [
            ("train.steps=many", "\"many\" is no whole number from 0 on; give one such as 400000"),
            ("train.steps=-1", "-1 is no whole number from 0 on; give one such as 400000"),
            ("train.steps=3.5", "3.5 is no whole number from 0 on; give one such as 400000"),
            ("optimizer.lr=fast", "\"fast\" is no number; give one such as 0.0001"),
            ("train.recompute=1", "1 is neither true nor false; give one of them"),
            ("train.precision=f64", "\"f64\" is not known; give `auto`, `f32`, `bf16`"),
            ("model.preset=3", "3 is no text; write it in quotes"),
            ("train.ema=0.9", "0.9 is no list; write [0.9]"),
            ("train.ema=[true]", "[true] is no list of numbers; write one such as [0.9999]"),
            ("train.ema={ x = 3 }", "{ x = 3 } is no list of numbers; write one such as [0.9999]"),
            ("optimizer.betas=[0.9]", "[0.9] is no list of 2 numbers; write one such as [0.9, 0.999]"),
            (
                "sample.sampler=rk4",
                "\"rk4\" is not known; give euler, heun, dopri5, dopri5:RTOL,ATOL, ddim, ddim:ETA, ancestral, euler-maruyama, euler-maruyama:DIFFUSION, dpm-solver++, an ETA from 0 to 1, tolerances above 0, a DIFFUSION of sigma, linear, decreasing, increasing-decreasing, reverse",
            ),
        ] {
            let (key, _) = set.split_once('=').unwrap();
            assert_eq!(message("", &[set]), format!("--set {set}: {key}: {expected}"));
        }
        assert!(message("[train]\nsteps = ", &[]).starts_with("r.toml: TOML parse error at line 2"));
    }

    #[test]
    fn an_assignment_without_a_value_is_told_how_the_same_key_takes_one() {
        for (set, expected) in [
            ("optimizer.lr", "--set optimizer.lr: there is no `=`; write --set optimizer.lr=0.0001"),
            ("optimizer.l", "--set optimizer.l: there is no key optimizer.l; did you mean optimizer.lr?"),
        ] {
            assert_eq!(Change::set(set).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn the_published_names_of_the_models_are_near_to_the_presets() {
        let names = crate::nn::Size::presets();
        for (name, expected) in [("SiT-XL/2", "sit-xl-2"), ("DiT-XL/2", "sit-xl-2"), ("DiT_B/4", "sit-b-4")] {
            assert_eq!(nearest(name, names.iter().map(String::as_str)), Some(expected));
        }
    }

    #[test]
    fn flags_are_laid_over_the_file_and_a_later_preset_replaces_earlier_sizes() {
        let text = "[model]\npreset = \"sit-b-4\"\ndepth = 3\n[train]\nsteps = 7";
        let read = |sets: &[&str]| {
            let changes: Vec<Change> = sets.iter().map(|set| Change::set(set).unwrap()).collect();
            Recipe::read("r.toml", text, &changes).unwrap()
        };
        let recipe = read(&[]);
        assert_eq!((recipe.model.depth, recipe.model.width, recipe.train.steps), (3, 768, 7));
        let recipe = read(&["train.steps=9", "model.preset=sit-s-2", "train.precision=bf16"]);
        assert_eq!((recipe.model.depth, recipe.model.patch, recipe.train.steps), (12, 2, 9));
        assert_eq!(recipe.train.precision, super::super::Precision::Bf16);
        assert_eq!(read(&["model.preset=sit-s-2", "model.depth=1"]).model.depth, 1);
    }

    #[test]
    fn every_difference_is_named_with_both_values() {
        let a = Recipe::read("a", "", &[]).unwrap();
        let b = Recipe::read("b", "[optimizer]\nlr = 0.5\n[train]\nsteps = 1\nema = [0.5, 0.25]", &[]).unwrap();
        let expected = [
            ["train.steps", "400000", "1"],
            ["train.ema", "[0.9999]", "[0.5, 0.25]"],
            ["optimizer.lr", "0.0001", "0.5"],
        ];
        assert_eq!(a.differences(&b), expected);
        assert!(a.differences(&a).is_empty());
    }

    #[test]
    fn the_first_run_is_a_valid_recipe() {
        assert_eq!(Recipe::read("first run", super::super::FIRST_RUN, &[]).unwrap().model.width, 128);
    }

    #[test]
    fn distances_count_edits() {
        for (a, b, edits) in [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("é", "e", 1)]
        {
            assert_eq!((distance(a, b), distance(b, a)), (edits, edits), "{a} {b}");
        }
    }
}
