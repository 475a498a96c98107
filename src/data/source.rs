use crate::base::{Error, Result};
use crate::device::Map;
use std::borrow::Cow;
use std::fmt::{self, Display};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Bytes that are read by position: a file, by `pread`, or memory.
///
/// Reads never map: a file that is truncated while it is read gives an error and not a signal. Only a scan of a whole data
/// set asks for [`mapped`](Source::mapped) memory.
pub struct Source {
    name: PathBuf,
    len: u64,
    bytes: Bytes,
    map: OnceLock<Map>,
}

enum Bytes {
    File(File),
    Memory(Cow<'static, [u8]>),
}

impl Source {
    /// Opens a regular file; pipes and devices, which have no size to check against, are refused.
    pub fn open(path: &Path) -> Result<Source> {
        let file = match path.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::file(path, "no such file; check the path"));
            }
            Ok(metadata) if !metadata.is_file() => {
                return Err(Error::file(path, "is not a regular file; give the path of one"));
            }
            Ok(_) => File::open(path),
            Err(error) => Err(error),
        };
        let file = file.map_err(|error| Error::file(path, error))?;
        let len = file.metadata().map_err(|error| Error::file(path, error))?.len();
        Ok(Source { name: path.to_owned(), len, bytes: Bytes::File(file), map: OnceLock::new() })
    }

    /// An open file, under the name that messages give it.
    pub(super) fn of(name: PathBuf, file: File) -> io::Result<Source> {
        let len = file.metadata()?.len();
        Ok(Source { name, len, bytes: Bytes::File(file), map: OnceLock::new() })
    }

    /// Bytes in memory, under the name that messages give them.
    pub fn memory(name: impl Into<PathBuf>, bytes: impl Into<Cow<'static, [u8]>>) -> Source {
        let bytes = bytes.into();
        Source { name: name.into(), len: bytes.len() as u64, bytes: Bytes::Memory(bytes), map: OnceLock::new() }
    }

    pub fn name(&self) -> &Path {
        &self.name
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A data error about this source.
    pub fn error(&self, what: impl Display) -> Error {
        Error::file(&self.name, what)
    }

    /// Fills `out` with the bytes from `offset` on; an end before that is an error with both sizes.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let wanted = out.len();
        let truncated = |len: u64| {
            self.error(format_args!(
                "{wanted} bytes are needed at offset {offset}, but it ends at {len}; it is truncated, make it again"
            ))
        };
        let end = offset.checked_add(out.len() as u64).filter(|&end| end <= self.len);
        let Some(end) = end else { return Err(truncated(self.len)) };
        match &self.bytes {
            Bytes::Memory(bytes) => out.copy_from_slice(&bytes[offset as usize..end as usize]),
            Bytes::File(file) => {
                if let Err(error) = file.read_exact_at(out, offset) {
                    return Err(match error.kind() {
                        io::ErrorKind::UnexpectedEof => truncated(file.metadata().map_or(0, |now| now.len())),
                        _ => self.error(format_args!("reading at offset {offset}: {error}")),
                    });
                }
            }
        }
        Ok(())
    }

    /// All bytes as memory; those of a file are mapped when they are first asked for.
    pub fn mapped(&self) -> Result<&[u8]> {
        let file = match &self.bytes {
            Bytes::Memory(bytes) => return Ok(bytes),
            Bytes::File(file) => file,
        };
        if let Some(map) = self.map.get() {
            return Ok(map.bytes());
        }
        let map = Map::open(file, self.len).map_err(|error| self.error(format_args!("mapping it: {error}")))?;
        Ok(self.map.get_or_init(|| map).bytes())
    }

    /// The blake3 digest of the first `len` bytes.
    pub fn digest(&self, len: u64) -> Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(self.reader().take(len)).map_err(named)?;
        Ok(hasher.finalize())
    }

    /// The bytes in order, from the first.
    pub fn reader(&self) -> impl io::Read + '_ {
        Reader { source: self, offset: 0 }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.name.display(), self.len)
    }
}

struct Reader<'a> {
    source: &'a Source,
    offset: u64,
}

impl io::Read for Reader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = (out.len() as u64).min(self.source.len - self.offset) as usize;
        self.source.read(self.offset, &mut out[..len]).map_err(io::Error::other)?;
        self.offset += len as u64;
        Ok(len)
    }
}

/// A reader's error, which names its source already.
pub(super) fn named(error: io::Error) -> Error {
    Error::Data(error.to_string())
}

/// The bytes of `extents` elements of `size` bytes each; `None` where 64 bits do not hold them.
pub(super) fn size_of(extents: &[usize], size: u64) -> Option<u64> {
    extents.iter().try_fold(size, |bytes, &extent| bytes.checked_mul(extent as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::scratch::Scratch;

    #[test]
    fn a_file_that_shrinks_after_opening_is_named_with_the_offset_and_both_sizes() {
        let scratch = Scratch::new();
        let path = scratch.file("rows", &[7; 100]);
        let source = Source::open(&path).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(40).unwrap();
        let message = source.read(32, &mut [0; 16]).unwrap_err().to_string();
        assert!(message.contains("rows: 16 bytes are needed at offset 32, but it ends at 40"), "{message}");
        let message = source.digest(100).unwrap_err().to_string();
        assert!(message.contains("rows: 100 bytes are needed at offset 0, but it ends at 40"), "{message}");
    }

    #[test]
    fn a_map_holds_the_bytes_of_the_file_and_is_refused_once_the_file_is_shorter() {
        let scratch = Scratch::new();
        let path = scratch.file("rows", &[7; 100]);
        assert_eq!(Source::open(&path).unwrap().mapped().unwrap(), [7; 100]);
        let source = Source::open(&path).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(40).unwrap();
        let message = source.mapped().unwrap_err().to_string();
        assert!(message.ends_with("rows: mapping it: 100 bytes are needed, 40 are there"), "{message}");
        assert_eq!(Source::memory("embedded", &[1, 2][..]).mapped().unwrap(), [1, 2]);
    }

    #[test]
    fn a_read_past_the_end_of_memory_is_refused() {
        let source = Source::memory("embedded", &[1, 2, 3][..]);
        let mut out = [0; 2];
        source.read(1, &mut out).unwrap();
        assert_eq!(out, [2, 3]);
        for offset in [2, 3, 4, u64::MAX] {
            assert!(source.read(offset, &mut out).is_err(), "offset {offset}");
        }
    }

    #[test]
    fn what_is_not_a_regular_file_is_refused() {
        for path in ["/dev/zero", "/"] {
            let message = Source::open(Path::new(path)).unwrap_err().to_string();
            assert!(message.contains("is not a regular file"), "{message}");
        }
        let message = Source::open(Path::new("absent")).unwrap_err().to_string();
        assert_eq!(message, "absent: no such file; check the path");
    }
}
