//! A folder of pictures becomes a store; its subfolders are the classes.

mod decode;
mod resample;

use crate::base::{Error, Result};
use crate::data::atomic::{AtomicFile, unwritten};
use crate::data::file_dtype::FileDType;
use crate::data::pack::{Notes, Progress, Rows, pack};
use crate::data::source::Source;
use crate::data::store::{Info, MAX_CLASSES, Store};
use decode::decode;
use resample::Picture;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

/// Pictures that are decoded before they are written.
const BATCH: usize = 256;
/// Of how many pictures one may be unreadable.
const GOOD_FOR_A_BAD_ONE: usize = 100;
/// Unreadable pictures that a message names.
const SHOWN: usize = 3;
/// Endings of pictures that are not read.
const OTHERS: [&str; 8] = ["webp", "gif", "bmp", "tif", "tiff", "avif", "heic", "jxl"];
/// Folders that are parts of a data set, and no classes.
const PARTS: [&str; 6] = ["train", "training", "val", "valid", "validation", "test"];

/// A folder of pictures.
pub struct Pictures {
    folder: PathBuf,
    /// In the order of their classes and names.
    files: Vec<PathBuf>,
    /// Of each file; empty where the folder has no subfolders.
    classes: Vec<u32>,
    class_names: Vec<String>,
    /// Pictures of other kinds.
    others: Vec<PathBuf>,
}

/// What became of a folder.
pub struct Ingested {
    pub info: Info,
    /// What was left out and why, one sentence each.
    pub left_out: Vec<String>,
}

/// What lies in a folder and below it.
#[derive(Default)]
struct Found {
    pictures: Vec<PathBuf>,
    /// Files whose ending is one of [`OTHERS`].
    others: Vec<PathBuf>,
    /// Whether the pictures lie in folders of their own.
    deep: bool,
}

impl Pictures {
    /// The PNG and JPEG files of `folder` and of its subfolders, each of which is a class, in the order of their names. `None`
    /// where there is none.
    ///
    /// # Errors
    /// `Data` if pictures lie both beside subfolders of pictures and in them, if the subfolders are parts of a data set, if all
    /// pictures are of other kinds, or if a folder cannot be read.
    pub fn find(folder: &Path) -> Result<Option<Pictures>> {
        let (mut flat, mut others, mut folders) = (vec![], vec![], vec![]);
        let error = |what: String| Err(Error::file(folder, what));
        for path in entries(folder)? {
            if path.is_dir() {
                let mut found = Found::default();
                found.add(&path)?;
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if found.deep && PARTS.contains(&name.to_lowercase().as_str()) {
                    let what = format!("holds {name}, a part of a data set with folders of its own, and no class");
                    return error(format!("{what}; give --from {}", path.display()));
                }
                others.append(&mut found.others);
                if !found.pictures.is_empty() {
                    folders.push((name, found.pictures));
                }
            } else if has_ending(&path, &ENDINGS) {
                flat.push(path);
            } else if has_ending(&path, &OTHERS) {
                others.push(path);
            }
        }
        if flat.is_empty()
            && folders.is_empty()
            && let Some(first) = others.first()
        {
            let what = format!("holds {} pictures such as {}", others.len(), first.display());
            return error(format!("{what}; PNG and JPEG are read: convert them"));
        }
        if !flat.is_empty() && !folders.is_empty() {
            let (there, here) = (flat[0].display(), &folders[0].0);
            return error(format!(
                "holds pictures such as {there} beside folders of pictures such as {here}; move them"
            ));
        }
        if folders.len() > MAX_CLASSES {
            return error(format!("has {} subfolders with pictures; {MAX_CLASSES} classes are stored", folders.len()));
        }
        let classes = (0..).zip(&folders).flat_map(|(class, (_, files))| files.iter().map(move |_| class)).collect();
        let (class_names, files): (Vec<String>, Vec<_>) = folders.into_iter().unzip();
        let files: Vec<PathBuf> = flat.into_iter().chain(files.into_iter().flatten()).collect();
        let pictures = Pictures { folder: folder.to_owned(), files, classes, class_names, others };
        Ok((!pictures.files.is_empty()).then_some(pictures))
    }

    /// Makes the store `out` of all pictures: squares of `side` pixels, cut from the middle as ADM does, or as they are where all
    /// are of one size. Three channels, or one where all are gray; alpha is dropped.
    ///
    /// One picture in a hundred may be unreadable and is left out.
    ///
    /// # Errors
    /// `Usage` if `out` exists or cannot be written; `Data` if sizes differ without a `side`, and if too many are unreadable.
    pub fn ingest(&self, side: Option<usize>, out: &Path, progress: Progress<'_>) -> Result<Ingested> {
        super::ingest::check_new(out)?;
        let file = AtomicFile::create(out)?;
        let all = self.files.len() as u64;
        let (rows, mut left_out) = self.decoded(side, out, &mut |done| progress(done, 3 * all))?;
        let classes: Vec<u32> = rows.kept.iter().filter_map(|&i| self.classes.get(i).copied()).collect();
        let classes = (!self.classes.is_empty()).then_some(classes);
        let class_names: Vec<&str> = self.class_names.iter().map(String::as_str).collect();
        let name = self.folder.file_name().unwrap_or(self.folder.as_os_str()).to_string_lossy();
        let provenance = match side {
            Some(side) => format!("{name}, {side} x {side} from the middle"),
            None => name.into_owned(),
        };
        let notes = Notes { provenance: &provenance, class_names: &class_names };
        let left = left_out.len() as u64;
        pack(&rows, classes.as_deref(), &notes, file, out, &mut |done, _| progress(all + 2 * left + done, 3 * all))?
            .commit()?;
        if let Some(first) = self.others.first() {
            left_out.push(format!("{} pictures such as {}: PNG and JPEG are read", self.others.len(), first.display()));
        }
        Ok(Ingested { info: Store::open(out)?.info().clone(), left_out })
    }

    /// All pictures in a file that nobody else sees, since a store is written in two passes.
    fn decoded(
        &self,
        side: Option<usize>,
        out: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(Decoded, Vec<String>)> {
        let failed = |error| unwritten(out, error);
        let mut file = unnamed(out).map_err(failed)?;
        let (mut kept, mut left_out, mut shape) = (vec![], vec![], None);
        let (mut coloured, mut bytes) = (false, vec![]);
        for (batch, files) in self.files.chunks(BATCH).enumerate() {
            for (i, (path, picture)) in files.iter().zip(in_parallel(files, side)).enumerate() {
                let picture = match picture {
                    Ok(picture) => picture,
                    Err(what) => {
                        left_out.push(format!("{}: {what}", path.display()));
                        continue;
                    }
                };
                let size = [picture.height, picture.width];
                if *shape.get_or_insert(size) != size {
                    let first: [usize; 2] = shape.unwrap_or(size);
                    let what = format_args!("is {} x {} pixels, others {} x {}", size[1], size[0], first[1], first[0]);
                    return Err(Error::file(path, format_args!("{what}; --side N cuts squares of N pixels from all")));
                }
                coloured |= picture.channels >= 3;
                bytes.clear();
                picture.planes(&mut bytes);
                file.write_all(&bytes).map_err(failed)?;
                kept.push(batch * BATCH + i);
            }
            progress(((batch + 1) * BATCH).min(self.files.len()) as u64);
        }
        if left_out.len() > self.files.len() / GOOD_FOR_A_BAD_ONE {
            let what = format_args!("{} of {} pictures are unreadable", left_out.len(), self.files.len());
            let shown = left_out.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("; ");
            let advice = format_args!("more than one in {GOOD_FOR_A_BAD_ONE}: repair or remove them");
            return Err(Error::file(&self.folder, format_args!("{what}, {advice}. The first: {shown}")));
        }
        let [height, width] = shape.unwrap_or_default();
        let shape = vec![if coloured { 3 } else { 1 }, height, width];
        let source = Source::of(self.folder.clone(), file).map_err(failed)?;
        Ok((Decoded { source, shape, kept }, left_out))
    }
}

/// Rows of three planes of u8 each, of which gray ones need the first alone.
struct Decoded {
    source: Source,
    shape: Vec<usize>,
    /// Which file each row was.
    kept: Vec<usize>,
}

impl Rows for Decoded {
    fn name(&self) -> &Path {
        self.source.name()
    }

    fn count(&self) -> usize {
        self.kept.len()
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn dtype(&self) -> FileDType {
        FileDType::U8
    }

    fn read(&self, row: u32, out: &mut [u8]) -> Result<()> {
        let planes = 3 * out.len() / self.shape[0];
        self.source.read(u64::from(row) * planes as u64, out)
    }
}

/// Each file as a picture, on all cores.
fn in_parallel(files: &[PathBuf], side: Option<usize>) -> Vec<std::result::Result<Picture, String>> {
    let workers = thread::available_parallelism().map_or(1, |n| n.get());
    let next = Mutex::new(files.iter().enumerate());
    let mut done: Vec<(usize, std::result::Result<Picture, String>)> = thread::scope(|scope| {
        let work = || {
            let mut own = vec![];
            loop {
                let Some((i, path)) = next.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next() else {
                    return own;
                };
                own.push((i, read(path, side)));
            }
        };
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a decoder reports what is wrong")).collect()
    });
    done.sort_by_key(|(i, _)| *i);
    done.into_iter().map(|(_, picture)| picture).collect()
}

fn read(path: &Path, side: Option<usize>) -> std::result::Result<Picture, String> {
    let picture = decode(&fs::read(path).map_err(|error| error.to_string())?)?;
    Ok(match side {
        Some(side) => picture.center_square(side),
        None => picture,
    })
}

/// The entries of a folder in the order of their names, hidden ones left out.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| Error::file(folder, error);
    let mut paths = vec![];
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

impl Found {
    /// Adds what lies in `folder` and below. A link to a folder may lead in a circle and is not followed.
    fn add(&mut self, folder: &Path) -> Result<()> {
        for path in entries(folder)? {
            if path.is_dir() {
                let before = self.pictures.len();
                if !path.is_symlink() {
                    self.add(&path)?;
                }
                self.deep |= self.pictures.len() > before;
            } else if has_ending(&path, &ENDINGS) {
                self.pictures.push(path);
            } else if has_ending(&path, &OTHERS) {
                self.others.push(path);
            }
        }
        Ok(())
    }
}

const ENDINGS: [&str; 3] = ["png", "jpg", "jpeg"];

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
    ending.is_some_and(|ending| endings.contains(&ending.as_str()))
}

/// A file beside `path` that has lost its name and goes with its last user.
fn unnamed(path: &Path) -> std::io::Result<fs::File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = folder.join(format!(".engine-{}-pictures.partial", std::process::id()));
    let file = fs::File::options().read(true).write(true).create_new(true).open(&name)?;
    fs::remove_file(&name)?;
    Ok(file)
}
