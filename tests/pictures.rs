//! Folders of pictures, against what Pillow makes of the same files (`tools/golden/pictures`).

#[path = "common/runs.rs"]
mod runs;

use engine::base::Result;
use engine::data::pictures::{Ingested, Pictures};
use engine::data::tensors::TensorFile;
use engine::data::{Source, Store};
use runs::Scratch;
use std::fs;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The bytes of a tensor of `tests/golden/pictures.safetensors`, and its shape.
fn expected(key: &str) -> (Vec<usize>, Vec<u8>) {
    let file = TensorFile::from_source(Source::open(&golden("pictures.safetensors")).unwrap()).unwrap();
    let entry = file.entries().iter().find(|entry| entry.name == key).unwrap_or_else(|| panic!("{key}")).clone();
    let mut bytes = vec![0; entry.len() as usize];
    file.read_bytes(&entry, 0, &mut bytes).unwrap();
    (entry.shape, bytes)
}

/// Copies pictures into a folder of their own.
fn folder(scratch: &Scratch, name: &str, files: &[(&str, &str)]) -> PathBuf {
    for (picture, place) in files {
        let to = scratch.path(name).join(place);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(golden("pictures").join(picture), to).unwrap();
    }
    scratch.path(name)
}

fn ingest(folder: &Path, side: Option<usize>, out: &Path) -> Result<Ingested> {
    Pictures::find(folder)?.expect("there are pictures").ingest(side, out, &mut |_, _| {})
}

/// The pixels of a row.
fn pixels(store: &Path, row: u32) -> Vec<u8> {
    let store = Store::open(store).unwrap();
    let mut values = vec![0.0; store.width()];
    store.read(&[row], &mut values).unwrap();
    values.into_iter().map(|x| ((x + 1.0) * 127.5).round() as u8).collect()
}

#[test]
fn squares_are_those_of_pillow_to_the_byte() {
    let scratch = Scratch::new();
    let from = folder(&scratch, "one", &[("colours.png", "x.png")]);
    for side in [1, 8, 15, 16, 22, 40, 45, 64] {
        let out = scratch.path(&format!("{side}.store"));
        let info = ingest(&from, Some(side), &out).unwrap().info;
        assert_eq!((info.rows, info.shape), (1, [3, side, side]));
        assert!(pixels(&out, 0) == expected(&format!("square.{side}")).1, "{side}");
    }
}

#[test]
fn every_kind_of_file_is_decoded_as_by_pillow() {
    let scratch = Scratch::new();
    for (name, channels, most) in [
        ("colours.png", 3, 0),
        ("palette.png", 3, 0),
        ("alpha.png", 3, 0),
        ("gray.png", 1, 0),
        ("bits.png", 1, 0),
        // Decoders of JPEG may round a value up or down where the standard leaves it to them: once behind the transform and,
        // of colours, once where they are brought to full size, from where they count up to 1.772 times. And the sum.
        ("colours.jpg", 3, 5),
        ("progressive.jpg", 3, 5),
        ("gray.jpg", 1, 1),
    ] {
        let out = scratch.path(&format!("{name}.store"));
        let info = ingest(&folder(&scratch, &format!("of {name}"), &[(name, name)]), None, &out).unwrap().info;
        let (shape, bytes) = expected(&format!("decoded.{name}"));
        assert_eq!(info.shape, [channels, shape[1], shape[2]], "{name}");
        let ours = pixels(&out, 0);
        let differences: Vec<u8> = ours.iter().zip(&bytes).map(|(a, b)| a.abs_diff(*b)).collect();
        assert!(differences.iter().all(|&difference| difference <= most), "{name}: {:?}", differences.iter().max());
    }
}

#[test]
fn subfolders_are_classes_in_the_order_of_their_names() {
    let scratch = Scratch::new();
    let files = [
        ("gray.png", "dog/z.png"),
        ("colours.png", "cat/deep/a.PNG"),
        ("colours.jpg", "dog/a.jpeg"),
        ("gray.jpg", "ape/1.jpg"),
    ];
    let from = folder(&scratch, "animals", &files);
    fs::create_dir(from.join("empty")).unwrap();
    fs::create_dir(from.join(".hidden")).unwrap();
    for (name, bytes) in [("notes.txt", &b"none"[..]), (".hidden/x.png", b"none"), ("cat/.x.png", b"none")] {
        fs::write(from.join(name), bytes).unwrap();
    }
    let out = scratch.path("animals.store");
    let mut calls = vec![];
    let pictures = Pictures::find(&from).unwrap().unwrap();
    let info = pictures.ingest(None, &out, &mut |done, all| calls.push((done, all))).unwrap().info;
    assert_eq!((info.class_names, info.class_counts), (["ape", "cat", "dog"].map(String::from).into(), vec![1, 1, 2]));
    assert_eq!((info.shape, &*info.provenance), ([3, 45, 61], "animals"));
    assert_eq!((calls.first(), calls.last()), (Some(&(4, 12)), Some(&(12, 12))));
    assert!(calls.is_sorted(), "{calls:?}");
    // Gray among colours, and names within a class in their order.
    assert!(pixels(&out, 3) == expected("decoded.gray.png").1);
    assert!(pixels(&out, 1) == expected("decoded.colours.png").1);
    assert_eq!(pixels(&out, 2).len(), 3 * 45 * 61);
}

#[test]
fn one_unreadable_picture_in_a_hundred_is_left_out_and_named() {
    let scratch = Scratch::new();
    let names: Vec<String> = (0..199).map(|i| format!("{}/{i:03}.png", i % 2)).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| ("gray.png", &**name)).collect();
    let from = folder(&scratch, "many", &files);
    let torn = &fs::read(golden("pictures/colours.jpg")).unwrap()[..700];
    fs::write(from.join("0/torn.jpg"), torn).unwrap();
    fs::write(from.join("0/x.webp"), b"RIFF").unwrap();
    let ingested = ingest(&from, Some(8), &scratch.path("many.store")).unwrap();
    assert_eq!((ingested.info.rows, &ingested.info.class_counts), (199, &vec![100, 99]));
    let [message, others] = &ingested.left_out[..] else { panic!("{:?}", ingested.left_out) };
    assert!(others.contains("1 pictures such as") && others.ends_with("0/x.webp: PNG and JPEG are read"), "{others}");
    assert!(message.contains("0/torn.jpg: "), "{message}");

    for name in ["1/a.png", "1/b.png"] {
        fs::write(from.join(name), b"not a picture").unwrap();
    }
    let out = scratch.path("more.store");
    let message = ingest(&from, Some(8), &out).map(|_| ()).unwrap_err().to_string();
    assert!(
        message.contains("3 of 202 pictures are unreadable, more than one in 100: repair or remove them."),
        "{message}"
    );
    for name in ["0/torn.jpg: ", "1/a.png: is neither a PNG nor a JPEG", "1/b.png: "] {
        assert!(message.contains(name), "{name}: {message}");
    }
    assert!(!out.exists(), "nothing is left behind");
    let strays = fs::read_dir(scratch.path("."))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".engine-"));
    assert_eq!(strays.count(), 0);
}

#[test]
fn folders_that_mean_nothing_are_refused_in_a_sentence() {
    let scratch = Scratch::new();
    let refused = |from: &Path, side| {
        let message = ingest(from, side, &scratch.path("refused.store")).map(|_| ()).unwrap_err().to_string();
        assert!(!scratch.path("refused.store").exists());
        message
    };
    let mixed = folder(&scratch, "mixed", &[("gray.png", "a.png"), ("gray.png", "b/c.png")]);
    let message = refused(&mixed, None);
    assert!(message.contains("a.png beside folders of pictures such as b; move them"), "{message}");
    let message = Store::open(&mixed).unwrap_err().to_string();
    assert!(
        message.contains("mixed: is a folder; make a store of its pictures first: engine data ingest"),
        "{message}"
    );
    let sizes = folder(&scratch, "sizes", &[("gray.png", "a.png")]);
    let small = scratch.path("small.png");
    engine::data::png::write_grid(&small, &[0.0; 64], [1, 1, 8, 8]).unwrap();
    fs::copy(&small, sizes.join("b.png")).unwrap();
    let message = refused(&sizes, None);
    assert!(message.contains("b.png: is 64 x 64 pixels, others 61 x 45; --side N cuts squares"), "{message}");
    for (name, bytes) in [("webp/x.webp", &b"RIFF"[..]), ("webp/y.gif", b"GIF8")] {
        fs::create_dir_all(scratch.path("webp")).unwrap();
        fs::write(scratch.path(name), bytes).unwrap();
    }
    let message = refused(&scratch.path("webp"), None);
    assert!(message.contains("x.webp; PNG and JPEG are read: convert them"), "{message}");
    let parts = folder(&scratch, "parts", &[("gray.png", "train/a/x.png"), ("gray.png", "val/a/x.png")]);
    let message = refused(&parts, None);
    assert!(message.contains("holds train, a part of a data set") && message.ends_with("parts/train"), "{message}");
    assert_eq!(ingest(&parts.join("train"), None, &scratch.path("t.store")).unwrap().info.class_names, ["a"]);
    let there = scratch.store();
    let message = ingest(&sizes, Some(8), &there).map(|_| ()).unwrap_err().to_string();
    assert!(message.contains("exists, and a store is never changed"), "{message}");
}
