use super::Recipe;
use super::read::text;
use std::fmt::Write;

impl Recipe {
    /// The recipe as a commented file, every key with its value.
    pub fn render(&self) -> String {
        let table = self.table();
        let mut out = String::from("# Every key of a recipe with the value that this run has.\n");
        for (section, keys) in Recipe::SECTIONS {
            let _ = writeln!(out, "\n[{section}]");
            for key in keys {
                let _ = writeln!(out, "#{}\n{} = {}", key.about, key.name, text(&table[section][key.name]));
            }
        }
        out
    }

    /// Every key with its default and its meaning, one to a line, for help.
    pub fn reference() -> String {
        let table = Recipe::default().table();
        let mut out = String::new();
        for (section, keys) in Recipe::SECTIONS {
            for key in keys {
                let name = format!("{section}.{} = {}", key.name, text(&table[section][key.name]));
                let _ = writeln!(out, "  {name:<36}{}", key.about);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_rendered_reads_back_as_the_same_recipe() {
        let recipe = Recipe::read("first run", super::super::FIRST_RUN, &[]).unwrap();
        assert_eq!(Recipe::read("rendered", &recipe.render(), &[]).unwrap(), recipe);
    }
}
