//! The table as a page.

use crate::predict::in_words;
use crate::table::{Check, Evidence, Implementation, Row, TABLE, ids};
use std::fmt::Write as _;

/// `docs/peers.md`: rules by implementations, then what differs, in Markdown.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# What implementations check\n\nGenerated from `crates/vmcb-peers/src/table.rs`; do not edit.\n\n\
         **yes**: as the rulebook. **no**: no check. **differs**: a check that refuses other values, see below. \
         **stops**: no check,\nand the machine stops. **?**: nobody has looked. In brackets the versions; other \
         versions are not known.\n\n",
    );
    page.push_str("| rule |");
    for of in Implementation::ALL {
        let _ = write!(page, " {} |", of.title());
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
                in_words(row),
                evidence(row.evidence)
            );
        }
    }
    page
}

/// What one implementation does with one rule, oldest row last.
fn cell(of: Implementation, id: &str) -> String {
    let parts: Vec<String> = Row::all(of, id)
        .filter(|row| !matches!(row.check, Check::NotSeen))
        .map(|row| {
            let word = match row.check {
                Check::Same => "yes",
                Check::Absent => "no",
                Check::Differs(_) => "differs",
                Check::Stops => "stops",
                Check::NotSeen => "?",
            };
            format!("{word} ({})", row.versions)
        })
        .collect();
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
