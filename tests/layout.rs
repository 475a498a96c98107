//! Promises about the source that prose cannot keep.

use std::fs;
use std::path::{Path, PathBuf};

/// The floors, lowest first: a module imports only from those before it.
const FLOORS: [&str; 16] = [
    "base",
    "device",
    "tensor",
    "data",
    "cpu",
    "cuda",
    "tape",
    "ops",
    "nn",
    "diffusion",
    "score",
    "train",
    "eval",
    "study",
    "cli",
    "ffi",
];

fn files_under(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files = vec![];
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_under(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            files.push(path);
        }
    }
    files
}

/// The floor of a file of `src`, by its first path element.
fn floor(file: &Path) -> Option<usize> {
    let first = file.strip_prefix("src").unwrap().components().next().unwrap();
    let name = first.as_os_str().to_str().unwrap().trim_end_matches(".rs");
    FLOORS.iter().position(|&floor| floor == name)
}

/// How many modules a file of `src` is below the root of the crate.
fn depth(file: &Path) -> usize {
    let path = file.strip_prefix("src").unwrap();
    path.components().count() - usize::from(["mod.rs", "lib.rs", "main.rs"].iter().any(|root| path.ends_with(root)))
}

/// What [`named_below_the_root`] calls the root itself, where an import gives it another name or none.
const ROOT: &str = "self";

/// The floors that a source at this depth names.
fn floors_named(source: &str, depth: usize) -> Vec<usize> {
    let names = named_below_the_root(source, depth);
    names.iter().filter_map(|name| FLOORS.iter().position(|floor| floor == name)).collect()
}

/// What a source at this depth names right below the root of the crate: through `crate`, or through a chain of `super` that
/// is long enough to reach it, alone or in groups, across lines. A module inside the file needs a longer chain.
fn named_below_the_root(source: &str, depth: usize) -> Vec<String> {
    let code = source.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join(" ");
    let tokens = tokens(&code);
    let (mut named, mut at) = (vec![], 0);
    while at < tokens.len() {
        let begins = ["crate", "super", "self"].contains(&tokens[at]) && (at == 0 || tokens[at - 1] != "::");
        at = if begins { tree(&tokens, at, false, depth, &mut named) } else { at + 1 };
    }
    // Names that are there without a path of their own.
    let anew = [["extern", "crate", "self"], ["crate", "::", "*"]];
    named.extend(anew.iter().filter(|words| tokens.windows(3).any(|found| found == *words)).map(|_| ROOT.into()));
    named
}

/// Words, `::`, and every other character for itself.
fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = vec![];
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let length = if rest.starts_with("::") { 2 } else { word.max(first.len_utf8()) };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

/// Follows the tree of paths that begins at token `at`, in a module `above` modules below the root, which is 0 at the root
/// and `grouped` within braces. Returns the token after it.
fn tree(tokens: &[&str], mut at: usize, grouped: bool, mut above: usize, named: &mut Vec<String>) -> usize {
    let mut rooted = grouped && above == 0;
    let token = |at: usize| tokens.get(at).copied().unwrap_or("}");
    loop {
        match token(at) {
            "crate" => (above, rooted) = (0, true),
            "super" => {
                above = above.saturating_sub(1);
                rooted = above == 0;
            }
            "self" if token(at + 1) == "::" => {}
            "{" => {
                at += 1;
                while token(at) != "}" {
                    at = tree(tokens, at, true, above, named);
                    at += usize::from(token(at) == ",");
                }
                return at + 1;
            }
            name => {
                if rooted {
                    named.push(name.into());
                }
                break;
            }
        }
        at += 1;
        if token(at) != "::" {
            if rooted && token(at) == "as" {
                named.push(ROOT.into());
            }
            break;
        }
        at += 1;
    }
    // The members of a group's member, and its other name.
    let mut open = 0;
    while grouped && at < tokens.len() && (open > 0 || ![",", "}"].contains(&tokens[at])) {
        open += usize::from(tokens[at] == "{");
        open -= usize::from(tokens[at] == "}");
        at += 1;
    }
    at + usize::from(!grouped)
}

#[test]
fn imports_point_only_downward() {
    for file in files_under(Path::new("src"), "rs") {
        let Some(here) = floor(&file) else {
            assert!(file.ends_with("lib.rs") || file.ends_with("main.rs"), "{}: stands on no floor", file.display());
            continue;
        };
        let source = fs::read_to_string(&file).unwrap();
        let renamed = named_below_the_root(&source, depth(&file)).iter().any(|name| name == ROOT);
        assert!(!renamed, "{}: gives the root another name, under which imports hide", file.display());
        for above in floors_named(&source, depth(&file)) {
            assert!(
                above <= here,
                "{}: {} imports {}, which stands above it",
                file.display(),
                FLOORS[here],
                FLOORS[above]
            );
        }
    }
}

#[test]
fn the_import_check_sees_every_form_of_import() {
    let at = |depth, source: &str| floors_named(source, depth).into_iter().map(|i| FLOORS[i]).collect::<Vec<_>>();
    let named = |source: &str| at(1, source);
    assert_eq!(named("use crate::tape;"), ["tape"]);
    assert_eq!(named("use crate::{\n    base::{Shape, ops},\n    nn::sit,\n    cli,\n};"), ["base", "nn", "cli"]);
    assert_eq!(named("let x: crate::train::Step = f();"), ["train"]);
    assert!(named("// crate::cli is above").is_empty());
    assert_eq!(depth(Path::new("src/tape.rs")), 1);
    assert_eq!(depth(Path::new("src/cpu/mod.rs")), 1);
    assert_eq!(depth(Path::new("src/cpu/matmul/tile.rs")), 3);
    assert_eq!(at(1, "use super::cli::run;"), ["cli"]);
    assert_eq!(at(2, "use super::super::{train, nn};"), ["train", "nn"]);
    assert_eq!(at(2, "mod tests { use super::super::super::cli; }"), ["cli"]);
    assert_eq!(at(2, "use super::{super::cli, data::{nn, tape}};"), ["cli"]);
    assert_eq!(at(1, "use super::{self::tape, cli::{self, train}, nn as n};"), ["tape", "cli", "nn"]);
    assert_eq!(
        at(3, "use self::super::super::{data, super::{study, ffi}}; use crate::eval;"),
        ["study", "ffi", "eval"]
    );
    assert!(at(2, "use super::data::Store;").is_empty(), "a neighbour is no floor");
    let renames = |depth, source: &str| named_below_the_root(source, depth).iter().any(|name| name == ROOT);
    assert!(renames(1, "use crate as c;") && renames(2, "use crate::{self as c, base};"));
    assert!(renames(2, "extern crate self as c; use c::cli;") && renames(1, "use crate::*;"));
    assert!(!renames(1, "extern crate alloc as c; use crate::base::*; use super::*;"));
    assert!(renames(2, "use super::{super as c, data};") && renames(1, "use super::{self as c};"));
    assert!(!renames(
        2,
        "pub(crate) fn f(); use crate::cli::{self as c}; use super as here; use super::{self as here};"
    ));
}

/// What only the floors that know every device may say: views of memory that the processor alone addresses, and arms.
const HOST_ONLY: [&str; 7] = ["Device::Cpu", ".f32()", ".f32_mut()", ".u32()", ".slice", ".flat(", ".flat_mut("];

/// The first trace in a source at this depth of an assumption about the device.
fn device_assumed(source: &str, depth: usize) -> Option<&'static str> {
    let code: String = source.lines().filter_map(|line| line.split("//").next()).collect();
    let kernels = floors_named(source, depth).into_iter().any(|floor| FLOORS[floor] == "cpu");
    HOST_ONLY.into_iter().find(|word| code.contains(word)).or(kernels.then_some("crate::cpu"))
}

#[test]
fn above_the_operations_nothing_depends_on_the_device() {
    let operations = FLOORS.iter().position(|&floor| floor == "ops").unwrap();
    let mut seen = 0;
    for file in files_under(Path::new("src"), "rs") {
        if floor(&file).is_some_and(|floor| floor > operations) {
            let assumed = device_assumed(&fs::read_to_string(&file).unwrap(), depth(&file));
            assert_eq!(assumed, None, "{}: read and write tensors by copies, let ops choose kernels", file.display());
            seen += 1;
        }
    }
    assert!(seen > 0, "there are floors above the operations");
}

#[test]
fn the_device_check_sees_every_form_of_assumption() {
    let assumed = |source: &str| device_assumed(source, 1);
    assert_eq!(assumed("match device { Device::Cpu(cpu) => 1 }"), Some("Device::Cpu"));
    assert_eq!(assumed("use crate::{base, cpu::peak};"), Some("crate::cpu"));
    assert_eq!(assumed("loss\n    .f32()[0]"), Some(".f32()"));
    assert_eq!(assumed("y.slice_mut::<u32>()"), Some(".slice"));
    assert_eq!(assumed("w.flat_mut(1).fill(0.0)"), Some(".flat_mut("));
    assert_eq!(assumed("Device::cpu(Cpu::new(None, F32)?) // Device::Cpu"), None);
}

#[test]
fn the_floors_stand_in_the_library_in_their_order() {
    let library = fs::read_to_string("src/lib.rs").unwrap();
    let there: Vec<&str> =
        library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let in_order: Vec<&str> = FLOORS.into_iter().filter(|floor| there.contains(floor)).collect();
    assert_eq!(there, in_order);
}

/// That each block says why it is sound is a lint of `Cargo.toml`, which lets no module out but one of instructions.
#[test]
fn unsafe_code_stays_where_it_is_allowed() {
    for file in files_under(Path::new("src"), "rs") {
        let source = fs::read_to_string(&file).unwrap();
        let allowed = ["src/device", "src/cpu", "src/ffi"].iter().any(|place| file.starts_with(place));
        for line in source.lines() {
            let code = line.split("//").next().unwrap_or("");
            if code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe") {
                assert!(allowed, "{}: unsafe code belongs to src/device, src/cpu and the C API", file.display());
            }
        }
        assert!(
            !source.contains("undocumented_unsafe_blocks") || file.ends_with("cpu/matmul/x86.rs"),
            "{}: a block of unsafe code says why it is sound",
            file.display()
        );
    }
}

#[test]
fn every_operation_has_its_kernel_its_test_and_its_bench_under_its_own_name() {
    // Their processor kernels are products with an epilogue: src/cpu/matmul.
    const PRODUCTS: [&str; 2] = ["linear", "mlp"];
    let operations: Vec<String> = files_under(Path::new("src/ops"), "rs")
        .iter()
        // A folder holds parts of the operation of its name.
        .filter(|file| file.parent() == Some(Path::new("src/ops")))
        .map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "mod")
        .collect();
    assert!(PRODUCTS.iter().all(|product| operations.iter().any(|name| name == product)), "a product is an operation");
    for name in operations {
        let kernel = format!("src/cpu/{name}.rs");
        if PRODUCTS.contains(&name.as_str()) {
            assert!(!Path::new(&kernel).exists(), "{name} has a kernel of its own: it is no mere product");
            let source = fs::read_to_string(format!("src/ops/{name}.rs")).unwrap();
            assert!(source.contains("cpu::matmul::"), "src/ops/{name}.rs launches no product");
        } else {
            assert!(Path::new(&kernel).exists(), "{kernel} is missing");
        }
        let [launches, card] = [format!("src/cuda/{name}.rs"), format!("kernels/{name}.cu")];
        assert!(Path::new(&launches).exists() && Path::new(&card).exists(), "{launches} or {card} is missing");
        for folder in ["tests/ops", "benches/ops"] {
            assert!(Path::new(&format!("{folder}/{name}.rs")).exists(), "{folder}/{name}.rs is missing");
            let main = fs::read_to_string(format!("{folder}/main.rs")).unwrap();
            assert!(main.contains(&format!("mod {name};\n")), "{folder}/main.rs leaves {name} out");
        }
    }
}

/// The documents of the project: none that git ignores.
fn documents(folder: &Path, ignored: &[&str]) -> Vec<PathBuf> {
    let mut documents = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let path = path.strip_prefix(".").unwrap_or(&path);
        let name = path.file_name().unwrap().to_str().unwrap();
        let rooted = format!("/{}", path.display());
        if name.starts_with('.') || ignored.iter().any(|&ignored| ignored == name || ignored == rooted) {
            continue;
        } else if path.is_dir() {
            documents.extend(self::documents(path, ignored));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            documents.push(path.into());
        }
    }
    documents
}

/// The paths that a document in `folder` names: from the root, or from there, each word in quotes, commands and text that
/// begins with a place of ours, and the target of each link. A pattern or a placeholder is no path.
fn paths_named(text: &str, folder: &Path) -> Vec<PathBuf> {
    const PLACES: [&str; 8] = ["src/", "kernels/", "tests/", "benches/", "tools/", "include/", "examples/", ".ci/"];
    let words = text.split(|c: char| c.is_whitespace() || "`'\"()[]|=,;".contains(c));
    let ours = words
        .filter(|word| PLACES.iter().any(|place| word.starts_with(place)) && !word.contains(['*', '<', '{', '$', '…']));
    // In a recipe X stands for the name of an operation.
    let whole = ours
        .map(|word| word.trim_end_matches([':', '.']))
        .filter(|word| !word.split(['/', '.']).any(|part| part == "X"));
    let targets = text.split("](").skip(1).filter_map(|link| link.split([')', '#']).next());
    let relative = targets.filter(|target| !target.is_empty() && !target.contains("://"));
    whole.map(PathBuf::from).chain(relative.map(|target| folder.join(target))).collect()
}

#[test]
fn every_path_named_in_the_documents_exists() {
    let ignored = fs::read_to_string(".gitignore").unwrap();
    let documents = documents(Path::new("."), &ignored.lines().collect::<Vec<_>>());
    assert!(["README.md", "src/data/fashion-mnist/README.md"].iter().all(|name| documents.contains(&name.into())));
    for document in documents {
        let text = fs::read_to_string(&document).unwrap_or_else(|e| panic!("{}: {e}", document.display()));
        let folder = document.parent().unwrap();
        for path in paths_named(&text, folder) {
            assert!(
                path.exists() || folder.join(&path).exists(),
                "{}: {} does not exist",
                document.display(),
                path.display()
            );
        }
    }
}

#[test]
fn the_check_of_documents_sees_every_form_of_path() {
    let named = |text: &str| paths_named(text, Path::new("tools/peers"));
    assert_eq!(
        named("`tools/a --out=src/b.rs`: see kernels/c.cu."),
        ["tools/a", "src/b.rs", "kernels/c.cu"].map(PathBuf::from)
    );
    assert_eq!(named("    cargo run -- train src/d.toml"), [PathBuf::from("src/d.toml")]);
    assert_eq!(named("[e](e.md), [f](../f.md#g)"), ["tools/peers/e.md", "tools/peers/../f.md"].map(PathBuf::from));
    assert!(named("[h](https://src/h), [i](#j), `src/*.rs`, src/<op>.rs, `src/ops/X.rs`").is_empty());
}
