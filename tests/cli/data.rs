//! `engine data`.

use super::{Scratch, code, engine, stderr, stdout};
use std::fs;

#[test]
fn bad_data_is_refused_with_its_reason() {
    let scratch = Scratch::new();
    let out = scratch.path("out.store");
    let lying = scratch.idx("lying-images-idx3-ubyte", &[1000, 8, 8], vec![0; 64]);
    let refused = engine(&["data", "ingest", "--from"]).arg(&lying).arg("--out").arg(&out).output().unwrap();
    assert_eq!(code(&refused), 3, "{}", stderr(&refused));
    assert!(stderr(&refused).contains("lying-images-idx3-ubyte: "), "{}", stderr(&refused));

    let nan = scratch.path("nan.npy");
    let mut values = vec![0.5; 4 * 64];
    values[130] = f32::NAN;
    engine::data::npy::write(&nan, &[4, 1, 8, 8], &values).unwrap();
    let refused = engine(&["data", "ingest", "--from"]).arg(&nan).arg("--out").arg(&out).output().unwrap();
    assert_eq!(code(&refused), 3, "{}", stderr(&refused));
    assert!(stderr(&refused).contains("nan.npy: ") && stderr(&refused).contains("row 2"), "{}", stderr(&refused));
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
fn data_info_names_the_rows_that_no_run_trains_on() {
    let scratch = Scratch::new();
    let told = engine(&["data", "info", "--json"]).arg(scratch.store()).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(told["rows"], 40);
    let held_out: Vec<u64> = told["held_out"].as_array().unwrap().iter().map(|row| row.as_u64().unwrap()).collect();
    let expected = engine::data::Split::of(40).held_out;
    assert_eq!((held_out.len(), held_out), (4, expected.into_iter().map(u64::from).collect()));
}
