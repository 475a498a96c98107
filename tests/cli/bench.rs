//! `engine bench`.

use super::{code, engine, stderr};

#[test]
fn a_bench_that_nothing_holds_is_refused() {
    for (flag, value) in [("--batch", "18446744073709551615"), ("--batch", "300000000000"), ("--steps", "300000000000")]
    {
        let refused = engine(&["bench", "step", flag, value]).output().unwrap();
        assert_eq!(code(&refused), 2, "{}", stderr(&refused));
        assert!(stderr(&refused).contains(&format!("{flag} {value}: is out of range; give 1 to 1048576")));
    }
    let vast = ["--side", "65536", "--channels", "65536", "--batch", "1048576", "--preset", "sit-xs-8"];
    let refused = engine(&[&["bench", "step"], &vast[..]].concat()).output().unwrap();
    assert!([2, 5].contains(&code(&refused)), "{}", stderr(&refused));
}

#[test]
fn a_bench_of_drawing_counts_the_evaluations_that_it_times() {
    let small = ["bench", "sample", "--preset", "sit-xs-4", "--side", "8", "--classes", "3", "--batch", "2", "--json"];
    for (sampler, guidance, evaluations) in [("euler", "1", 4), ("heun", "1", 7), ("heun", "2.5", 7)] {
        let how = ["--sampler", sampler, "--steps", "4", "--guidance", guidance, "--runs", "2", "--device", "cpu"];
        let output = engine(&[&small[..], &how].concat()).output().unwrap();
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        let row: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(row["evaluations"], evaluations, "{row}");
        let (seconds, rate) = (row["seconds"].as_f64().unwrap(), row["evaluations_per_s"].as_f64().unwrap());
        assert!(seconds > 0.0 && (rate * seconds - f64::from(2 * evaluations)).abs() < 1e-6, "{row}");
    }
    let refused = engine(&["bench", "sample", "--runs", "300000000000"]).output().unwrap();
    assert!(code(&refused) == 2 && stderr(&refused).contains("--runs 300000000000: is out of range"));
}
