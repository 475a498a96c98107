//! Small runs for tests of training: a store of 40 tiny images in two classes, and a model that a step takes a millisecond.

#![allow(dead_code)] // each test crate uses its own part

use engine::base::{DType, Error};
use engine::data::Store;
use engine::data::ingest::ingest;
use engine::device::Device;
use engine::train::progress::{Progress, Style};
use engine::train::recipe::Change;
use engine::train::{Plan, Recipe, Run, Stop, Trainer};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder of one test, removed at its end.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("engine-run-{}-{count}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A store of 40 images of 8 x 8.
    pub fn store(&self) -> PathBuf {
        let out = self.path("tiny.store");
        if !out.exists() {
            let pixels = (0..40u32 * 64).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8);
            let labels = (0..40).map(|i| i % 2);
            self.idx("tiny-images-idx3-ubyte", &[40, 8, 8], pixels.collect());
            self.idx("tiny-labels-idx1-ubyte", &[40], labels.collect());
            ingest(&self.path("tiny-images-idx3-ubyte"), None, &out, &mut |_, _| {}).unwrap();
        }
        out
    }

    /// An IDX file of bytes whose header says `extents`.
    pub fn idx(&self, name: &str, extents: &[u32], bytes: Vec<u8>) -> PathBuf {
        let mut file = vec![0, 0, 8, extents.len() as u8];
        extents.iter().for_each(|extent| file.extend(extent.to_be_bytes()));
        file.extend(bytes);
        fs::write(self.path(name), file).unwrap();
        self.path(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Trains the run at `out` on the device that `device` opens for a type of products: to its end, or until `stop`. What it
/// says is in the file of [`said`].
pub fn train(
    device: impl FnOnce(DType) -> Device,
    stop: &Stop,
    store: &Path,
    out: &Path,
    sets: &[&str],
) -> Result<(), Error> {
    follow(RECIPE, device, stop, store, out, sets)
}

/// As [`train`], after `recipe`.
pub fn follow(
    recipe: &str,
    device: impl FnOnce(DType) -> Device,
    stop: &Stop,
    store: &Path,
    out: &Path,
    sets: &[&str],
) -> Result<(), Error> {
    let changes: Vec<Change> = sets.iter().map(|set| Change::set(set).unwrap()).collect();
    let store = Arc::new(Store::open(store)?);
    let plan = Plan::new(Recipe::read("test", recipe, &changes)?, &store)?;
    let products = plan.recipe.train.precision.dtype(false);
    let run = Run::open(out, plan, &store.info().digest, |_| {})?;
    let device = device(products);
    run.record(&device, &["test".into()])?;
    let said = File::create(out.with_extension("said")).unwrap();
    Trainer::new(run, store, &device)?.train(&mut Progress::new(Style::Json, said), stop).map(drop)
}

/// The events of the last start of the run at `out`.
pub fn said(out: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(out.with_extension("said")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Every file of a checkpoint.
pub fn contents(out: &Path, step: u64) -> BTreeMap<String, Vec<u8>> {
    let folder = out.join(format!("checkpoints/step_{step:08}"));
    let name = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    fs::read_dir(folder).unwrap().map(|e| e.unwrap()).map(|e| (name(&e), fs::read(e.path()).unwrap())).collect()
}

/// The metrics without their times.
pub fn losses(out: &Path) -> Vec<String> {
    let text = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| line.split(",\"seconds\"").next().unwrap().to_owned()).collect()
}

/// A tiny model with everything on that a checkpoint must hold: two averages, a warm-up, a decay, dropped patches.
pub const RECIPE: &str = r#"
[model]
preset = "sit-xs-2"
depth = 1
width = 8
heads = 2
[diffusion]
times = "logit-normal"
[mask]
drop = 0.25
[train]
steps = 10
batch_size = 3
ema = [0.9, 0.99]
[optimizer]
lr = 0.01
weight_decay = 0.1
clip = 1.0
warmup = 3
decay = "cosine"
[checkpoint]
every = 1
keep = 100
[sample]
every = 0
"#;
