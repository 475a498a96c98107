use super::manifest::Manifest;
use super::{EMA, MODEL, OPTIMIZER, STATE, State, bad, ema_name, tensors};
use crate::base::{Error, Result};
use crate::data::atomic::{create_folder, sync_folder};
use crate::data::tensors::TensorFile;
use crate::train::step::Step;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where a run has its checkpoints.
pub(super) const FOLDER: &str = "checkpoints";
const START: &str = "step_";
/// What a folder is called until it is whole, and again when it is about to go.
const STRAY: &str = ".stray-";

/// The checkpoints of one run. Whoever writes holds the run's lock.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
}

impl Checkpoints {
    /// The checkpoints of the run directory `run`.
    pub fn of(run: &Path) -> Checkpoints {
        Checkpoints { folder: run.join(FOLDER) }
    }

    /// The newest checkpoint whose every byte is as it was written, or `None` if there never was one.
    ///
    /// A damaged one is passed over, and `warn` is told what is wrong with it. If all are damaged that is an error, and so
    /// is one that cannot be read: it may be whole, and a run that went on before it would remove it.
    pub fn newest(&self, mut warn: impl FnMut(String)) -> Result<Option<(PathBuf, State)>> {
        let steps = self.steps()?;
        for (i, step) in steps.iter().rev().enumerate() {
            let folder = self.path(*step);
            match verified_state(&folder) {
                Ok(state) => return Ok(Some((folder, state))),
                Err(Error::Data(error)) => {
                    let what = "it may be whole; make it readable, or move its checkpoint away";
                    return Err(Error::Checkpoint(format!("{error}; {what}")));
                }
                Err(error) if i + 1 < steps.len() => warn(format!("{error}; falling back to the one before")),
                Err(error) => {
                    let what = "no other checkpoint is left; start again with another --out";
                    return Err(Error::Checkpoint(format!("{error}; {what}")));
                }
            }
        }
        Ok(None)
    }

    /// Writes a checkpoint of `step` and returns its folder. When this returns it survives a power cut.
    pub fn save(&self, state: &State, step: &Step) -> Result<PathBuf> {
        create_folder(&self.folder).map_err(|error| bad(&self.folder, error))?;
        let path = self.path(state.step);
        let partial = self.stray(state.step);
        self.remove(&partial)?;
        fs::create_dir(&partial).map_err(|error| bad(&partial, error))?;
        let written = write(&partial, state, step).and_then(|()| {
            if path.exists() {
                // Only a damaged folder can stand where a run arrives a second time.
                self.discard(&path)?;
            }
            fs::rename(&partial, &path).map_err(|error| bad(&path, error))?;
            sync_folder(&self.folder)
        });
        if written.is_err() {
            // The space may be what the next try needs; a failure here is swept later.
            let _ = fs::remove_dir_all(&partial);
        }
        written.map(|()| path)
    }

    /// Leaves the checkpoint of `newest` and the last `keep` up to it of the steps that are `due`.
    ///
    /// Those after it go too: they were found damaged when the run resumed before them.
    pub fn prune(&self, newest: u64, keep: usize, due: impl Fn(u64) -> bool) -> Result<()> {
        let steps = self.steps()?;
        let stay: Vec<u64> =
            steps.iter().rev().copied().filter(|&step| step <= newest && due(step)).take(keep).collect();
        let old = steps.iter().filter(|&&step| step != newest && !stay.contains(&step));
        old.copied().try_for_each(|step| self.discard(&self.path(step)))
    }

    /// Removes what dead writers left.
    pub fn sweep(&self) -> Result<()> {
        for name in self.names()? {
            if name.starts_with(STRAY) {
                self.remove(&self.folder.join(name))?;
            }
        }
        Ok(())
    }

    /// The steps of all checkpoints, ascending.
    fn steps(&self) -> Result<Vec<u64>> {
        let mut steps: Vec<u64> = self.names()?.iter().filter_map(|name| step_of(name)).collect();
        steps.sort_unstable();
        Ok(steps)
    }

    /// Whether there is none, not even a damaged one.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.steps()?.is_empty())
    }

    /// The last step up to `step` that has a checkpoint, and the first after it.
    pub(super) fn around(&self, step: u64) -> Result<Vec<u64>> {
        let steps = self.steps()?;
        let after = steps.partition_point(|&other| other <= step);
        Ok(steps[after.saturating_sub(1)..steps.len().min(after + 1)].to_vec())
    }

    fn names(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
            entries => entries.map_err(|error| bad(&self.folder, error))?,
        };
        let name = |entry: std::io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
        entries.map(name).collect::<std::io::Result<_>>().map_err(|error| bad(&self.folder, error))
    }

    fn path(&self, step: u64) -> PathBuf {
        self.folder.join(name_of(step))
    }

    fn stray(&self, step: u64) -> PathBuf {
        self.folder.join(format!("{STRAY}{START}{step:08}"))
    }

    /// Removes a checkpoint: at once from the sight of readers, then from the disk.
    fn discard(&self, path: &Path) -> Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let stray = self.folder.join(format!("{STRAY}old-{name}"));
        self.remove(&stray)?;
        fs::rename(path, &stray).map_err(|error| bad(path, error))?;
        self.remove(&stray)
    }

    fn remove(&self, stray: &Path) -> Result<()> {
        match fs::remove_dir_all(stray) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(bad(stray, error)),
            _ => Ok(()),
        }
    }
}

/// What the checkpoint of `step` is called, and its samples.
pub(in crate::train) fn name_of(step: u64) -> String {
    format!("{START}{step:08}")
}

/// The step of a checkpoint, or of samples, of this name.
pub(in crate::train) fn step_of(name: &str) -> Option<u64> {
    name.strip_prefix(START)?.parse().ok()
}

fn write(folder: &Path, state: &State, step: &Step) -> Result<()> {
    let (list, model, moments) = (&step.params.list, &state.model, &step.moments);
    let (all, trained) = (list.iter().count(), list.trained());
    let mut manifest = Manifest::default();
    let file = manifest.create(folder, MODEL)?;
    manifest.add(tensors::write(file, model, list, all, &[("", &step.params.weights)])?)?;
    for (i, average) in moments.averages.iter().enumerate() {
        let file = manifest.create(folder, &ema_name(i, average.decay))?;
        manifest.add(tensors::write(file, model, list, all, &[("", &average.weights)])?)?;
    }
    let file = manifest.create(folder, OPTIMIZER)?;
    manifest.add(tensors::write(file, model, list, trained, &[("m.", &moments.m), ("v.", &moments.v)])?)?;
    let mut file = manifest.create(folder, STATE)?;
    let text = serde_json::to_string_pretty(state).expect("a state has a form in JSON") + "\n";
    file.write_all(text.as_bytes()).map_err(|error| bad(&folder.join(STATE), error))?;
    manifest.add(file)?;
    manifest.write(folder)
}

/// The state of a checkpoint after every byte of it was checked.
pub(super) fn verified_state(folder: &Path) -> Result<State> {
    Manifest::verify(folder)?;
    read_state(folder)
}

pub(super) fn read_state(folder: &Path) -> Result<State> {
    let path = folder.join(STATE);
    let text = fs::read_to_string(&path).map_err(|error| Error::file(&path, error))?;
    serde_json::from_str(&text).map_err(|error| {
        Error::file(&path, format_args!("{error}; it was written by a program that this one does not know"))
    })
}

/// Puts the tensors of the checkpoint at `folder` into `step`.
pub fn restore(folder: &Path, state: &State, step: &mut Step) -> Result<()> {
    let Step { params, moments, .. } = step;
    let (list, all, trained) = (&params.list, params.list.iter().count(), params.list.trained());
    let open = |name: &str| TensorFile::open(&folder.join(name));
    tensors::read(&open(MODEL)?, list, all, "", &mut params.weights)?;
    for (i, average) in moments.averages.iter_mut().enumerate() {
        tensors::read(&open(&ema_name(i, average.decay))?, list, all, "", &mut average.weights)?;
    }
    let optimizer = open(OPTIMIZER)?;
    tensors::read(&optimizer, list, trained, "m.", &mut moments.m)?;
    tensors::read(&optimizer, list, trained, "v.", &mut moments.v)?;
    let applied = u32::try_from(state.applied);
    let applied = applied.map_err(|_| bad(&folder.join(STATE), format_args!("{} applied steps", state.applied)))?;
    moments.applied.write(&[applied, 0]);
    let device = step.device().clone();
    step.params.round(&device);
    Ok(())
}

/// The file of `folder` that samples are drawn from.
pub(super) fn sampled(folder: &Path) -> PathBuf {
    let ema = folder.join(EMA);
    if ema.exists() { ema } else { folder.join(MODEL) }
}
