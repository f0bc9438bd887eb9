//! `docs/rules` is what the rows say: with `UPDATE=1` these tests write the pages.

mod common;

use nsvm_lab::expected::{self, Expected};
use nsvm_lab::report::Report;
use std::collections::BTreeMap;
use std::fs;
use vmcb::Rule;

fn pages() -> BTreeMap<String, String> {
    let mut pages: BTreeMap<String, String> =
        Rule::ALL.iter().map(|rule| (format!("{}.md", rule.id()), nsvm::rule_page(*rule))).collect();
    pages.insert("index.md".into(), nsvm::index_page());
    pages
}

#[test]
fn the_pages_are_up_to_date() {
    let folder = common::root().join("docs/rules");
    let pages = pages();
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(&folder).expect("the folder");
        for (name, text) in &pages {
            fs::write(folder.join(name), text).expect("a page");
        }
    }
    let hint = "run `UPDATE=1 cargo test -p nsvm --test pages`";
    for (name, text) in &pages {
        let found = fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(found == *text, "docs/rules/{name} is stale or missing: {hint}");
    }
    for entry in fs::read_dir(&folder).expect("the folder") {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        assert!(pages.contains_key(&name), "docs/rules/{name} is the page of no rule");
    }
}

/// `docs/lab.md`: what the kept results show, held against the list of expected differences.
#[test]
fn the_lab_page_is_what_the_results_show() {
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
        "<!-- Made from results/ by `UPDATE=1 cargo test -p nsvm --test pages`. -->\n{}",
        Report::new(comparison.rows).markdown()
    );
    let path = common::root().join("docs/lab.md");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &text).expect("the page");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "docs/lab.md is stale or missing: run `UPDATE=1 cargo test -p nsvm --test pages`");
}

#[test]
fn every_link_of_the_index_has_its_page() {
    let index = nsvm::index_page();
    let links = index.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()).collect::<Vec<_>>();
    assert_eq!(links.len(), Rule::ALL.len());
    for link in links {
        assert!(pages().contains_key(link), "{link}");
    }
}
