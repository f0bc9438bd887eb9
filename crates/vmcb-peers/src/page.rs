//! The table as a page.

use crate::table::{Check, Evidence, Implementation, Row, TABLE, ids};
use std::fmt::Write as _;

/// `docs/peers.md`: rules by implementations, then what differs, in Markdown.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# What implementations check\n\nGenerated from `crates/vmcb-peers/src/table.rs`; do not edit.\n\n\
         **yes**: as the rulebook. **no**: no check. **differs**: a check that refuses other values, see below. \
         **stops**: no check,\nand the machine stops. **?**: nobody has looked. In brackets the versions; of other \
         versions it is not known.\n\n",
    );
    page.push_str("| rule |");
    for of in Implementation::ALL {
        match only_version(of) {
            Some(version) => _ = write!(page, " {} ({version}) |", of.title()),
            None => _ = write!(page, " {} |", of.title()),
        }
    }
    page.push_str("\n| --- |");
    page.push_str(&" --- |".repeat(Implementation::ALL.len()));
    page.push('\n');
    for id in ids() {
        let _ = write!(page, "| `{id}` |");
        for of in Implementation::ALL {
            let _ = write!(page, " {} |", cell(of, id));
        }
        page.push('\n');
    }
    for of in Implementation::ALL {
        let _ = writeln!(
            page,
            "\n## {}\n\n| versions | rules | what it does | known from |\n| --- | --- | --- | --- |",
            of.title()
        );
        for row in TABLE.iter().filter(|row| row.of == of && !row.does.is_empty()) {
            let ids: Vec<String> = row.ids.split(' ').map(|id| format!("`{id}`")).collect();
            let versions = if row.versions == "*" { "all" } else { row.versions };
            let _ = writeln!(
                page,
                "| {versions} | {} | {} | {} |",
                ids.join(" "),
                row.in_words(),
                evidence(row.evidence)
            );
        }
    }
    page
}

/// The version of all observations of an implementation, where it is one.
fn only_version(of: Implementation) -> Option<&'static str> {
    let mut versions = TABLE.iter().filter(|row| row.of == of && row.versions != "*").map(|row| row.versions);
    let first = versions.next()?;
    versions.all(|version| version == first).then_some(first)
}

/// What one implementation does with one rule: each word once, with its versions.
fn cell(of: Implementation, id: &str) -> String {
    let mut words: Vec<(&str, Vec<&str>)> = Vec::new();
    for row in Row::all(of, id) {
        let word = match row.check {
            Check::Same => "yes",
            Check::Absent => "no",
            Check::Differs(_) => "differs",
            Check::Stops => "stops",
            Check::NotSeen => continue,
        };
        match words.iter_mut().find(|(other, _)| *other == word) {
            Some((_, versions)) => versions.push(row.versions),
            None => words.push((word, vec![row.versions])),
        }
    }
    let with_versions = |(word, versions): &(&str, Vec<&str>)| match only_version(of) {
        Some(_) => (*word).to_owned(),
        None => format!("{word} ({})", versions.join(" ")),
    };
    let parts: Vec<String> = words.iter().map(with_versions).collect();
    if parts.is_empty() { "?".to_owned() } else { parts.join("<br>") }
}

fn evidence(evidence: Evidence) -> String {
    match evidence {
        Evidence::Measured { date, below: "" } => format!("measured {date}"),
        Evidence::Measured { date, below } => format!("measured {date} on {below}"),
        Evidence::Source { revision } => format!("source, {revision}"),
        Evidence::Unknown => "not known".to_owned(),
    }
}
