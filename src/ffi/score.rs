use super::device::{Machine, engine_device};
use super::given::{Room, arguments, close, handle, open, refused, text, values};
use super::status::{call, engine_status};
use crate::base::{self, Result};
use crate::data::Store;
use crate::device::Device;
use crate::score::{EmpiricalScore, Queries, Request, Scores};
use std::ffi::c_char;
use std::path::Path;
use std::sync::Arc;

/// In the place of a class: all rows.
pub const ENGINE_ALL_CLASSES: u32 = u32::MAX;

/// The empirical score of a data set: the score of the mixture that training draws z from, z = (1 - t) x + t eps.
pub struct engine_score {
    // It borrows from the store, so it goes first.
    score: EmpiricalScore<'static>,
    /// The row of the caller's array that a row of the store is; `None` for a store of its own.
    index: Option<Vec<u32>>,
    store: Arc<Store>,
    machine: Arc<Machine>,
}

/// Of which data.
#[repr(C)]
pub struct engine_score_args {
    /// sizeof(engine_score_args)
    pub size: usize,
    /// A store of `engine data ingest`; null where `data` are the rows.
    pub store: *const c_char,
    /// Number of rows M, and values of each d, where `data` are the rows; else both 0.
    pub rows: usize,
    pub width: usize,
    /// (M, d), finite; it is copied. null where `store` names the rows.
    pub data: *const f32,
    /// (M): the class of each row of `data`; null where they have none.
    pub labels: *const u32,
}

/// Points, and what is asked about them beside the score.
#[repr(C)]
pub struct engine_score_query {
    /// sizeof(engine_score_query)
    pub size: usize,
    /// Number of points, B.
    pub batch: usize,
    /// (B, d): data seen through noise.
    pub z: *const f64,
    /// (B): the time of each, above 0 and up to 1.
    pub t: *const f64,
    /// The rows of one class alone, or ENGINE_ALL_CLASSES.
    pub class_: u32,
    /// How many of the nearest rows, at most as many as there are.
    pub nearest: usize,
    /// How many draws from the posterior.
    pub draws: usize,
    /// Where the draws come from. Those of point i depend on seed and i.
    pub seed: u64,
}

/// Where the answers go; what is null is not wanted. Rows are numbered as in `data`, or in the store.
#[repr(C)]
pub struct engine_score_answer {
    /// sizeof(engine_score_answer)
    pub size: usize,
    /// (B, d): s*, the gradient of log p.
    pub score: *mut f64,
    /// (B, d): the velocity that a network would ideally predict.
    pub velocity: *mut f64,
    /// (B, d): the mean of the posterior of the row behind z.
    pub denoised: *mut f64,
    /// (B): natural logarithm of the density.
    pub log_p: *mut f64,
    /// (B): 1 / sum of the squared weights.
    pub n_effective: *mut f64,
    /// (B, nearest): rows by |z - (1 - t) x|, nearest first.
    pub nearest: *mut u32,
    /// (B, nearest): their distances.
    pub nearest_distance: *mut f64,
    /// (B, draws): rows drawn from the posterior.
    pub draws: *mut u32,
    /// (B): |z - (1 - t) x| / (t sqrt d) of the row for which it is closest to 1.
    pub r_star: *mut f64,
    /// (B, 3): how far the answers can be off, of the weights in total variation, of log p, and of the score in length.
    pub certificate: *mut f64,
}

/// Reads a data set on a device. `*score` is the caller's, to be closed; it is null where the call fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_score_open(
    device: *const engine_device,
    args: *const engine_score_args,
    score: *mut *mut engine_score,
) -> engine_status {
    // SAFETY: as the caller promises.
    call(|| unsafe {
        open("score", score, || {
            let machine = handle("device", device)?.0.clone();
            let (store, index) = data(arguments("engine_score_args", args)?)?;
            let store = Arc::new(store);
            let score = machine.take(|device| lasting(device, &store))?;
            Ok(engine_score { score, index, store, machine })
        })
    })
}

/// The score of a store that outlives it: both are fields of one [`engine_score`], which drops the score first.
fn lasting(device: &Device, store: &Arc<Store>) -> Result<EmpiricalScore<'static>> {
    // SAFETY: the store lies behind its `Arc`, is never written, and is dropped after the score.
    EmpiricalScore::new(device, unsafe { &*Arc::as_ptr(store) }, base::Path::Linear)
}

/// The data set, and which row of the caller's array each of its rows is.
///
/// # Safety
/// The pointers in `args` are null, or hold what the header says.
unsafe fn data(args: &engine_score_args) -> Result<(Store, Option<Vec<u32>>)> {
    // SAFETY: as the caller promises.
    let path = unsafe { text("engine_score_args.store", args.store)? };
    if let Some(path) = path {
        if !args.data.is_null() {
            return Err(refused("engine_score_args", "give either store or data"));
        }
        let store = Store::open(Path::new(path))?;
        store.verify()?;
        return Ok((store, None));
    }
    let Some(count) = args.rows.checked_mul(args.width).filter(|&count| count > 0) else {
        let what = format_args!("{} rows of {} values; give at least 1 of each", args.rows, args.width);
        return Err(refused("engine_score_args.data", what));
    };
    // SAFETY: as the caller promises.
    let rows = unsafe { values("engine_score_args.data", args.data, count)? };
    let labels = match args.labels.is_null() {
        true => None,
        // SAFETY: as the caller promises.
        false => Some(unsafe { values("engine_score_args.labels", args.labels, args.rows)? }),
    };
    let store = Store::of_arrays(rows, args.width, labels)?;
    let index = store.index()?;
    Ok((store, Some(index)))
}

/// Answers a query, exactly but for what the certificate says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_score_at(
    score: *const engine_score,
    query: *const engine_score_query,
    answer: *const engine_score_answer,
) -> engine_status {
    call(|| {
        // SAFETY: as the caller promises.
        let (score, query, answer) = unsafe {
            (
                handle("score", score)?,
                arguments("engine_score_query", query)?,
                arguments("engine_score_answer", answer)?,
            )
        };
        let batch = query.batch;
        let Some(count) = batch.checked_mul(score.store.width()).filter(|&count| count > 0) else {
            return Err(refused(format_args!("engine_score_query.batch = {batch}"), "give at least 1, and fewer"));
        };
        // SAFETY: as the caller promises.
        let (z, t) = unsafe {
            (values("engine_score_query.z", query.z, count)?, values("engine_score_query.t", query.t, batch)?)
        };
        let request = Request {
            class: (query.class_ != ENGINE_ALL_CLASSES).then_some(query.class_),
            nearest: query.nearest,
            draws: query.draws,
            r_star: !answer.r_star.is_null(),
            seed: query.seed,
            step: 0,
            first: 0,
        };
        let mut found = score.machine.take(|_| score.score.answer(Queries { z, t }, &request))?;
        if let Some(index) = &score.index {
            let rows = found.nearest.iter_mut().chain(&mut found.draws);
            rows.for_each(|row| *row = index[*row as usize]);
        }
        // SAFETY: as the caller promises.
        unsafe { give(answer, &found) }
    })
}

/// # Safety
/// The pointers in `answer` are null, or have room for what the header says.
unsafe fn give(answer: &engine_score_answer, found: &Scores) -> Result<()> {
    let certificate: Vec<f64> = found.certificate.iter().flat_map(|c| [c.total_variation, c.log_p, c.score]).collect();
    let doubles = [
        ("score", answer.score, &found.score),
        ("velocity", answer.velocity, &found.velocity),
        ("denoised", answer.denoised, &found.denoised),
        ("log_p", answer.log_p, &found.log_p),
        ("n_effective", answer.n_effective, &found.n_effective),
        ("nearest_distance", answer.nearest_distance, &found.nearest_distance),
        ("r_star", answer.r_star, &found.r_star),
        ("certificate", answer.certificate, &certificate),
    ];
    for (name, pointer, values) in doubles {
        // SAFETY: as the caller promises.
        unsafe { fill(name, pointer, values)? };
    }
    for (name, pointer, values) in [("nearest", answer.nearest, &found.nearest), ("draws", answer.draws, &found.draws)]
    {
        // SAFETY: as the caller promises.
        unsafe { fill(name, pointer, values)? };
    }
    Ok(())
}

/// # Safety
/// `pointer` is null, or has room for the values.
unsafe fn fill<T: Copy>(name: &str, pointer: *mut T, values: &[T]) -> Result<()> {
    if pointer.is_null() {
        return Ok(());
    }
    // SAFETY: as the caller promises.
    unsafe { Room::new(&format!("engine_score_answer.{name}"), pointer, values.len(), values.len())? }.fill(values);
    Ok(())
}

/// Closes a score; null is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_score_close(score: *mut engine_score) {
    call(|| {
        // SAFETY: as the caller promises.
        unsafe { close(score) };
        Ok(())
    });
}
