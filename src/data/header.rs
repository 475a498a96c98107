//! The JSON header of a safetensors file: parsed under the format's rules, and composed.

use crate::base::Result;
use crate::data::file_dtype::FileDType;
use crate::data::foreign;
use crate::data::source::{Source, size_of};
use crate::data::tensors::Spec;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The format's own limit is 100 MB; XL/2 needs 40 KB.
const MAX_HEADER: u64 = 4 << 20;
const MAX_RANK: usize = 8;

/// One tensor of a file: where it lies in the payload, and what it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub name: String,
    pub dtype: FileDType,
    pub shape: Vec<usize>,
    pub begin: u64,
    pub end: u64,
}

impl Entry {
    /// The number of elements.
    pub fn len(&self) -> u64 {
        self.shape.iter().map(|&extent| extent as u64).product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[derive(Debug, Default)]
pub struct Header {
    pub metadata: BTreeMap<String, String>,
    /// In the order of the payloads.
    pub entries: Vec<Entry>,
}

/// The header of `source` and the offset of its payload.
pub fn read(source: &Source) -> Result<(Header, u64)> {
    let mut len = [0; 8];
    source.read(0, &mut len)?;
    let len = u64::from_le_bytes(len);
    let most = MAX_HEADER.min(source.len() - 8);
    if len > most {
        if let Some((kind, advice)) = foreign::no_tensors(source) {
            return Err(source.error(format_args!("is {kind}, and no safetensors file; {advice}")));
        }
        let what = format_args!("is no safetensors file: a header of {len} bytes at offset 8, at most {most} fit");
        return Err(source.error(format_args!("{what}; check the path")));
    }
    let mut json = vec![0; len as usize];
    source.read(8, &mut json)?;
    let mut header: Header = serde_json::from_slice(&json)
        .map_err(|error| source.error(format_args!("its safetensors header is not valid: {error}; make it again")))?;
    header.entries.sort_by_key(|entry| (entry.begin, entry.end));
    check_layout(source, &header.entries, 8 + len)?;
    Ok((header, 8 + len))
}

/// The payload is covered without hole or overlap, and each tensor has the bytes of its shape.
fn check_layout(source: &Source, entries: &[Entry], payload: u64) -> Result<()> {
    let mut end = 0;
    for Entry { name, dtype, shape, begin, end: its_end } in entries {
        let fits = size_of(shape, dtype.size()).and_then(|bytes| begin.checked_add(bytes)) == Some(*its_end);
        if *begin != end || !fits {
            let what = format_args!("tensor {name:?} of {dtype:?} {shape:?} at {begin}..{its_end} of the payload");
            return Err(
                source.error(format_args!("{what} does not begin at {end} with the size of its shape; make it again"))
            );
        }
        end = *its_end;
    }
    if payload + end != source.len() {
        let (len, wanted) = (source.len(), payload.saturating_add(end));
        return Err(source.error(format_args!("has {len} bytes, its header announces {wanted}; make it again")));
    }
    Ok(())
}

/// The length word, the header padded to a multiple of eight, and the bytes of payload that must follow.
pub fn compose(metadata: &[(&str, &str)], specs: &[Spec<'_>]) -> (Vec<u8>, u64) {
    let metadata: BTreeMap<&str, &str> = metadata.iter().copied().chain([("format", "pt")]).collect();
    let mut header = serde_json::Map::from_iter([("__metadata__".to_owned(), json!(metadata))]);
    let mut end = 0;
    for Spec { name, dtype, shape } in specs {
        let begin = end;
        end += shape.iter().map(|&extent| extent as u64).product::<u64>() * dtype.size();
        let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": [begin, end] });
        assert!(header.insert((*name).to_owned(), entry).is_none(), "tensor {name:?} is given twice");
    }
    let mut json = serde_json::Value::from(header).to_string();
    while !json.len().is_multiple_of(8) {
        json.push(' ');
    }
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json.into_bytes());
    (bytes, end)
}

/// A tensor's description as it stands in the JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    dtype: FileDType,
    #[serde(deserialize_with = "shape")]
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

/// A short list: a rank of millions would cost more memory than the file has.
fn shape<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<usize>, D::Error> {
    struct Extents;
    impl<'de> Visitor<'de> for Extents {
        type Value = Vec<usize>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX_RANK} extents")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Vec<usize>, A::Error> {
            let mut extents = Vec::new();
            while let Some(extent) = list.next_element()? {
                if extents.len() == MAX_RANK {
                    return Err(de::Error::custom(format_args!("a tensor of more than {MAX_RANK} extents")));
                }
                extents.push(extent);
            }
            Ok(extents)
        }
    }
    deserializer.deserialize_seq(Extents)
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Header, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Header, A::Error> {
                let mut header = Header::default();
                let mut seen = BTreeSet::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !seen.insert(name.clone()) {
                        return Err(de::Error::custom(format_args!("{name:?} stands there twice")));
                    }
                    if name == "__metadata__" {
                        header.metadata = map.next_value()?;
                        continue;
                    }
                    let Description { dtype, shape, data_offsets: (begin, end) } = map.next_value()?;
                    header.entries.push(Entry { name, dtype, shape, begin, end });
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Names)
    }
}
