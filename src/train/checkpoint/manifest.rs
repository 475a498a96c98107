use super::{MANIFEST, bad};
use crate::base::Result;
use crate::data::Source;
use crate::data::atomic::sync_folder;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// A manifest of some hundred files; more bytes are not ours.
const MOST_BYTES: u64 = 1 << 16;

/// Size and digest of every file of a folder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    files: BTreeMap<String, Mark>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    size: u64,
    /// In hexadecimal.
    blake3: String,
}

impl Manifest {
    /// Begins the file `name` in `folder`.
    pub fn create(&self, folder: &Path, name: &str) -> Result<Marked> {
        let path = folder.join(name);
        let file = File::create_new(&path).map_err(|error| bad(&path, error))?;
        let out = BufWriter::with_capacity(1 << 18, file);
        Ok(Marked { name: name.into(), path, out, hasher: blake3::Hasher::new(), size: 0 })
    }

    /// Syncs a finished file and notes its size and digest.
    pub fn add(&mut self, file: Marked) -> Result<()> {
        let Marked { name, path, mut out, hasher, size } = file;
        out.flush().and_then(|()| out.get_ref().sync_all()).map_err(|error| bad(&path, error))?;
        self.files.insert(name, Mark { size, blake3: hasher.finalize().to_hex().to_string() });
        Ok(())
    }

    /// Writes the manifest, which makes the folder valid, and syncs both.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let mut file = self.create(folder, MANIFEST)?;
        file.write_all(self.text().as_bytes()).map_err(|error| bad(&folder.join(MANIFEST), error))?;
        Manifest::default().add(file)?;
        sync_folder(folder)
    }

    /// Checks every byte of `folder`.
    ///
    /// # Errors
    /// `Checkpoint` says which file is damaged and how; `Data`, that one cannot be read and may well be whole.
    pub fn verify(folder: &Path) -> Result<()> {
        let manifest = Manifest::open(folder)?;
        manifest.files.iter().try_for_each(|(name, mark)| mark.verify(&folder.join(name)))
    }

    /// As [`Manifest::verify`], of one file alone; a file that no manifest beside it names is taken as it is.
    pub fn verify_file(path: &Path) -> Result<()> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        if !folder.join(MANIFEST).exists() {
            return Ok(());
        }
        let mark = Manifest::open(folder)?.files.remove(&*name.to_string_lossy());
        mark.map_or(Ok(()), |mark| mark.verify(path))
    }

    fn open(folder: &Path) -> Result<Manifest> {
        let path = folder.join(MANIFEST);
        let damaged = |what: &str| bad(&path, format_args!("{what}; the checkpoint is damaged"));
        let source = open(&path)?;
        if source.len() > MOST_BYTES {
            return Err(damaged(&format!("has {} bytes, a manifest has at most {MOST_BYTES}", source.len())));
        }
        let mut bytes = vec![0; source.len() as usize];
        source.read(0, &mut bytes)?;
        let manifest: Manifest =
            serde_json::from_slice(&bytes).map_err(|error| damaged(&format!("is no manifest: {error}")))?;
        // One form of writing it, so that every changed bit shows.
        if manifest.text().as_bytes() != bytes {
            return Err(damaged("is not as it was written"));
        }
        Ok(manifest)
    }

    fn text(&self) -> String {
        serde_json::to_string_pretty(self).expect("a manifest has a form in JSON") + "\n"
    }
}

/// Only a file that is not there is damage; one that cannot be opened may be whole.
fn open(path: &Path) -> Result<Source> {
    Source::open(path).map_err(|error| match path.try_exists() {
        Ok(false) => bad(path, "is missing; the checkpoint is damaged"),
        _ => error,
    })
}

impl Mark {
    fn verify(&self, path: &Path) -> Result<()> {
        let source = open(path)?;
        if source.len() != self.size {
            let what = format_args!("has {} bytes, its manifest says {}", source.len(), self.size);
            return Err(bad(path, format_args!("{what}; the checkpoint is damaged")));
        }
        let found = source.digest(self.size)?.to_hex();
        if found.as_str() != self.blake3 {
            let what = format_args!("has digest {found}, its manifest says {}", self.blake3);
            return Err(bad(path, format_args!("{what}; the checkpoint is damaged")));
        }
        Ok(())
    }
}

/// A file under construction, measured while it is written.
pub struct Marked {
    name: String,
    path: PathBuf,
    out: BufWriter<File>,
    hasher: blake3::Hasher,
    size: u64,
}

impl Marked {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Write for Marked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
