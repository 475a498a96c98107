use super::device::{Machine, engine_device};
use super::given::{arguments, arguments_mut, close, handle, open, refused, text, values};
use super::model::check_labels;
use super::status::{call, engine_status};
use crate::base::{Error, Result};
use crate::data::{Store, fashion_mnist};
use crate::device::Device;
use crate::train::{Done, FED, Plan, Recipe, Run, Stepped};
use std::ffi::c_char;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

/// A run that trains step by step. It holds its folder: no other process or handle has it meanwhile.
pub struct engine_trainer {
    machine: Arc<Machine>,
    run: Mutex<Stepped>,
}

/// Which run to begin, or to go on with.
#[repr(C)]
pub struct engine_trainer_args {
    /// sizeof(engine_trainer_args)
    pub size: usize,
    /// Directory of the run. Where it holds a run of this recipe, that goes on from its newest checkpoint.
    pub folder: *const c_char,
    /// What to do, as TOML; the keys are those of `engine train --help`. null where `recipe_path` names a file of it.
    pub recipe: *const c_char,
    /// File of the recipe; null where `recipe` is its text.
    pub recipe_path: *const c_char,
    /// Of the images that engine_trainer_step is given; all 0 for a run that reads data.store of its recipe, which is the
    /// images that the library holds where the recipe names none.
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    /// 0 for images without labels.
    pub classes: usize,
}

/// What a run is, and where it stands.
#[repr(C)]
pub struct engine_trainer_info {
    /// sizeof(engine_trainer_info), set by the caller.
    pub size: usize,
    /// Steps done, and steps of the whole run.
    pub step: u64,
    pub steps: u64,
    /// Images of the next step.
    pub batch: usize,
    /// Of the images.
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    /// 0 for images without labels.
    pub classes: usize,
    /// Values of all parameters of the model.
    pub parameters: usize,
}

/// What a step trains on.
#[repr(C)]
pub struct engine_batch {
    /// sizeof(engine_batch)
    pub size: usize,
    /// Number of images, B: that of engine_trainer_info.
    pub batch: usize,
    /// (B, channels, height, width).
    pub images: *const f32,
    /// (B): the class of each, or the number of classes for none; null gives none a class.
    pub labels: *const u32,
}

/// What a step came to.
#[repr(C)]
pub struct engine_report {
    /// sizeof(engine_report), set by the caller.
    pub size: usize,
    /// Steps done so far.
    pub step: u64,
    /// The loss before the update.
    pub loss: f32,
    /// The norm of the gradient before it was clipped.
    pub norm: f32,
    pub learning_rate: f32,
    /// 1; 0 where loss or norm is not finite, and the step touched nothing.
    pub applied: u32,
}

/// Opens a run on a device. `*trainer` is the caller's, to be closed; it is null where the call fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_trainer_open(
    device: *const engine_device,
    args: *const engine_trainer_args,
    trainer: *mut *mut engine_trainer,
) -> engine_status {
    // SAFETY: as the caller promises.
    call(|| unsafe {
        open("trainer", trainer, || {
            let machine = handle("device", device)?.0.clone();
            let args = arguments("engine_trainer_args", args)?;
            let folder = text("engine_trainer_args.folder", args.folder)?;
            let folder = folder.ok_or_else(|| refused("engine_trainer_args.folder", "is null; name a directory"))?;
            let recipe = recipe(args)?;
            let run = machine.take(|device| begin(device, &machine, Path::new(folder), recipe, args))?;
            Ok(engine_trainer { run: Mutex::new(run), machine })
        })
    })
}

/// # Safety
/// The texts in `args` are null, or as the header says.
unsafe fn recipe(args: &engine_trainer_args) -> Result<Recipe> {
    // SAFETY: as the caller promises.
    let given = unsafe {
        [("recipe", args.recipe), ("recipe_path", args.recipe_path)]
            .map(|(name, pointer)| text(&format!("engine_trainer_args.{name}"), pointer))
    };
    match given {
        [Ok(Some(text)), Ok(None)] => Recipe::read("engine_trainer_args.recipe", text, &[]),
        [Ok(None), Ok(Some(path))] => Recipe::open(Path::new(path), &[]),
        [Ok(_), Ok(_)] => Err(refused("engine_trainer_args", "give either recipe or recipe_path")),
        [Err(error), _] | [_, Err(error)] => Err(error),
    }
}

fn begin(
    device: &Device,
    machine: &Machine,
    folder: &Path,
    recipe: Recipe,
    args: &engine_trainer_args,
) -> Result<Stepped> {
    let asked = recipe.train.precision.dtype(device.runs_later());
    if asked != device.products() {
        let what = format_args!(
            "asks for {asked:?}, the device was opened for {:?}; open it as the recipe asks",
            device.products()
        );
        return Err(refused("train.precision", what));
    }
    let shape = [args.channels, args.height, args.width];
    let fed = shape != [0; 3];
    let wanted = &recipe.data.shape;
    if fed && !wanted.is_empty() && *wanted != shape {
        let what = format_args!("the run is fed with {shape:?}; give such images, or another recipe");
        return Err(refused(format_args!("data.shape = {wanted:?}"), what));
    }
    let (store, plan) = match recipe.data.store.as_str() {
        "" if fed => (None, Plan::of(recipe, shape, args.classes)?),
        path if fed => {
            return Err(refused(
                format_args!("data.store = {path}"),
                "the run is fed; leave it out, or channels, height and width",
            ));
        }
        path => {
            let store = Arc::new(if path.is_empty() { fashion_mnist()? } else { Store::open(Path::new(path))? });
            if !path.is_empty() {
                store.verify()?;
            }
            let plan = Plan::new(recipe, &store)?;
            (Some(store), plan)
        }
    };
    let digest = store.as_ref().map_or(FED, |store| &store.info().digest);
    let run = Run::open(folder, plan, digest, |text| machine.warn(&text))?;
    let argv: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    run.record(device, &argv)?;
    Stepped::new(run, store, device)
}

impl engine_trainer {
    /// The run, for one call alone.
    fn run(&self) -> Result<MutexGuard<'_, Stepped>> {
        self.run.lock().map_err(|_| {
            let what = "an earlier call on it broke off half-way; close it, and open the run at its checkpoint";
            Error::Usage(format!("trainer: {what}"))
        })
    }
}

/// Fills in what a run is, and where it stands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_trainer_describe(
    trainer: *const engine_trainer,
    info: *mut engine_trainer_info,
) -> engine_status {
    call(|| {
        // SAFETY: as the caller promises.
        let (trainer, info) = unsafe { (handle("trainer", trainer)?, arguments_mut("engine_trainer_info", info)?) };
        let run = trainer.run()?;
        let Plan { recipe, model, .. } = run.plan();
        *info = engine_trainer_info {
            size: info.size,
            step: run.done(),
            steps: recipe.train.steps,
            batch: run.batch(),
            channels: model.grid.channels,
            height: model.grid.height,
            width: model.grid.width,
            classes: model.classes,
            parameters: run.parameters(),
        };
        Ok(())
    })
}

/// Does the next step of a run: on `batch`, or, where that is null, on the next one of its data set. `report` may be null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_trainer_step(
    trainer: *const engine_trainer,
    batch: *const engine_batch,
    report: *mut engine_report,
) -> engine_status {
    call(|| {
        // SAFETY: as the caller promises.
        let trainer = unsafe { handle("trainer", trainer)? };
        let report = match report.is_null() {
            true => None,
            // SAFETY: as the caller promises.
            false => Some(unsafe { arguments_mut("engine_report", report)? }),
        };
        let done = trainer.machine.take(|_| {
            let mut run = trainer.run()?;
            match batch.is_null() {
                true => run.step(None),
                false => {
                    // SAFETY: as the caller promises.
                    let (images, labels) = unsafe { fed(batch, &run)? };
                    run.step(Some((images, &labels)))
                }
            }
        })?;
        if let Some(given) = report {
            let Done { step, report, lr } = done;
            *given = engine_report {
                size: given.size,
                step,
                loss: report.loss,
                norm: report.norm,
                learning_rate: lr,
                applied: report.applied.into(),
            };
        }
        Ok(())
    })
}

/// The images and labels of a batch for the next step of `run`.
///
/// # Safety
/// `batch` is null, or as the header says.
unsafe fn fed<'a>(batch: *const engine_batch, run: &Stepped) -> Result<(&'a [f32], Vec<u32>)> {
    // SAFETY: as the caller promises.
    let batch = unsafe { arguments("engine_batch", batch)? };
    let (wanted, model) = (run.batch(), run.plan().model);
    if batch.batch != wanted {
        let what = format_args!("the next step is on {wanted} images; give as many");
        return Err(refused(format_args!("engine_batch.batch = {}", batch.batch), what));
    }
    // SAFETY: as the caller promises; a batch that fits in memory has a number of values.
    let images = unsafe { values("engine_batch.images", batch.images, wanted * model.grid.image())? };
    if batch.labels.is_null() {
        return Ok((images, vec![model.classes as u32; wanted]));
    }
    // SAFETY: as the caller promises.
    let labels = unsafe { values("engine_batch.labels", batch.labels, wanted)? };
    check_labels("labels", labels, model.classes)?;
    Ok((images, labels.to_vec()))
}

/// Writes a checkpoint of a run into its folder, which engine_model_open and engine_trainer_open read. It is there whole, or
/// not at all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_trainer_save(trainer: *const engine_trainer) -> engine_status {
    call(|| {
        // SAFETY: as the caller promises.
        let trainer = unsafe { handle("trainer", trainer)? };
        trainer.machine.take(|_| trainer.run()?.save(|text| trainer.machine.warn(&text)).map(drop))
    })
}

/// Closes a run; null is none. What was not saved is lost.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_trainer_close(trainer: *mut engine_trainer) {
    call(|| {
        // SAFETY: as the caller promises.
        unsafe { close(trainer) };
        Ok(())
    });
}
