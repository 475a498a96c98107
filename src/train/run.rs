use super::Plan;
use super::checkpoint::{Checkpoints, Model, State};
use super::recipe::{Decay, Recipe, wrong};
use crate::base::{Error, Result};
use crate::data::{Info, atomic, png};
use crate::device::Device;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

const CONFIG: &str = "config.resolved.toml";
const RECORD: &str = "run.json";
const LOCK: &str = ".lock";
const SAMPLES: &str = "samples";

/// A run directory, held by this process alone:
///
/// ```text
/// config.resolved.toml    the recipe, every key
/// run.json                the data, and each start: command, version, host, device
/// metrics.jsonl           a line for every step
/// checkpoints/ samples/   what the run makes
/// .lock                   who holds it
/// ```
pub struct Run {
    pub folder: PathBuf,
    pub plan: Plan,
    pub checkpoints: Checkpoints,
    /// The checkpoint that the run continues from.
    pub found: Option<(PathBuf, State)>,
    data: String,
    /// The lock falls with the file, however the process ends.
    _lock: File,
}

impl Run {
    /// Takes the directory `folder` for the run of `plan` on `data`: a new one, or one that such a run has begun.
    ///
    /// A directory that another process holds, or that holds another recipe or other data, is refused as it is. `warn` is
    /// told of damaged checkpoints.
    pub fn open(folder: &Path, mut plan: Plan, data: &Info, warn: impl FnMut(String)) -> Result<Run> {
        atomic::create_folder(folder).map_err(|error| unusable(folder, error))?;
        let lock = lock(folder)?;
        for folder in [folder, &folder.join(SAMPLES)] {
            if folder.exists() {
                atomic::sweep(folder)?;
            }
        }
        let checkpoints = Checkpoints::of(folder);
        checkpoints.sweep()?;
        let found = checkpoints.newest(warn)?;
        match &found {
            Some((_, state)) => {
                resume(folder, &state.config, &mut plan.recipe)?;
                if plan.recipe.train.steps < state.step {
                    let (steps, folder, done) = (plan.recipe.train.steps, folder.display(), state.step);
                    let what = format_args!("{folder} has done {done} steps; give at least as many, or another --out");
                    return Err(wrong("train.steps", steps, what));
                }
                if state.data != data.digest || state.model != model(&plan) {
                    let what = format_args!("its run trains on data {:.12}, this is {:.12}", state.data, data.digest);
                    return Err(Error::Usage(format!("{}: {what}; give another --out", folder.display())));
                }
            }
            None if folder.join(CONFIG).exists() => {
                resume(folder, &Recipe::open(&folder.join(CONFIG), &[])?, &mut plan.recipe)?;
            }
            None => pin_decay(&mut plan.recipe, None),
        }
        refuse_idle_steps(folder, &plan.recipe)?;
        Ok(Run { folder: folder.into(), plan, checkpoints, found, data: data.digest.clone(), _lock: lock })
    }

    /// Where the run stands.
    pub fn state(&self) -> State {
        let fresh = State {
            step: 0,
            applied: 0,
            skipped_in_a_row: 0,
            model: model(&self.plan),
            data: self.data.clone(),
            config: self.plan.recipe.clone(),
        };
        match &self.found {
            Some((_, state)) => State { config: fresh.config, ..state.clone() },
            None => fresh,
        }
    }

    /// Writes the recipe, and that a process with the arguments `argv` went on from here on `device`.
    pub fn record(&self, device: &Device, argv: &[String]) -> Result<()> {
        let path = self.folder.join(RECORD);
        // A record that cannot be read is begun anew: it is for people, nothing depends on it.
        let old = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
        let mut record = old.unwrap_or_default();
        record.data = self.data.clone();
        record.starts.push(Start {
            time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            step: self.state().step,
            argv: argv.to_vec(),
            version: env!("CARGO_PKG_VERSION").into(),
            host: host(),
            device: device.describe(),
        });
        let text = serde_json::to_string_pretty(&record).expect("a record has a form in JSON") + "\n";
        atomic::write(&path, text.as_bytes())?;
        atomic::write(&self.folder.join(CONFIG), self.plan.recipe.render().as_bytes())
    }

    /// The picture of `step`; latents, which have none, are an array.
    pub fn sample_path(&self, step: u64) -> PathBuf {
        let picture = png::has_picture(self.plan.model.grid.channels);
        self.folder.join(SAMPLES).join(format!("step_{step:08}.{}", if picture { "png" } else { "npy" }))
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Record {
    /// blake3 of the data set.
    data: String,
    starts: Vec<Start>,
}

#[derive(Serialize, Deserialize)]
struct Start {
    /// Seconds since 1970.
    time: u64,
    /// Steps done before.
    step: u64,
    argv: Vec<String>,
    version: String,
    host: String,
    device: String,
}

fn model(plan: &Plan) -> Model {
    Model::new(plan.model, plan.recipe.diffusion.path)
}

fn host() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").map_or("unknown".into(), |name| name.trim().into())
}

fn unusable(folder: &Path, error: std::io::Error) -> Error {
    Error::Usage(format!("{}: {error}; give another --out", folder.display()))
}

/// Keys that may change between two starts of a run: none of them alters a step that is done. The data may move, since its
/// digest is compared.
fn free(key: &str) -> bool {
    key == "train.steps" || key == "data.store" || key.starts_with("checkpoint.") || key.starts_with("sample.")
}

/// Makes `given` the recipe with which the run that `begun` began in `folder` goes on, or says what keeps it from that.
fn resume(folder: &Path, begun: &Recipe, given: &mut Recipe) -> Result<()> {
    let mut begun = begun.clone();
    // A run may be older than the key: then its cosine comes to 0 where the run was to end.
    pin_decay(&mut begun, None);
    pin_decay(given, Some(&begun));
    let mut differences = begun.differences(given);
    differences.retain(|[key, ..]| !free(key));
    if differences.is_empty() {
        return Ok(());
    }
    let all = |separator: &str, one: fn(&[String; 3]) -> String| {
        differences.iter().map(one).collect::<Vec<_>>().join(separator)
    };
    let theirs = all(", ", |[key, theirs, _]| format!("{key} = {theirs}"));
    let ours = all(", ", |[key, _, ours]| format!("{key} = {ours}"));
    let sets = all(" ", |[key, theirs, _]| format!("--set '{key}={theirs}'"));
    let what = format_args!("holds a run with {theirs}; this one has {ours}; give another --out, or {sets}");
    Err(Error::Usage(format!("{}: {what}", folder.display())))
}

/// Decides the length of a cosine when its run begins: more steps later must not bring the learning rate back up.
fn pin_decay(recipe: &mut Recipe, begun: Option<&Recipe>) {
    if recipe.optimizer.decay == Decay::Cosine && recipe.optimizer.decay_steps == 0 {
        recipe.optimizer.decay_steps = begun.unwrap_or(recipe).decay_end();
    }
}

/// Refuses steps at learning rate 0.
fn refuse_idle_steps(folder: &Path, recipe: &Recipe) -> Result<()> {
    let (steps, end) = (recipe.train.steps, recipe.decay_end());
    if recipe.optimizer.decay == Decay::Constant || steps <= end {
        return Ok(());
    }
    let what = format_args!("the learning rate of {} is 0 from step {end} on", folder.display());
    let instead = format_args!("a new run, with --set optimizer.decay_steps={steps} and another --out, trains longer");
    Err(wrong("train.steps", steps, format_args!("{what} (optimizer.decay_steps); {instead}")))
}

fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let failed = |error| unusable(&path, error);
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = file.map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.take(256).read_to_string(&mut holder).map_err(failed)?;
            let what = format_args!("is in use by {}; wait for its end, or give another --out", holder.trim());
            return Err(Error::Usage(format!("{}: {what}", folder.display())));
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    let holder = format!("process {} on {}\n", std::process::id(), host());
    let written = file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0)));
    written.and_then(|_| file.write_all(holder.as_bytes())).map_err(failed)?;
    Ok(file)
}
