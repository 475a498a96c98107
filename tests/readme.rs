//! Every command that the README shows is one that the binary takes.

use std::process::Command;

#[test]
fn every_command_of_the_readme_is_known_with_its_flags() {
    let readme = std::fs::read_to_string("README.md").unwrap();
    let mut seen = 0;
    for line in readme.lines().filter_map(|line| line.trim().strip_prefix("cargo run --release -- ")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let help =
            |verbs: &[&str]| Command::new(env!("CARGO_BIN_EXE_engine")).args(verbs).arg("--help").output().unwrap();
        // Some verbs have others below them.
        let below = |verb: &str| String::from_utf8_lossy(&help(&[verb]).stdout).contains("Commands:");
        let verbs = &words[..1 + usize::from(below(words[0]))];
        let help = help(verbs);
        let text = String::from_utf8_lossy(&help.stdout);
        // An unknown verb below another one fails; the help of the verb itself names it.
        assert!(help.status.success(), "{line}: {}", String::from_utf8_lossy(&help.stderr));
        assert!(text.contains(&format!("engine {}", verbs.join(" "))), "{line}: no such verb");
        for flag in words.iter().filter(|word| word.starts_with("--")) {
            assert!(text.contains(*flag), "{line}: {} has no {flag}", verbs.join(" "));
        }
        seen += 1;
    }
    assert!(seen >= 6, "the README shows commands");
}
