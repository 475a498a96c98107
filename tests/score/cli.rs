//! `engine score` from outside.

use super::runs::Scratch;
use engine::base::{DType, Path};
use engine::data::tensors::TensorFile;
use engine::data::{Store, npy};
use engine::device::{Cpu, Device};
use engine::score::{EmpiricalScore, Queries, Request};
use std::fs;
use std::process::{Command, Output};

fn engine(scratch: &Scratch, arguments: &[&str]) -> Output {
    let place = |argument: &&str| match argument.split_once("./") {
        Some(("", name)) => scratch.path(name).to_str().unwrap().to_owned(),
        _ => (*argument).to_owned(),
    };
    Command::new(env!("CARGO_BIN_EXE_engine")).args(arguments.iter().map(place)).output().unwrap()
}

fn doubles(file: &TensorFile, name: &str, shape: &[usize]) -> Vec<f64> {
    let entry = file.entry(name).unwrap();
    assert_eq!(entry.shape, shape, "{name}");
    let mut bytes = vec![0; (entry.end - entry.begin) as usize];
    file.read_bytes(entry, 0, &mut bytes).unwrap();
    bytes.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect()
}

#[test]
fn the_file_holds_every_answer_of_the_library() {
    let scratch = Scratch::new();
    scratch.store();
    let (z, t) = (super::common::normals(2, 70 * 64, 0.8), super::common::normals(3, 70, 0.1));
    let t: Vec<f32> = t.iter().map(|t| 0.5 + t.clamp(-0.4, 0.4)).collect();
    npy::write(&scratch.path("z.npy"), &[70, 1, 8, 8], &z).unwrap();
    npy::write(&scratch.path("t.npy"), &[70], &t).unwrap();
    let flags = ["--class", "1", "--draws", "5", "--nearest", "3", "--seed", "9", "--threads", "1"];
    let start =
        ["score", "--data", "./tiny.store", "--queries", "./z.npy", "--t", "./t.npy", "--out", "./a.safetensors"];
    let done = engine(&scratch, &[&start[..], &flags].concat());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(String::from_utf8_lossy(&done.stdout).contains("70 points, 40 rows of 64 values"));

    let store = Store::open(&scratch.path("tiny.store")).unwrap();
    let device = Device::cpu(Cpu::new(None, DType::F32).unwrap());
    let score = EmpiricalScore::new(&device, &store, Path::Linear).unwrap();
    let [z, t] = [&z, &t].map(|x| x.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>());
    let asked = Request { class: Some(1), nearest: 3, draws: 5, r_star: true, seed: 9, step: 0, first: 0 };
    let scores = score.answer(Queries { z: &z, t: &t }, &asked).unwrap();
    let file = TensorFile::open(&scratch.path("a.safetensors")).unwrap();
    let points = [70, 1, 8, 8];
    let certificate: Vec<f64> = scores.certificate.iter().flat_map(|c| [c.total_variation, c.log_p, c.score]).collect();
    for (name, shape, values) in [
        ("score", &points[..], &scores.score),
        ("velocity", &points, &scores.velocity),
        ("denoised", &points, &scores.denoised),
        ("log_p", &[70], &scores.log_p),
        ("nearest_distance", &[70, 3], &scores.nearest_distance),
        ("r_star", &[70], &scores.r_star),
        ("n_effective", &[70], &scores.n_effective),
        ("certificate", &[70, 3], &certificate),
    ] {
        assert_eq!(&doubles(&file, name, shape), values, "{name}");
    }
    let rows = |rows: &[u32]| rows.iter().map(|&row| i64::from(row)).collect::<Vec<i64>>();
    assert_eq!(file.integers("nearest").unwrap(), rows(&scores.nearest));
    assert_eq!(file.integers("draws").unwrap(), rows(&scores.draws));
    assert_eq!(file.metadata()["data"], store.info().digest);

    let all =
        [&start[..8], &["./all.safetensors", "--by-class", "--draws", "2", "--nearest", "3", "--seed", "9"]].concat();
    let done = engine(&scratch, &all);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let file = TensorFile::open(&scratch.path("all.safetensors")).unwrap();
    assert_eq!(file.integers("class").unwrap(), [0, 1]);
    let of_class = doubles(&file, "class_score", &[2, 70, 1, 8, 8]).split_off(70 * 64);
    assert_eq!(of_class, scores.score, "of class 1");
    assert_eq!(doubles(&file, "class_log_p", &[2, 70]).split_off(70), scores.log_p);
    assert_eq!(doubles(&file, "class_n_effective", &[2, 70]).split_off(70), scores.n_effective);
    assert_eq!(doubles(&file, "class_certificate", &[2, 70, 3]).split_off(210), certificate);
    let everything = score.answer(Queries { z: &z, t: &t }, &Request { class: None, ..asked }).unwrap();
    let (ours, bounds) = (doubles(&file, "log_p", &[70]), everything.certificate.iter().map(|c| 2.0 * c.log_p + 1e-9));
    let off = ours.iter().zip(&everything.log_p).map(|(a, b)| (a - b).abs());
    assert!(off.zip(bounds).all(|(off, bound)| off <= bound), "the two ways to all rows agree");
    assert_eq!(file.integers("nearest").unwrap(), rows(&everything.nearest));
}

#[test]
fn what_cannot_be_answered_is_refused_with_the_documented_exit_code() {
    let scratch = Scratch::new();
    fs::copy(scratch.store(), scratch.path("torn.store")).unwrap();
    let mut bytes = fs::read(scratch.path("torn.store")).unwrap();
    let at = bytes.len() - 100;
    bytes[at] ^= 1;
    fs::write(scratch.path("torn.store"), bytes).unwrap();
    let mut nan = vec![0.0; 64];
    nan[3] = f32::NAN;
    npy::write(&scratch.path("z.npy"), &[1, 64], &[0.5; 64]).unwrap();
    npy::write(&scratch.path("nan.npy"), &[1, 64], &nan).unwrap();
    npy::write(&scratch.path("wide.npy"), &[1, 65], &[0.5; 65]).unwrap();
    npy::write(&scratch.path("t.npy"), &[2], &[0.5; 2]).unwrap();
    let refuse = |data: &str, queries: &str, t: &str, more: &[&str], code: i32, reason: &str| {
        let start = ["score", "--data", data, "--queries", queries, "--out", "./a.safetensors"];
        // A negative number is no flag.
        let t = format!("--t={}", t.replace("./", &format!("{}/", scratch.path("").display())));
        let done = engine(&scratch, &[&start[..], &[&t], more].concat());
        let text = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!((done.status.code(), text.contains(reason)), (Some(code), true), "{reason}: {text}");
        assert!(!scratch.path("a.safetensors").exists(), "{reason}");
    };
    let (data, z) = ("./tiny.store", "./z.npy");
    refuse(data, z, "0", &[], 2, "t[0] = 0: sigma is 0, where the mixture is no density and has no score");
    refuse(data, z, "1.5", &[], 2, "t[0] = 1.5: is no time of the path; give one above 0, up to 1");
    refuse(data, z, "-0.5", &[], 2, "t[0] = -0.5: is no time of the path");
    refuse(data, z, "half", &[], 2, "--t half: is neither a number nor an .npy; give one of them");
    refuse(data, z, "./t.npy", &[], 3, "has shape [2], there are 1 points; give one time each");
    refuse(data, "./nan.npy", "0.5", &[], 2, "query 0: value 3 is NaN; give finite points");
    refuse(data, "./wide.npy", "0.5", &[], 3, "has shape [1, 65], the data are rows of [1, 8, 8]; give (B, 64)");
    refuse("./torn.store", z, "0.5", &[], 3, "ingest the data again");
    refuse("./absent.store", z, "0.5", &[], 3, "no such file; check the path");
    refuse(data, z, "0.5", &["--class", "2"], 2, "class 2: the data have the classes 0 to 1; give one");
    refuse(data, z, "0.5", &["--nearest", "41"], 2, "nearest 41: there are 40 rows; ask for fewer");
    refuse(data, z, "0.5", &["--draws", "2000000"], 2, "--draws 2000000: is out of range");
}

#[test]
fn the_demo_draws_a_picture_without_any_file() {
    let scratch = Scratch::new();
    let done = engine(&scratch, &["score", "--demo", "--out", "./demo.png"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(text.contains("effective rows") && text.contains("r* from 0.85 to 1.15 over t from 0 to 1"), "{text}");
    assert_eq!(&fs::read(scratch.path("demo.png")).unwrap()[1..4], b"PNG");
}
