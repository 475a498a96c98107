//! `engine data`.

use super::{Scratch, code, engine, stderr, stdout, train};
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn bad_data_is_refused_with_its_reason() {
    let scratch = Scratch::new();
    let out = scratch.path("out.store");
    let lying = scratch.idx("lying-images-idx3-ubyte", &[1000, 8, 8], vec![0; 64]);
    let refused = engine(&["data", "ingest", "--from"]).arg(&lying).arg("--out").arg(&out).output().unwrap();
    assert_eq!(code(&refused), 3, "{}", stderr(&refused));
    let what = "its header at offset 4 announces [1000, 8, 8], 64016 bytes in all, only 80 are there; fetch it again";
    assert_eq!(stderr(&refused), format!("error: {}: {what}\n", lying.display()));

    let nan = scratch.path("nan.npy");
    let mut values = vec![0.5; 4 * 64];
    values[130] = f32::NAN;
    engine::data::npy::write(&nan, &[4, 1, 8, 8], &values).unwrap();
    let refused = engine(&["data", "ingest", "--from"]).arg(&nan).arg("--out").arg(&out).output().unwrap();
    assert_eq!(code(&refused), 3, "{}", stderr(&refused));
    let what = "row 2 holds NaN at element 2; remove or repair the row";
    assert_eq!(stderr(&refused), format!("error: {}: {what}\n", nan.display()));
    assert!(!out.exists());
}

#[test]
fn four_channels_of_pixels_are_taken_with_a_warning() {
    let scratch = Scratch::new();
    let (from, out) = (scratch.path("rgba.npy"), scratch.path("rgba.store"));
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2, 2, 4)}";
    fs::write(&from, [b"\x93NUMPY\x01\x00", &[header.len() as u8, 0][..], header.as_bytes(), &[7; 16]].concat())
        .unwrap();
    let taken = engine(&["data", "ingest", "--from"]).arg(&from).arg("--out").arg(&out).output().unwrap();
    assert_eq!(code(&taken), 0, "{}", stderr(&taken));
    assert_eq!(stderr(&taken), "warning: 4 channels of u8: if this is RGBA, drop alpha\n");
    assert!(stdout(&taken).contains("1 of 4 x 2 x 2, U8"), "{}", stdout(&taken));
}

#[test]
fn classes_without_rows_are_named() {
    let scratch = Scratch::new();
    let (from, out) = (scratch.idx("x-images-idx3-ubyte", &[2, 8, 8], vec![0; 128]), scratch.path("x.store"));
    scratch.idx("x-labels-idx1-ubyte", &[2], vec![1, 8]);
    let taken = engine(&["data", "ingest", "--from"]).arg(&from).arg("--out").arg(&out).output().unwrap();
    assert_eq!(code(&taken), 0, "{}", stderr(&taken));
    let expected = "warning: 7 of 9 classes have no rows (0, 2, 3, 4, 5, ...): labels count from 0; ";
    assert!(stderr(&taken).starts_with(expected), "{}", stderr(&taken));
}

#[test]
fn floats_that_may_be_something_else_are_taken_with_a_warning() {
    let scratch = Scratch::new();
    let warned = |name: &str, shape: &[usize], value: fn(usize) -> f32| {
        let (from, out) = (scratch.path(&format!("{name}.npy")), scratch.path(&format!("{name}.store")));
        let values: Vec<f32> = (0..shape.iter().product()).map(value).collect();
        engine::data::npy::write(&from, shape, &values).unwrap();
        let taken = engine(&["data", "ingest", "--from"]).arg(&from).arg("--out").arg(&out).output().unwrap();
        assert_eq!(code(&taken), 0, "{}", stderr(&taken));
        stderr(&taken)
    };
    let signed = |i: usize| (i as f32).sin();
    let read = "floats are read as they are";
    for (name, shape, value, expected) in [
        (
            "bytes",
            [2, 3, 8, 8],
            (|i| (i % 256) as f32) as fn(usize) -> f32,
            format!("warning: values from 0 to 255: {read}; if these are pixels, save their astype('uint8'), or x / 127.5 - 1\n"),
        ),
        (
            "units",
            [2, 1, 8, 8],
            |i| (i % 2) as f32,
            format!("warning: values from 0 to 1: {read}, and pictures are drawn of -1 to 1; if these are pixels, save 2 * x - 1\n"),
        ),
        (
            "large",
            [2, 4, 8, 8],
            |i| if i % 2 == 0 { 40.0 } else { -30.0 },
            format!("warning: values from -30 to 40: {read}, and noise has deviation 1; save them scaled to about -1 to 1\n"),
        ),
        (
            "last",
            [2, 8, 8, 3],
            signed,
            "warning: floats are read as (M, C, H, W), these as 8 channels of 8 x 3; if channels come last, save numpy.moveaxis(x, -1, 1)\n".into(),
        ),
        ("latents", [2, 4, 8, 8], signed, String::new()),
        ("flat", [2, 1, 1, 1], |i| 100.0 * i as f32, String::new()),
    ] {
        assert_eq!(warned(name, &shape, value), expected, "{name}");
    }
}

#[test]
fn a_store_that_cannot_be_written_is_refused_before_the_data_is_read() {
    let scratch = Scratch::new();
    let absent = scratch.path("absent/x.store").display().to_string();
    let folder = scratch.path("").display().to_string();
    for (out, expected) in [
        (absent.as_str(), "absent/x.store: its folder does not exist; make it, or give another path\n"),
        // The kernel answers as if this folder did not exist.
        ("/proc/x.store", "--out /proc/x.store: cannot be written: "),
        (&folder, "is no name of a file; give one\n"),
    ] {
        let refused = engine(&["data", "ingest", "--from", "nowhere.npy", "--out", out]).output().unwrap();
        assert_eq!(code(&refused), 2, "{out}: {}", stderr(&refused));
        assert!(stderr(&refused).contains(expected), "{out}: {}", stderr(&refused));
    }
    let store = scratch.store();
    let refused = engine(&["data", "ingest", "--from", "nowhere.npy", "--out"]).arg(&store).output().unwrap();
    assert_eq!(code(&refused), 2, "{}", stderr(&refused));
    assert!(stderr(&refused).ends_with("tiny.store: exists, and a store is never changed; give another name\n"));
}

#[test]
fn what_a_full_disk_refuses_is_named_and_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let (store, run) = (scratch.store(), scratch.path("run"));
    assert_eq!(code(&train(&scratch, &run, &[]).output().unwrap()), 0);
    let z = scratch.path("z.npy");
    engine::data::npy::write(&z, &[40, 1, 8, 8], &[0.5; 40 * 64]).unwrap();
    let (store, run, z) = (store.to_str().unwrap(), run.to_str().unwrap(), z.to_str().unwrap());
    let folder = scratch.path("full");
    fs::create_dir(&folder).unwrap();
    let many = ["sample", "--run", run, "--count", "400", "--steps", "1", "--threads", "1", "--out"];
    for (name, arguments) in [
        ("x.store", &["data", "ingest", "--from", z, "--out"][..]),
        ("x.npy", &many),
        ("x.safetensors", &["score", "--data", store, "--queries", z, "--t", "0.5", "--threads", "1", "--out"]),
    ] {
        let out = folder.join(name);
        // A limit of 4 KiB to a file, in the place of a disk with as little room.
        let limited = "trap '' XFSZ; ulimit -f 8; exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", limited, "sh", env!("CARGO_BIN_EXE_engine")]).args(arguments).arg(&out);
        let refused = command.output().unwrap();
        let message = stderr(&refused);
        let expected =
            format!("error: {}: cannot be written: File too large (os error 27); make room, ", out.display());
        assert_eq!(code(&refused), 2, "{name}: {message}");
        assert!(message.contains(&expected), "{name}: {message}");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "{name}");
    }
}

#[test]
fn what_a_killed_ingest_left_is_swept_by_the_next_and_what_a_living_one_writes_is_not() {
    let scratch = Scratch::new();
    // A hole of four gigabytes takes seconds to read.
    let vast = scratch.path("vast.npy");
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (4096, 1, 1024, 1024)}";
    fs::write(&vast, [b"\x93NUMPY\x01\x00", &[header.len() as u8, 0][..], header.as_bytes()].concat()).unwrap();
    fs::File::options().append(true).open(&vast).unwrap().set_len(10 + header.len() as u64 + (1 << 32)).unwrap();
    let folder = scratch.path("stores");
    fs::create_dir(&folder).unwrap();
    let begin = |name: &str| {
        let mut command = engine(&["data", "ingest", "--from"]);
        let child = command.arg(&vast).arg("--out").arg(folder.join(name)).stderr(Stdio::null()).spawn().unwrap();
        // Its first file is to find out whether there can be one; its second is the store.
        let partial = folder.join(format!(".engine-{}-1.partial", child.id()));
        while !partial.exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        child
    };
    let (mut dead, mut living) = (begin("dead"), begin("living"));
    dead.kill().unwrap();
    dead.wait().unwrap();
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
    let next = engine(&["data", "ingest", "--from"])
        .arg(scratch.idx("x-images-idx3-ubyte", &[2, 8, 8], vec![0; 128]))
        .arg("--out")
        .arg(folder.join("next"))
        .output()
        .unwrap();
    assert_eq!(code(&next), 0, "{}", stderr(&next));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "the new store, and what the living one writes");
    assert!(folder.join("next").is_file() && living.try_wait().unwrap().is_none());
    living.kill().unwrap();
    living.wait().unwrap();
}

#[test]
fn data_info_names_the_rows_that_no_run_trains_on() {
    let scratch = Scratch::new();
    let told = engine(&["data", "info", "--json"]).arg(scratch.store()).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(told["rows"], 40);
    let held_out: Vec<u64> = told["held_out"].as_array().unwrap().iter().map(|row| row.as_u64().unwrap()).collect();
    let expected = engine::data::Split::of(40).held_out;
    assert_eq!((held_out.len(), held_out), (4, expected.into_iter().map(u64::from).collect()));
}

#[test]
fn a_folder_of_pictures_becomes_a_store_that_is_drawn() {
    let scratch = Scratch::new();
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pictures");
    for (class, picture) in [("ape", "colours.png"), ("cat", "colours.jpg")] {
        fs::create_dir_all(scratch.path("zoo").join(class)).unwrap();
        fs::copy(golden.join(picture), scratch.path("zoo").join(class).join(picture)).unwrap();
    }
    let ingest = |flags: &[&str]| {
        let mut command = engine(&["data", "ingest", "--from"]);
        command.arg(scratch.path("zoo")).args(flags).arg("--out").arg(scratch.path("zoo.store")).output().unwrap()
    };
    let refused = ingest(&["--labels", "labels.npy"]);
    assert_eq!(code(&refused), 2);
    assert!(stderr(&refused).contains("--labels: the classes of pictures are the subfolders"), "{}", stderr(&refused));
    let done = ingest(&["--side", "16"]);
    assert_eq!(code(&done), 0, "{}", stderr(&done));
    let told = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(told.contains("2 of 3 x 16 x 16, U8") && told.contains("classes  2, 1 row each"), "{told}");
    let info = engine(&["data", "info"]).arg(scratch.path("zoo.store")).args(["--picture", "zoo.jpg"]).output();
    assert!(stderr(&info.unwrap()).contains("--picture zoo.jpg: name a .png file"));
    let picture = scratch.path("zoo.png");
    let info = engine(&["data", "info"]).arg(scratch.path("zoo.store")).arg("--picture").arg(&picture).output();
    assert_eq!(code(&info.unwrap()), 0);
    assert!(fs::read(picture).unwrap().starts_with(b"\x89PNG"));

    let array =
        engine(&["data", "ingest", "--side", "16", "--from"]).arg(scratch.store()).args(["--out", "x"]).output();
    assert!(stderr(&array.unwrap()).contains("--side: is for a folder of PNG and JPEG pictures; leave it out"));
}
