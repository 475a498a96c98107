//! The `engine` binary: one file for each verb.

mod bench;
mod data;
mod info;
mod machine;
mod next;
mod predict;
mod sample;
mod score;
mod train;

use crate::base::{Error, Result};
use crate::data::atomic::AtomicFile;
use crate::nn::sit::SitSize;
use clap::Parser;
use std::any::Any;
use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process::ExitCode;

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
    Score(score::Score),
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
            Verb::Score(verb) => verb.run(),
            Verb::Data(verb) => verb.run(),
            Verb::Bench(verb) => verb.run(),
            Verb::Info(verb) => verb.run(),
        }
    }
}

/// Parses the arguments, runs the verb, prints an error if there is one; the exit code is documented in the README.
pub fn run() -> ExitCode {
    let Cli { verb } = Cli::try_parse().unwrap_or_else(|error| refuse(&error));
    let error = match caught(|| verb.run()) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Error(error)) => error,
        // As if the signal for it had ended the program, which is what a shell expects.
        Err(Failure::NobodyReads) => return ExitCode::from(128 + 13),
    };
    // Where nobody reads standard error, the code still tells.
    let _ = writeln!(std::io::stderr(), "error: {error}");
    ExitCode::from(error.exit_code())
}

/// Ends the process as clap does, but in the user's words where it repeats the standard library's.
fn refuse(error: &clap::Error) -> ! {
    const ZERO: &str = "number would be zero for non-zero type";
    let text = error.render().to_string();
    if !text.contains(ZERO) {
        error.exit();
    }
    let _ = write!(std::io::stderr(), "{}", text.replace(ZERO, "give 1 or more"));
    std::process::exit(error.exit_code())
}

/// The size that `--preset` names.
fn preset(name: &str) -> Result<SitSize> {
    let unknown = || format!("--preset {name}: no such preset; there are {}", SitSize::presets().join(", "));
    SitSize::preset(name).ok_or_else(|| Error::Usage(unknown()))
}

/// Finds out that a flag's file cannot be written before there is something to write.
fn check_out(flag: &str, path: &Path) -> Result<()> {
    AtomicFile::create(path).map(drop).map_err(|error| Error::Usage(format!("{flag} {error}")))
}

enum Failure {
    Error(Error),
    /// The reader of standard output went away.
    NobodyReads,
}

/// Runs `verb`, and turns the two panics that are no bugs into failures: an [`Error`] from where no `Result` passes, as
/// where memory ends within a step, and that of `println!` on a closed pipe.
fn caught(verb: impl FnOnce() -> Result<()>) -> std::result::Result<(), Failure> {
    fn nobody_reads(payload: &(dyn Any + Send)) -> bool {
        payload.downcast_ref::<String>().is_some_and(|text| text.starts_with("failed printing to stdout"))
    }
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !info.payload().is::<Error>() && !nobody_reads(info.payload()) {
            print(info);
        }
    }));
    match panic::catch_unwind(AssertUnwindSafe(verb)) {
        Ok(result) => result.map_err(Failure::Error),
        Err(payload) if nobody_reads(&*payload) => Err(Failure::NobodyReads),
        Err(payload) => match payload.downcast() {
            Ok(error) => Err(Failure::Error(*error)),
            Err(payload) => panic::resume_unwind(payload),
        },
    }
}
