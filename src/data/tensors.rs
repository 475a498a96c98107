//! Named tensors in a file: the safetensors format.
//!
//! ```text
//! u64 N, little-endian | N bytes of JSON, padded with spaces | payload
//! {"__metadata__": {string: string}, name: {"dtype": "F32", "shape": [...], "data_offsets": [begin, end]}, ...}
//! ```
//! Offsets count from the payload's first byte. A file is refused unless its tensors cover the payload without hole or
//! overlap, each with just the bytes its shape needs. The format has no checksum; whoever needs one keeps it beside.

use crate::base::Result;
use crate::data::atomic::{AtomicFile, unwritten};
use crate::data::header::{self, Header};
use crate::data::source::Source;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

pub use crate::data::file_dtype::FileDType;
pub use crate::data::header::Entry;

/// Bytes that are converted at a time: they stay in the cache.
const CHUNK: usize = 1 << 18;

/// An opened file of tensors; payloads are read when they are asked for.
#[derive(Debug)]
pub struct TensorFile {
    source: Source,
    header: Header,
    payload: u64,
}

impl TensorFile {
    pub fn open(path: &Path) -> Result<TensorFile> {
        TensorFile::from_source(Source::open(path)?)
    }

    pub fn from_source(source: Source) -> Result<TensorFile> {
        let (header, payload) = header::read(&source)?;
        Ok(TensorFile { source, header, payload })
    }

    pub fn source(&self) -> &Source {
        &self.source
    }

    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.header.metadata
    }

    /// All tensors, in the order of their payloads.
    pub fn entries(&self) -> &[Entry] {
        &self.header.entries
    }

    pub fn find(&self, name: &str) -> Option<&Entry> {
        self.header.entries.iter().find(|entry| entry.name == name)
    }

    pub fn entry(&self, name: &str) -> Result<&Entry> {
        self.find(name).ok_or_else(|| {
            let first: Vec<&str> = self.entries().iter().take(8).map(|entry| entry.name.as_str()).collect();
            let count = self.entries().len();
            self.source.error(format_args!("has no tensor {name:?}; of its {count}, the first are {first:?}"))
        })
    }

    /// Reads a tensor of floats or integers into `out` as f32; `shape` is what it must have.
    pub fn read_f32(&self, name: &str, shape: &[usize], out: &mut [f32]) -> Result<()> {
        let entry = self.entry(name)?;
        self.expect_shape(entry, shape)?;
        assert_eq!(out.len() as u64, entry.len(), "{name}: the slice does not have the tensor's length");
        self.convert(entry, out, FileDType::floats)
    }

    /// A tensor of integers: labels, indices.
    pub fn integers(&self, name: &str) -> Result<Vec<i64>> {
        let entry = self.entry(name)?;
        let mut out = vec![0; entry.len() as usize];
        self.convert(entry, &mut out, FileDType::integers)?;
        Ok(out)
    }

    /// Fills `out` with the tensor's bytes from its byte `offset` on.
    pub fn read_bytes(&self, entry: &Entry, offset: u64, out: &mut [u8]) -> Result<()> {
        assert!(offset + out.len() as u64 <= entry.end - entry.begin, "{}: read past its end", entry.name);
        self.source.read(self.payload + entry.begin + offset, out)
    }

    /// The tensor's bytes as memory, mapped where the file is not in memory already.
    pub fn mapped(&self, entry: &Entry) -> Result<&[u8]> {
        let bytes = self.source.mapped()?;
        Ok(&bytes[(self.payload + entry.begin) as usize..(self.payload + entry.end) as usize])
    }

    /// The offset of the tensor's first byte in the file.
    pub fn offset(&self, entry: &Entry) -> u64 {
        self.payload + entry.begin
    }

    pub fn expect_shape(&self, entry: &Entry, shape: &[usize]) -> Result<()> {
        if entry.shape.iter().eq(shape) {
            return Ok(());
        }
        let (name, there) = (&entry.name, &entry.shape);
        Err(self
            .source
            .error(format_args!("tensor {name:?} has shape {there:?}, {shape:?} is needed; give a fitting file")))
    }

    fn convert<T>(
        &self,
        entry: &Entry,
        out: &mut [T],
        decode: fn(FileDType, &[u8], &mut [T]) -> Option<()>,
    ) -> Result<()> {
        let size = entry.dtype.size() as usize;
        let mut bytes = vec![0; CHUNK.min(out.len() * size)];
        let mut offset = 0;
        for values in out.chunks_mut(CHUNK / size) {
            let bytes = &mut bytes[..values.len() * size];
            self.read_bytes(entry, offset, bytes)?;
            decode(entry.dtype, bytes, values).ok_or_else(|| {
                let (name, dtype) = (&entry.name, entry.dtype);
                self.source.error(format_args!("tensor {name:?} holds {dtype:?}, which is not read here; convert it"))
            })?;
            offset += bytes.len() as u64;
        }
        Ok(())
    }
}

/// One tensor to be written: its payload follows by [`Writer::put`].
pub struct Spec<'a> {
    pub name: &'a str,
    pub dtype: FileDType,
    pub shape: &'a [usize],
}

/// Writes the header, then payloads as they come: nothing is held twice.
pub struct Writer<W: Write> {
    out: W,
    missing: u64,
}

impl<W: Write> Writer<W> {
    /// Writes the header; `{"format": "pt"}`, which other loaders ask for, joins `metadata`.
    pub fn new(mut out: W, metadata: &[(&str, &str)], specs: &[Spec<'_>]) -> io::Result<Writer<W>> {
        let (header, payload) = header::compose(metadata, specs);
        out.write_all(&header)?;
        Ok(Writer { out, missing: payload })
    }

    /// The next bytes of the payload, in the order of the specs.
    pub fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        let len = bytes.len() as u64;
        self.missing = self.missing.checked_sub(len).expect("more payload than the specs announce");
        self.out.write_all(bytes)
    }

    pub fn out(&self) -> &W {
        &self.out
    }

    /// Gives the output back once every announced byte is written.
    pub fn finish(self) -> W {
        assert_eq!(self.missing, 0, "less payload than the specs announce");
        self.out
    }
}

/// Puts f32 tensors `(name, shape, values)` at `path`, whole or not at all.
pub fn write_f32(path: &Path, metadata: &[(&str, &str)], tensors: &[(&str, &[usize], &[f32])]) -> Result<()> {
    let specs: Vec<Spec<'_>> =
        tensors.iter().map(|&(name, shape, _)| Spec { name, dtype: FileDType::F32, shape }).collect();
    let failed = |error| unwritten(path, error);
    let mut writer = Writer::new(AtomicFile::create(path)?, metadata, &specs).map_err(failed)?;
    for (name, shape, values) in tensors {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "{name}: shape {shape:?} and values differ");
        writer.put(bytemuck::cast_slice(values)).map_err(failed)?;
    }
    writer.finish().commit()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::scratch::Scratch;

    /// What the format's own library 0.8.0 writes for b = [[1.5, -2, 3]], a = f16 [1, 2], i = 7, e of shape (0, 3).
    const REFERENCE: &[u8] = b"\x00\x01\x00\x00\x00\x00\x00\x00\
        {\"__metadata__\":{\"k\":\"v\\\"q\"},\"i\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]},\
        \"b\":{\"dtype\":\"F32\",\"shape\":[1,3],\"data_offsets\":[8,20]},\
        \"e\":{\"dtype\":\"F32\",\"shape\":[0,3],\"data_offsets\":[20,20]},\
        \"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[20,24]}}       \
        \x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\xc0?\x00\x00\x00\xc0\x00\x00@@\x00<\x00@";

    fn open(bytes: impl Into<Vec<u8>>) -> Result<TensorFile> {
        TensorFile::from_source(Source::memory("x.safetensors", bytes.into()))
    }

    /// A file with this header over `payload` zeros.
    fn with_header(json: &str, payload: usize) -> Vec<u8> {
        [&(json.len() as u64).to_le_bytes(), json.as_bytes(), &vec![0; payload]].concat()
    }

    #[test]
    fn the_reference_file_is_read() {
        let file = open(REFERENCE).unwrap();
        assert_eq!(file.metadata()["k"], "v\"q");
        let mut b = [0.0; 3];
        file.read_f32("b", &[1, 3], &mut b).unwrap();
        assert_eq!(b, [1.5, -2.0, 3.0]);
        let mut a = [0.0; 2];
        file.read_f32("a", &[2], &mut a).unwrap();
        assert_eq!(a, [1.0, 2.0]);
        assert_eq!(file.integers("i").unwrap(), [7]);
        file.read_f32("e", &[0, 3], &mut []).unwrap();
    }

    #[test]
    fn what_is_written_reads_back_with_its_metadata() {
        let scratch = Scratch::new();
        let path = scratch.path("model.safetensors");
        let long: Vec<f32> = (0..100_000).map(|i| i as f32).collect();
        write_f32(&path, &[("step", "7")], &[("w \"1\"", &[100, 1000], &long), ("b", &[], &[2.5])]).unwrap();
        let file = TensorFile::open(&path).unwrap();
        assert_eq!((file.metadata()["format"].as_str(), file.metadata()["step"].as_str()), ("pt", "7"));
        let mut back = vec![0.0; long.len()];
        file.read_f32("w \"1\"", &[100, 1000], &mut back).unwrap();
        assert_eq!(back, long);
        let mut b = [0.0];
        file.read_f32("b", &[], &mut b).unwrap();
        assert_eq!((b, file.payload % 8), ([2.5], 0));
    }

    #[test]
    fn every_truncation_and_every_longer_file_is_refused() {
        for len in 0..REFERENCE.len() {
            assert!(open(&REFERENCE[..len]).is_err(), "{len} bytes");
        }
        let message = open([REFERENCE, &[0]].concat()).unwrap_err().to_string();
        assert!(message.contains("has 289 bytes, its header announces 288"), "{message}");
    }

    #[test]
    fn no_changed_bit_of_the_header_makes_tensors_reach_outside_the_file() {
        for bit in 0..(8 + 0x100) * 8 {
            let mut bytes = REFERENCE.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Ok(file) = open(bytes) else { continue };
            for entry in file.entries() {
                let mut bytes = vec![0; (entry.end - entry.begin) as usize];
                file.read_bytes(entry, 0, &mut bytes).unwrap();
            }
        }
    }

    #[test]
    fn hostile_headers_are_refused_with_the_reason() {
        let tensor = |shape: &str, offsets: &str| {
            format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#)
        };
        let huge = "1,".repeat(100_000) + "1";
        for (json, payload, reason) in [
            (tensor("[2]", "[0,8]"), 7, "has 69 bytes, its header announces 70"),
            (tensor("[2]", "[4,12]"), 12, "does not begin at 0"),
            (tensor("[3]", "[0,8]"), 8, "with the size of its shape"),
            (tensor("[2]", "[8,0]"), 8, "does not begin at 0"),
            (tensor("[4294967296,4294967296]", "[0,0]"), 0, "with the size of its shape"),
            (tensor("[4294967296,4294967296,0]", "[0,0]"), 0, "with the size of its shape"),
            (tensor("[1]", "[18446744073709551612,18446744073709551615]"), 0, "does not begin at 0"),
            (tensor("[-1]", "[0,4]"), 4, "invalid value"),
            (tensor(&format!("[{huge}]"), "[0,4]"), 4, "more than 8 extents"),
            (tensor("[1]", "[0,4]").replace("F32", "F33"), 4, "unknown variant `F33`"),
            (tensor("[1]", "[0,4]").replace("}}", r#"},"a":{}}"#), 4, "\"a\" stands there twice"),
            ("[]".into(), 0, "an object of tensors"),
            ("{".into(), 0, "EOF"),
            (r#"{"__metadata__":{"k":1}}"#.into(), 0, "expected a string"),
            ("[".repeat(5000), 0, "an object of tensors"),
            (format!(r#"{{"a":{}"#, "{\"a\":".repeat(5000)), 0, "unknown field"),
        ] {
            let message = open(with_header(&json, payload)).unwrap_err().to_string();
            assert!(message.contains("x.safetensors: ") && message.contains(reason), "{reason}: {message}");
        }
        let mut long = with_header("{}", 0);
        long[..8].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
        let message = open(long).unwrap_err().to_string();
        assert!(message.contains("a header of 9223372036854775807 bytes at offset 8, at most 2 fit"), "{message}");
    }

    #[test]
    fn a_wrong_name_shape_or_type_is_told() {
        let file = open(REFERENCE).unwrap();
        let told = |result: Result<()>| result.unwrap_err().to_string();
        let message = told(file.read_f32("c", &[], &mut [0.0]));
        assert!(message.contains(r#"has no tensor "c"; of its 4, the first are ["i", "b", "e", "a"]"#), "{message}");
        let message = told(file.read_f32("b", &[3, 1], &mut [0.0; 3]));
        assert!(message.contains(r#"tensor "b" has shape [1, 3], [3, 1] is needed"#), "{message}");
        let message = told(file.integers("b").map(|_| ()));
        assert!(message.contains(r#"tensor "b" holds F32"#), "{message}");
    }
}
