//! IDX, the format of the MNIST family: unsigned bytes in up to four dimensions.
//!
//! ```text
//! 0 0 | type, 8 = u8 | rank | extents, u32 big-endian | bytes, last index fastest
//! ```

use crate::base::Result;
use crate::data::source::{Source, named, size_of};
use flate2::read::MultiGzDecoder;
use std::io::{self, Read};

/// The longest header: four bytes and four extents.
const MAX_HEADER: u64 = 20;
/// What a gzipped file may unpack to, since that lies in memory.
const MAX_UNPACKED: u64 = 1 << 30;

/// An opened IDX file whose extents agree with its size.
#[derive(Debug)]
pub struct Idx {
    source: Source,
    extents: Vec<usize>,
    payload: u64,
}

impl Idx {
    /// Reads and checks the header; a gzipped file, known by its first bytes, is unpacked into memory.
    pub fn open(source: Source) -> Result<Idx> {
        let gzipped = head(&mut source.reader(), 2).is_ok_and(|head| head == [0x1f, 0x8b]);
        if gzipped { Idx::unpack(&source) } else { Idx::check(source) }
    }

    fn check(source: Source) -> Result<Idx> {
        let head = head(&mut source.reader(), MAX_HEADER).map_err(named)?;
        let (extents, payload, announced) = parse(&source, &head)?;
        if announced != source.len() {
            return Err(wrong_size(&source, &extents, announced, source.len()));
        }
        Ok(Idx { source, extents, payload })
    }

    fn unpack(packed: &Source) -> Result<Idx> {
        let damaged = |error| packed.error(format_args!("its gzip stream is damaged: {error}; fetch it again"));
        let mut stream = MultiGzDecoder::new(packed.reader());
        let mut bytes = head(&mut stream, MAX_HEADER).map_err(damaged)?;
        let (extents, _, announced) = parse(packed, &bytes)?;
        if announced > MAX_UNPACKED {
            return Err(packed.error(format_args!(
                "unpacks to {announced} bytes, at most {MAX_UNPACKED} are unpacked in memory; gunzip it first"
            )));
        }
        // One byte more than announced tells a stream that goes on. Memory grows with what comes, not with the header.
        stream.take((announced + 1).saturating_sub(bytes.len() as u64)).read_to_end(&mut bytes).map_err(damaged)?;
        if bytes.len() as u64 != announced {
            return Err(wrong_size(packed, &extents, announced, bytes.len() as u64));
        }
        Idx::check(Source::memory(packed.name(), bytes))
    }

    pub fn source(&self) -> &Source {
        &self.source
    }

    pub fn extents(&self) -> &[usize] {
        &self.extents
    }

    /// Fills `out` with the bytes from element `first` on.
    pub fn read(&self, first: u64, out: &mut [u8]) -> Result<()> {
        self.source.read(self.payload + first, out)
    }
}

fn head(stream: &mut impl Read, len: u64) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    stream.take(len).read_to_end(&mut head)?;
    Ok(head)
}

/// Extents, offset of the elements, and the size of the whole file.
fn parse(source: &Source, head: &[u8]) -> Result<(Vec<usize>, u64, u64)> {
    let &[0, 0, kind, rank @ 1..=4, ref words @ ..] = head else {
        let start = &head[..head.len().min(4)];
        return Err(source
            .error(format_args!("is neither IDX nor .npy: it starts with {start:02x?}; give the file as published")));
    };
    if kind != 8 {
        return Err(source.error(format_args!("holds IDX elements of type {kind:#04x}, u8 is 0x08; save it as .npy")));
    }
    let Some(words) = words.get(..4 * usize::from(rank)) else {
        return Err(source.error(format_args!("ends at {} in its header of rank {rank}; fetch it again", head.len())));
    };
    let extents: Vec<usize> = words.as_chunks().0.iter().map(|&word| u32::from_be_bytes(word) as usize).collect();
    let payload = 4 + words.len() as u64;
    match size_of(&extents, 1).and_then(|size| size.checked_add(payload)) {
        Some(announced) => Ok((extents, payload, announced)),
        None => Err(source.error(format_args!("announces {extents:?} elements at offset 4, more than any file has"))),
    }
}

fn wrong_size(source: &Source, extents: &[usize], announced: u64, there: u64) -> crate::base::Error {
    let than = if there < announced { "only" } else { "at least" };
    source.error(format_args!(
        "its header at offset 4 announces {extents:?}, {announced} bytes in all, {than} {there} are there; fetch it again"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn sample() -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3];
        bytes.extend([1, 2, 3, 4, 5, 6]);
        bytes
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn open(bytes: Vec<u8>) -> Result<Idx> {
        Idx::open(Source::memory("x.idx", bytes))
    }

    #[test]
    fn plain_and_gzipped_files_read_alike() {
        for bytes in [sample(), gzip(&sample())] {
            let idx = open(bytes).unwrap();
            assert_eq!(idx.extents(), [2, 1, 3]);
            let mut row = [0; 3];
            idx.read(3, &mut row).unwrap();
            assert_eq!(row, [4, 5, 6]);
        }
    }

    #[test]
    fn every_truncation_is_refused() {
        for whole in [sample(), gzip(&sample())] {
            for len in 0..whole.len() {
                assert!(open(whole[..len].to_vec()).is_err(), "{len} of {} bytes", whole.len());
            }
        }
    }

    #[test]
    fn every_changed_bit_of_the_header_is_refused() {
        for bit in 0..16 * 8 {
            let mut bytes = sample();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(open(bytes.clone()).is_err(), "bit {bit}");
            assert!(open(gzip(&bytes)).is_err(), "bit {bit}, gzipped");
        }
    }

    #[test]
    fn a_lying_header_is_told_with_both_sizes() {
        let mut bytes = sample();
        bytes[4] = 0xff;
        for bytes in [gzip(&bytes), bytes] {
            let message = open(bytes).unwrap_err().to_string();
            assert!(message.contains("[4278190082, 1, 3]") || message.contains("unpacks to 12834570262"), "{message}");
        }
        bytes = sample();
        bytes.push(7);
        for bytes in [gzip(&bytes), bytes] {
            let message = open(bytes).unwrap_err().to_string();
            assert!(message.contains("[2, 1, 3], 22 bytes in all, at least 23 are there"), "{message}");
        }
    }
}
