//! `engine info`.

use super::{engine, stderr, stdout};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

#[test]
fn info_says_what_this_binary_holds_and_what_this_machine_has() {
    let text = stdout(&engine(&["info"]).output().unwrap());
    let kernels = match engine::device::cuda::TOOLKIT {
        Some(toolkit) => format!("kernels  CUDA {toolkit}: sm_80, sm_90a, and PTX for other cards"),
        None => "kernels  none: nvcc was not found".into(),
    };
    assert!(text.contains("devices  cpu: ") && text.contains("cuda:0: ") && text.contains(&kernels), "{text}");
    let json = stdout(&engine(&["info", "--json"]).output().unwrap());
    let info: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(info["cuda"]["toolkit"].as_str(), engine::device::cuda::TOOLKIT);
    assert_eq!(info["devices"][0]["name"], "cpu");
}

#[test]
fn a_verb_whose_reader_went_away_ends_without_a_word() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = engine(&["info"]).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let ended = ended.wait_with_output().unwrap();
    assert_eq!((ended.status.signal(), stderr(&ended)), (Some(13), String::new()));
}
