//! NumPy's format for one array.
//!
//! ```text
//! \x93NUMPY | version, 1 to 3 | 0 | header length, u16 (version 1) or u32, little-endian | header | elements
//! {'descr': '<f4', 'fortran_order': False, 'shape': (60000, 28, 28), }
//! ```

use crate::base::Result;
use crate::data::atomic::{AtomicFile, unwritten};
use crate::data::file_dtype::FileDType;
use crate::data::source::{Source, size_of};
use std::io::Write;
use std::path::Path;

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// NumPy pads its headers to 64 bytes; only arrays of records need more than 128.
const MAX_HEADER: u32 = 1 << 14;
const MAX_RANK: usize = 8;
const DTYPES: [(&str, FileDType); 7] = [
    ("|u1", FileDType::U8),
    ("<f2", FileDType::F16),
    ("<f4", FileDType::F32),
    ("<f8", FileDType::F64),
    ("<i4", FileDType::I32),
    ("<i8", FileDType::I64),
    ("<u4", FileDType::U32),
];

/// Whether a file says that it is an .npy.
pub(super) fn is_npy(source: &Source) -> bool {
    let mut start = [0; MAGIC.len()];
    source.read(0, &mut start).is_ok() && start == *MAGIC
}

/// An opened array whose shape agrees with the size of its file.
#[derive(Debug)]
pub struct Npy {
    source: Source,
    dtype: FileDType,
    shape: Vec<usize>,
    payload: u64,
}

impl Npy {
    pub fn open(source: Source) -> Result<Npy> {
        let mut start = [0; 8];
        source.read(0, &mut start)?;
        let (len, begin) = match start {
            [magic @ .., 1, 0] if magic == *MAGIC => {
                let mut len = [0; 2];
                source.read(8, &mut len)?;
                (u32::from(u16::from_le_bytes(len)), 10)
            }
            [magic @ .., 2 | 3, 0] if magic == *MAGIC => {
                let mut len = [0; 4];
                source.read(8, &mut len)?;
                (u32::from_le_bytes(len), 12)
            }
            _ => return Err(source.error(format_args!("is no .npy file: it starts with {start:02x?}; check the path"))),
        };
        if len > MAX_HEADER {
            let what = format_args!(
                "its header at offset 8 announces {len} bytes of description, at most {MAX_HEADER} are read"
            );
            return Err(source.error(format_args!("{what}; save a plain array")));
        }
        let mut header = vec![0; len as usize];
        source.read(begin, &mut header)?;
        let payload = begin + u64::from(len);
        let header = String::from_utf8_lossy(&header);
        let Some(Header { descr, fortran_order, shape }) = parse(&header) else {
            return Err(
                source.error(format_args!("its header describes no plain array: {header:?}; save one with numpy.save"))
            );
        };
        if fortran_order {
            return Err(source.error("is in Fortran order; save numpy.ascontiguousarray of it"));
        }
        let Some(&(_, dtype)) = DTYPES.iter().find(|row| row.0 == descr) else {
            let little = descr.replacen('>', "<", 1);
            if descr != little && DTYPES.iter().any(|row| row.0 == little) {
                let what = format_args!("holds elements of type {descr:?}, most significant byte first");
                return Err(source.error(format_args!("{what}; save its astype('{little}')")));
            }
            let known: Vec<&str> = DTYPES.iter().map(|row| row.0).collect();
            return Err(
                source.error(format_args!("holds elements of type {descr:?}, not one of {known:?}; use astype"))
            );
        };
        let announced = size_of(&shape, dtype.size()).and_then(|size| size.checked_add(payload));
        if announced != Some(source.len()) {
            let what = format_args!("its header announces {dtype:?} {shape:?} from offset {payload}");
            let wanted = announced.map_or("more than 2^64".to_owned(), |bytes| bytes.to_string());
            return Err(
                source.error(format_args!("{what}, {wanted} bytes in all, {} are there; save it again", source.len()))
            );
        }
        Ok(Npy { source, dtype, shape, payload })
    }

    pub fn source(&self) -> &Source {
        &self.source
    }

    pub fn dtype(&self) -> FileDType {
        self.dtype
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Fills `out` with the array's bytes from its byte `offset` on.
    pub fn read_bytes(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.source.read(self.payload + offset, out)
    }
}

/// Puts an array of f32 at `path`, whole or not at all.
pub fn write(path: &Path, shape: &[usize], values: &[f32]) -> Result<()> {
    assert_eq!(values.len(), shape.iter().product::<usize>(), "npy: shape {shape:?} and values differ");
    let mut file = AtomicFile::create(path)?;
    let written = file.write_all(&header(shape)).and_then(|()| file.write_all(bytemuck::cast_slice(values)));
    written.map_err(|error| unwritten(path, error))?;
    file.commit()
}

/// Everything before the elements, padded so that they begin at a multiple of 64.
fn header(shape: &[usize]) -> Vec<u8> {
    let mut text = String::from("{'descr': '<f4', 'fortran_order': False, 'shape': (");
    for extent in shape {
        text += &format!("{extent}, ");
    }
    text += "), }";
    while !(10 + text.len() + 1).is_multiple_of(64) {
        text.push(' ');
    }
    text.push('\n');
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.into_bytes());
    bytes
}

#[derive(Debug, PartialEq)]
struct Header<'a> {
    descr: &'a str,
    fortran_order: bool,
    shape: Vec<usize>,
}

/// Reads the Python dictionary of a plain array; `None` where it is anything else.
fn parse(text: &str) -> Option<Header<'_>> {
    let mut text = Text(text);
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    text.eat("{")?;
    while text.eat("}").is_none() {
        let key = text.string()?;
        text.eat(":")?;
        match key {
            "descr" => descr = Some(text.string()?),
            "fortran_order" => fortran_order = Some(text.eat("True").is_some() || text.eat("False").map(|()| false)?),
            "shape" => shape = Some(text.extents()?),
            _ => return None,
        }
        if text.eat(",").is_none() {
            text.eat("}")?;
            break;
        }
    }
    text.0.trim().is_empty().then_some(())?;
    Some(Header { descr: descr?, fortran_order: fortran_order?, shape: shape? })
}

/// What is left to parse.
struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    fn eat(&mut self, token: &str) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(token)?;
        Some(())
    }

    fn string(&mut self) -> Option<&'a str> {
        let quote = if self.eat("'").is_some() { '\'' } else { self.eat("\"").map(|()| '"')? };
        let (string, rest) = self.0.split_once(quote)?;
        self.0 = rest;
        Some(string)
    }

    fn extents(&mut self) -> Option<Vec<usize>> {
        let mut extents = Vec::new();
        self.eat("(")?;
        while self.eat(")").is_none() {
            let text = self.0.trim_start();
            let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            extents.push(text[..digits].parse().ok()?);
            self.0 = &text[digits..];
            if self.eat(",").is_none() {
                self.eat(")")?;
                break;
            }
        }
        (extents.len() <= MAX_RANK).then_some(extents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::scratch::Scratch;

    /// What numpy 2.4 saves for arange(6, dtype=float32).reshape(2, 3), but for its padding.
    const REFERENCE: &[u8] =
        b"\x93NUMPY\x01\x00\x45\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }         \n\
        \x00\x00\x00\x00\x00\x00\x80?\x00\x00\x00@\x00\x00@@\x00\x00\x80@\x00\x00\xa0@";

    fn open(bytes: impl Into<Vec<u8>>) -> Result<Npy> {
        Npy::open(Source::memory("x.npy", bytes.into()))
    }

    fn with_header(text: &str, payload: usize) -> Vec<u8> {
        [&b"\x93NUMPY\x01\x00"[..], &(text.len() as u16).to_le_bytes(), text.as_bytes(), &vec![0; payload]].concat()
    }

    #[test]
    fn an_array_of_numpy_is_read() {
        let npy = open(REFERENCE).unwrap();
        assert_eq!((npy.dtype(), npy.shape()), (FileDType::F32, &[2, 3][..]));
        let mut bytes = [0; 24];
        npy.read_bytes(0, &mut bytes).unwrap();
        let mut values = [0.0; 6];
        npy.dtype().floats(&bytes, &mut values).unwrap();
        assert_eq!(values, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    }

    #[test]
    fn what_is_written_reads_back_aligned() {
        let scratch = Scratch::new();
        let path = scratch.path("samples.npy");
        for shape in [&[2, 3][..], &[6], &[1, 2, 3, 1]] {
            write(&path, shape, &[0.0, 1.0, -2.5, 3.0, f32::MAX, 5.0]).unwrap();
            let npy = Npy::open(Source::open(&path).unwrap()).unwrap();
            assert_eq!((npy.shape(), npy.payload % 64), (shape, 0));
            let mut bytes = [0; 24];
            npy.read_bytes(0, &mut bytes).unwrap();
            assert_eq!(bytemuck::cast_slice::<f32, u8>(&[0.0, 1.0, -2.5, 3.0, f32::MAX, 5.0]), bytes);
        }
    }

    #[test]
    fn every_spelling_of_a_plain_header_is_read() {
        for text in [
            "{'descr': '|u1', 'fortran_order': False, 'shape': (5,), }",
            r#"{"shape":(5,),"descr":"|u1","fortran_order":False}"#,
            "  { 'fortran_order' : False , 'shape' : ( 5 , ) , 'descr' : '|u1' }  \n",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (5, 1), }\n",
        ] {
            assert_eq!(open(with_header(text, 5)).unwrap().shape()[0], 5, "{text}");
        }
        assert!(
            open(with_header("{'descr': '<f8', 'fortran_order': False, 'shape': ()}", 8)).unwrap().shape().is_empty()
        );
        let mut second = REFERENCE.to_vec();
        second[6] = 2;
        second.splice(10..10, [0, 0]);
        assert_eq!(open(second).unwrap().shape(), [2, 3]);
    }

    #[test]
    fn every_truncation_is_refused() {
        for len in 0..REFERENCE.len() {
            assert!(open(&REFERENCE[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn no_changed_bit_of_the_header_reaches_outside_the_file() {
        for bit in 0..(REFERENCE.len() - 24) * 8 {
            let mut bytes = REFERENCE.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Ok(npy) = open(bytes) else { continue };
            let size = size_of(npy.shape(), npy.dtype().size()).unwrap();
            npy.read_bytes(0, &mut vec![0; size as usize]).unwrap();
        }
    }

    #[test]
    fn hostile_and_unfit_headers_are_refused_with_the_reason() {
        let array = |descr: &str, order: &str, shape: &str| {
            format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}")
        };
        for (text, reason) in [
            (array("'<f4'", "False", "(2, 2)"), "announces F32 [2, 2] from offset 69, 85 bytes in all, 93 are there"),
            (array("'<f4'", "False", "(6, 4294967296, 4294967296)"), "more than 2^64 bytes in all"),
            (array("'<f4'", "False", "(6, 18446744073709551616)"), "describes no plain array"),
            (array("'<f4'", "False", "(-6,)"), "describes no plain array"),
            (array("'<f4'", "False", "(1,1,1,1,1,1,1,1,6)"), "describes no plain array"),
            (array("'<f4'", "True", "(2, 3)"), "is in Fortran order; save numpy.ascontiguousarray of it"),
            (array("'>f4'", "False", "(6,)"), "type \">f4\", most significant byte first; save its astype('<f4')"),
            (array("'>i2'", "False", "(12,)"), "elements of type \">i2\", not one of"),
            (array("'|O'", "False", "(6,)"), "elements of type \"|O\", not one of"),
            (array("[('a', '<f4')]", "False", "(6,)"), "describes no plain array"),
            ("{'descr': '<f4', 'shape': (6,), }".into(), "describes no plain array"),
            (array("'<f4'", "False", "(6,)") + "x", "describes no plain array"),
            ("{".into(), "describes no plain array"),
            ("(".repeat(9000), "describes no plain array"),
            (" ".repeat(20_000), "announces 20000 bytes of description, at most 16384 are read"),
        ] {
            let message = open(with_header(&text, 24)).unwrap_err().to_string();
            assert!(message.starts_with("x.npy: ") && message.contains(reason), "{reason}: {message}");
        }
    }
}
