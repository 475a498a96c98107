use super::Plan;
use super::checkpoint::{Checkpoints, Model, Origin, State, name_of, step_of};
use super::recipe::{Recipe, wrong};
use crate::base::shell::quoted;
use crate::base::{Error, Result};
use crate::data::{atomic, png};
use crate::device::Device;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

pub(super) const CONFIG: &str = "config.resolved.toml";
const RECORD: &str = "run.json";
/// In the place of a data set's digest, where a program feeds the run.
pub const FED: &str = "fed";
const LOCK: &str = ".lock";
const SAMPLES: &str = "samples";

/// A run directory, held by this process alone:
///
/// ```text
/// config.resolved.toml    the recipe, every key
/// run.json                the data, the weights it began with, and each start: command, version, host, device
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
    /// The weights that it begins with, where it has no checkpoint and they are not drawn.
    pub origin: Option<Origin>,
    data: String,
    /// The lock falls with the file, however the process ends.
    _lock: File,
}

impl Run {
    /// Takes the directory `folder` for the run of `plan` on the data with the digest `data`, which is [`FED`] where there is no
    /// data set: a new one, or one that such a run has begun.
    ///
    /// A directory that another process holds, or that holds another recipe or other data, is refused as it is. Samples of
    /// steps that the run does again go. `warn` is told of damaged checkpoints.
    pub fn open(folder: &Path, mut plan: Plan, data: &str, mut warn: impl FnMut(String)) -> Result<Run> {
        if folder.exists() && !folder.is_dir() {
            return Err(Error::Usage(format!(
                "{}: is a file, a run is a folder; give another --out",
                folder.display()
            )));
        }
        let checkpoints = Checkpoints::of(folder);
        // Before anything is touched, and only where it matters: the file may go once the run has a checkpoint.
        let origin = if checkpoints.is_empty()? { Origin::of(&plan, &mut warn)? } else { None };
        atomic::create_folder(folder).map_err(|error| unusable(folder, error))?;
        let lock = lock(folder)?;
        for folder in [folder, &folder.join(SAMPLES)] {
            if folder.exists() {
                atomic::sweep(folder)?;
            }
        }
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
                same_data(folder, &state.data, &plan.recipe, data)?;
            }
            None if folder.join(CONFIG).exists() => {
                resume(folder, &Recipe::open(&folder.join(CONFIG), &[])?, &mut plan.recipe)?;
                if let Some(record) = Record::read(folder) {
                    same_data(folder, &record.data, &plan.recipe, data)?;
                    same_origin(folder, &record.origin, &origin)?;
                }
            }
            None => {}
        }
        forget_samples(&folder.join(SAMPLES), found.as_ref().map_or(0, |(_, state)| state.step))?;
        Ok(Run { folder: folder.into(), plan, checkpoints, found, origin, data: data.into(), _lock: lock })
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
        // One that cannot be read is begun anew: from the first checkpoint on, which has the digest too, it is for people.
        let mut record = Record::read(&self.folder).unwrap_or_default();
        record.data = self.data.clone();
        if self.origin.is_some() {
            record.origin = self.origin.clone();
        }
        record.starts.push(Start {
            time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            step: self.state().step,
            argv: argv.to_vec(),
            version: env!("CARGO_PKG_VERSION").into(),
            host: host(),
            device: device.describe(),
        });
        let text = serde_json::to_string_pretty(&record).expect("a record has a form in JSON") + "\n";
        atomic::write(&self.folder.join(RECORD), text.as_bytes())?;
        atomic::write(&self.folder.join(CONFIG), self.plan.recipe.render().as_bytes())
    }

    /// The picture of `step`; latents, which have none, are an array.
    pub fn sample_path(&self, step: u64) -> PathBuf {
        let picture = png::has_picture(self.plan.model.grid.channels);
        self.folder.join(SAMPLES).join(format!("{}.{}", name_of(step), if picture { "png" } else { "npy" }))
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Record {
    /// blake3 of the data set.
    data: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<Origin>,
    starts: Vec<Start>,
}

impl Record {
    /// The record of the run in `folder`, if it can be read.
    fn read(folder: &Path) -> Option<Record> {
        serde_json::from_slice(&fs::read(folder.join(RECORD)).ok()?).ok()
    }
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
    Model::new(plan.model, plan.recipe.diffusion.path, plan.recipe.diffusion.prediction)
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
    ["train.steps", "optimizer.decay_steps", "data.store"].contains(&key)
        || key.starts_with("checkpoint.")
        || key.starts_with("sample.")
}

/// Differing keys that a message names; of more the recipe of the run tells.
const MOST_NAMED: usize = 4;

/// Makes `given` the recipe with which the run that `begun` began in `folder` goes on, or says what keeps it from that. The
/// end of a cosine that was set stays where it is until another is.
fn resume(folder: &Path, begun: &Recipe, given: &mut Recipe) -> Result<()> {
    if given.optimizer.decay_steps == 0 {
        given.optimizer.decay_steps = begun.optimizer.decay_steps;
    }
    let [theirs, ours] = [begun, given].map(|recipe| recipe.stage.len());
    if theirs != ours {
        let what =
            format_args!("holds a run of {theirs} stages; this one has {ours}; give its recipe, or another --out");
        return Err(Error::Usage(format!("{}: {what}", folder.display())));
    }
    let mut differences = begun.differences(given);
    // The last stage goes on until the end of the run, whatever it was given.
    let last = format!("stage.{ours}.train.steps");
    differences.retain(|[key, ..]| !free(key) && *key != last);
    if differences.is_empty() {
        return given.check_decay();
    }
    let named = &differences[..differences.len().min(MOST_NAMED)];
    let join =
        |separator: &str, one: fn(&[String; 3]) -> String| named.iter().map(one).collect::<Vec<_>>().join(separator);
    let more = match differences.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} other keys"),
    };
    let theirs = join(", ", |[key, theirs, _]| format!("{key} = {theirs}"));
    let ours = join(", ", |[key, _, ours]| format!("{key} = {ours}"));
    let instead = if more.is_empty() {
        join(" ", |[key, theirs, _]| format!("--set '{key}={theirs}'"))
    } else {
        format!("its own recipe, {}", folder.join(CONFIG).display())
    };
    let what = format_args!("holds a run with {theirs}{more}; this one has {ours}; give another --out, or {instead}");
    Err(Error::Usage(format!("{}: {what}", folder.display())))
}

/// Refuses `data` where the run in `folder` was begun on data with another digest than its.
fn same_data(folder: &Path, begun: &str, recipe: &Recipe, data: &str) -> Result<()> {
    if begun == data {
        return Ok(());
    }
    if [begun, data].contains(&FED) {
        let [theirs, ours] =
            [begun, data].map(|digest| if digest == FED { "fed by a program" } else { "on a data set" });
        let what = format_args!("holds a run {theirs}; this one is {ours}; give another --out");
        return Err(Error::Usage(format!("{}: {what}", folder.display())));
    }
    let given = match recipe.data.store.as_str() {
        "" => "the embedded data",
        path => path,
    };
    let what = format_args!("holds a run on the data with digest {begun}; {given} has digest {data}");
    let instead = "give the data of this run, or another --out";
    Err(Error::Usage(format!("{}: {what}; {instead}", folder.display())))
}

/// Refuses weights to begin with that are others than those with which the run in `folder` was begun.
fn same_origin(folder: &Path, begun: &Option<Origin>, given: &Option<Origin>) -> Result<()> {
    let (Some(begun), Some(given)) = (begun, given) else { return Ok(()) };
    if begun.blake3 == given.blake3 {
        return Ok(());
    }
    let what = format_args!("holds a run from weights with digest {}; {} has", begun.blake3, given.file.display());
    let instead = "give the file of this run, or another --out";
    Err(Error::Usage(format!("{}: {what} digest {}; {instead}", folder.display(), given.blake3)))
}

/// Removes from `folder` the samples of steps after `step`, which the run does again: on another device it comes to other
/// weights, and under other `sample` keys it draws them otherwise.
fn forget_samples(folder: &Path, step: u64) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(folder).map_err(|error| Error::file(folder, error))? {
        let path = entry.map_err(|error| Error::file(folder, error))?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        if stem.and_then(step_of).is_some_and(|drawn| drawn > step) {
            fs::remove_file(&path).map_err(|error| Error::file(&path, error))?;
        }
    }
    Ok(())
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

/// Whether a process holds the run directory `folder`.
pub(super) fn is_held(folder: &Path) -> bool {
    let lock = File::open(folder.join(LOCK));
    lock.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// A command that goes on with the run in `folder`, as a shell takes it; `None` of a run that a program feeds.
///
/// It is by the recipe that lies there: the one that began the run may name places that are others by now.
pub(super) fn command(folder: &Path) -> Option<String> {
    let record = Record::read(folder).filter(|record| record.data != FED)?;
    let [recipe, out] = [&folder.join(CONFIG), folder].map(|path| path.to_string_lossy().into_owned());
    Some(format!("{} train {} --out {}", quoted(record.starts.last()?.argv.first()?), quoted(&recipe), quoted(&out)))
}
