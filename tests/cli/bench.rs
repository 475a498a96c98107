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
