use super::device::{Machine, engine_device};
use super::given::{Room, arguments, arguments_mut, close, handle, open, refused, text, values};
use super::status::{call, engine_status};
use crate::base::Result;
use crate::device::Device;
use crate::diffusion::predict;
use crate::nn::Config;
use crate::tensor::Tensor;
use crate::train::checkpoint::{self, Opened, Time, Weights};
use std::ffi::{CString, c_char};
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

/// The model of a checkpoint, with its weights on a device.
pub struct engine_model {
    pub(super) opened: Opened,
    pub(super) machine: Arc<Machine>,
    path: CString,
    prediction: CString,
}

/// What a model is.
#[repr(C)]
pub struct engine_model_info {
    /// sizeof(engine_model_info), set by the caller.
    pub size: usize,
    /// Of the images, which are arrays (channels, height, width).
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    /// 0 for a model without labels.
    pub classes: usize,
    /// Values of all its parameters.
    pub parameters: usize,
    /// The path from data to noise, "linear", "ddpm-linear" or "ddpm-cosine", and what is predicted on it: "v", "x" or "eps".
    /// Both texts are the model's, and end with it.
    pub path: *const c_char,
    pub prediction: *const c_char,
}

/// Opens the model at `path` on a device: a run directory, one of its checkpoints, or a file of weights of one. Of the first
/// two it has the first moving average of the weights, where the run has one, as `engine sample` does.
/// `*model` is the caller's, to be closed; it is null where the call fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_model_open(
    device: *const engine_device,
    path: *const c_char,
    model: *mut *mut engine_model,
) -> engine_status {
    // SAFETY: as the caller promises.
    call(|| unsafe {
        open("model", model, || {
            let machine = handle("device", device)?.0.clone();
            let path = text("path", path)?.ok_or_else(|| refused("path", "is null; name a run or a checkpoint"))?;
            let warn = |text: String| machine.warn(&text);
            let opened =
                machine.take(|device| checkpoint::open(device, Path::new(path), Weights::Sampled, None, warn))?;
            let text = |value: &dyn Display| CString::new(value.to_string()).unwrap_or_default();
            let [path, prediction] = [text(&opened.model.path), text(&opened.model.prediction)];
            Ok(engine_model { opened, machine, path, prediction })
        })
    })
}

/// Fills in what a model is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_model_describe(
    model: *const engine_model,
    info: *mut engine_model_info,
) -> engine_status {
    call(|| {
        // SAFETY: as the caller promises.
        let (model, info) = unsafe { (handle("model", model)?, arguments_mut("engine_model_info", info)?) };
        let Config { grid, classes, .. } = model.opened.network.config;
        *info = engine_model_info {
            size: info.size,
            channels: grid.channels,
            height: grid.height,
            width: grid.width,
            classes,
            parameters: model.opened.params.list.elements(),
            path: model.path.as_ptr(),
            prediction: model.prediction.as_ptr(),
        };
        Ok(())
    })
}

/// Closes a model; null is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_model_close(model: *mut engine_model) {
    call(|| {
        // SAFETY: as the caller promises.
        unsafe { close(model) };
        Ok(())
    });
}

/// What a model is asked.
#[repr(C)]
pub struct engine_predict_args {
    /// sizeof(engine_predict_args)
    pub size: usize,
    /// Number of images, B.
    pub batch: usize,
    /// (B, channels, height, width): data seen through noise, finite.
    pub z: *const f32,
    /// (B): the time of each, from 0 (data) to 1 (noise).
    pub t: *const f32,
    /// (B): the class of each, or the number of classes for none; null gives none a class.
    pub y: *const u32,
}

/// Writes what the model predicts, (B, channels, height, width), to `prediction`, which has room for
/// `count` values and may be `z`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_predict(
    model: *const engine_model,
    args: *const engine_predict_args,
    prediction: *mut f32,
    count: usize,
) -> engine_status {
    call(|| {
        // SAFETY: as the caller promises.
        let (model, args) = unsafe { (handle("model", model)?, arguments("engine_predict_args", args)?) };
        let grid = model.opened.network.config.grid;
        let Some(wanted) = args.batch.checked_mul(grid.image()).filter(|&wanted| wanted > 0) else {
            return Err(refused(
                format_args!("engine_predict_args.batch = {}", args.batch),
                "give at least 1, and fewer",
            ));
        };
        // SAFETY: as the caller promises.
        let (room, inputs) =
            unsafe { (Room::new("prediction", prediction, count, wanted)?, Inputs::read(args, &model.opened)?) };
        room.fill(&model.machine.take(|device| Ok(inputs.predict(device, &model.opened)))?);
        Ok(())
    })
}

/// What a model is asked, checked.
struct Inputs<'a> {
    z: &'a [f32],
    t: Vec<f32>,
    y: Vec<u32>,
}

impl<'a> Inputs<'a> {
    /// # Safety
    /// The pointers in `args` are null, or hold what the header says.
    unsafe fn read(args: &engine_predict_args, opened: &Opened) -> Result<Inputs<'a>> {
        let Config { grid, classes, .. } = opened.network.config;
        // SAFETY: as the caller promises; the number of values has been computed without overflow.
        let (z, t) = unsafe {
            let z = values("engine_predict_args.z", args.z, args.batch * grid.image())?;
            (z, values("engine_predict_args.t", args.t, args.batch)?)
        };
        if let Some(at) = z.iter().position(|z| !z.is_finite()) {
            return Err(refused(format_args!("z[{at}]"), format_args!("is {}; give finite numbers", z[at])));
        }
        for (row, &t) in t.iter().enumerate() {
            let there = opened.model.path.check(t);
            there.map_err(|what| refused(format_args!("t[{row}]"), format_args!("is {t}; {what}")))?;
        }
        let y = if args.y.is_null() {
            vec![classes as u32; args.batch]
        } else {
            // SAFETY: as the caller promises.
            let y = unsafe { values("engine_predict_args.y", args.y, args.batch)? };
            check_labels("y", y, classes)?;
            y.to_vec()
        };
        Ok(Inputs { z, t: t.to_vec(), y })
    }

    fn predict(mut self, device: &Device, opened: &Opened) -> Vec<f32> {
        let (batch, grid) = (self.t.len(), opened.network.config.grid);
        let turned = opened.model.time == Time::DataAt1;
        self.t.iter_mut().for_each(|t| *t = opened.model.path.told((*t).into()) as f32);
        if turned {
            self.t.iter_mut().for_each(|t| *t = 1.0 - *t);
        }
        let z = Tensor::from_slice(device, "batch", [batch, grid.channels, grid.height, grid.width], self.z);
        let t = Tensor::from_slice(device, "batch", [batch], &self.t);
        let y = Tensor::from_slice(device, "batch", [batch], &self.y);
        let mut v = predict(device, &opened.network, opened.params.network(), &z, &t, &y).to_vec::<f32>();
        if turned {
            v.iter_mut().for_each(|v| *v = -*v);
        }
        v
    }
}

/// Refuses labels that a model of so many classes does not know; the number of classes stands for none.
pub(super) fn check_labels(name: &str, labels: &[u32], classes: usize) -> Result<()> {
    match labels.iter().position(|&label| label as usize > classes) {
        None => Ok(()),
        Some(row) => {
            let what = format_args!("is {}; give a class below {classes}, or {classes} for none", labels[row]);
            Err(refused(format_args!("{name}[{row}]"), what))
        }
    }
}
