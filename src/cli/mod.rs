//! The `engine` binary: one file for each verb.

mod data;
mod info;
mod machine;
mod train;

use crate::base::Result;
use clap::Parser;
use std::io::Write;
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
    Data(data::Data),
    Info(info::Info),
}

impl Verb {
    fn run(self) -> Result<()> {
        match self {
            Verb::Train(verb) => verb.run(),
            Verb::Data(verb) => verb.run(),
            Verb::Info(verb) => verb.run(),
        }
    }
}

/// Parses the arguments, runs the verb, prints an error if there is one; the exit code is documented in the README.
pub fn run() -> ExitCode {
    match Cli::parse().verb.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where nobody reads standard error, the code still tells.
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
