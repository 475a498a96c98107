//! Published files become a store.

use crate::base::{Error, Result};
use crate::data::atomic::AtomicFile;
use crate::data::foreign;
use crate::data::idx::Idx;
use crate::data::images::{IdxRows, NpyRows, idx_labels, npy_labels};
use crate::data::npy::{Npy, is_npy};
use crate::data::pack::{Notes, Progress, Rows, pack};
use crate::data::source::Source;
use crate::data::store::{Info, Store};
use std::path::{Path, PathBuf};

const IMAGES: &str = "-images-idx3-ubyte";
const LABELS: &str = "-labels-idx1-ubyte";
const NPY_LABELS: [&str; 2] = ["-labels.npy", ".labels.npy"];

/// Makes the store `out` of the images at `from`: a file of IDX (gzipped too) or .npy, or a folder that holds one.
///
/// .npy arrays are (M, C, H, W), u8 also (M, H, W, C) and (M, H, W), or flat (M, d). Labels are those given, else the file
/// that goes with the images by name: `X-labels-idx1-ubyte` with `X-images-idx3-ubyte`, `X-labels.npy` or `X.labels.npy`
/// with `X.npy`, and `labels.npy` with `images.npy`, `data.npy`, or the one other .npy of a folder. Without labels the
/// store has no classes. `out` must not exist: a store is never changed.
pub fn ingest(from: &Path, labels: Option<&Path>, out: &Path, progress: Progress<'_>) -> Result<Info> {
    check_new(out)?;
    let alone = from.is_dir();
    let from = if alone { only_images_in(from)? } else { from.to_owned() };
    let rows = open_rows(&from)?;
    let labels = labels.map(Path::to_owned).or_else(|| labels_beside(&from, alone));
    let classes = labels.as_deref().map(|labels| read_labels(labels, &*rows)).transpose()?;

    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut provenance = name(&from);
    if let Some(labels) = &labels {
        provenance += &format!(", labels from {}", name(labels));
    }
    let notes = Notes { provenance: &provenance, class_names: &[] };
    pack(&*rows, classes.as_deref(), &notes, AtomicFile::create(out)?, out, progress)?.commit()?;
    Ok(Store::open(out)?.info().clone())
}

pub(super) fn check_new(out: &Path) -> Result<()> {
    if out.symlink_metadata().is_ok() {
        let what = "exists, and a store is never changed; give another name";
        return Err(Error::Usage(format!("{}: {what}", out.display())));
    }
    Ok(())
}

fn open_rows(path: &Path) -> Result<Box<dyn Rows>> {
    let source = open(path)?;
    Ok(if is_npy(&source) {
        Box::new(NpyRows::new(Npy::open(source)?)?)
    } else {
        Box::new(IdxRows::new(Idx::open(source)?)?)
    })
}

/// A file that is none of the known kinds that nothing here reads.
fn open(path: &Path) -> Result<Source> {
    let source = Source::open(path)?;
    foreign::refuse(&source)?;
    Ok(source)
}

/// The classes of `rows`, one for each.
fn read_labels(path: &Path, rows: &dyn Rows) -> Result<Vec<u32>> {
    let source = open(path)?;
    let labels = if is_npy(&source) { npy_labels(&Npy::open(source)?)? } else { idx_labels(&Idx::open(source)?)? };
    if labels.len() != rows.count() {
        let (count, images) = (rows.count(), rows.name().display());
        let what = format_args!("holds {} labels, {images} has {count} rows", labels.len());
        return Err(Error::file(path, format_args!("{what}; give the labels of these rows with --labels")));
    }
    Ok(labels)
}

/// Whether a folder holds files that [`ingest`] reads.
///
/// # Errors
/// `Data` if it cannot be read.
pub fn holds_arrays(folder: &Path) -> Result<bool> {
    Ok(!arrays_in(folder)?.is_empty())
}

/// The files of images in `folder`, in the order of their names.
fn arrays_in(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| Error::file(folder, error))? {
        let path = entry.map_err(|error| Error::file(folder, error))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let idx = name.ends_with(IMAGES) || name.ends_with(&format!("{IMAGES}.gz"));
        let labels = name == "labels.npy" || NPY_LABELS.iter().any(|end| name.ends_with(end));
        if idx || name.ends_with(".npy") && !labels {
            found.push((name, path));
        }
    }
    found.sort();
    Ok(found)
}

/// The one file of images in `folder`.
fn only_images_in(folder: &Path) -> Result<PathBuf> {
    let found = arrays_in(folder)?;
    match &found[..] {
        [(_, path)] => Ok(path.clone()),
        [] => {
            let what = format_args!("holds neither *{IMAGES}[.gz] nor .npy, nor any .png or .jpg");
            Err(Error::file(folder, format_args!("{what}; give the folder or the file that has them")))
        }
        _ => {
            let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
            Err(Error::file(folder, format_args!("holds several files of images: {}; give one", names.join(", "))))
        }
    }
}

/// The labels that are named after `images`; the bare `labels.npy` only where it can belong to nothing else.
fn labels_beside(images: &Path, alone: bool) -> Option<PathBuf> {
    let name = images.file_name()?.to_str()?;
    let candidates = if let Some(start) = name.strip_suffix(".gz").unwrap_or(name).strip_suffix(IMAGES) {
        vec![format!("{start}{LABELS}.gz"), format!("{start}{LABELS}")]
    } else {
        let start = name.strip_suffix(".npy")?;
        let bare = (alone || matches!(start, "images" | "data")).then(|| "labels.npy".to_owned());
        NPY_LABELS.iter().map(|end| format!("{start}{end}")).chain(bare).collect()
    };
    candidates.into_iter().map(|name| images.with_file_name(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::scratch::Scratch;
    use crate::data::tensors::FileDType;

    fn idx(extents: &[u32], bytes: &[u8]) -> Vec<u8> {
        let mut file = vec![0, 0, 8, extents.len() as u8];
        extents.iter().for_each(|extent| file.extend(extent.to_be_bytes()));
        [&file, bytes].concat()
    }

    fn array(descr: &str, shape: &str, bytes: &[u8]) -> Vec<u8> {
        let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}");
        [&b"\x93NUMPY\x01\x00"[..], &(text.len() as u16).to_le_bytes(), text.as_bytes(), bytes].concat()
    }

    fn quietly(from: &Path, out: &Path) -> Result<Info> {
        ingest(from, None, out, &mut |_, _| {})
    }

    fn refusal(from: &Path, scratch: &Scratch) -> String {
        let message = quietly(from, &scratch.path("refused.store")).unwrap_err().to_string();
        assert!(!scratch.path("refused.store").exists());
        message
    }

    fn all_rows(path: &Path) -> Vec<f32> {
        let store = Store::open(path).unwrap();
        store.verify().unwrap();
        let mut out = vec![0.0; store.rows() as usize * store.width()];
        store.read(&(0..store.rows()).collect::<Vec<_>>(), &mut out).unwrap();
        out
    }

    fn pixel(x: u8) -> f32 {
        2.0 * f32::from(x) / 255.0 - 1.0
    }

    #[test]
    fn a_folder_of_idx_becomes_a_store_sorted_by_class() {
        let scratch = Scratch::new();
        scratch.file("t-images-idx3-ubyte", &idx(&[4, 1, 2], &[10, 11, 20, 21, 30, 31, 40, 41]));
        scratch.file("t-labels-idx1-ubyte", &idx(&[4], &[2, 0, 2, 0]));
        let out = scratch.path("a.store");
        let mut calls = Vec::new();
        let info = ingest(scratch.folder(), None, &out, &mut |done, all| calls.push((done, all))).unwrap();
        assert_eq!(calls, (1..=8).map(|done| (done, 8)).collect::<Vec<_>>());
        assert_eq!((info.rows, info.shape, info.dtype), (4, [1, 1, 2], FileDType::U8));
        assert_eq!(
            (&info.class_counts, &*info.provenance),
            (&vec![2, 0, 2], "t-images-idx3-ubyte, labels from t-labels-idx1-ubyte")
        );
        let store = Store::open(&out).unwrap();
        assert_eq!(store.index().unwrap(), [1, 3, 0, 2]);
        assert_eq!([0, 1, 2, 3].map(|row| store.label(row)), [0, 0, 2, 2]);
        assert_eq!((store.classes(), store.class(0), store.class(1), store.class(2)), (3, 0..2, 2..2, 2..4));
        assert_eq!(all_rows(&out), [20, 21, 40, 41, 10, 11, 30, 31].map(pixel));
    }

    #[test]
    fn statistics_are_those_of_the_values_that_a_step_reads() {
        let scratch = Scratch::new();
        // Channel 0 is {1000, 1001, 1002, 1003}, channel 1 is {-1, -1, 1, 5}.
        let values = [1000.0f32, 1001.0, -1.0, -1.0, 1002.0, 1003.0, 1.0, 5.0];
        let from = scratch.file("z.npy", &array("<f4", "(2, 2, 1, 2)", bytemuck::cast_slice(&values)));
        let info = quietly(&from, &scratch.path("z.store")).unwrap();
        assert_eq!((info.mean, info.min, info.max), (vec![1001.5, 1.0], vec![1000.0, -1.0], vec![1003.0, 5.0]));
        assert_eq!(info.std, [1.25f32.sqrt(), 6.0f32.sqrt()]);
        assert_eq!((info.class_counts, info.class_names), (vec![], Vec::<String>::new()));
    }

    #[test]
    fn arrays_of_every_layout_and_type_keep_their_values() {
        let scratch = Scratch::new();
        let halves: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect();
        let doubles: Vec<u8> = [0.1f64, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        for (descr, shape, bytes, dtype, store_shape, values) in [
            (
                "|u1",
                "(1, 3, 1, 2)",
                vec![1, 2, 3, 4, 5, 6],
                FileDType::U8,
                [3, 1, 2],
                [1, 2, 3, 4, 5, 6].map(pixel).to_vec(),
            ),
            (
                "|u1",
                "(1, 2, 1, 3)",
                vec![1, 2, 3, 4, 5, 6],
                FileDType::U8,
                [3, 2, 1],
                [1, 4, 2, 5, 3, 6].map(pixel).to_vec(),
            ),
            ("|u1", "(1, 1, 2)", vec![1, 2], FileDType::U8, [1, 1, 2], [1, 2].map(pixel).to_vec()),
            ("|u1", "(2, 1)", vec![0, 255], FileDType::U8, [1, 1, 1], vec![-1.0, 1.0]),
            ("<f2", "(1, 2)", halves, FileDType::F16, [2, 1, 1], vec![1.5, -2.0]),
            ("<f8", "(2, 1, 1, 1)", doubles, FileDType::F32, [1, 1, 1], vec![0.1, -2.0]),
        ] {
            let from = scratch.file("x.npy", &array(descr, shape, &bytes));
            let out = scratch.path("x.store");
            let info = quietly(&from, &out).unwrap();
            assert_eq!((info.dtype, info.shape, all_rows(&out)), (dtype, store_shape, values), "{descr} {shape}");
            std::fs::remove_file(out).unwrap();
        }
    }

    #[test]
    fn labels_are_taken_from_beside_the_array_or_as_given() {
        let scratch = Scratch::new();
        let from = scratch.file("x.npy", &array("|u1", "(2, 2)", &[1, 2, 3, 4]));
        let wide: Vec<u8> = [3i64, 1].iter().flat_map(|label| label.to_le_bytes()).collect();
        scratch.file("labels.npy", &array("<i8", "(2,)", &wide));
        let info = quietly(scratch.folder(), &scratch.path("beside.store")).unwrap();
        assert_eq!((info.class_counts, &*info.provenance), (vec![0, 1, 0, 1], "x.npy, labels from labels.npy"));
        let given = scratch.file("given", &idx(&[2], &[0, 1]));
        let info = ingest(&from, Some(&given), &scratch.path("given.store"), &mut |_, _| {}).unwrap();
        assert_eq!((info.class_counts, &*info.provenance), (vec![1, 1], "x.npy, labels from given"));
    }

    #[test]
    fn labels_that_could_belong_to_other_rows_are_left_alone() {
        let scratch = Scratch::new();
        let labels = array("|u1", "(2,)", &[1, 0]);
        scratch.file("labels.npy", &labels);
        let taken = |name: &str, beside: Option<&str>| {
            let from = scratch.file(name, &array("|u1", "(2, 2)", &[1, 2, 3, 4]));
            let beside = beside.map(|beside| scratch.file(beside, &labels));
            let out = scratch.path("x.store");
            let info = quietly(&from, &out).unwrap();
            [Some(from), beside, Some(out)].into_iter().flatten().for_each(|path| std::fs::remove_file(path).unwrap());
            info.provenance
        };
        assert_eq!(taken("latents.npy", None), "latents.npy");
        assert_eq!(taken("latents.npy", Some("other-labels.npy")), "latents.npy");
        for beside in ["latents-labels.npy", "latents.labels.npy"] {
            assert_eq!(taken("latents.npy", Some(beside)), format!("latents.npy, labels from {beside}"));
        }
        for name in ["images.npy", "data.npy"] {
            assert_eq!(taken(name, None), format!("{name}, labels from labels.npy"));
        }
    }

    #[test]
    fn values_and_labels_that_training_could_not_use_are_refused_with_their_row() {
        let scratch = Scratch::new();
        let refuse = |bytes: &[u8], labels: Option<Vec<u8>>, reason: &str| {
            let from = scratch.file("x.npy", bytes);
            let _ = std::fs::remove_file(scratch.path("x-labels.npy"));
            if let Some(labels) = labels {
                scratch.file("x-labels.npy", &labels);
            }
            let message = refusal(&from, &scratch);
            assert!(message.contains(reason), "{reason}: {message}");
        };
        let floats = |values: [f32; 4]| array("<f4", "(2, 2)", bytemuck::cast_slice(&values));
        let labels = |values: [i64; 2]| Some(array("<i8", "(2,)", bytemuck::cast_slice(&values)));
        refuse(&floats([0.0, 1.0, 2.0, f32::NAN]), None, "x.npy: row 1 holds NaN at element 1");
        refuse(&floats([0.0, f32::NEG_INFINITY, 2.0, 0.0]), None, "x.npy: row 0 holds -inf at element 1");
        refuse(&array("<f8", "(1, 1)", &1e300f64.to_le_bytes()), None, "row 0 holds inf at element 0");
        refuse(&floats([0.0; 4]), labels([0, -1]), "x-labels.npy: the label of row 1 is -1; classes are 0 to 65535");
        refuse(
            &floats([0.0; 4]),
            labels([0, 65_536]),
            "x-labels.npy: the label of row 1 is 65536; classes are 0 to 65535",
        );
        refuse(&floats([0.0; 4]), labels([0, 1 << 40]), "the label of row 1 is 1099511627776");
        refuse(&floats([0.0; 4]), Some(array("|u1", "(3,)", &[0, 0, 0])), "x-labels.npy: holds 3 labels, ");
        refuse(&floats([0.0; 4]), Some(array("<f4", "(2,)", &[0; 8])), "x-labels.npy: holds F32; labels are integers");
        refuse(
            &floats([0.0; 4]),
            Some(array("|u1", "(2, 1)", &[0; 2])),
            "x-labels.npy: has shape [2, 1], labels have (M); reshape it",
        );
        refuse(
            &floats([0.0; 4]),
            Some(array("|u1", "(2, 3)", &[0, 1, 0, 1, 0, 0])),
            "x-labels.npy: has shape [2, 3], labels have (M); if its rows are one-hot, save their argmax(1)",
        );
        refuse(&array("|u1", "(0, 2)", &[]), None, "has 0 rows");
        refuse(&array("|u1", "(2, 0)", &[]), None, "rows of shape [0]");
        refuse(&array("|u1", "(0, 16777217)", &[]), None, "rows of shape [16777217]");
        refuse(&array("|u1", "(4,)", &[0; 4]), None, "has shape [4]; reshape it to (M, C, H, W)");
        refuse(&array("|u1", "(1, 3, 2, 3)", &[0; 18]), None, "channels may come first or last");
        refuse(&array("<i8", "(1, 1)", &[0; 8]), None, "holds I64; rows are u8 pixels or");
    }

    #[test]
    fn what_cannot_be_found_or_chosen_is_told() {
        let scratch = Scratch::new();
        let message = refusal(scratch.folder(), &scratch);
        assert!(message.contains("holds neither *-images-idx3-ubyte[.gz] nor .npy, nor any .png or .jpg"), "{message}");
        let labels = scratch.file("a-labels-idx1-ubyte", &idx(&[2], &[0, 1]));
        let message = refusal(&labels, &scratch);
        assert!(message.contains("has extents [2], images have (M, H, W); give the file of images"), "{message}");
        for name in ["a-images-idx3-ubyte", "b-images-idx3-ubyte.gz"] {
            scratch.file(name, &idx(&[2, 1, 1], &[0, 1]));
        }
        let message = refusal(scratch.folder(), &scratch);
        assert!(
            message.contains("several files of images: a-images-idx3-ubyte, b-images-idx3-ubyte.gz; give one"),
            "{message}"
        );
        let message = refusal(Path::new("absent"), &scratch);
        assert!(message.contains("absent: no such file"), "{message}");
        let message = quietly(&scratch.path("a-images-idx3-ubyte"), &labels).unwrap_err().to_string();
        assert!(message.contains("exists, and a store is never changed"), "{message}");
    }
}
