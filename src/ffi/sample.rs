use super::given::{Room, arguments, handle, refused, text, values};
use super::model::{check_labels, engine_model};
use super::status::{call, engine_status};
use crate::base::Result;
use crate::diffusion::{Guidance, Request, Sampler, sample};
use crate::train::checkpoint::{Opened, Time};
use crate::train::{Plan, ema};
use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};

/// Images of one call: their numbers fit those of the random streams.
const MOST: usize = 1 << 24;
/// Images integrated at once where the caller does not say: as many as `engine sample`.
const BATCH: usize = 64;

/// Which images to draw, and how. The interval and the channels of guidance, and the bound of predicted data, are those of
/// the run's recipe.
#[repr(C)]
pub struct engine_sample_args {
    /// sizeof(engine_sample_args)
    pub size: usize,
    /// Number of images, B.
    pub batch: usize,
    /// (B): the class of each, or the number of classes for none; null gives image i the class i modulo their number.
    pub labels: *const u32,
    /// As `engine sample --sampler`, such as "heun" or "ddim:0.5"; null is the one of the run's recipe.
    pub sampler: *const c_char,
    /// Steps of the solver from t = 1 (noise) to t = 0 (data), at least 1.
    pub steps: usize,
    /// Weight of classifier-free guidance; 1 is the conditional model.
    pub guidance: f32,
    /// Where the noise comes from. Image i depends on seed and i, and not on the others.
    pub seed: u64,
    /// Images computed at once, 0 for 64: speed and memory, not the images.
    pub at_once: usize,
    /// Told before every step of the solver how many images are done, half of a batch where all of it is half-way. What it
    /// returns other than 0 ends the call with ENGINE_STATUS_STOPPED. It may be null, and must not use a device.
    pub progress: Option<unsafe extern "C" fn(context: *mut c_void, done: usize, batch: usize) -> c_int>,
    /// Handed to `progress`.
    pub context: *mut c_void,
}

/// Draws images from a model: (B, channels, height, width), data as it was trained on, to `images`, which has room for
/// `count` values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_sample(
    model: *const engine_model,
    args: *const engine_sample_args,
    images: *mut f32,
    count: usize,
) -> engine_status {
    call(|| {
        // SAFETY: as the caller promises.
        let (engine_model { opened, machine, .. }, args) =
            unsafe { (handle("model", model)?, arguments("engine_sample_args", args)?) };
        // SAFETY: as the caller promises.
        let request = unsafe { request(args, opened)? };
        // So many images of such a model have a number of values.
        let wanted = args.batch * opened.network.config.grid.image();
        // SAFETY: as the caller promises.
        let room = unsafe { Room::new("images", images, count, wanted)? };
        if let Some((decay, applied)) = opened.average()
            && let Some(what) = ema::lag(decay, applied)
        {
            machine.warn(&what);
        }
        let stopped = Cell::new(false);
        let progress = |done| {
            if let Some(progress) = args.progress {
                // SAFETY: the caller gave the function for this context.
                stopped.set(stopped.get() || unsafe { progress(args.context, done, args.batch) } != 0);
            }
        };
        let weights = opened.params.network();
        let drawn =
            machine.take(|device| sample(device, &opened.network, weights, &request, &|| stopped.get(), &progress))?;
        room.fill(&drawn.0);
        Ok(())
    })
}

/// What `args` ask for, and the recipe of the run where they cannot.
///
/// # Safety
/// The pointers in `args` are null, or hold what the header says.
unsafe fn request(args: &engine_sample_args, opened: &Opened) -> Result<Request> {
    let field =
        |name: &str, given: String, what: &str| refused(format_args!("engine_sample_args.{name} = {given}"), what);
    if opened.model.time == Time::DataAt1 {
        return Err(refused("model", "has the data at t = 1; convert it first"));
    }
    if !(1..=MOST).contains(&args.batch) {
        return Err(field("batch", args.batch.to_string(), &format!("give 1 to {MOST}")));
    }
    if args.steps == 0 {
        return Err(field("steps", "0".into(), "give at least 1"));
    }
    let config = opened.network.config;
    let recipe = opened.state.as_ref().map(|state| state.config.clone()).unwrap_or_default();
    let plan = Plan { recipe, model: config, begin: 0 };
    let weight = args.guidance;
    let guidance = |what: &str| Err(field("guidance", weight.to_string(), what));
    if !weight.is_finite() {
        return guidance("give a finite weight, 1 for none");
    }
    if weight != 1.0 && !plan.can_guide() {
        return guidance("the model knows no images with a label and without; give 1");
    }
    let labels = if args.labels.is_null() {
        (0..args.batch).map(|i| (i % config.classes.max(1)) as u32).collect()
    } else {
        // SAFETY: as the caller promises.
        let labels = unsafe { values("engine_sample_args.labels", args.labels, args.batch)? };
        check_labels("labels", labels, config.classes)?;
        labels.to_vec()
    };
    // SAFETY: as the caller promises.
    let sampler = unsafe { text("engine_sample_args.sampler", args.sampler)? };
    let sampler = sampler.map(|name| name.parse().map_err(|what: String| field("sampler", name.into(), &what)));
    let drawn = plan.samples();
    let sampler: Sampler = sampler.transpose()?.unwrap_or(drawn.sampler);
    let fits = sampler.check(opened.model.path, opened.model.prediction, args.steps);
    fits.map_err(|what| field("sampler", sampler.to_string(), &what))?;
    Ok(Request {
        labels,
        path: opened.model.path,
        prediction: opened.model.prediction,
        sampler,
        steps: args.steps,
        bound: drawn.bound,
        guidance: Guidance { weight, ..drawn.guidance },
        seed: args.seed,
        batch: if args.at_once == 0 { BATCH } else { args.at_once },
    })
}
