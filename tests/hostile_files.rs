//! No input file may crash, hang or exhaust memory: mutated files of every format that the engine reads.

use engine::base::rng::{Purpose, Stream};
use engine::data::npy::{self, Npy};
use engine::data::tensors::{self, TensorFile};
use engine::data::{Source, Store, ingest};
use flate2::{Compression, write::GzEncoder};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

const FILES: u32 = 10_000;

/// Pieces of headers and numbers at the edges of their types.
const TOKENS: [&[u8]; 12] = [
    b"[",
    b"]",
    b"{",
    b"}",
    b"-1",
    b"4294967296",
    b"18446744073709551615",
    b"99999999999999999999",
    b"\"shape\":",
    b"'shape': (",
    b"\xff\xff\xff\xff",
    b"BF16",
];

/// `file` with one to four bytes or bits changed, pieces put in or over, or its end cut off.
fn mutate(file: &[u8], stream: &Stream) -> Vec<u8> {
    let mut bytes = file.to_vec();
    for change in 0..1 + stream.below(0, 4) {
        let [place, kind, value, token] = stream.words(1 + change as u32);
        let at = place as usize % (bytes.len() + 1);
        let token = TOKENS[token as usize % TOKENS.len()];
        match kind % 5 {
            0 => bytes.truncate(at),
            1 => drop(bytes.splice(at..at, token.iter().copied())),
            2 => drop(bytes.splice(at..bytes.len().min(at + token.len()), token.iter().copied())),
            3 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = value as u8),
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (value % 8)),
        }
    }
    bytes
}

/// Reads everything that a file offers, in every way the engine has.
fn read_all(bytes: &[u8]) {
    let source = || Source::memory("mutated", bytes.to_vec());
    if let Ok(file) = TensorFile::from_source(source()) {
        for entry in file.entries() {
            let mut values = vec![0.0; entry.len() as usize];
            let _ = file.read_f32(&entry.name, &entry.shape, &mut values);
            let _ = file.integers(&entry.name);
        }
    }
    if let Ok(store) = Store::from_source(source()) {
        let rows: Vec<u32> = (0..store.rows()).collect();
        store.read(&rows, &mut vec![0.0; rows.len() * store.width()]).unwrap();
        assert!(rows.iter().all(|&row| store.classes() == 0 || store.class(store.label(row)).contains(&row)));
    }
    if let Ok(array) = Npy::open(source()) {
        let size = array.shape().iter().product::<usize>() as u64 * array.dtype().size();
        array.read_bytes(0, &mut vec![0; size as usize]).unwrap();
    }
}

#[test]
fn mutated_files_are_read_or_refused() {
    let folder = std::env::temp_dir().join(format!("engine-hostile-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    let path = |name: &str| folder.join(name);
    npy::write(&path("x.npy"), &[3, 1, 2, 2], &[0.5; 12]).unwrap();
    let idx: &[u8] = &[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6];
    fs::write(path("images"), idx).unwrap();
    fs::write(path("classes"), [0, 0, 8, 1, 0, 0, 0, 2, 1, 0]).unwrap();
    let pack = |from: &Path, labels: Option<&Path>, out: &Path| ingest::ingest(from, labels, out, &mut |_, _| {});
    pack(&path("images"), Some(&path("classes")), &path("x.store")).unwrap();
    let tensor: (&str, &[usize], &[f32]) = ("x.y", &[2, 1], &[1.0, 2.0]);
    tensors::write_f32(&path("x.safetensors"), &[("step", "1")], &[tensor, ("z", &[], &[3.0])]).unwrap();
    let mut gzip = GzEncoder::new(File::create(path("packed")).unwrap(), Compression::default());
    gzip.write_all(idx).unwrap();
    gzip.finish().unwrap();

    let seeds = ["x.npy", "x.store", "x.safetensors", "images", "packed"].map(|name| fs::read(path(name)).unwrap());
    for file in 0..FILES {
        let bytes = mutate(&seeds[file as usize % seeds.len()], &Stream::new(1, file, 0, Purpose::Fixture));
        read_all(&bytes);
        // Going through the disk is slow: every tenth round of the seeds.
        if file / 5 % 10 == 0 {
            fs::write(path("mutated"), &bytes).unwrap();
            for (from, labels) in [("mutated", None), ("images", Some(path("mutated")))] {
                if pack(&path(from), labels.as_deref(), &path("mutated.store")).is_ok() {
                    Store::open(&path("mutated.store")).unwrap().verify().unwrap();
                    fs::remove_file(path("mutated.store")).unwrap();
                }
            }
        }
    }
    fs::remove_dir_all(folder).unwrap();
}
