use memmap2::{Mmap, MmapOptions};
use std::fs::File;
use std::io;

/// A file's bytes as memory, read only.
///
/// For scans of whole data sets, which are written once, renamed into place and never changed: a file that shrinks under
/// its map ends the process with a signal where a read would give an error.
pub struct Map(Mmap);

impl Map {
    /// The first `len` bytes of `file`, which must have as many now.
    pub fn open(file: &File, len: u64) -> io::Result<Map> {
        let now = file.metadata()?.len();
        if now < len {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{len} bytes are needed, {now} are there"),
            ));
        }
        let len = usize::try_from(len).map_err(io::Error::other)?;
        // SAFETY: the map is private and only read. Nothing can keep another process from changing the file; stores are
        // never written in place, and the size was checked.
        let map = unsafe { MmapOptions::new().len(len).map(file)? };
        Ok(Map(map))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}
