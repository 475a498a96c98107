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

mod parts;

use crate::base::{Error, Result};
use crate::data::foreign;
use crate::data::source::Source;
use crate::data::tensors::{Entry, FileDType, TensorFile};
use parts::{check_mark, class_names, classes_of, column, rows_of, stored_digest, words};
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
        if path.is_dir() {
            let (from, out) = (path.display(), path.with_extension("store"));
            let command = format_args!("engine data ingest --from {from} --side 64 --out {}", out.display());
            return Err(Error::file(path, format_args!("is a folder; make a store of its pictures first: {command}")));
        }
        Store::from_source(Source::open(path)?)
    }

    /// Opens a store that may lie in memory. Checks sizes and classes; [`verify`](Store::verify) checks every byte.
    pub fn from_source(source: Source) -> Result<Store> {
        let (raw, name) = (foreign::raw(&source), source.name().to_owned());
        let file = TensorFile::from_source(source).map_err(|error| match raw {
            None => error,
            Some(what) => {
                let (from, out) = (name.display(), name.with_extension("store"));
                let command = format_args!("engine data ingest --from {from} --out {}", out.display());
                Error::file(&name, format_args!("is {what}; make a store of it first: {command}"))
            }
        })?;
        check_mark(&file)?;
        let (rows, count, shape) = rows_of(&file)?;
        column(&file, "index", count as usize)?;
        let (labels, class_offsets) = classes_of(&file, count)?;
        let statistic = |name| {
            let mut out = vec![0.0; shape[0]];
            file.read_f32(name, &[shape[0]], &mut out).map(|()| out)
        };
        let info = Info {
            rows: count,
            shape,
            dtype: rows.dtype,
            class_counts: class_offsets.windows(2).map(|pair| pair[1] - pair[0]).collect(),
            class_names: class_names(&file, class_offsets.len() - 1)?,
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
        words(&self.file, "index", self.rows() as usize)
    }

    /// Fills `out` (rows, C, H, W) with the values of `rows`, all of which are finite.
    pub fn read(&self, rows: &[u32], out: &mut [f32]) -> Result<()> {
        let width = self.width();
        assert_eq!(out.len(), rows.len() * width, "store: {} rows of {width} values do not fit", rows.len());
        let mut bytes = vec![0; width * self.rows.dtype.size() as usize];
        for (&row, out) in rows.iter().zip(out.chunks_exact_mut(width)) {
            assert!(row < self.rows(), "store: row {row} of {}", self.rows());
            self.file.read_bytes(&self.rows, u64::from(row) * bytes.len() as u64, &mut bytes)?;
            values(self.rows.dtype, &bytes, out);
            if let Some(at) = out.iter().position(|value| !value.is_finite()) {
                let what = format_args!("value {at} of row {row} is {}; ingest finite data", out[at]);
                return Err(self.file.source().error(what));
            }
        }
        Ok(())
    }

    /// The bytes of all rows as memory, for scans: [`values`] turns those of a row into what a step reads.
    pub fn mapped(&self) -> Result<&[u8]> {
        self.file.mapped(&self.rows)
    }

    /// Reads the whole file and compares it with its digest.
    pub fn verify(&self) -> Result<()> {
        let source = self.file.source();
        let found = source.digest(self.file.offset(self.file.entry("digest")?))?.to_hex();
        let stored = &self.info.digest;
        if found.as_str() != stored {
            return Err(
                source.error(format_args!("its bytes have digest {found}, it records {stored}; ingest the data again"))
            );
        }
        Ok(())
    }
}

/// The values that a step reads, from the bytes of a row of type U8, F16 or F32.
pub fn values(dtype: FileDType, bytes: &[u8], out: &mut [f32]) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::pack::{Notes, Rows, pack};
    use crate::data::tensors::{Spec, Writer};

    /// Five rows of two u8 pixels.
    struct Pixels;

    impl Rows for Pixels {
        fn name(&self) -> &Path {
            Path::new("pixels")
        }

        fn count(&self) -> usize {
            5
        }

        fn shape(&self) -> &[usize] {
            &[1, 1, 2]
        }

        fn dtype(&self) -> FileDType {
            FileDType::U8
        }

        fn read(&self, row: u32, out: &mut [u8]) -> Result<()> {
            out.copy_from_slice(&[10 * row as u8, 10 * row as u8 + 1]);
            Ok(())
        }
    }

    fn bytes() -> Vec<u8> {
        let notes = Notes { provenance: "five rows", class_names: &["a", "b"] };
        pack(&Pixels, Some(&[1, 0, 1, 0, 0]), &notes, Vec::new(), Path::new("x.store"), &mut |_, _| {}).unwrap()
    }

    fn open(bytes: Vec<u8>) -> Result<Store> {
        Store::from_source(Source::memory("x.store", bytes))
    }

    #[test]
    fn equal_data_gives_equal_bytes_and_a_digest_that_holds() {
        assert_eq!(bytes(), bytes());
        let store = open(bytes()).unwrap();
        store.verify().unwrap();
        assert_eq!((store.info().digest.len(), &*store.info().provenance), (64, "five rows"));
    }

    #[test]
    fn raw_data_in_the_place_of_a_store_is_told_how_to_become_one() {
        for (name, bytes, what) in [
            ("x.npy", &b"\x93NUMPY\x01\x00 and the rest"[..], "an .npy array"),
            ("x-images-idx3-ubyte", b"\0\0\x08\x03\0\0\0\x01 and the rest", "an IDX file"),
            ("x.gz", b"\x1f\x8b\x08\0 and the rest", "a gzipped file"),
        ] {
            let out = Path::new(name).with_extension("store");
            let command = format!("engine data ingest --from {name} --out {}", out.display());
            let expected = format!("{name}: is {what}; make a store of it first: {command}");
            assert_eq!(Store::from_source(Source::memory(name, bytes)).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn every_truncation_is_refused() {
        let whole = bytes();
        for len in 0..whole.len() {
            assert!(open(whole[..len].to_vec()).is_err(), "{len} of {} bytes", whole.len());
        }
    }

    #[test]
    fn every_changed_bit_is_found_on_opening_or_by_the_digest() {
        let whole = bytes();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(open(bytes).and_then(|store| store.verify()).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_row_that_is_not_finite_is_refused_when_it_is_read() {
        let parts: [(&str, FileDType, &[usize], &[u8]); 7] = [
            ("mean", FileDType::F32, &[1], &[0; 4]),
            ("std", FileDType::F32, &[1], &[0; 4]),
            ("min", FileDType::F32, &[1], &[0; 4]),
            ("max", FileDType::F32, &[1], &[0; 4]),
            ("index", FileDType::U32, &[2], &[0; 8]),
            ("rows", FileDType::F16, &[2, 1, 1, 2], &[0, 0, 0, 0, 0, 0, 0, 0x7c]),
            ("digest", FileDType::U8, &[32], &[0; 32]),
        ];
        let specs = parts.map(|(name, dtype, shape, _)| Spec { name, dtype, shape });
        let mut writer = Writer::new(Vec::new(), &[MARK], &specs).unwrap();
        parts.iter().for_each(|part| writer.put(part.3).unwrap());
        let store = open(writer.finish()).unwrap();
        let mut row = [1.0; 2];
        store.read(&[0], &mut row).unwrap();
        assert_eq!(row, [0.0; 2]);
        let message = store.read(&[1], &mut row).unwrap_err().to_string();
        assert_eq!(message, "x.store: value 1 of row 1 is inf; ingest finite data");
    }
}
