//! The page `docs/lab.md`.

use super::common;
use nsvm_lab::expected::{self, Expected};
use nsvm_lab::report::Report;
use std::fs;

/// `docs/lab.md`: what the kept results show, held against the list of expected differences.
#[test]
fn generated_file_docs_lab() {
    let parts = common::results();
    let merged = nsvm_lab::results::merge(parts).expect("the kept results do not contradict each other");
    let list = Expected::parse(expected::FILE, expected::TEXT).expect("the list can be read");
    let comparison = nsvm_lab::compare::compare_all(merged, &list).expect("the sets are known");
    let unlisted: Vec<_> =
        comparison.unlisted.iter().map(|group| format!("{}: {group}", group.subject)).collect();
    assert_eq!(unlisted, [""; 0], "differences that no row explains");
    assert_eq!(comparison.stale, [""; 0], "rows that explain nothing");
    assert_eq!(comparison.unknown, 0, "every case of the results is in its set");
    let text = format!(
        "<!-- Made from results/ by `cargo xtask generate`. -->\n{}",
        Report::new(comparison.rows).markdown()
    );
    let path = common::root().join("docs/lab.md");
    if std::env::var_os("NSVM_GENERATE").is_some() {
        fs::write(&path, &text).expect("the page");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "docs/lab.md is stale or missing: run `cargo xtask generate`");
}
