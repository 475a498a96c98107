//! The tensors of a store, each checked when it is opened: a file that is not ours never gets further.

use super::{MARK, MAX_CLASSES, MAX_ROW};
use crate::base::{Error, Result};
use crate::data::source::size_of;
use crate::data::tensors::{Entry, FileDType, TensorFile};
use std::fmt::Display;

fn unfit(file: &TensorFile, what: impl Display) -> Error {
    file.source().error(format_args!("is no data set: {what}; make one with `engine data ingest`"))
}

pub(super) fn check_mark(file: &TensorFile) -> Result<()> {
    match file.metadata().get(MARK.0) {
        None => Err(unfit(file, "its header does not say that it is one")),
        Some(other) if other != MARK.1 => {
            Err(unfit(file, format_args!("its format is {other:?}, this program reads {:?}", MARK.1)))
        }
        Some(_) => Ok(()),
    }
}

/// The rows, their number, and the shape of one.
pub(super) fn rows_of(file: &TensorFile) -> Result<(Entry, u32, [usize; 3])> {
    let rows = file.entry("rows")?;
    let (count, shape) = match rows.shape[..] {
        [count, channels, height, width] => (count, [channels, height, width]),
        [count, width] => (count, [width, 1, 1]),
        _ => (0, [0; 3]),
    };
    let fits = size_of(&shape, 1).is_some_and(|values| (1..=MAX_ROW).contains(&values));
    let typed = matches!(rows.dtype, FileDType::U8 | FileDType::F16 | FileDType::F32);
    match u32::try_from(count) {
        Ok(count @ 1..) if fits && typed => Ok((rows.clone(), count, shape)),
        _ => Err(unfit(file, format_args!("its rows are {:?} {:?}", rows.dtype, rows.shape))),
    }
}

/// Labels and class offsets, which agree; of no class where the file has no labels.
pub(super) fn classes_of(file: &TensorFile, count: u32) -> Result<(Vec<u32>, Vec<u32>)> {
    if file.find("labels").is_none() {
        return Ok((Vec::new(), vec![0]));
    }
    let labels = words(file, "labels", count as usize)?;
    let offsets = words(file, "class_offsets", file.entry("class_offsets")?.len() as usize)?;
    let ends = offsets.first() == Some(&0) && offsets.last() == Some(&count) && offsets.len() <= MAX_CLASSES + 1;
    let agree = ends
        && offsets.is_sorted()
        && (0u32..)
            .zip(offsets.windows(2))
            .all(|(class, pair)| labels[pair[0] as usize..pair[1] as usize].iter().all(|&label| label == class));
    if agree { Ok((labels, offsets)) } else { Err(unfit(file, "labels and class_offsets do not describe its rows")) }
}

pub(super) fn class_names(file: &TensorFile, classes: usize) -> Result<Vec<String>> {
    let Some(names) = file.metadata().get("class_names") else { return Ok(Vec::new()) };
    let names: Vec<String> =
        serde_json::from_str(names).map_err(|error| unfit(file, format_args!("class_names: {error}")))?;
    if names.len() != classes {
        return Err(unfit(file, format_args!("{classes} classes have {} names", names.len())));
    }
    Ok(names)
}

pub(super) fn words(file: &TensorFile, name: &str, len: usize) -> Result<Vec<u32>> {
    let mut words = vec![0; len];
    file.read_bytes(column(file, name, len)?, 0, bytemuck::cast_slice_mut(&mut words))?;
    Ok(words)
}

/// A tensor of `len` words.
pub(super) fn column<'a>(file: &'a TensorFile, name: &str, len: usize) -> Result<&'a Entry> {
    let entry = file.entry(name)?;
    file.expect_shape(entry, &[len])?;
    if entry.dtype != FileDType::U32 {
        let what = format_args!("tensor {name:?} holds {:?}, U32 is needed", entry.dtype);
        return Err(file.source().error(format_args!("{what}; ingest the data again")));
    }
    Ok(entry)
}

pub(super) fn stored_digest(file: &TensorFile) -> Result<blake3::Hash> {
    let entry = file.entry("digest")?;
    file.expect_shape(entry, &[blake3::OUT_LEN])?;
    let last = file.entries().last().is_some_and(|last| last.name == entry.name);
    if entry.dtype != FileDType::U8 || !last {
        return Err(unfit(file, "its digest does not close it"));
    }
    let mut digest = [0; blake3::OUT_LEN];
    file.read_bytes(entry, 0, &mut digest)?;
    Ok(digest.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::source::Source;
    use crate::data::store::Store;
    use crate::data::tensors::{Spec, Writer};

    #[test]
    fn stores_whose_parts_disagree_are_refused_with_the_reason() {
        type Part<'a> = (&'a str, FileDType, &'a [usize], &'a [u8]);
        const ONE: &[u8] = &[1, 0, 0, 0];
        let statistics: [Part<'_>; 4] =
            ["mean", "std", "min", "max"].map(|name| (name, FileDType::F32, &[1][..], &[0; 4][..]));
        let digest: Part<'_> = ("digest", FileDType::U8, &[32], &[0; 32]);
        let rows: Part<'_> = ("rows", FileDType::U8, &[1, 1, 1, 2], &[0; 2]);
        let index: Part<'_> = ("index", FileDType::U32, &[1], &[0; 4]);
        let refuse = |mark: (&str, &str), changed: &[Part<'_>], reason: &str| {
            let mut parts: Vec<Part<'_>> = statistics.into_iter().chain([index, rows]).collect();
            parts.retain(|part| changed.iter().all(|other| other.0 != part.0));
            parts.extend(changed);
            if changed.iter().all(|part| part.0 != "digest") {
                parts.push(digest);
            }
            let specs: Vec<_> = parts.iter().map(|&(name, dtype, shape, _)| Spec { name, dtype, shape }).collect();
            let mut writer = Writer::new(Vec::new(), &[mark], &specs).unwrap();
            parts.iter().for_each(|part| writer.put(part.3).unwrap());
            let opened = Store::from_source(Source::memory("x.store", writer.finish()));
            if reason.is_empty() {
                opened.unwrap();
                return;
            }
            let message = opened.unwrap_err().to_string();
            assert!(message.starts_with("x.store: ") && message.contains(reason), "{reason}: {message}");
        };
        refuse(MARK, &[], "");
        refuse(("some", "thing"), &[], "its header does not say that it is one");
        refuse((MARK.0, "2"), &[], "its format is \"2\", this program reads \"1\"");
        refuse(MARK, &[("rows", FileDType::U8, &[2], &[0; 2])], "its rows are U8 [2]");
        refuse(MARK, &[("rows", FileDType::U8, &[0, 2], &[])], "its rows are U8 [0, 2]");
        refuse(
            MARK,
            &[("rows", FileDType::U8, &[0, 1 << 32, 1 << 32, 2], &[])],
            "its rows are U8 [0, 4294967296, 4294967296, 2]",
        );
        refuse(MARK, &[("rows", FileDType::U8, &[1, 0], &[])], "its rows are U8 [1, 0]");
        refuse(MARK, &[("rows", FileDType::I64, &[1, 1], &[0; 8])], "its rows are I64 [1, 1]");
        refuse(MARK, &[("mean", FileDType::F32, &[2], &[0; 8])], "tensor \"mean\" has shape [2], [1] is needed");
        refuse(MARK, &[("index", FileDType::U32, &[2], &[0; 8])], "tensor \"index\" has shape [2], [1] is needed");
        refuse(MARK, &[("index", FileDType::F32, &[1], &[0; 4])], "tensor \"index\" holds F32, U32 is needed");
        refuse(MARK, &[("digest", FileDType::U8, &[31], &[0; 31])], "tensor \"digest\" has shape [31], [32] is needed");
        refuse(MARK, &[digest, ("more", FileDType::U8, &[1], &[0])], "its digest does not close it");
        refuse(MARK, &[("labels", FileDType::U32, &[1], &[0; 4])], "has no tensor \"class_offsets\"");
        for (label, offsets) in [
            (ONE, &[0u32, 1][..]),
            (&[0; 4], &[0, 0, 1]),
            (&[0; 4], &[0, 1, 0]),
            (&[0; 4], &[0, 2]),
            (&[0; 4], &[1, 1]),
            (&[0; 4], &[0, 5, 1]),
            (&[0; 4], &[]),
        ] {
            let shape = [offsets.len()];
            let offsets: Part<'_> = ("class_offsets", FileDType::U32, &shape, bytemuck::cast_slice(offsets));
            refuse(MARK, &[("labels", FileDType::U32, &[1], label), offsets], "do not describe its rows");
        }
    }
}
