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

/// A folder of pictures.
pub struct Pictures {
    folder: PathBuf,
    /// In the order of their classes and names.
    files: Vec<PathBuf>,
    /// Of each file; empty where the folder has no subfolders.
    classes: Vec<u32>,
    class_names: Vec<String>,
}

/// What became of a folder.
pub struct Ingested {
    pub info: Info,
    /// Why a picture was left out, one sentence each.
    pub left_out: Vec<String>,
}

impl Pictures {
    /// The PNG and JPEG files of `folder` and of its subfolders, each of which is a class, in the order of their names. `None`
    /// where there is none.
    ///
    /// # Errors
    /// `Data` if pictures lie both beside subfolders of pictures and in them, or if a folder cannot be read.
    pub fn find(folder: &Path) -> Result<Option<Pictures>> {
        let (mut flat, mut folders) = (vec![], vec![]);
        for path in entries(folder)? {
            if path.is_dir() {
                let mut files = vec![];
                pictures_below(&path, &mut files)?;
                if !files.is_empty() {
                    folders.push((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), files));
                }
            } else if is_picture(&path) {
                flat.push(path);
            }
        }
        let error = |what: String| Err(Error::file(folder, what));
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
        let pictures = Pictures { folder: folder.to_owned(), files, classes, class_names };
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
        let (rows, left_out) = self.decoded(side, out, &mut |done| progress(done, 3 * all))?;
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
        Ok(Ingested { info: Store::open(out)?.info().clone(), left_out })
    }

    /// All pictures in a file that nobody else sees, since a store is written in two passes.
    fn decoded(
        &self,
        side: Option<usize>,
        out: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(Squares, Vec<String>)> {
        let failed = |error| unwritten(out, error);
        let mut file = unnamed(out).map_err(failed)?;
        let (mut kept, mut left_out, mut shape) = (vec![], vec![], None);
        let (mut coloured, mut bytes) = (false, vec![]);
        for (batch, files) in self.files.chunks(BATCH).enumerate() {
            for (i, (path, picture)) in files.iter().zip(in_parallel(files, side)).enumerate() {
                let picture = match picture {
                    Ok(picture) => picture,
                    Err(what) => {
                        left_out.push(format!("{}: {what}; it is left out", path.display()));
                        let most = self.files.len() / GOOD_FOR_A_BAD_ONE;
                        if left_out.len() > most {
                            let (count, first) = (left_out.len(), &left_out[0]);
                            let what = format_args!("{count} of {} pictures are unreadable", self.files.len());
                            let advice = "repair or remove them";
                            return Err(Error::file(
                                &self.folder,
                                format_args!("{what}, the first: {first}; {advice}"),
                            ));
                        }
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
        let [height, width] = shape.unwrap_or_default();
        let shape = vec![if coloured { 3 } else { 1 }, height, width];
        let source = Source::of(self.folder.clone(), file).map_err(failed)?;
        Ok((Squares { source, shape, kept }, left_out))
    }
}

/// Rows of three planes of u8 each, of which gray ones need the first alone.
struct Squares {
    source: Source,
    shape: Vec<usize>,
    /// Which file each row was.
    kept: Vec<usize>,
}

impl Rows for Squares {
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

/// A link to a folder may lead in a circle and is not followed.
fn pictures_below(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for path in entries(folder)? {
        if path.is_dir() {
            if !path.is_symlink() {
                pictures_below(&path, files)?;
            }
        } else if is_picture(&path) {
            files.push(path);
        }
    }
    Ok(())
}

fn is_picture(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
    matches!(ending.as_deref(), Some("png" | "jpg" | "jpeg"))
}

/// A file beside `path` that has lost its name and goes with its last user.
fn unnamed(path: &Path) -> std::io::Result<fs::File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = folder.join(format!(".engine-{}-pictures.partial", std::process::id()));
    let file = fs::File::options().read(true).write(true).create_new(true).open(&name)?;
    fs::remove_file(&name)?;
    Ok(file)
}
