//! `cargo run -p header` writes `include/engine.h` from `src/ffi`; `cargo test -p header` checks that it is so.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn header() -> PathBuf {
    root().join("include/engine.h")
}

/// What the header has to be.
fn generated() -> String {
    let folder = root().join("src/ffi");
    let config = cbindgen::Config::from_file(folder.join("cbindgen.toml")).expect("src/ffi/cbindgen.toml is read");
    let builder = cbindgen::Builder::new().with_src(folder.join("mod.rs")).with_config(config);
    let mut text = vec![];
    builder.generate().expect("src/ffi has a form in C").write(&mut text);
    String::from_utf8(text).expect("the sources are UTF-8")
}

fn main() {
    std::fs::write(header(), generated()).expect("include/engine.h is written");
}

#[test]
fn the_header_is_what_the_sources_say() {
    let (there, now) = (std::fs::read_to_string(header()).unwrap(), generated());
    let same = there.lines().zip(now.lines()).take_while(|(there, now)| there == now).count();
    assert!(there == now, "include/engine.h: line {} is not what src/ffi says; cargo run -p header", same + 1);
}
