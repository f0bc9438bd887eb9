//! The table is whole and says nothing twice; `docs/peers.md` is what it says.

use std::collections::BTreeSet;
use std::path::Path;
use vmcb::Rule;
use vmcb_peers::{Check, Evidence, HABITS, Implementation, Row, TABLE, Version, Versions, ids};

#[test]
fn every_rule_and_habit_has_a_row_of_each_implementation() {
    assert_eq!(ids().count(), Rule::ALL.len() + HABITS.len());
    for id in ids() {
        for of in Implementation::ALL {
            assert!(Row::all(of, id).next().is_some(), "{} has no row for {id}", of.name());
        }
    }
}

#[test]
fn every_id_of_a_row_exists() {
    for row in TABLE {
        for pattern in row.ids.split(' ') {
            let named = ids().filter(|id| match pattern.strip_suffix('*') {
                Some(start) => id.starts_with(start),
                None => *id == pattern,
            });
            assert!(named.count() > 0, "`{pattern}` names no rule: {row:?}");
        }
    }
    for pattern in vmcb_peers::STILL_BROKEN_IN_VMCB02.split_whitespace() {
        let start = pattern.trim_end_matches('*');
        assert!(ids().any(|id| id.starts_with(start)), "`{pattern}` names no rule");
    }
}

#[test]
fn rows_are_well_formed() {
    for row in TABLE {
        row.versions.parse::<Versions>().unwrap_or_else(|error| panic!("{row:?}: {error}"));
        let unknown = matches!(row.evidence, Evidence::Unknown);
        assert_eq!(unknown, matches!(row.check, Check::NotSeen), "{row:?}");
        assert!(!row.does.is_empty() || matches!(row.check, Check::Same), "say what it does: {row:?}");
        assert!(!row.does.ends_with('.') && !row.does.contains('|'), "{row:?}");
        match row.evidence {
            Evidence::Measured { date, .. } => assert!(is_date(date), "{row:?}"),
            Evidence::Source { revision } => assert!(!revision.is_empty(), "{row:?}"),
            Evidence::Unknown => {}
        }
    }
}

fn is_date(text: &str) -> bool {
    let digits = |part: &str, length| part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<_> = text.split('-').collect();
    matches!(parts[..], [y, m, d] if digits(y, 4) && digits(m, 2) && digits(d, 2))
}

/// Versions at which each set of versions may begin or end to count.
fn corners() -> Vec<Version> {
    let mut texts = BTreeSet::new();
    for part in TABLE.iter().flat_map(|row| row.versions.split(' ')) {
        if part.starts_with("git:") {
            texts.insert(part.to_owned());
        } else {
            texts.extend(part.split('-').filter(|part| *part != "*").map(str::to_owned));
        }
    }
    texts.insert("999.0".to_owned());
    texts.iter().map(|text| text.parse().unwrap_or_else(|error| panic!("{error}"))).collect()
}

#[test]
fn no_row_is_hidden_by_those_above_it() {
    let corners = corners();
    for row in TABLE {
        let counts = ids().filter(|id| row.names(id)).any(|id| {
            corners
                .iter()
                .any(|&version| Row::find(row.of, version, id).is_some_and(|found| std::ptr::eq(found, row)))
        });
        assert!(counts, "another row always comes first: {row:?}");
    }
}

#[test]
fn the_page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/peers.md");
    let page = vmcb_peers::page();
    if std::env::var_os("NSVM_BLESS").is_some() {
        std::fs::write(&path, &page).expect("docs/peers.md is written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/peers.md is stale: run `NSVM_BLESS=1 cargo test -p vmcb-peers`");
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        assert_eq!(line.matches(" |").count(), 1 + Implementation::ALL.len(), "{line}");
    }
}

#[test]
fn implementations_have_names() {
    for of in Implementation::ALL {
        assert_eq!(Implementation::from_name(of.name()), Some(of));
        assert!(!of.title().is_empty());
    }
    assert_eq!(Implementation::from_name("KVM"), None);
}
