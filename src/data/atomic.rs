//! Files that are there whole or not at all, also after a power cut.
//!
//! Write to a temporary name in the same folder, sync, rename over the final name, sync the folder. A process that dies on
//! the way leaves a stray: a temporary name that nobody holds a lock on any more, which [`sweep`] removes.

use crate::base::{Error, Result};
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

const STRAY_START: &str = ".engine-";
const STRAY_END: &str = ".partial";

/// A file under construction; dropped before [`commit`](AtomicFile::commit), it leaves nothing behind.
pub struct AtomicFile {
    path: PathBuf,
    partial: PathBuf,
    file: BufWriter<File>,
    committed: bool,
}

impl AtomicFile {
    /// Begins the file that will appear at `path`, with the permissions that the umask leaves of 0666.
    pub fn create(path: &Path) -> Result<AtomicFile> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if path.file_name().is_none() || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(refused(path, "is no name of a file; give one"));
        }
        // A rename would put a plain file in the place of /dev/null.
        if path.metadata().is_ok_and(|there| !there.is_file()) {
            return Err(refused(path, "exists and is not a regular file; give another path"));
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let partial = folder_of(path).join(format!("{STRAY_START}{}-{count}{STRAY_END}", std::process::id()));
        let file = File::options().write(true).create_new(true).open(&partial);
        let file = file.map_err(|error| match folder_of(path).try_exists() {
            Ok(false) => refused(path, "its folder does not exist; make it, or give another path"),
            _ => unwritten(path, error),
        });
        let file = file?;
        // Where a file system has no locks, nothing is ever swept.
        let _ = file.lock();
        if !partial.exists() {
            // Somebody swept it before it was locked.
            return AtomicFile::create(path);
        }
        let file = BufWriter::with_capacity(1 << 18, file);
        Ok(AtomicFile { path: path.to_owned(), partial, file, committed: false })
    }

    /// Syncs the bytes and gives them their name. When this returns they survive a power cut.
    pub fn commit(mut self) -> Result<()> {
        let durable = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        let named = durable.and_then(|()| fs::rename(&self.partial, &self.path));
        named.map_err(|error| unwritten(&self.path, error))?;
        self.committed = true;
        sync_folder(folder_of(&self.path))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.committed {
            // The stray is swept later if this fails; there is nobody left to tell.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// Puts `bytes` at `path`, whole or not at all.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes).map_err(|error| unwritten(path, error))?;
    file.commit()
}

/// That the file at `path` cannot be written, for the writers of its bytes.
pub fn unwritten(path: &Path, error: impl Into<io::Error>) -> Error {
    let error = error.into();
    let advice = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "make room, or give another path"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "give a path that you may write to",
        _ => "give another path",
    };
    refused(path, format_args!("cannot be written: {error}; {advice}"))
}

fn refused(path: &Path, what: impl Display) -> Error {
    Error::Usage(format!("{}: {what}", path.display()))
}

/// Makes the names in `folder` durable: a rename is only on its way until then.
pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| Error::file(folder, error))
}

/// Makes a folder and those above it, each with a durable name.
pub fn create_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = folder_of(path);
    create_folder(parent)?;
    match fs::create_dir(path) {
        // Somebody else was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        made => made?,
    }
    File::open(parent)?.sync_all()
}

/// Removes what dead writers left in `folder` and says how many there were.
pub fn sweep(folder: &Path) -> Result<usize> {
    let mut swept = 0;
    for entry in fs::read_dir(folder).map_err(|error| Error::file(folder, error))? {
        let path = entry.map_err(|error| Error::file(folder, error))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if !name.is_some_and(|name| name.starts_with(STRAY_START) && name.ends_with(STRAY_END)) {
            continue;
        }
        // A living writer's, or one that was given its name or swept since the folder was read.
        let Ok(stray) = File::open(&path) else { continue };
        if stray.try_lock().is_ok() && path.exists() {
            fs::remove_file(&path).map_err(|error| Error::file(&path, error))?;
            swept += 1;
        }
    }
    Ok(swept)
}

/// Where `path` lies.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::scratch::Scratch;

    #[test]
    fn the_old_content_stands_until_the_commit() {
        let scratch = Scratch::new();
        let path = scratch.file("state", b"old");
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        file.flush().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        file.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(scratch.folder()).unwrap().count(), 1);
    }

    #[test]
    fn an_abandoned_file_leaves_nothing_behind() {
        let scratch = Scratch::new();
        let mut file = AtomicFile::create(&scratch.path("state")).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(fs::read_dir(scratch.folder()).unwrap().count(), 0);
    }

    #[test]
    fn a_commit_that_cannot_give_the_name_says_so_and_leaves_nothing_behind() {
        let scratch = Scratch::new();
        let path = scratch.path("state");
        let file = AtomicFile::create(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let message = file.commit().unwrap_err().to_string();
        assert!(message.contains("state: cannot be written: "), "{message}");
        assert_eq!(fs::read_dir(scratch.folder()).unwrap().count(), 1);
    }

    #[test]
    fn a_sweep_takes_the_strays_of_dead_writers_and_nothing_else() {
        let scratch = Scratch::new();
        let mut living = AtomicFile::create(&scratch.path("a")).unwrap();
        for name in [".engine-1-0.partial", ".engine-1-1.partial"] {
            scratch.file(name, b"half");
        }
        for name in [".engine-notes", "x.partial", "model.safetensors"] {
            scratch.file(name, b"kept");
        }
        assert_eq!(sweep(scratch.folder()).unwrap(), 2);
        assert_eq!(fs::read_dir(scratch.folder()).unwrap().count(), 4);
        living.write_all(b"whole").unwrap();
        living.commit().unwrap();
        assert_eq!(fs::read(scratch.path("a")).unwrap(), b"whole");
        assert_eq!(sweep(scratch.folder()).unwrap(), 0);
    }

    #[test]
    fn folders_are_made_down_to_the_last_and_not_through_a_file() {
        let scratch = Scratch::new();
        for _ in 0..2 {
            create_folder(&scratch.path("a/b/c")).unwrap();
            assert!(scratch.path("a/b/c").is_dir());
        }
        scratch.file("f", b"");
        assert!(create_folder(&scratch.path("f")).is_err() && create_folder(&scratch.path("f/g")).is_err());
    }

    #[test]
    fn a_device_is_never_replaced_by_a_file() {
        let message = write(Path::new("/dev/null"), b"x").unwrap_err().to_string();
        assert!(message.contains("/dev/null: exists and is not a regular file"), "{message}");
    }

    #[test]
    fn a_missing_folder_is_named() {
        let message = write(Path::new("absent/state"), b"x").unwrap_err().to_string();
        assert_eq!(message, "absent/state: its folder does not exist; make it, or give another path");
        // The kernel answers as if this folder did not exist.
        let message = write(Path::new("/proc/state"), b"x").unwrap_err().to_string();
        assert!(message.starts_with("/proc/state: cannot be written: "), "{message}");
        for name in ["", "state/", "a/.."] {
            let message = write(Path::new(name), b"x").unwrap_err().to_string();
            assert_eq!(message, format!("{name}: is no name of a file; give one"));
        }
    }
}
