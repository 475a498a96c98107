//! What the engine says of every driver that it may meet, by a mock of one: never a panic, always one sentence.

use engine::device::cuda::{Driver, Nvidia, TOOLKIT};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of a mock `libcuda.so.1`; `None` without a C compiler.
fn mock() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mock_cuda");
    std::fs::create_dir_all(&folder).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mock_cuda/cuda.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(folder.join("libcuda.so.1")).arg(source);
    match compiler.status() {
        Ok(status) => assert!(status.success(), "the mock compiles"),
        Err(_) => return None,
    }
    Some(folder)
}

#[test]
fn every_driver_that_does_not_do_is_refused_in_one_sentence() {
    let Some(folder) = mock().filter(|_| TOOLKIT.is_some()) else {
        eprintln!("not tested, for want of a C compiler or of nvcc");
        return;
    };
    let version = "its driver knows CUDA 12.4, the kernels need 13.0";
    let capability = "Mock: its compute capability 7.0 is below 8.0, the least that the kernels run on";
    for (what, exit, expected) in [
        (&[("MOCK_INIT", "34")][..], 6, "the CUDA driver does not start: CUDA driver is a stub library"),
        (&[("MOCK_INIT", "100")], 6, "the CUDA driver does not start: no CUDA-capable device is detected"),
        (&[("MOCK_INIT", "803")], 6, "the CUDA driver does not start: system has unsupported display driver"),
        (&[("MOCK_INIT", "999")], 6, "the CUDA driver does not start: unknown error"),
        (&[("MOCK_VERSION", "12040")], 6, version),
        (&[("MOCK_CARDS", "0")], 6, "this machine has 0 CUDA cards"),
        (&[("MOCK_MAJOR", "7")], 6, capability),
        (&[("MOCK_MAJOR", "12")], 6, "no kernel image is available for execution on the device"),
        (&[("MOCK_FULL", "1")], 5, "Mock: reserving 536870912 bytes of its memory: out of memory"),
    ] {
        let mut engine = Command::new(env!("CARGO_BIN_EXE_engine"));
        engine.args(["bench", "step", "--preset", "sit-xs-4", "--side", "8", "--batch", "1", "--device", "cuda"]);
        engine.env("LD_LIBRARY_PATH", &folder).envs(what.iter().copied());
        let output = engine.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{what:?}: {said}");
        assert!(said.starts_with("error: ") && said.contains(expected), "{what:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{what:?}: {said}");
        // A chip that no kernel was built for is known as such only when the first kernel is loaded.
        if what != [("MOCK_MAJOR", "12")] {
            // The processor takes over where no device is asked for, with a word of the card where there is one.
            let mut engine = Command::new(env!("CARGO_BIN_EXE_engine"));
            engine.args(["bench", "step", "--preset", "sit-xs-4", "--side", "8", "--batch", "1", "--json"]);
            let output = engine.env("LD_LIBRARY_PATH", &folder).envs(what.iter().copied()).output().unwrap();
            assert!(String::from_utf8_lossy(&output.stdout).contains("\"device\":\"cpu"), "{what:?}");
            let warned = String::from_utf8_lossy(&output.stderr).contains(&format!("warning: {expected}"));
            assert_eq!(warned, expected.starts_with("Mock: "), "{what:?}");
        }
    }
}

/// Runs a test of this file once more, beside a mock driver; false in the process that is so run.
fn ran_beside_the_mock(test: &str) -> bool {
    if std::env::var_os("MOCK").is_some() {
        return false;
    }
    let Some(folder) = mock() else { return true };
    let mut again = Command::new(std::env::current_exe().unwrap());
    let output = again.args(["--exact", "--nocapture", test]).env("MOCK", "1").env("LD_LIBRARY_PATH", folder).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed") && !said.contains("are left"), "{said}");
    true
}

#[test]
fn what_is_sent_arrives_and_what_is_asked_for_is_of_its_moment() {
    if ran_beside_the_mock("what_is_sent_arrives_and_what_is_asked_for_is_of_its_moment") {
        return;
    }
    let card = Nvidia::open(0).unwrap();
    let bytes = (100 << 20) + 7;
    let memory = card.reserve(bytes).unwrap();
    // More than all slots hold, out of one buffer that changes as soon as it is sent.
    let mut sent = vec![0; bytes / 2];
    for (part, to) in [memory, memory + bytes as u64 / 2].into_iter().enumerate() {
        sent.iter_mut().enumerate().for_each(|(i, byte)| *byte = (i % 251 + part) as u8);
        card.upload(to, &sent).unwrap();
    }
    sent.fill(0);
    let mut arrived = vec![0; bytes / 2 * 2];
    card.download(memory, &mut arrived).unwrap();
    let right = |(i, &byte): (usize, &u8)| usize::from(byte) == i % (bytes / 2) % 251 + i / (bytes / 2);
    assert!(arrived.iter().enumerate().all(right));

    // Each reading is of its place in the stream, in whatever order they are waited for, and slots are used again.
    for round in 0..3 {
        let readings = [0, 1, 2, 3].map(|value| {
            card.fill(memory, value + round, 8).unwrap();
            card.begin_download(memory, 3).unwrap()
        });
        for value in [2, 0, 3, 1u8] {
            let mut read = [0; 3];
            card.end_download(readings[usize::from(value)], &mut read).unwrap();
            assert_eq!(read, [value + round; 3]);
        }
    }
    card.release(memory);
}

#[test]
fn a_recording_waits_for_its_replay_and_everything_is_given_back() {
    if ran_beside_the_mock("a_recording_waits_for_its_replay_and_everything_is_given_back") {
        return;
    }
    let card = Nvidia::open(0).unwrap();
    let memory = card.reserve(64).unwrap();
    let read = || {
        let mut read = [0; 2];
        card.download(memory, &mut read).unwrap();
        read
    };
    card.upload(memory, &[7; 64]).unwrap();
    card.begin_capture().unwrap();
    card.copy(memory, memory + 1, 1).unwrap();
    card.fill(memory + 1, 5, 1).unwrap();
    let graph = card.end_capture().unwrap();
    assert_eq!(read(), [7, 7]);
    card.replay(graph).unwrap();
    assert_eq!(read(), [7, 5]);
    let start = card.mark().unwrap();
    card.replay(graph).unwrap();
    let end = card.mark().unwrap();
    assert_eq!(card.seconds_between([start, end]).unwrap(), 2.0, "two calls were recorded");
    assert_eq!(read(), [5, 5]);
    card.discard(graph);
    card.release(memory);
}
