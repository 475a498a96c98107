//! The `engine` binary: one file for each verb.

mod bench;
mod data;
mod export;
mod foreign;
mod given;
mod info;
mod machine;
mod next;
mod predict;
mod sample;
mod score;
mod study;
mod train;

use crate::base::{Error, Result};
use crate::data::Store;
use crate::data::atomic::{AtomicFile, folder_of, sweep};
use crate::nn::Config;
use clap::{CommandFactory, Parser};
use signal_hook::consts::SIGPIPE;
use signal_hook::flag;
use std::io::Write;
use std::num::NonZero;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Train and sample diffusion transformers with hand-written kernels.
#[derive(Parser)]
#[command(name = "engine", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    Train(train::Train),
    Sample(sample::Sample),
    Predict(predict::Predict),
    Export(export::Export),
    Score(score::Score),
    Study(study::Study),
    Data(data::Data),
    Bench(bench::Bench),
    Info(info::Info),
}

impl Verb {
    fn run(self) -> Result<()> {
        match self {
            Verb::Train(verb) => verb.run(),
            Verb::Sample(verb) => verb.run(),
            Verb::Predict(verb) => verb.run(),
            Verb::Export(verb) => verb.run(),
            Verb::Score(verb) => verb.run(),
            Verb::Study(verb) => verb.run(),
            Verb::Data(verb) => verb.run(),
            Verb::Bench(verb) => verb.run(),
            Verb::Info(verb) => verb.run(),
        }
    }
}

/// Parses the arguments, runs the verb, prints an error if there is one; the exit code is documented in the README.
pub fn run() -> ExitCode {
    let Cli { verb } = Cli::try_parse().unwrap_or_else(|error| {
        let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
        foreign::named(error, &Cli::command(), words).exit()
    });
    let Err(error) = ends_with_its_reader(&verb).and_then(|()| caught(|| verb.run())) else {
        return ExitCode::SUCCESS;
    };
    // Where nobody reads standard error, the code still tells.
    let _ = writeln!(std::io::stderr(), "error: {error}");
    ExitCode::from(error.exit_code())
}

/// Lets SIGPIPE end the process, as a shell expects; a run goes on when the reader of its progress has gone.
fn ends_with_its_reader(verb: &Verb) -> Result<()> {
    if matches!(verb, Verb::Train(_)) {
        return Ok(());
    }
    let always = Arc::new(AtomicBool::new(true));
    let registered = flag::register_conditional_default(SIGPIPE, always);
    registered.map(drop).map_err(|error| Error::Device(format!("signal {SIGPIPE}: it cannot be handled: {error}")))
}

/// A whole number from 0 on, for flags.
fn whole<T: FromStr>(text: &str) -> std::result::Result<T, &'static str> {
    text.parse().ok().filter(|_| !text.starts_with('-')).ok_or("give a whole number from 0 on")
}

/// A whole number from 1 on, for flags.
fn count(text: &str) -> std::result::Result<NonZero<usize>, &'static str> {
    text.parse().map_err(|_| "give a whole number from 1 on")
}

/// A number of classes that a model may have, for flags.
fn classes(text: &str) -> std::result::Result<usize, String> {
    let most = Config::MOST_CLASSES;
    let classes = text.parse().ok().filter(|&classes| classes <= most && !text.starts_with('-'));
    classes.ok_or_else(|| format!("give a whole number from 0 to {most}"))
}

/// Refuses a weight of guidance that a model of so many classes cannot follow.
fn check_guidance(weight: f32, classes: usize) -> Result<()> {
    let refused = |what: &str| Err(Error::Usage(format!("--guidance {weight}: {what}")));
    if !weight.is_finite() {
        return refused("give a finite weight, 1 for none");
    }
    if weight != 1.0 && classes == 0 {
        return refused("the model has no classes to be guided to; leave the flag out");
    }
    Ok(())
}

/// Finds out that a flag's file cannot be written, or had better not be, before there is something to write, and sweeps its
/// folder.
fn check_out(flag: &str, path: &Path) -> Result<()> {
    let refused = |what: String| Err(Error::Usage(format!("{flag} {}: {what}; give another name", path.display())));
    if let Some(run) = run_made_of(path) {
        return refused(format!("is a file of the run {}", run.display()));
    }
    if path.is_file() && Store::open(path).is_ok() {
        return refused("exists, and a store is never changed".into());
    }
    AtomicFile::create(path).map(drop).map_err(|error| Error::Usage(format!("{flag} {error}")))?;
    // Its own file was made there: a folder that cannot be read is no reason not to write.
    let _ = sweep(folder_of(path));
    Ok(())
}

/// The run that is made of the file at `path`, where there is one: what the run needs to go on, or tells of itself.
fn run_made_of(path: &Path) -> Option<PathBuf> {
    let path = path.canonicalize().ok()?;
    let run = path.ancestors().skip(1).find(|folder| folder.join("run.json").is_file())?;
    let within = path.strip_prefix(run).ok()?;
    let own = ["run.json", "config.resolved.toml", "metrics.jsonl"].map(Path::new);
    (own.contains(&within) || within.starts_with("checkpoints")).then(|| run.into())
}

/// Runs `verb`, and turns the panic that is no bug into a failure: an [`Error`] from where no `Result` passes, as where
/// memory ends within a step.
fn caught(verb: impl FnOnce() -> Result<()>) -> Result<()> {
    panic::catch_unwind(AssertUnwindSafe(verb)).unwrap_or_else(|payload| match payload.downcast() {
        Ok(error) => Err(*error),
        Err(payload) => panic::resume_unwind(payload),
    })
}
