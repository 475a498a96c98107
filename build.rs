//! Compiles `kernels/*.cu` to PTX, and that very PTX to machine code, for every architecture.
//!
//! `ENGINE_CUDA=auto` (the default) builds without kernels where there is no nvcc; `off` always does; `require` fails
//! without nvcc. nvcc is looked for in `NVCC`, `CUDA_HOME`, `CUDA_PATH`, `tools/nvcc-toolkit`, `PATH` and `/usr/local/cuda`.

use flate2::Compression;
use flate2::write::DeflateEncoder;
use std::env;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::thread;

/// Compute capability, and whether the code is for it alone.
const ARCHITECTURES: [(u32, u32, bool); 2] = [(8, 0, false), (9, 0, true)];

fn main() {
    for variable in ["ENGINE_CUDA", "NVCC", "CUDA_HOME", "CUDA_PATH"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    println!("cargo:rerun-if-changed=kernels");
    println!("cargo:rustc-check-cfg=cfg(engine_cuda)");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let mode = env::var("ENGINE_CUDA").unwrap_or_else(|_| "auto".into());
    let nvcc = match mode.as_str() {
        "off" => None,
        "auto" | "require" => find_nvcc(),
        _ => fail(&format!("ENGINE_CUDA={mode}: it is auto, off or require")),
    };
    let source = match (&nvcc, mode.as_str()) {
        (Some(nvcc), _) => {
            println!("cargo:rustc-cfg=engine_cuda");
            compile(nvcc, &out)
        }
        (None, "require") => fail("ENGINE_CUDA=require: no nvcc was found; run tools/nvcc, or set CUDA_HOME"),
        (None, _) => "pub static MODULES: &[Module] = &[];\npub const TOOLKIT: Option<&str> = None;\n".into(),
    };
    std::fs::write(out.join("kernels.rs"), source).expect("OUT_DIR is written");
}

fn fail(message: &str) -> ! {
    println!("cargo:error={}", message.replace('\n', "\ncargo:error="));
    exit(1)
}

fn find_nvcc() -> Option<PathBuf> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?);
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os).map(PathBuf::from);
    let local = root.join("tools/nvcc-toolkit/site/nvidia/cu13");
    // Cargo builds again and again for the sake of a path that is not there; tools/nvcc touches this file instead.
    if local.exists() {
        println!("cargo:rerun-if-changed={}", local.join("bin/nvcc").display());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let candidates = env::var_os("NVCC").map(PathBuf::from).into_iter();
    let candidates = candidates.chain(homes.chain([local]).map(|home| home.join("bin/nvcc")));
    let candidates = candidates.chain(env::split_paths(&path).map(|folder| folder.join("nvcc")));
    candidates.chain(["/usr/local/cuda/bin/nvcc".into()]).find(|nvcc| nvcc.is_file())
}

/// The source of `MODULES`, from every file of `kernels/`.
fn compile(nvcc: &Path, out: &Path) -> String {
    let mut files: Vec<PathBuf> = std::fs::read_dir("kernels")
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "cu"));
    files.sort();
    let jobs: Vec<(&PathBuf, (u32, u32, bool))> =
        files.iter().flat_map(|file| ARCHITECTURES.map(|architecture| (file, architecture))).collect();
    // As many compilers at a time as there are cores.
    let workers = thread::available_parallelism().map_or(1, |n| n.get());
    let next = std::sync::atomic::AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(&(file, architecture)) =
                    jobs.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    build(nvcc, file, architecture, out);
                }
            });
        }
    });
    let mut source = String::from("pub static MODULES: &[Module] = &[\n");
    for file in &files {
        let name = stem(file);
        writeln!(source, "Module {{ name: {name:?}, images: &[").unwrap();
        for (major, minor, specific) in ARCHITECTURES {
            let base = out.join(object(name, (major, minor, specific)));
            let [ptx, cubin] = ["ptx", "cubin"].map(|ending| packed(&base.with_extension(ending)));
            writeln!(
                source,
                "Image {{ capability: ({major}, {minor}), specific: {specific}, ptx: Packed(include_bytes!({ptx:?})), \
                 cubin: Packed(include_bytes!({cubin:?})) }},"
            )
            .unwrap();
        }
        source += "] },\n";
    }
    source += "];\n";
    writeln!(source, "pub const TOOLKIT: Option<&str> = Some({:?});", version(nvcc)).unwrap();
    source
}

/// Deflates a file; the path of the result.
fn packed(file: &Path) -> PathBuf {
    let bytes = std::fs::read(file).unwrap_or_else(|error| fail(&format!("{}: {error}", file.display())));
    let mut deflated = DeflateEncoder::new(vec![], Compression::best());
    deflated.write_all(&bytes).expect("memory is written");
    let path = PathBuf::from(format!("{}.deflate", file.display()));
    std::fs::write(&path, deflated.finish().expect("memory is written")).expect("OUT_DIR is written");
    path
}

fn stem(file: &Path) -> &str {
    file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_else(|| fail(&format!("{}: not a name", file.display())))
}

fn architecture((major, minor, specific): (u32, u32, bool)) -> String {
    format!("{major}{minor}{}", if specific { "a" } else { "" })
}

fn object(name: &str, of: (u32, u32, bool)) -> String {
    format!("{name}_{}.ptx", architecture(of))
}

/// One file for one architecture, to PTX and from there to machine code.
fn build(nvcc: &Path, file: &Path, of: (u32, u32, bool), out: &Path) {
    let (ptx, arch) = (out.join(object(stem(file), of)), architecture(of));
    run(Command::new(nvcc)
        .args(["-ptx", "-std=c++17", "-O3", "-lineinfo", "-Werror", "all-warnings"])
        .arg(format!("-arch=compute_{arch}"))
        .args([file, Path::new("-o"), &ptx]));
    // The PTX tells lines to the emulator. In machine code they would come with the whole text of the PTX.
    let report = run(Command::new(nvcc.with_file_name("ptxas"))
        .args(["-v", "-O3", "--suppress-debug-info"])
        .arg(format!("-arch=sm_{arch}"))
        .args([&ptx, Path::new("-o"), &ptx.with_extension("cubin")]));
    // A kernel that spills, or whose tensor-core instructions wait for one another, is not the kernel that was written.
    let slow = |line: &&str| {
        line.contains("wgmma") && line.contains("serializ")
            || line.contains("bytes spill") && !line.contains(" 0 bytes spill stores")
    };
    if report.lines().any(|line| slow(&line)) {
        fail(&format!("{} for sm_{arch}: registers spill, or wgmma is serialised:\n{report}", file.display()));
    }
}

/// Runs a compiler; what it writes.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| fail(&format!("{command:?}: {error}")));
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if !output.status.success() {
        fail(&format!("{command:?}\n{text}"));
    }
    text
}

/// The release of a toolkit, as nvcc names it.
fn version(nvcc: &Path) -> String {
    let text = run(Command::new(nvcc).arg("--version"));
    let release = text.split("release ").nth(1).and_then(|rest| rest.split(',').next());
    release.unwrap_or_else(|| fail(&format!("{}: it does not say its release", nvcc.display()))).into()
}
