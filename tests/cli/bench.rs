//! `engine bench`.

use super::{code, engine, stderr, stdout};
use engine::base::PatchGrid;
use engine::nn::{Config, Family, Network};
use std::process::Command;

#[test]
fn a_bench_that_nothing_holds_is_refused() {
    for (flag, value) in [("--batch", "18446744073709551615"), ("--batch", "300000000000"), ("--steps", "300000000000")]
    {
        let refused = engine(&["bench", "step", flag, value]).output().unwrap();
        assert_eq!(code(&refused), 2, "{}", stderr(&refused));
        assert!(stderr(&refused).contains(&format!("{flag} {value}: is out of range; give 1 to 1048576")));
    }
    for verb in ["step", "sample"] {
        for (flag, value, expected) in [
            (
                "--classes",
                "99999999999",
                "error: invalid value '99999999999' for '--classes <CLASSES>': give a whole number from 0 to 1048575\n",
            ),
            (
                "--side",
                "33",
                "error: --preset sit-s-2 --side 33 --channels 4: a patch of 2 does not divide images of 33 x 33; give one that does\n",
            ),
            (
                "--channels",
                "70000",
                "error: --preset sit-s-2 --side 32 --channels 70000: the number of channels is 70000; give 1 to 65536\n",
            ),
            (
                "--preset",
                "sit-s-3",
                "error: --preset sit-s-3: there is no such preset; did you mean sit-s-2? There are ",
            ),
        ] {
            let refused = engine(&["bench", verb, flag, value]).output().unwrap();
            assert_eq!(code(&refused), 2, "{}", stderr(&refused));
            assert!(stderr(&refused).starts_with(expected), "{}", stderr(&refused));
        }
    }
    let vast = ["--side", "65536", "--channels", "65536", "--batch", "1048576", "--preset", "sit-xs-8"];
    let refused = engine(&[&["bench", "step"], &vast[..]].concat()).output().unwrap();
    assert!([2, 5].contains(&code(&refused)), "{}", stderr(&refused));
}

#[test]
fn a_limit_on_addresses_is_a_limit_on_memory() {
    let limited = |kib: u32| {
        let small = "bench step --preset sit-xs-8 --batch 1 --side 8 --steps 1 --threads 1 --device cpu";
        let script = format!("ulimit -v {kib}; exec \"$0\" {small}");
        Command::new("sh").args(["-c", &script, env!("CARGO_BIN_EXE_engine")]).output().unwrap()
    };
    let done = limited(3 << 20);
    assert_eq!(code(&done), 0, "{}", stderr(&done));
    let refused = limited(1 << 20);
    assert_eq!(code(&refused), 5, "{}", stderr(&refused));
    assert!(stderr(&refused).contains("raise their limit with `ulimit -v`"), "{}", stderr(&refused));
}

#[test]
fn a_bench_of_drawing_counts_the_evaluations_that_it_times() {
    let small = ["bench", "sample", "--preset", "sit-xs-4", "--side", "8", "--classes", "3", "--batch", "2", "--json"];
    for (sampler, guidance, evaluations) in [("euler", "1", 4), ("heun", "1", 7), ("heun", "2.5", 7)] {
        let how = ["--sampler", sampler, "--steps", "4", "--guidance", guidance, "--runs", "2", "--device", "cpu"];
        let output = engine(&[&small[..], &how].concat()).output().unwrap();
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let row: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(row["evaluations"], f64::from(evaluations), "{row}");
        let (seconds, rate) = (row["seconds"].as_f64().unwrap(), row["evaluations_per_s"].as_f64().unwrap());
        assert!(seconds > 0.0 && (rate * seconds - f64::from(2 * evaluations)).abs() < 1e-6, "{row}");
    }
    for (guidance, expected) in [("4", "--guidance 4: the model has no classes"), ("nan", "give a finite weight")] {
        let refused = engine(&["bench", "sample", "--classes", "0", "--guidance", guidance]).output().unwrap();
        assert!(code(&refused) == 2 && stderr(&refused).contains(expected), "{}", stderr(&refused));
    }
    let refused = engine(&["bench", "sample", "--runs", "300000000000"]).output().unwrap();
    assert!(code(&refused) == 2 && stderr(&refused).contains("--runs 300000000000: is out of range"));
}

#[test]
fn the_json_of_a_bench_says_what_was_run_and_how_fast_in_numbers_that_agree() {
    for (precision, drop) in [("f32", "0"), ("bf16", "0.5")] {
        let sizes = ["--preset", "sit-xs-8", "--batch", "2", "--side", "16", "--channels", "3", "--classes", "0"];
        let how =
            ["--steps", "2", "--drop", drop, "--device", "cpu", "--threads", "1", "--precision", precision, "--json"];
        let done = engine(&[&["bench", "step"], &sizes[..], &how[..]].concat()).output().unwrap();
        assert_eq!(code(&done), 0, "{}", stderr(&done));
        let row: serde_json::Value = serde_json::from_str(&stdout(&done)).unwrap();
        let text = |key: &str| row[key].as_str().unwrap_or_else(|| panic!("{key} in {row}")).to_owned();
        let number = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key} in {row}"));
        assert_eq!([text("preset"), text("precision")], ["sit-xs-8", precision]);
        assert!(text("device").starts_with("cpu, 1 thread"), "{row}");
        assert_eq!([number("batch"), number("drop")], [2.0, drop.parse().unwrap()]);
        let near = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-12;
        assert!(0.0 < number("seconds_min") && number("seconds_min") <= number("seconds"), "{row}");
        assert!(near(number("images_per_s") * number("seconds"), 2.0), "{row}");
        assert!(near(number("share_of_peak") * number("peak_flops_per_s"), number("flops_per_s")), "{row}");
        let grid = PatchGrid { channels: 3, height: 16, width: 16, patch: 8 };
        let model =
            Config { family: Family::Sit, grid, depth: 6, width: 128, heads: 4, classes: 0, learn_sigma: false };
        let tokens = if drop == "0" { 4 } else { 2 };
        let flops = (model.forward_cost(2, tokens) + model.backward_cost(2, tokens)).flops;
        assert!(near(number("flops_per_s") * number("seconds"), flops as f64), "{flops}: {row}");
        // Masters, gradients, two moments and one average; and all of it is in memory.
        let parameters = Network::new(model).1.elements() as f64;
        assert!(number("peak_memory_bytes") > 4.0 * 5.0 * parameters, "{row}");
        assert!(number("peak_rss_bytes") > number("peak_memory_bytes"), "{row}");
    }
}
