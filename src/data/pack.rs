//! Rows and labels become a store: one pass for the statistics, one that writes the rows sorted by class.

use crate::base::{Error, Result};
use crate::data::source::size_of;
use crate::data::store::{self, MARK, MAX_CLASSES, MAX_ROW};
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

/// Writes the store of `rows` to `out`, which is named `path`.
pub(super) fn pack<W: Write>(
    rows: &dyn Rows,
    labels: Option<&[u32]>,
    notes: &Notes<'_>,
    out: W,
    path: &Path,
    progress: Progress<'_>,
) -> Result<W> {
    let error = |what: String| Error::file(rows.name(), what);
    let shape = rows.shape();
    let width = size_of(shape, 1).filter(|width| (1..=MAX_ROW).contains(width));
    let width =
        width.ok_or_else(|| error(format!("rows of shape {shape:?}; 1 to {MAX_ROW} values are stored")))? as usize;
    let count = u32::try_from(rows.count()).ok().filter(|&count| count > 0);
    let count = count.ok_or_else(|| error(format!("has {} rows; 1 to {} are stored", rows.count(), u32::MAX)))?;
    if let Some(labels) = labels.filter(|labels| labels.len() != count as usize) {
        return Err(error(format!("has {count} rows, but there are {} labels; give one for each row", labels.len())));
    }
    let total = 2 * u64::from(count);
    let mut bytes = vec![0; width * rows.dtype().size() as usize];

    let channels = if shape.len() == 1 { width } else { shape[0] };
    let mut statistics = vec![Moments::default(); channels];
    let mut values = vec![0.0; width];
    for row in 0..count {
        rows.read(row, &mut bytes)?;
        store::values(rows.dtype(), &bytes, &mut values);
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(error(format!("row {row} holds {} at element {at}; remove or repair the row", values[at])));
        }
        for (moments, values) in statistics.iter_mut().zip(values.chunks_exact(width / channels)) {
            moments.add(values);
        }
        progress(u64::from(row) + 1, total);
    }

    let offsets = labels.map(|labels| class_offsets(rows, labels)).transpose()?;
    let mut index: Vec<u32> = (0..count).collect();
    if let Some(labels) = labels {
        index.sort_by_key(|&row| labels[row as usize]);
    }
    let sorted: Option<Vec<u32>> = labels.map(|labels| index.iter().map(|&row| labels[row as usize]).collect());

    let row_count = [count as usize];
    let all: Vec<usize> = row_count.iter().chain(shape).copied().collect();
    let offsets_shape = [offsets.as_ref().map_or(0, Vec::len)];
    let mut specs = vec![Spec { name: "index", dtype: FileDType::U32, shape: &row_count }];
    if sorted.is_some() {
        specs.push(Spec { name: "labels", dtype: FileDType::U32, shape: &row_count });
        specs.push(Spec { name: "class_offsets", dtype: FileDType::U32, shape: &offsets_shape });
    }
    let channels = [channels];
    specs.extend(["mean", "std", "min", "max"].map(|name| Spec { name, dtype: FileDType::F32, shape: &channels }));
    // Last, since other readers want every tensor aligned to its element.
    specs.push(Spec { name: "rows", dtype: rows.dtype(), shape: &all });
    specs.push(Spec { name: "digest", dtype: FileDType::U8, shape: &[blake3::OUT_LEN] });

    let names = serde_json::json!(notes.class_names).to_string();
    let mut metadata = vec![MARK, ("provenance", notes.provenance)];
    if !notes.class_names.is_empty() {
        metadata.push(("class_names", &names));
    }
    let mut writer = Writer::new(Digested { out, hasher: blake3::Hasher::new() }, path, &metadata, &specs)?;
    writer.put(bytemuck::cast_slice(&index))?;
    for words in [sorted, offsets].iter().flatten() {
        writer.put(bytemuck::cast_slice(words))?;
    }
    for statistic in [Moments::mean, Moments::std, Moments::min, Moments::max] {
        let values: Vec<f32> = statistics.iter().map(statistic).collect();
        writer.put(bytemuck::cast_slice(&values))?;
    }
    for (done, &row) in (u64::from(count) + 1..).zip(&index) {
        rows.read(row, &mut bytes)?;
        writer.put(&bytes)?;
        progress(done, total);
    }
    let digest = writer.out().hasher.finalize();
    writer.put(digest.as_bytes())?;
    Ok(writer.finish().out)
}

fn class_offsets(rows: &dyn Rows, labels: &[u32]) -> Result<Vec<u32>> {
    if let Some(row) = labels.iter().position(|&label| label as usize >= MAX_CLASSES) {
        let what = format!("the label of row {row} is {}, classes are 0..={}", labels[row], MAX_CLASSES - 1);
        return Err(Error::file(rows.name(), format_args!("{what}; number the classes from 0")));
    }
    let classes = labels.iter().max().map_or(0, |&last| last as usize + 1);
    let mut offsets = vec![0; classes + 1];
    for &label in labels {
        offsets[label as usize + 1] += 1;
    }
    for class in 0..classes {
        offsets[class + 1] += offsets[class];
    }
    Ok(offsets)
}

/// Count, mean, sum of squared deviations and extremes of a channel.
#[derive(Clone)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
    min: f32,
    max: f32,
}

impl Default for Moments {
    fn default() -> Moments {
        Moments { count: 0.0, mean: 0.0, squares: 0.0, min: f32::INFINITY, max: f32::NEG_INFINITY }
    }
}

impl Moments {
    /// Joins the moments of a run of values (Chan, Golub, LeVeque 1983): no cancellation, however large the mean.
    fn add(&mut self, values: &[f32]) {
        let n = values.len() as f64;
        let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let squares: f64 = values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum();
        let delta = mean - self.mean;
        let count = self.count + n;
        self.squares += squares + delta * delta * self.count * n / count;
        self.mean += delta * n / count;
        self.count = count;
        self.min = values.iter().copied().fold(self.min, f32::min);
        self.max = values.iter().copied().fold(self.max, f32::max);
    }

    fn mean(&self) -> f32 {
        self.mean as f32
    }

    fn std(&self) -> f32 {
        (self.squares / self.count).sqrt() as f32
    }

    fn min(&self) -> f32 {
        self.min
    }

    fn max(&self) -> f32 {
        self.max
    }
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
