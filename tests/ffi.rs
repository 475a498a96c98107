//! The C interface, from C: programs of `tests/ffi`, compiled against `include/engine.h` and linked with this build's
//! `libengine.a`, on checkpoints that are written here.

mod common;
#[path = "common/runs.rs"]
mod runs;

use common::normals;
use engine::base::{Path as DiffusionPath, Prediction};
use engine::data::Store;
use engine::device::Device;
use engine::diffusion::{Guidance, Request, Sampler, predict, sample};
use engine::nn::{Config, Network, ParamStore, Size};
use engine::score::{self, EmpiricalScore, Queries};
use engine::tensor::Tensor;
use engine::train::checkpoint::Model;
use runs::{RECIPE, Scratch, contents, losses};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

const CLASSES: usize = 4;
const BATCH: usize = 3;

fn config() -> Config {
    Size::preset("sit-xs-8").unwrap().config([2, 8, 16], CLASSES, false)
}

/// A folder for one test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("engine-ffi-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// A checkpoint's file of random weights.
    fn checkpoint(&self, name: &str, seed: u32) -> PathBuf {
        let device = common::cpu(1);
        let (_, list) = Network::new(config());
        let mut store = ParamStore::new(&device, list, 0).unwrap();
        for i in 0..store.list.trained() {
            let part = store.weights.part_mut(i);
            part.write(&normals(100 * seed + i as u32, part.len(), 0.05));
        }
        let values: Vec<Vec<f32>> = (0..store.weights.count()).map(|i| store.weights.part(i).to_vec()).collect();
        let pieces = store.list.pieces(values.len());
        let tensors: Vec<(&str, &[usize], &[f32])> =
            pieces.map(|(p, i, range)| (&*p.name, &*p.shape, &values[i][range])).collect();
        let model = serde_json::to_string(&Model::new(config(), DiffusionPath::Linear, Prediction::V)).unwrap();
        let path = self.0.join(name).with_extension("safetensors");
        engine::data::tensors::write_f32(&path, &[("engine.model", &model)], &tensors).unwrap();
        path
    }

    /// A program of `tests/ffi`, its own code checked by AddressSanitizer where `checked` says so.
    fn compile(&self, name: &str, checked: bool) -> PathBuf {
        let program = self.0.join(name);
        let mut command = Command::new("cc");
        command.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-g", "-I", "include", "-o"]).arg(&program);
        command.args(if checked { &["-fsanitize=address"][..] } else { &[] });
        command.arg(format!("tests/ffi/{name}.c")).arg(library());
        succeed(command.args(["-lpthread", "-lm", "-ldl"]));
        program
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `libengine.a` of this build: the newest, since whatever this test is linked with was compiled together with it.
fn library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let written = |path: &PathBuf| path.metadata().and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let files = std::fs::read_dir(test.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let libraries = files.filter(|path| {
        let name = path.file_name().unwrap().to_str().unwrap_or_default();
        name.starts_with("libengine-") && name.ends_with(".a")
    });
    libraries.max_by_key(written).expect("the library is built with the test")
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let [said, warned] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{command:?}: {}\n{said}{warned}", output.status);
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn same(there: &[f32], here: &[f32], what: &str) {
    assert_eq!(there.len(), here.len(), "{what}");
    let differs = bits(there).iter().zip(bits(here)).position(|(there, here)| *there != here);
    assert_eq!(differs, None, "{what}: the first value that differs");
}

#[test]
fn c_gets_the_bits_of_the_library_and_of_the_binary() {
    let folder = Folder::new("answers");
    let (checkpoint, out) = (folder.checkpoint("model", 1), folder.0.join("answers.f32"));
    succeed(Command::new(folder.compile("answers", false)).arg(&checkpoint).arg(&out));
    let answers = floats(&std::fs::read(&out).unwrap());
    let (prediction, images) = answers.split_at(answers.len() / 2);

    let device: Device = common::cpu(1);
    let opened = engine::train::checkpoint::open(
        &device,
        &checkpoint,
        engine::train::checkpoint::Weights::Sampled,
        None,
        |warning| panic!("{warning}"),
    );
    let opened = opened.unwrap();
    let grid = opened.network.config.grid;
    let z: Vec<f32> = (0..BATCH * grid.image()).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
    let z = Tensor::from_slice(&device, "test", [BATCH, grid.channels, grid.height, grid.width], &z);
    let t = Tensor::from_slice(&device, "test", [BATCH], &[0.0f32, 0.5, 0.875]);
    let y = Tensor::from_slice(&device, "test", [BATCH], &[1u32, 4, 0]);
    let expected = predict(&device, &opened.network, opened.params.network(), &z, &t, &y).to_vec();
    same(prediction, &expected, "prediction");
    assert!(expected.iter().any(|&v| v != 0.0), "the model predicts something");

    let guidance = Guidance { weight: 2.5, channels: None, interval: [0.0, 1.0] };
    let request = Request {
        labels: vec![0, 1, 2],
        path: DiffusionPath::Linear,
        prediction: Prediction::V,
        sampler: Sampler::Heun,
        steps: 4,
        bound: None,
        guidance,
        seed: 7,
        batch: BATCH,
    };
    let weights = opened.params.network();
    let drawn = sample(&device, &opened.network, weights, &request, &|| false, &|_| ()).unwrap();
    same(images, &drawn.0, "images of the library");

    let npy = folder.0.join("images.npy");
    let flags = ["--count=3", "--sampler=heun", "--steps=4", "--guidance=2.5", "--seed=7", "--device=cpu"];
    let mut binary = Command::new(env!("CARGO_BIN_EXE_engine"));
    succeed(binary.arg("sample").arg("--checkpoint").arg(&checkpoint).args(flags).arg("--out").arg(&npy));
    let file = std::fs::read(&npy).unwrap();
    same(images, &floats(&file[file.len() - 4 * images.len()..]), "images of the binary");
}

#[test]
fn misuse_gets_a_status_and_words_and_leaks_nothing() {
    let folder = Folder::new("misuse");
    let checkpoint = folder.checkpoint("model", 1);
    let mut misuse = Command::new(folder.compile("misuse", true));
    succeed(misuse.arg(checkpoint).arg(folder.0.join("run")).env("ASAN_OPTIONS", "detect_leaks=1"));
}

#[test]
fn two_devices_two_models_and_two_threads_disturb_each_other_in_nothing() {
    let folder = Folder::new("threads");
    let checkpoints = [folder.checkpoint("first", 1), folder.checkpoint("second", 2)];
    succeed(Command::new(folder.compile("threads", true)).args(checkpoints));
}

/// Two stages with batches of 3 and 5, the second from step 6 to 10.
const STAGES: &str = "
[[stage]]
train.steps = 6
train.ema = [0.5]
[[stage]]
train.steps = 4
train.batch_size = 5
";

/// All that a run leaves but times and held-out losses.
fn left(run: &Path) -> (BTreeMap<String, Vec<u8>>, Vec<String>) {
    let mut lines = losses(run);
    lines.retain(|line| !line.contains("held_out_loss"));
    (contents(run, 10), lines)
}

#[test]
fn a_run_that_c_steps_and_resumes_is_the_run_of_the_binary() {
    let (folder, scratch) = (Folder::new("train"), Scratch::new());
    let recipe = folder.0.join("recipe.toml");
    let store = scratch.store();
    std::fs::write(&recipe, format!("{RECIPE}[data]\nstore = {:?}\n{STAGES}", store.to_str().unwrap())).unwrap();
    let [ours, theirs] = ["c", "binary"].map(|name| folder.0.join(name));
    let mut binary = Command::new(env!("CARGO_BIN_EXE_engine"));
    succeed(binary.arg("train").arg(&recipe).arg("--device=cpu").arg("--out").arg(&theirs));
    let train = folder.compile("train", true);
    for until in ["4", "10"] {
        succeed(Command::new(&train).arg(&ours).arg(&recipe).arg(until));
    }
    assert!(left(&ours) == left(&theirs), "a checkpoint or a loss differs");
}

#[test]
fn a_run_that_c_feeds_resumes_bit_for_bit() {
    let folder = Folder::new("fed");
    let recipe = folder.0.join("recipe.toml");
    std::fs::write(&recipe, format!("{RECIPE}{STAGES}")).unwrap();
    let [broken, straight] = ["broken", "straight"].map(|name| folder.0.join(name));
    let train = folder.compile("train", true);
    for (run, until) in [(&broken, "6"), (&broken, "10"), (&straight, "10")] {
        succeed(Command::new(&train).arg(run).arg(&recipe).arg(until).arg("fed"));
    }
    assert!(left(&broken) == left(&straight), "a checkpoint or a loss differs");
    assert_eq!(losses(&straight).len(), 10);
}

#[test]
fn c_gets_the_empirical_score_of_an_array() {
    let folder = Folder::new("score");
    let out = folder.0.join("answers");
    succeed(Command::new(folder.compile("score", true)).arg(&out));

    let data: Vec<f32> = (0..40 * 6).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
    // A store is sorted by class, and rows of a class stay in their order.
    let order: Vec<usize> = (0..3).flat_map(|class| (0..40).filter(move |row| row % 3 == class)).collect();
    let sorted: Vec<f32> = order.iter().flat_map(|&row| &data[6 * row..6 * (row + 1)]).copied().collect();
    let labels: Vec<u32> = order.iter().map(|row| (row % 3) as u32).collect();
    let store = Store::of_arrays(&sorted, 6, Some(&labels)).unwrap();
    let z: Vec<f64> = (0..3 * 6).map(|i| f64::from(i * 53 % 101) / 50.0 - 1.0).collect();
    let queries = Queries { z: &z, t: &[0.1, 0.5, 1.0] };
    let asked = score::Request { class: Some(1), nearest: 2, draws: 4, r_star: true, seed: 9, ..Default::default() };
    let device = common::cpu(1);
    let score = EmpiricalScore::new(&device, &store, DiffusionPath::Linear).unwrap();
    let found = score.answer(queries, &asked).unwrap();

    let certificate = found.certificate.iter().flat_map(|c| [c.total_variation, c.log_p, c.score]);
    let parts = [&found.score, &found.velocity, &found.denoised, &found.log_p, &found.n_effective];
    let doubles = parts.into_iter().chain([&found.nearest_distance, &found.r_star]).flatten().copied();
    let doubles = doubles.chain(certificate).flat_map(f64::to_le_bytes);
    let rows = found.nearest.iter().chain(&found.draws).flat_map(|&row| (order[row as usize] as u32).to_le_bytes());
    assert!(std::fs::read(&out).unwrap() == doubles.chain(rows).collect::<Vec<u8>>(), "an answer differs");
}

/// `tools/install` of this build, and a program that finds it by pkg-config alone.
#[test]
fn what_is_installed_compiles_the_example_with_either_library() {
    let folder = Folder::new("install");
    let [built, prefix] = ["built", "prefix"].map(|name| folder.0.join(name));
    std::fs::create_dir(&built).unwrap();
    std::os::unix::fs::symlink(library(), built.join("libengine.a")).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_engine"), built.join("engine")).unwrap();
    succeed(Command::new("tools/install").args([&prefix, &built]));
    let flags = |wanted: &str| -> Vec<String> {
        let mut command = Command::new("pkg-config");
        command.args(wanted.split(' ')).arg("engine").env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().split_whitespace().map(String::from).collect()
    };
    let program = |name: &str| folder.0.join(name);
    let compile = |compiler: &str, source: &str, name: &str, flags: Vec<String>| {
        let mut command = Command::new(compiler);
        command.args(["-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers", source, "-o"]);
        succeed(command.arg(program(name)).args(flags));
    };
    compile("cc", "examples/sample.c", "shared", flags("--cflags --libs"));
    compile("c++", "examples/sample.cpp", "cpp", flags("--cflags --libs"));
    let mut flags = flags("--cflags --libs --static");
    // As a linker is told that has both.
    let library = flags.iter_mut().find(|flag| *flag == "-lengine").unwrap();
    *library = "-l:libengine.a".into();
    compile("cc", "examples/sample.c", "static", flags);

    let checkpoint = folder.checkpoint("model", 1);
    let pictures = ["shared", "static"].map(|name| {
        let out = folder.0.join(name).with_extension("ppm");
        let mut command = Command::new(program(name));
        succeed(command.arg(&checkpoint).arg(&out).env("LD_LIBRARY_PATH", prefix.join("lib")));
        std::fs::read(out).unwrap()
    });
    let mut cpp = Command::new(program("cpp"));
    succeed(cpp.arg(&checkpoint).env("LD_LIBRARY_PATH", prefix.join("lib")));
    let head = b"P6\n64 32\n255\n";
    assert!(pictures[0] == pictures[1] && pictures[0].starts_with(head));
    assert_eq!(pictures[0].len(), head.len() + 3 * 64 * 32);
    draws_from_python(&folder, &prefix.join("lib/libengine.so"), &checkpoint);

    let symbols =
        Command::new("nm").args(["-D", "--defined-only"]).arg(prefix.join("lib/libengine.so")).output().unwrap();
    let symbols = String::from_utf8(symbols.stdout).unwrap();
    assert!(symbols.contains(" T engine_sample"), "{symbols}");
    let ours = |line: &str| line.rsplit(' ').next().is_some_and(|name| name.starts_with("engine_"));
    assert!(symbols.lines().all(ours), "the shared library shows its interface alone: {symbols}");
}

/// `examples/sample.py` gets the images of the binary.
fn draws_from_python(folder: &Folder, library: &Path, checkpoint: &Path) {
    if !Command::new("python3").args(["-c", "import numpy"]).output().is_ok_and(|output| output.status.success()) {
        return eprintln!("examples/sample.py: not tested, python3 has no numpy");
    }
    let [ours, theirs] = ["python.npy", "binary.npy"].map(|name| folder.0.join(name));
    succeed(Command::new("python3").arg("examples/sample.py").arg(library).arg(checkpoint).arg(&ours));
    let mut binary = Command::new(env!("CARGO_BIN_EXE_engine"));
    binary.args(["sample", "--count=4", "--steps=10", "--guidance=1", "--seed=1", "--checkpoint"]).arg(checkpoint);
    succeed(binary.arg("--out").arg(&theirs));
    let [ours, theirs] = [ours, theirs].map(|path| std::fs::read(path).unwrap());
    let values = 4 * 4 * config().grid.image();
    assert!(ours[ours.len() - values..] == theirs[theirs.len() - values..], "an image differs");
}

#[test]
fn the_header_is_cpp_too() {
    let header = Path::new("include/engine.h");
    succeed(Command::new("c++").args(["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]).arg(header));
}
