//! Lists, runs, checks or counts the kernels of any PTX file.

mod arguments;

use arguments::{Placed, place, show};
use clap::{Args, Parser, Subcommand};
use emulator::{Argument, Checks, Config, Count, Device, Function, Launch, Module, Policy, Report};
use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Runs the PTX that nvcc emits on the CPU: strict, deterministic, checked and counted.
#[derive(Parser)]
#[command(version)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Name the kernels of a file with the bytes of their parameters, and why those that cannot run are refused
    List {
        /// PTX text, from `nvcc -ptx -lineinfo`
        file: PathBuf,
    },
    /// Run a kernel with bounds, barriers and deadlocks checked, and print the buffers asked for
    Run(Options),
    /// Run a kernel eagerly and lazily with every check on
    Check(Options),
    /// Run a kernel and print its counters
    Count(Options),
}

#[derive(Args)]
struct Options {
    /// PTX text, from `nvcc -ptx -lineinfo`
    file: PathBuf,
    /// Kernel, or a part of its mangled name that no other has; may be left out where the file has one
    #[arg(long)]
    kernel: Option<String>,
    /// CTAs: X, X,Y or X,Y,Z
    #[arg(long, default_value = "1", value_parser = extents)]
    grid: [u32; 3],
    /// Threads of a CTA
    #[arg(long, default_value = "32", value_parser = extents)]
    block: [u32; 3],
    /// CTAs of a cluster
    #[arg(long, default_value = "1", value_parser = extents)]
    cluster: [u32; 3],
    /// Bytes of dynamic shared memory
    #[arg(long, default_value_t = 0)]
    shared: u32,
    /// One for each parameter: a number such as i32:5, u64:7 or f32:1.5; a structure by value as bytes:0a0b0c0d or bytes:@FILE;
    /// or a buffer such as f32[1024]=random (-1 to 1, other numbers for each argument; random7 are the seventh's),
    /// f32[8]=positive (0 to 1), u8[64]=zeros, f32[8]=poison (unwritten), i32[8]=index (index5: modulo 5) or f32[8]=@FILE;
    /// prefix a buffer with + to print it after the run
    #[arg(long = "arg", value_name = "ARGUMENT")]
    arguments: Vec<String>,
    /// Count for each source line of the kernel
    #[arg(long)]
    lines: bool,
    /// Most warp instructions of a launch
    #[arg(long, default_value_t = Config::default().limit)]
    limit: u64,
}

impl Options {
    fn config(&self) -> Config {
        Config { limit: self.limit, ..Config::default() }
    }
}

fn extents(text: &str) -> Result<[u32; 3], String> {
    let mut out = [1; 3];
    let parts: Vec<&str> = text.split(',').collect();
    if parts.len() > 3 {
        return Err(format!("{text}: at most three extents"));
    }
    for (extent, part) in out.iter_mut().zip(parts) {
        *extent = part.parse().map_err(|_| format!("{part}: a positive number is needed"))?;
    }
    Ok(out)
}

fn main() -> ExitCode {
    match act(&Command::parse()) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn act(command: &Command) -> Result<String, Box<dyn std::error::Error>> {
    let mut out = String::new();
    match &command.verb {
        Verb::List { file } => {
            let module = Device::new(Config::default())?.load(&read(file)?)?;
            for name in module.names() {
                match module.function(name) {
                    Ok(function) => writeln!(out, "{name}: {}", parameters(&function))?,
                    Err(refusal) => writeln!(out, "{name}: refused: {refusal}")?,
                }
            }
        }
        Verb::Run(options) => {
            let (report, shown) = launch(options, Config { checks: Checks::NONE, ..options.config() })?;
            out += &report.output;
            out += &shown;
            // Not among the numbers, which other programs may read.
            eprint!("{}", report.unvalidated());
        }
        Verb::Check(options) => {
            for policy in [Policy::Eager, Policy::Lazy] {
                let (report, _) = launch(options, Config { policy, checks: Checks::ALL, ..options.config() })?;
                writeln!(out, "{policy:?}: no fault in {} warp instructions", report.total().warps)?;
                if policy == Policy::Lazy {
                    out += &report.unvalidated();
                }
            }
        }
        Verb::Count(options) => {
            let (report, _) = launch(options, Config { checks: Checks::NONE, ..options.config() })?;
            write!(out, "{report}")?;
            if options.lines {
                out += &by_line(&report);
            }
        }
    }
    Ok(out)
}

/// A line of text for each source line that ran.
fn by_line(report: &Report) -> String {
    let mut out = String::new();
    if report.by_line().is_empty() {
        out += "no source lines: the PTX was compiled without -lineinfo\n";
    }
    for ((file, line), classes) in report.by_line() {
        let (mut total, mut kinds) = (Count::default(), vec![]);
        for (class, count) in classes.into_iter().filter(|(_, count)| count.warps > 0) {
            total += count;
            kinds.push(format!("{class:?} {}", count.warps));
        }
        out += &format!("{file}:{line}: {} warp instructions ({})", total.warps, kinds.join(", "));
        for (count, what) in [
            (total.global_sectors, "global sectors"),
            (total.shared_wavefronts, "shared wavefronts"),
            (total.shared_wavefronts - total.shared_ideal, "of them conflicts"),
            (total.async_bytes, "async bytes"),
            (total.matrix_fma, "matrix multiply-adds"),
        ] {
            if count > 0 {
                out += &format!(", {count} {what}");
            }
        }
        out.push('\n');
    }
    out
}

/// The kernel of this name, or the only one with it in its mangled name.
fn named(module: &Module, name: &str) -> Result<String, String> {
    let names = module.names();
    let within: Vec<&str> = names.iter().copied().filter(|mangled| mangled.contains(name)).collect();
    match within.as_slice() {
        _ if names.contains(&name) => Ok(name.to_string()),
        [only] => Ok(only.to_string()),
        [] => Err(format!("--kernel {name}: no kernel has it in its name; there are {}", names.join(", "))),
        several => Err(format!("--kernel {name}: which one of {}?", several.join(", "))),
    }
}

fn read(file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    if !text.contains(".version") {
        return Err(format!("{}: no PTX; `nvcc -ptx -lineinfo` makes some from CUDA", file.display()));
    }
    Ok(text)
}

/// `2 parameters of 8, 4 bytes`
fn parameters(function: &Function) -> String {
    let sizes: Vec<String> = function.parameters().map(|bytes| bytes.to_string()).collect();
    match sizes.as_slice() {
        [] => "no parameters".to_string(),
        sizes => format!("{} parameters of {} bytes", sizes.len(), sizes.join(", ")),
    }
}

fn launch(options: &Options, config: Config) -> Result<(Report, String), Box<dyn std::error::Error>> {
    let text = read(&options.file)?;
    let mut device = Device::new(config)?;
    let module = device.load(&text)?;
    let name = match (&options.kernel, module.names().as_slice()) {
        (Some(name), _) => named(&module, name)?,
        (None, [only]) => only.to_string(),
        (None, names) => return Err(format!("which kernel? --kernel takes one of {}", names.join(", ")).into()),
    };
    let function: Function = module.function(&name)?;
    let wanted = function.parameters().count();
    if wanted != options.arguments.len() {
        let message = format!("{} --arg given, {name} takes {}", options.arguments.len(), parameters(&function));
        return Err(message.into());
    }
    let Placed { arguments, shown } = place(&mut device, &options.arguments)?;
    let arguments: Vec<&dyn Argument> = arguments.iter().map(|a| a.as_ref()).collect();
    let shape =
        Launch { grid: options.grid, block: options.block, cluster: options.cluster, dynamic_shared: options.shared };
    let report = device.launch(&function, shape, &arguments)?;
    let mut printed = String::new();
    for buffer in shown {
        writeln!(printed, "{}", show(&mut device, &buffer)?)?;
    }
    Ok((report, printed))
}
