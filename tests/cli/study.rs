//! `engine study`.

use super::{Scratch, code, engine, stderr, stdout};
use std::fs;

#[test]
fn the_spectrum_of_masked_images_is_the_predicted_one() {
    let scratch = Scratch::new();
    let out = scratch.path("spectrum.svg");
    let ended = engine(&["study", "mask-spectrum", "--json", "--out"]).arg(&out).output().unwrap();
    assert_eq!(code(&ended), 0, "{}", stderr(&ended));
    let said: serde_json::Value = serde_json::from_str(&stdout(&ended)).unwrap();
    let directions = said["directions"].as_array().unwrap();
    let number = |value: &serde_json::Value| value.as_f64().unwrap();
    assert_eq!(directions.len(), 28 * 28);
    // The total is the variance of the images, of masked ones a twentieth of it: a mean over 10,000 masks of 784 elements.
    let [total, masked] =
        ["variance", "measured"].map(|key| directions.iter().map(|one| number(&one[key])).sum::<f64>());
    assert!((masked / total - 0.05).abs() < 0.001, "{masked} of {total}");
    let within = &said["within_two_errors"];
    // 95 % of normal errors, which those of different directions are nearly; three of its deviations less.
    assert!(number(&within["agreeing"]) >= 0.93 * number(&within["of"]), "{within}");
    let picture = fs::read_to_string(&out).unwrap();
    assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n") && picture.contains("beta"));
}

#[test]
fn studies_that_cannot_be_made_are_refused_before_they_begin() {
    let scratch = Scratch::new();
    let out = scratch.path("x.svg").display().to_string();
    for (arguments, expected) in [
        (&["mask-spectrum", "--loss-mask", "pixels:0.5"][..], "expected element, pixel, patch or block:SIDE"),
        (&["mask-spectrum", "--loss-mask", "pixel:1"], "--loss-mask pixel:1: give a rate from 0 to below 1"),
        (
            &["mask-spectrum", "--loss-mask", "patch:0.5", "--patch", "3"],
            "--patch 3: does not divide images of 28 x 28",
        ),
        (&["swiss-roll", "--steps", "3"], "--steps 3: give at least 20"),
    ] {
        let ended = engine(&["study"]).args(arguments).args(["--out", &out]).output().unwrap();
        assert_eq!((code(&ended), stderr(&ended).contains(expected)), (2, true), "{}", stderr(&ended));
    }
    let ended = engine(&["study", "swiss-roll", "--out", "x.png"]).output().unwrap();
    assert!(stderr(&ended).contains("--out x.png: name a .svg file"), "{}", stderr(&ended));
    assert!(!fs::exists(&out).unwrap());
}
