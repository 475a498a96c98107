//! Lists, runs, checks or counts the kernels of any PTX file.

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
    /// One for each parameter: i32:5, u64:7, f32:1.5, or a buffer such as f32[1024]=random (-1 to 1, other numbers for each
    /// argument; random7 are the seventh's), f32[8]=positive (0 to 1), u8[64]=zeros, f32[8]=poison (unwritten), i32[8]=index
    /// (index5: modulo 5); prefix a buffer with + to print it after the run
    #[arg(long = "arg", value_name = "ARGUMENT")]
    arguments: Vec<String>,
    /// Count for each source line
    #[arg(long)]
    lines: bool,
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

/// A buffer to print: address, elements, type.
struct Shown {
    base: u64,
    count: usize,
    ty: String,
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
            let (report, shown) = launch(options, Config { checks: Checks::NONE, ..Config::default() })?;
            out += &report.output;
            out += &shown;
            // Not among the numbers, which other programs may read.
            eprint!("{}", report.unvalidated());
        }
        Verb::Check(options) => {
            for policy in [Policy::Eager, Policy::Lazy] {
                let (report, _) = launch(options, Config { policy, checks: Checks::ALL, ..Config::default() })?;
                writeln!(out, "{policy:?}: no fault in {} warp instructions", report.total().warps)?;
                if policy == Policy::Lazy {
                    out += &report.unvalidated();
                }
            }
        }
        Verb::Count(options) => {
            let (report, _) = launch(options, Config { checks: Checks::NONE, ..Config::default() })?;
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
fn named(module: &Module, name: &str) -> String {
    let within: Vec<&str> = module.names().into_iter().filter(|mangled| mangled.contains(name)).collect();
    match within.as_slice() {
        [only] => only.to_string(),
        _ => name.to_string(),
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
        (Some(name), _) => named(&module, name),
        (None, [only]) => only.to_string(),
        (None, names) => return Err(format!("which kernel? --kernel takes one of {}", names.join(", ")).into()),
    };
    let function: Function = module.function(&name)?;
    let wanted = function.parameters().count();
    if wanted != options.arguments.len() {
        let message = format!("{} --arg given, {name} takes {}", options.arguments.len(), parameters(&function));
        return Err(message.into());
    }
    let (arguments, shown) = arguments(&mut device, &options.arguments)?;
    let arguments: Vec<&dyn Argument> = arguments.iter().map(|a| a.as_ref()).collect();
    let shape =
        Launch { grid: options.grid, block: options.block, cluster: options.cluster, dynamic_shared: options.shared };
    let report = device.launch(&function, shape, &arguments)?;
    let mut printed = String::new();
    for buffer in shown {
        let size = size_of_type(&buffer.ty).ok_or("a buffer has a type")?;
        let bytes = device.download(buffer.base, buffer.count * size)?;
        let values: Vec<String> = bytes.chunks_exact(size).map(|b| show(&buffer.ty, b)).collect();
        writeln!(printed, "{}", values.join(" "))?;
    }
    Ok((report, printed))
}

type Arguments = (Vec<Box<dyn Argument>>, Vec<Shown>);

fn arguments(device: &mut Device, texts: &[String]) -> Result<Arguments, Box<dyn std::error::Error>> {
    let mut out: Vec<Box<dyn Argument>> = vec![];
    let mut shown = vec![];
    for (k, text) in texts.iter().enumerate() {
        let bad =
            || format!("--arg {text}: neither TYPE:VALUE nor TYPE[COUNT]=random, positive, zeros, index or poison");
        let (print, body) = text.strip_prefix('+').map_or((false, text.as_str()), |body| (true, body));
        if let Some((ty, value)) = body.split_once(':') {
            out.push(scalar(ty, value).ok_or_else(bad)?);
            continue;
        }
        let (ty, rest) = body.split_once('[').ok_or_else(bad)?;
        let (count, fill) = rest.split_once("]=").ok_or_else(bad)?;
        let count: usize = count.parse().map_err(|_| bad())?;
        let size = size_of_type(ty).ok_or_else(bad)?;
        let base = device.alloc(&format!("argument {k}"), count.checked_mul(size).ok_or_else(bad)?)?;
        let letters = fill.trim_end_matches(|c: char| c.is_ascii_digit());
        let number = fill[letters.len()..].parse::<u64>().ok();
        if number.is_none() && letters.len() < fill.len() {
            return Err(bad().into());
        }
        // A small generator: the same numbers on every machine.
        let mut state = 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(number.unwrap_or(k as u64 + 1));
        let mut random = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f64 / f64::from(1 << 23) - 1.0
        };
        let modulo = number.unwrap_or(u64::MAX).max(1);
        let bytes: Option<Vec<u8>> = match (letters, number) {
            ("random", _) => Some((0..count).flat_map(|_| element(ty, random())).collect()),
            ("positive", _) => Some((0..count).flat_map(|_| element(ty, random().abs())).collect()),
            ("zeros", None) => Some(vec![0; count * size]),
            ("index", _) => Some((0..count).flat_map(|i| element(ty, (i as u64 % modulo) as f64)).collect()),
            ("poison", None) => None,
            _ => return Err(bad().into()),
        };
        if let Some(bytes) = bytes {
            device.upload(base, &bytes)?;
        }
        if print {
            shown.push(Shown { base, count, ty: ty.to_string() });
        }
        out.push(Box::new(base));
    }
    Ok((out, shown))
}

fn scalar(ty: &str, value: &str) -> Option<Box<dyn Argument>> {
    Some(match ty {
        "u8" => Box::new(value.parse::<u8>().ok()?),
        "i32" => Box::new(value.parse::<i32>().ok()?),
        "u32" => Box::new(value.parse::<u32>().ok()?),
        "i64" => Box::new(value.parse::<i64>().ok()?),
        "u64" => Box::new(value.parse::<u64>().ok()?),
        "f32" => Box::new(value.parse::<f32>().ok()?),
        "f64" => Box::new(value.parse::<f64>().ok()?),
        _ => return None,
    })
}

fn size_of_type(ty: &str) -> Option<usize> {
    Some(match ty {
        "u8" => 1,
        "bf16" | "f16" => 2,
        "i32" | "u32" | "f32" => 4,
        "i64" | "u64" | "f64" => 8,
        _ => return None,
    })
}

/// A number as an element of a buffer.
fn element(ty: &str, x: f64) -> Vec<u8> {
    match ty {
        "u8" => (x as u8).to_le_bytes().into(),
        "bf16" => half::bf16::from_f64(x).to_le_bytes().into(),
        "f16" => half::f16::from_f64(x).to_le_bytes().into(),
        "i32" => (x as i32).to_le_bytes().into(),
        "u32" => (x as u32).to_le_bytes().into(),
        "f32" => (x as f32).to_le_bytes().into(),
        "i64" => (x as i64).to_le_bytes().into(),
        "u64" => (x as u64).to_le_bytes().into(),
        _ => x.to_le_bytes().into(),
    }
}

/// An element for people.
fn show(ty: &str, bytes: &[u8]) -> String {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    let bits = u64::from_le_bytes(word);
    match ty {
        "bf16" => half::bf16::from_bits(bits as u16).to_string(),
        "f16" => half::f16::from_bits(bits as u16).to_string(),
        "f32" => f32::from_bits(bits as u32).to_string(),
        "f64" => f64::from_bits(bits).to_string(),
        "i32" => (bits as u32 as i32).to_string(),
        "i64" => (bits as i64).to_string(),
        _ => bits.to_string(),
    }
}
