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
        for (i, stage) in self.stage.iter().enumerate() {
            let _ = writeln!(out, "\n# Stage {}, laid over what is above.\n[[stage]]", i + 1);
            for (section, keys) in stage {
                for (key, value) in keys.as_table().into_iter().flatten() {
                    let _ = writeln!(out, "{section}.{key} = {}", text(value));
                }
            }
        }
        out
    }

    /// Every key with its default, and below it its meaning, which a terminal may break: lines keep their indent. For help.
    pub fn reference() -> String {
        let table = Recipe::default().table();
        let mut out = String::new();
        for (section, keys) in Recipe::SECTIONS {
            for key in keys {
                let _ = writeln!(out, "  {section}.{} = {}", key.name, text(&table[section][key.name]));
                let _ = writeln!(out, "         {}", key.about);
            }
        }
        out + "\nStages: each [[stage]] table of a recipe has its train.steps and, as mask.drop = 0.9, any key of [mask] and \
               [optimizer], train.batch_size and train.ema; of a flag, --set stage.2.mask.drop=0.5. A stage begins with the \
               averaged weights of the one before it, or with its weights while the average lags, and with moments of zero; \
               so does a run --from a checkpoint.\n"
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
