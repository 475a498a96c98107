//! The binary from outside: what it prints, what it refuses and how, how it ends.

mod bench;
mod data;
mod info;
mod recipes;
mod resume;
#[path = "../common/runs.rs"]
mod runs;
mod sample;
mod stop;
mod study;
mod train;

use runs::{RECIPE, Scratch};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

fn engine(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_engine"));
    command.args(arguments);
    command
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// `engine train` of the tiny recipe, on one thread and the tiny store unless `more` says otherwise.
fn train(scratch: &Scratch, out: &Path, more: &[&str]) -> Command {
    let recipe = scratch.path("recipe.toml");
    fs::write(&recipe, RECIPE).unwrap();
    let mut command = engine(&["train"]);
    command.arg(recipe).arg("--out").arg(out).args(more);
    if !more.contains(&"--threads") {
        command.args(["--threads", "1"]);
    }
    if !more.contains(&"--data") {
        command.arg("--data").arg(scratch.store());
    }
    command
}

/// Sends a signal by name.
fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// A run that goes on until somebody ends it, after its first saved step.
fn endless(scratch: &Scratch, out: &Path, more: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let mut command = train(scratch, out, &["--steps", "100000000", "--json", "--set", "checkpoint.keep=1"]);
    let mut child = command.args(more).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("\"saved\"") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it ended before its first checkpoint");
    }
    (child, lines)
}

fn end(mut child: Child) -> (i32, String) {
    let mut message = String::new();
    child.stderr.take().unwrap().read_to_string(&mut message).unwrap();
    (child.wait().unwrap().code().unwrap(), message)
}

#[test]
fn help_names_every_key_of_a_recipe() {
    let help = engine(&["train", "--help"]).output().unwrap();
    assert_eq!(code(&help), 0);
    let text = stdout(&help);
    for said in [
        "train.batch_size = 256",
        "optimizer.lr = 0.0001",
        "checkpoint.every = 5000",
        "checkpoint.minutes = 15.0",
        "sample.guidance = 4.0",
    ] {
        assert!(text.contains(said), "{said}");
    }
    // However the terminal breaks its lines.
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for said in ["may be repeated, the last one of a key counts", "sit-xl-2 is that of SiT-XL/2 and of DiT-XL/2"] {
        assert!(text.contains(said), "{said}: {text}");
    }
}

#[test]
fn what_a_key_means_stands_under_it_however_narrow_the_terminal_is() {
    for columns in ["60", "80", "100"] {
        let help = engine(&["train", "--help"]).env("COLUMNS", columns).output().unwrap();
        let text = stdout(&help);
        let keys = text.split_once("Keys of a recipe, ").expect(&text).1.split_once("Stages: ").expect(&text).0;
        for line in keys.lines().skip_while(|line| !line.starts_with("  ")).filter(|line| !line.is_empty()) {
            let words = line.trim_start();
            let indent = line.len() - words.len();
            assert!(indent == 10 || indent == 2 && words.contains(" = "), "{columns} columns: {line:?}");
            assert!(line.len() <= columns.parse().unwrap(), "{columns} columns: {line:?}");
        }
    }
}

#[test]
fn no_line_of_help_is_wider_than_a_terminal() {
    let verbs =
        ["", "train", "sample", "predict", "export", "score", "data", "data ingest", "data info", "bench", "info"];
    for verb in verbs.into_iter().chain(["bench step", "bench sample", "bench score"]) {
        for columns in ["80", "100"] {
            let mut command = engine(&verb.split_whitespace().chain(["--help"]).collect::<Vec<_>>());
            let text = stdout(&command.env("COLUMNS", columns).output().unwrap());
            let wide = text.lines().find(|line| line.chars().count() > columns.parse().unwrap());
            assert!(text.contains("Usage: ") && wide.is_none(), "engine {verb} --help, {columns} columns: {wide:?}");
        }
    }
}

/// The time of a processor, which does not grow with the work of others as the time on the wall does.
#[test]
fn help_takes_the_processor_less_than_20_milliseconds() {
    let program = env!("CARGO_BIN_EXE_engine");
    let twenty =
        format!("for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do '{program}' --help >&2; done; times");
    let output = Command::new("sh").args(["-c", &twenty]).output().unwrap();
    assert_eq!(stderr(&output).matches("Usage: ").count(), 20);
    // The second line is of the shell's children, each time such as 0m0.05s: what they did, and what the system did for them.
    let times = stdout(&output);
    let seconds = |time: &str| -> f64 {
        let (minutes, seconds) = time.trim_end_matches('s').split_once('m').expect(&times);
        60.0 * minutes.parse::<f64>().unwrap() + seconds.parse::<f64>().unwrap()
    };
    let taken: f64 = times.lines().nth(1).expect(&times).split_whitespace().map(seconds).sum();
    assert!((f64::EPSILON..20.0 * 0.02).contains(&taken), "{taken} s for twenty");
}
