//! Recipes that the program holds, which a command names without a path.

use super::read::nearest;
use super::{Change, Recipe};
use crate::base::{Error, Result};

/// Name and text; the first line of a text says what it is.
const LIBRARY: [(&str, &str); 7] = [
    ("maskdm-celeba64", include_str!("library/maskdm-celeba64.toml")),
    ("maskdm-celebahq256", include_str!("library/maskdm-celebahq256.toml")),
    ("maskdm-celebahq256-v1", include_str!("library/maskdm-celebahq256-v1.toml")),
    ("maskdm-fashion", include_str!("library/maskdm-fashion.toml")),
    ("ssd-celeba64", include_str!("library/ssd-celeba64.toml")),
    ("ssd-cifar10", include_str!("library/ssd-cifar10.toml")),
    ("ssd-fashion", include_str!("library/ssd-fashion.toml")),
];

impl Recipe {
    /// The recipe of this name that the program holds, with `changes` laid over it; `None` if there is none.
    pub fn held(name: &str, changes: &[Change]) -> Option<Result<Recipe>> {
        let (name, text) = LIBRARY.iter().find(|row| row.0 == name)?;
        Some(Recipe::read(name, text, changes))
    }

    /// The names of the recipes that the program holds.
    pub fn held_names() -> impl Iterator<Item = &'static str> {
        LIBRARY.iter().map(|row| row.0)
    }

    /// Every recipe that the program holds, and below it what it is, for help.
    pub fn held_list() -> String {
        let line = |(name, text): &(&str, &str)| {
            let about = text.lines().next().unwrap_or_default().trim_start_matches("# ");
            format!("  {name}\n          {about}\n")
        };
        LIBRARY.iter().map(line).collect()
    }
}

/// What to say of `name`, which is neither a file nor a recipe that the program holds.
pub(super) fn no_recipe(name: &str) -> Error {
    let near = nearest(name, Recipe::held_names()).unwrap_or_default();
    Error::Usage(format!("{name}: no such recipe; check the path, or name one that the program holds, as {near}"))
}
