//! Images and labels as they are published, row by row as a store holds them.

use crate::base::Result;
use crate::data::file_dtype::FileDType;
use crate::data::idx::Idx;
use crate::data::npy::Npy;
use crate::data::pack::Rows;
use crate::data::store::MAX_CLASSES;
use std::path::Path;

/// Gray images of an IDX file, (M, H, W).
pub(super) struct IdxRows {
    idx: Idx,
    shape: [usize; 3],
}

impl IdxRows {
    pub fn new(idx: Idx) -> Result<IdxRows> {
        let &[_, height, width] = idx.extents() else {
            let what = format_args!("has extents {:?}, images have (M, H, W)", idx.extents());
            return Err(idx.source().error(format_args!("{what}; give the file of images")));
        };
        Ok(IdxRows { idx, shape: [1, height, width] })
    }
}

impl Rows for IdxRows {
    fn name(&self) -> &Path {
        self.idx.source().name()
    }

    fn count(&self) -> usize {
        self.idx.extents()[0]
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn dtype(&self) -> FileDType {
        FileDType::U8
    }

    fn read(&self, row: u32, out: &mut [u8]) -> Result<()> {
        self.idx.read(u64::from(row) * out.len() as u64, out)
    }
}

/// Rows of an array: (M, C, H, W), (M, H, W, C) or (M, H, W) of u8, or (M, d). f64 is stored as f32.
pub(super) struct NpyRows {
    npy: Npy,
    shape: Vec<usize>,
    channels_last: bool,
}

impl NpyRows {
    pub fn new(npy: Npy) -> Result<NpyRows> {
        let (shape, dtype) = (npy.shape(), npy.dtype());
        let error = |what: String| npy.source().error(what);
        if !matches!(dtype, FileDType::U8 | FileDType::F16 | FileDType::F32 | FileDType::F64) {
            return Err(error(format!("holds {dtype:?}; rows are u8 pixels or f16, f32, f64 values, use astype")));
        }
        let pixels = |channels| dtype == FileDType::U8 && matches!(channels, 1 | 3 | 4);
        let (shape, channels_last) = match *shape {
            [_, width] => (vec![width], false),
            [_, height, width] if dtype == FileDType::U8 => (vec![1, height, width], false),
            [_, first, _, last] if pixels(first) && pixels(last) => {
                let what = format!("has shape {shape:?}, channels may come first or last");
                return Err(error(format!("{what}; save it as (M, C, H, W) f32 in [-1, 1]")));
            }
            [_, height, width, channels] if pixels(channels) => (vec![channels, height, width], true),
            [_, channels, height, width] => (vec![channels, height, width], false),
            _ => {
                let shapes = "(M, C, H, W) or (M, d), pixels also to (M, H, W, C) or (M, H, W)";
                return Err(error(format!("has shape {shape:?}; reshape it to {shapes}")));
            }
        };
        Ok(NpyRows { npy, shape, channels_last })
    }
}

impl Rows for NpyRows {
    fn name(&self) -> &Path {
        self.npy.source().name()
    }

    fn count(&self) -> usize {
        self.npy.shape()[0]
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn dtype(&self) -> FileDType {
        if self.npy.dtype() == FileDType::F64 { FileDType::F32 } else { self.npy.dtype() }
    }

    fn read(&self, row: u32, out: &mut [u8]) -> Result<()> {
        let row = u64::from(row);
        if self.channels_last {
            let mut pixels = vec![0; out.len()];
            self.npy.read_bytes(row * out.len() as u64, &mut pixels)?;
            let channels = self.shape[0];
            for (channel, plane) in out.chunks_exact_mut(out.len() / channels).enumerate() {
                plane.iter_mut().zip(pixels[channel..].iter().step_by(channels)).for_each(|(out, &x)| *out = x);
            }
            return Ok(());
        }
        if self.npy.dtype() != FileDType::F64 {
            return self.npy.read_bytes(row * out.len() as u64, out);
        }
        let mut doubles = vec![0; 2 * out.len()];
        self.npy.read_bytes(row * doubles.len() as u64, &mut doubles)?;
        for (out, &double) in out.as_chunks_mut().0.iter_mut().zip(doubles.as_chunks().0) {
            *out = (f64::from_le_bytes(double) as f32).to_le_bytes();
        }
        Ok(())
    }
}

/// The classes of an IDX file of labels, (M).
pub(super) fn idx_labels(idx: &Idx) -> Result<Vec<u32>> {
    let &[count] = idx.extents() else {
        let what = format_args!("has extents {:?}, labels have (M)", idx.extents());
        return Err(idx.source().error(format_args!("{what}; give the file of labels")));
    };
    let mut labels = vec![0; count];
    idx.read(0, &mut labels)?;
    Ok(labels.into_iter().map(u32::from).collect())
}

/// The classes of an array of integers, (M).
pub(super) fn npy_labels(npy: &Npy) -> Result<Vec<u32>> {
    let (shape, dtype, source) = (npy.shape(), npy.dtype(), npy.source());
    let &[count] = shape else {
        let what = format_args!("has shape {shape:?}, labels have (M)");
        return Err(match *shape {
            [_, classes] if classes > 1 => {
                source.error(format_args!("{what}; if its rows are one-hot, save their argmax(1)"))
            }
            _ => source.error(format_args!("{what}; reshape it")),
        });
    };
    let size = dtype.size() as usize;
    let mut labels = vec![0; count];
    let mut bytes = vec![0; count * size];
    npy.read_bytes(0, &mut bytes)?;
    dtype
        .integers(&bytes, &mut labels)
        .ok_or_else(|| source.error(format_args!("holds {dtype:?}; labels are integers, use astype")))?;
    let class = |(row, label): (usize, i64)| match u32::try_from(label) {
        Ok(class) if (class as usize) < MAX_CLASSES => Ok(class),
        _ => Err(source.error(format_args!("the label of row {row} is {label}; classes are 0 to {}", MAX_CLASSES - 1))),
    };
    labels.into_iter().enumerate().map(class).collect()
}
