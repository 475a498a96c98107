//! Rows and labels become a store: one pass for the statistics, one that writes the rows sorted by class.

use crate::base::{Error, Result};
use crate::data::atomic::unwritten;
use crate::data::moments::Moments;
use crate::data::source::size_of;
use crate::data::store::{self, MARK, MAX_ROW};
use crate::data::tensors::{FileDType, Spec, Writer};
use std::io::{self, Write};
use std::path::Path;

/// What is ingested: rows in the order of their source.
pub(super) trait Rows {
    /// The name that messages give.
    fn name(&self) -> &Path;
    fn count(&self) -> usize;
    /// `[C, H, W]`, or `[d]` for flat rows.
    fn shape(&self) -> &[usize];
    /// U8, F16 or F32, as it will be stored.
    fn dtype(&self) -> FileDType;
    /// The bytes of one row, as they will be stored.
    fn read(&self, row: u32, out: &mut [u8]) -> Result<()>;
}

/// What a store records beside its rows.
pub(super) struct Notes<'a> {
    pub provenance: &'a str,
    pub class_names: &'a [&'a str],
}

/// Told the rows done and the rows there are, over both passes.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// Writes the store of `rows` to `out`, which is named `path`. Labels are as many as rows and below
/// [`store::MAX_CLASSES`].
pub(super) fn pack<W: Write>(
    rows: &dyn Rows,
    labels: Option<&[u32]>,
    notes: &Notes<'_>,
    out: W,
    path: &Path,
    progress: Progress<'_>,
) -> Result<W> {
    let (count, width) = extent(rows)?;
    assert!(labels.is_none_or(|labels| labels.len() == count as usize), "pack: a label for each of {count} rows");
    let total = 2 * u64::from(count);
    let channels = if rows.shape().len() == 1 { width } else { rows.shape()[0] };
    let moments = moments(rows, count, width, channels, &mut |done| progress(done, total))?;
    let mut index: Vec<u32> = (0..count).collect();
    if let Some(labels) = labels {
        index.sort_by_key(|&row| labels[row as usize]);
    }
    let sorted: Option<Vec<u32>> = labels.map(|labels| index.iter().map(|&row| labels[row as usize]).collect());
    let offsets = labels.map(class_offsets);

    let all: Vec<usize> = [count as usize].into_iter().chain(rows.shape().iter().copied()).collect();
    let classes = [offsets.as_ref().map_or(0, Vec::len)];
    let mut specs = vec![Spec { name: "index", dtype: FileDType::U32, shape: &all[..1] }];
    if labels.is_some() {
        specs.push(Spec { name: "labels", dtype: FileDType::U32, shape: &all[..1] });
        specs.push(Spec { name: "class_offsets", dtype: FileDType::U32, shape: &classes });
    }
    let channels = [channels];
    specs.extend(["mean", "std", "min", "max"].map(|name| Spec { name, dtype: FileDType::F32, shape: &channels }));
    // After the words and floats, since other readers want every tensor aligned to its element.
    specs.push(Spec { name: "rows", dtype: rows.dtype(), shape: &all });
    specs.push(Spec { name: "digest", dtype: FileDType::U8, shape: &[blake3::OUT_LEN] });

    let names = serde_json::json!(notes.class_names).to_string();
    let mut metadata = vec![MARK, ("provenance", notes.provenance)];
    if !notes.class_names.is_empty() {
        metadata.push(("class_names", &names));
    }
    let failed = |error| unwritten(path, error);
    let out = Digested { out, hasher: blake3::Hasher::new() };
    let mut writer = Writer::new(out, &metadata, &specs).map_err(failed)?;
    for words in [Some(&index), sorted.as_ref(), offsets.as_ref()].into_iter().flatten() {
        writer.put(bytemuck::cast_slice(words)).map_err(failed)?;
    }
    for statistic in [Moments::mean, Moments::std, Moments::min, Moments::max] {
        let values: Vec<f32> = moments.iter().map(statistic).collect();
        writer.put(bytemuck::cast_slice(&values)).map_err(failed)?;
    }
    let mut bytes = vec![0; width * rows.dtype().size() as usize];
    for (done, &row) in (u64::from(count) + 1..).zip(&index) {
        rows.read(row, &mut bytes)?;
        writer.put(&bytes).map_err(failed)?;
        progress(done, total);
    }
    let digest = writer.out().hasher.finalize();
    writer.put(digest.as_bytes()).map_err(failed)?;
    Ok(writer.finish().out)
}

/// The number of rows, and of values in one.
fn extent(rows: &dyn Rows) -> Result<(u32, usize)> {
    let error = |what: String| Error::file(rows.name(), what);
    let shape = rows.shape();
    let Some(width) = size_of(shape, 1).filter(|width| (1..=MAX_ROW).contains(width)) else {
        return Err(error(format!("rows of shape {shape:?}; 1 to {MAX_ROW} values are stored")));
    };
    let Some(count) = u32::try_from(rows.count()).ok().filter(|&count| count > 0) else {
        return Err(error(format!("has {} rows; 1 to {} are stored", rows.count(), u32::MAX)));
    };
    Ok((count, width as usize))
}

/// The moments of each channel; a value that is not finite is refused.
fn moments(
    rows: &dyn Rows,
    count: u32,
    width: usize,
    channels: usize,
    progress: &mut dyn FnMut(u64),
) -> Result<Vec<Moments>> {
    let mut all = vec![Moments::default(); channels];
    let mut bytes = vec![0; width * rows.dtype().size() as usize];
    let mut values = vec![0.0; width];
    for row in 0..count {
        rows.read(row, &mut bytes)?;
        store::values(rows.dtype(), &bytes, &mut values);
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let what = format_args!("row {row} holds {} at element {at}", values[at]);
            return Err(Error::file(rows.name(), format_args!("{what}; remove or repair the row")));
        }
        for (moments, values) in all.iter_mut().zip(values.chunks_exact(width / channels)) {
            moments.add(values);
        }
        progress(u64::from(row) + 1);
    }
    Ok(all)
}

/// Where each class begins among sorted rows, and behind the last its end.
fn class_offsets(labels: &[u32]) -> Vec<u32> {
    let classes = labels.iter().max().map_or(0, |&last| last as usize + 1);
    let mut offsets = vec![0; classes + 1];
    for &label in labels {
        offsets[label as usize + 1] += 1;
    }
    for class in 0..classes {
        offsets[class + 1] += offsets[class];
    }
    offsets
}

/// Passes bytes on and digests them.
struct Digested<W> {
    out: W,
    hasher: blake3::Hasher,
}

impl<W: Write> Write for Digested<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
