//! Flags that other programs have and a verb has not: the message says what is called so here.

use crate::base::shell::quoted;
use crate::train::recipe::{example, key_called};
use clap::Command;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

/// What a verb has no flag for, and how it is done here.
const OTHERWISE: [(&str, &str, &str); 9] = [
    ("train", "--resume", "the same command goes on with a run that was stopped"),
    ("train", "--config", "a recipe needs no flag, as in engine train R.toml"),
    ("train", "--epochs", "a run is counted in steps: --steps is epochs times images over the batch size"),
    ("train", "--image-size", "the data set says it: engine data ingest --side N"),
    ("train", "--num-classes", "the data set says it: the subfolders or labels that were ingested"),
    ("train", "--num-workers", "one thread reads ahead; --threads is how many compute"),
    ("train", "--gpus", "one card is taken: --device cuda:N"),
    ("train", "--ckpt", "it is called --from here"),
    ("sample", "--ckpt", "it is called --checkpoint here"),
];

/// `error`, which the arguments `words` of `program` gave, with our flag or key in the place of a guess by spelling.
pub fn named(mut error: Error, program: &Command, words: impl IntoIterator<Item = String>) -> Error {
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidArg) else { return error };
    let verb = words.into_iter().try_fold(program, |verb, word| verb.find_subcommand(word).ok_or(verb));
    let verb = verb.unwrap_or_else(|verb| verb);
    let tip = tip(given, verb).filter(|_| error.kind() == ErrorKind::UnknownArgument);
    let Some(tip) = tip else { return error };
    error.remove(ContextKind::SuggestedArg);
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    error
}

/// What `flag`, which `verb` has not, is here.
fn tip(flag: &str, verb: &Command) -> Option<String> {
    let takes = |flag: &str| verb.get_arguments().any(|argument| argument.get_long() == Some(flag));
    if let Some((.., tip)) = OTHERWISE.iter().find(|(of, other, _)| (*of, *other) == (verb.get_name(), flag)) {
        return Some((*tip).into());
    }
    let key = key_called(flag.strip_prefix("--")?)?;
    let (_, name) = key.split_once('.').expect("a key has a section");
    if takes(name) {
        return Some(format!("it is called --{name} here"));
    }
    takes("set").then(|| format!("it is a key of the recipe, as in --set {}", quoted(&example(&key))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory;

    #[test]
    fn flags_of_other_programs_are_given_the_name_that_they_have_here() {
        let key = "tip: it is a key of the recipe, as in --set";
        for (words, expected) in [
            ("train --lr 1e-3", format!("'--lr' found\n\n  {key} optimizer.lr=0.0001\n")),
            ("train r.toml --batch-size=8", format!("'--batch-size' found\n\n  {key} train.batch_size=256\n")),
            ("train --ema_decay 0.99", format!("{key} 'train.ema=[0.9999]'\n")),
            ("train --cfg 3", format!("{key} sample.guidance=4.0\n")),
            ("train --max-steps 9", "tip: it is called --steps here\n".into()),
            ("train --mask-ratio 0.5", "tip: it is called --drop here\n".into()),
            ("train --model sit-s-2", "tip: it is called --preset here\n".into()),
            ("sample --run r --cfg-scale 3", "tip: it is called --guidance here\n".into()),
            ("sample --run r --num-samples 3", "tip: it is called --count here\n".into()),
            ("bench sample --cfg 3", "tip: it is called --guidance here\n".into()),
            ("train --resume", "tip: the same command goes on with a run that was stopped\n".into()),
            ("train --epochs 3", "tip: a run is counted in steps: ".into()),
            ("train --config r.toml", "tip: a recipe needs no flag, as in engine train R.toml\n".into()),
            ("sample --ckpt runs/a", "tip: it is called --checkpoint here\n".into()),
            // By their spelling alone.
            ("train --stps 9", "tip: a similar argument exists: '--steps'".into()),
            ("sample --run r --batch-size 3", "tip: a similar argument exists: '--batch'".into()),
            ("info --cfg 3", "unexpected argument '--cfg' found\n\nUsage".into()),
            ("train --steps many", "invalid value 'many' for '--steps <N>'".into()),
        ] {
            let words = || words.split(' ').map(str::to_owned);
            let mut program = Cli::command();
            let error = program.try_get_matches_from_mut(["engine".to_owned()].into_iter().chain(words())).unwrap_err();
            let message = named(error, &program, words()).to_string();
            assert!(message.contains(&expected), "{expected}: {message}");
            assert!(message.matches("tip: ").count() <= 1, "{message}");
        }
    }
}
