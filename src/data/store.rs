//! The one format of a data set: a safetensors file, written once, rows sorted by class.
//!
//! | tensor | type, shape | is |
//! |---|---|---|
//! | `labels` | u32 (M) | the class of each row, ascending; absent where the data has no classes |
//! | `index` | u32 (M) | where the row stood in what was ingested |
//! | `class_offsets` | u32 (K + 1) | class k is rows `offsets[k]..offsets[k + 1]`; absent with `labels` |
//! | `mean`, `std`, `min`, `max` | f32 (C) | of each channel, over all rows and pixels, of the values that a step reads |
//! | `rows` | u8, f16 or f32 (M, C, H, W) or (M, d) | the data; u8 pixels `x` are read as `2 x / 255 - 1` |
//! | `digest` | u8 (32) | blake3 of every byte of the file before it |

use crate::base::{Error, Result};
use crate::data::source::{Source, size_of};
use crate::data::tensors::{Entry, FileDType, TensorFile};
use serde::Serialize;
use std::path::Path;

/// Marks the file as a store; the value changes when the meaning of a tensor does.
pub(super) const MARK: (&str, &str) = ("engine.store", "1");
/// Values of one row: a picture of 2364 x 2364 in colour.
pub(super) const MAX_ROW: u64 = 1 << 24;
/// Classes that a label may name.
pub(super) const MAX_CLASSES: usize = 1 << 16;

/// An opened data set of `M` rows. Rows are read by position, from any thread.
#[derive(Debug)]
pub struct Store {
    file: TensorFile,
    rows: Entry,
    shape: [usize; 3],
    labels: Vec<u32>,
    class_offsets: Vec<u32>,
    info: Info,
}

/// What is known of a store without reading its rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Info {
    pub rows: u32,
    /// Channels, height, width; a flat row of width d is `[d, 1, 1]`.
    pub shape: [usize; 3],
    pub dtype: FileDType,
    /// Rows of each class; empty where the data has no classes.
    pub class_counts: Vec<u32>,
    /// As many as classes, or none.
    pub class_names: Vec<String>,
    pub mean: Vec<f32>,
    pub std: Vec<f32>,
    pub min: Vec<f32>,
    pub max: Vec<f32>,
    /// blake3, in hexadecimal.
    pub digest: String,
    /// What was ingested.
    pub provenance: String,
}

impl Store {
    pub fn open(path: &Path) -> Result<Store> {
        Store::from_source(Source::open(path)?)
    }

    /// Opens a store that may lie in memory. Checks sizes and classes; [`verify`](Store::verify) checks every byte.
    pub fn from_source(source: Source) -> Result<Store> {
        let file = TensorFile::from_source(source)?;
        let error = |what: &str| {
            file.source().error(format_args!("is no data set: {what}; make one with `engine data ingest`"))
        };
        match file.metadata().get(MARK.0).map(String::as_str) {
            None => return Err(error("its header does not say that it is one")),
            Some(version) if version != MARK.1 => {
                return Err(error(&format!("its format is {version:?}, this program reads {:?}", MARK.1)));
            }
            Some(_) => {}
        }
        let rows = file.entry("rows")?.clone();
        let (count, shape) = match rows.shape[..] {
            [count, channels, height, width] => (count, [channels, height, width]),
            [count, width] => (count, [width, 1, 1]),
            _ => return Err(error(&format!("its rows have shape {:?}", rows.shape))),
        };
        let fits = size_of(&shape, 1).is_some_and(|values| (1..=MAX_ROW).contains(&values));
        let typed = matches!(rows.dtype, FileDType::U8 | FileDType::F16 | FileDType::F32);
        let count = u32::try_from(count).ok().filter(|&count| count > 0 && fits && typed);
        let count = count.ok_or_else(|| error(&format!("its rows are {:?} {:?}", rows.dtype, rows.shape)))?;

        let labels = if file.find("labels").is_some() { words(&file, "labels")? } else { Vec::new() };
        let class_offsets = if labels.is_empty() { vec![0] } else { words(&file, "class_offsets")? };
        if !labels.is_empty() && !classes_agree(&labels, &class_offsets, count) {
            return Err(error("labels and class_offsets do not describe its rows"));
        }
        let class_names = match file.metadata().get("class_names") {
            Some(names) => serde_json::from_str(names).map_err(|what| error(&format!("class_names: {what}")))?,
            None => Vec::new(),
        };
        if !class_names.is_empty() && class_names.len() + 1 != class_offsets.len() {
            return Err(error(&format!("{} classes have {} names", class_offsets.len() - 1, class_names.len())));
        }
        let statistic = |name| {
            let mut out = vec![0.0; shape[0]];
            file.read_f32(name, &[shape[0]], &mut out).map(|()| out)
        };
        let info = Info {
            rows: count,
            shape,
            dtype: rows.dtype,
            class_counts: class_offsets.windows(2).map(|pair| pair[1] - pair[0]).collect(),
            class_names,
            mean: statistic("mean")?,
            std: statistic("std")?,
            min: statistic("min")?,
            max: statistic("max")?,
            digest: stored_digest(&file)?.to_hex().to_string(),
            provenance: file.metadata().get("provenance").cloned().unwrap_or_default(),
        };
        Ok(Store { file, rows, shape, labels, class_offsets, info })
    }

    pub fn info(&self) -> &Info {
        &self.info
    }

    /// `M`, the number of rows.
    pub fn rows(&self) -> u32 {
        self.info.rows
    }

    /// Channels, height, width.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Values of one row.
    pub fn width(&self) -> usize {
        self.shape.iter().product()
    }

    /// The number of classes; 0 where the data has none.
    pub fn classes(&self) -> usize {
        self.class_offsets.len() - 1
    }

    /// The class of a row; 0 where the data has none.
    pub fn label(&self, row: u32) -> u32 {
        self.labels.get(row as usize).copied().unwrap_or(0)
    }

    /// The rows of one class.
    pub fn class(&self, label: u32) -> std::ops::Range<u32> {
        let label = label as usize;
        self.class_offsets[label]..self.class_offsets[label + 1]
    }

    /// Where each row stood in what was ingested.
    pub fn index(&self) -> Result<Vec<u32>> {
        words(&self.file, "index")
    }

    /// Fills `out` (rows, C, H, W) with the values of `rows`.
    pub fn read(&self, rows: &[u32], out: &mut [f32]) -> Result<()> {
        let width = self.width();
        assert_eq!(out.len(), rows.len() * width, "store: {} rows of {width} values do not fit", rows.len());
        let mut bytes = vec![0; width * self.rows.dtype.size() as usize];
        for (&row, out) in rows.iter().zip(out.chunks_exact_mut(width)) {
            assert!(row < self.rows(), "store: row {row} of {}", self.rows());
            self.file.read_bytes(&self.rows, u64::from(row) * bytes.len() as u64, &mut bytes)?;
            values(self.rows.dtype, &bytes, out);
        }
        Ok(())
    }

    /// Reads the whole file and compares it with its digest.
    pub fn verify(&self) -> Result<()> {
        let source = self.file.source();
        let before = self.file.offset(self.file.entry("digest")?);
        let mut hasher = blake3::Hasher::new();
        let mut chunk = vec![0; 1 << 20];
        let mut offset = 0;
        while offset < before {
            let len = (before - offset).min(chunk.len() as u64) as usize;
            source.read(offset, &mut chunk[..len])?;
            hasher.update(&chunk[..len]);
            offset += len as u64;
        }
        let (found, stored) = (hasher.finalize().to_hex(), &self.info.digest);
        if found.as_str() != stored {
            return Err(
                source.error(format_args!("its bytes have digest {found}, it records {stored}; ingest the data again"))
            );
        }
        Ok(())
    }
}

/// The values that a step reads, from the bytes of a row.
pub(super) fn values(dtype: FileDType, bytes: &[u8], out: &mut [f32]) {
    const PIXELS: [f32; 256] = {
        let mut values = [0.0; 256];
        let mut x = 0;
        while x < 256 {
            values[x] = 2.0 * x as f32 / 255.0 - 1.0;
            x += 1;
        }
        values
    };
    match dtype {
        FileDType::U8 => out.iter_mut().zip(bytes).for_each(|(out, &x)| *out = PIXELS[usize::from(x)]),
        _ => dtype.floats(bytes, out).expect("rows are U8, F16 or F32"),
    }
}

fn words(file: &TensorFile, name: &str) -> Result<Vec<u32>> {
    let entry = file.entry(name)?;
    if entry.dtype != FileDType::U32 {
        return Err(file
            .source()
            .error(format_args!("{name} holds {:?}, U32 is needed; ingest the data again", entry.dtype)));
    }
    let mut words = vec![0; entry.len() as usize];
    file.read_bytes(entry, 0, bytemuck::cast_slice_mut(&mut words))?;
    Ok(words)
}

fn stored_digest(file: &TensorFile) -> Result<blake3::Hash> {
    let entry = file.entry("digest")?;
    file.expect_shape(entry, &[blake3::OUT_LEN])?;
    let last = file.entries().last().is_some_and(|last| last.name == entry.name);
    if entry.dtype != FileDType::U8 || !last {
        return Err(Error::file(file.source().name(), "its digest does not close it; ingest the data again"));
    }
    let mut digest = [0; blake3::OUT_LEN];
    file.read_bytes(entry, 0, &mut digest)?;
    Ok(digest.into())
}

/// Offsets ascend from 0 to `count`, and row by row the labels say the same.
fn classes_agree(labels: &[u32], offsets: &[u32], count: u32) -> bool {
    let ends = offsets.first() == Some(&0) && offsets.last() == Some(&count) && offsets.len() <= MAX_CLASSES + 1;
    ends && labels.len() == count as usize
        && offsets.is_sorted()
        && (0u32..)
            .zip(offsets.windows(2))
            .all(|(class, pair)| labels[pair[0] as usize..pair[1] as usize].iter().all(|&label| label == class))
}
