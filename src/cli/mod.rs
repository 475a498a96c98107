//! The `engine` binary: one file for each verb.

mod data;
mod info;

use crate::base::Result;
use clap::Parser;
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
    Data(data::Data),
    Info(info::Info),
}

impl Verb {
    fn run(self) -> Result<()> {
        match self {
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
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
