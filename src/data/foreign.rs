//! Files that people give and that nothing here reads: named by their first bytes, each with the way to an array.

use crate::base::Result;
use crate::data::source::Source;

/// How pictures are given.
const FOLDER: &str = "give the folder that holds the pictures, in a subfolder for each class";

const READ: &str = "IDX files, gzipped or not, .npy arrays and folders of pictures are read";

/// First bytes, what they begin, and what to do.
const KINDS: [(&[u8], &str, &str); 4] = [
    (b"PK\x03\x04", "a zip archive, as an .npz is one", "save one of its arrays with numpy.save, or unpack it"),
    (b"PK\x05\x06", "a zip archive without files", "save one array with numpy.save"),
    (b"\x89PNG", "one PNG picture", FOLDER),
    (b"\xff\xd8\xff", "one JPEG picture", FOLDER),
];

/// First bytes of files that are given for tensors, what they begin, and what to do.
const NO_TENSORS: [(&[u8], &str, &str); 3] = [
    (b"PK\x03\x04", "a zip archive, as a .pt or an .npz is one", TENSORS),
    (b"\x80\x02", "a pickle, as an old .pt is one", TENSORS),
    (b"\x93NUMPY", "an .npy array", "save it under the name of its tensor with safetensors.numpy.save_file"),
];

const TENSORS: &str = "save its tensors, under their names, with safetensors.torch.save_file";

/// What `source` is that was given for a safetensors file, and how to make one of it.
pub(super) fn no_tensors(source: &Source) -> Option<(&'static str, &'static str)> {
    NO_TENSORS.iter().find(|(magic, ..)| starts_with(source, magic)).map(|&(_, what, advice)| (what, advice))
}

/// First bytes of what `engine data ingest` reads.
const RAW: [(&[u8], &str); 3] =
    [(b"\x93NUMPY", "an .npy array"), (b"\0\0\x08", "an IDX file"), (b"\x1f\x8b", "a gzipped file")];

/// What `source` may be if it is no store: something to make one of.
pub(super) fn raw(source: &Source) -> Option<&'static str> {
    RAW.iter().find(|(magic, _)| starts_with(source, magic)).map(|row| row.1)
}

fn starts_with(source: &Source, magic: &[u8]) -> bool {
    let mut start = vec![0; magic.len()];
    source.read(0, &mut start).is_ok() && start == magic
}

/// Refuses a file of a kind that is known and not read.
pub(super) fn refuse(source: &Source) -> Result<()> {
    if source.is_empty() {
        return Err(source.error(format_args!("is empty; {READ}: make it again")));
    }
    for (magic, what, advice) in KINDS {
        if starts_with(source, magic) {
            return Err(source.error(format_args!("is {what}; {READ}: {advice}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tensors::TensorFile;

    #[test]
    fn what_is_given_for_tensors_is_named_with_the_way_to_a_file_of_them() {
        for (bytes, expected) in [
            (
                &b"PK\x03\x04\0\0\x08\x08rest"[..],
                "x: is a zip archive, as a .pt or an .npz is one, and no safetensors file; save",
            ),
            (b"\x80\x02\x8a\nl\xfc\x9cF\xf9", "x: is a pickle, as an old .pt is one, and no safetensors file; save"),
            (b"\x93NUMPY\x01\0v\0{", "with safetensors.numpy.save_file"),
        ] {
            let message = TensorFile::from_source(Source::memory("x", bytes)).unwrap_err().to_string();
            assert!(message.contains(expected), "{expected}: {message}");
        }
    }

    #[test]
    fn known_kinds_are_named_with_the_way_to_an_array() {
        for (bytes, expected) in [
            (
                &b""[..],
                "x: is empty; IDX files, gzipped or not, .npy arrays and folders of pictures are read: make it again",
            ),
            (b"PK\x03\x04rest", "x: is a zip archive, as an .npz is one; IDX files"),
            (b"\x89PNG\r\n\x1a\n", "x: is one PNG picture; IDX files"),
            (b"\xff\xd8\xff\xe0", "give the folder that holds the pictures"),
        ] {
            let message = refuse(&Source::memory("x", bytes)).unwrap_err().to_string();
            assert!(message.contains(expected), "{expected}: {message}");
        }
        for bytes in [&b"\0\0\x08\x01"[..], b"\x93NUMPY", b"\x1f\x8b", b"P"] {
            refuse(&Source::memory("x", bytes)).unwrap();
        }
    }
}
