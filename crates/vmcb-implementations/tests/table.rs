//! The table is whole and says nothing twice; `docs/peers.md` is what it says.

use std::path::Path;
use vmcb::Rule;
use vmcb_implementations::{Check, Evidence, HABITS, Implementation, Row, TABLE, Version, Versions, ids};

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
    for pattern in vmcb_implementations::STILL_BROKEN_IN_VMCB02.split_whitespace() {
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

#[test]
fn no_row_is_hidden_by_those_above_it() {
    for row in TABLE {
        let counts = ids()
            .filter(|id| row.names(id))
            .any(|id| Row::all(row.of, id).any(|other| std::ptr::eq(other, row)));
        assert!(counts, "another row always comes first: {row:?}");
    }
}

/// The first row that fits counts: what is above, for the versions that it names.
#[test]
fn the_first_row_that_fits_counts() {
    let find = |of, version: &str, id| {
        let version: Version = version.parse().expect("a version");
        Row::find(of, version, id).map(|row| row.versions)
    };
    let address = |version| find(Implementation::QemuTcg, version, "pre-vmcb-address");
    assert_eq!(address("7.2.22"), Some("7.2.22 10.0.2 10.0.13 11.1.2 11.1.3"));
    assert_eq!(address("7.2.21"), Some("7.2.10-7.2.22"));
    assert_eq!(address("7.2.9"), Some("7.2.0-7.2.9"));
    assert_eq!(address("7.2.23"), None);
    assert_eq!(find(Implementation::VirtualBox, "git:4908d8d1a85c", "sav-efer-mbz"), Some("*"));
    let seen = Row::all(Implementation::VirtualBox, "sav-efer-mbz").map(|row| row.check);
    assert!(seen.into_iter().all(|check| matches!(check, Check::NotSeen)), "a row below is hidden");
}

#[test]
fn generated_file_docs_peers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/peers.md");
    let page = vmcb_implementations::page();
    if std::env::var_os("NSVM_GENERATE").is_some() {
        std::fs::write(&path, &page).expect("docs/peers.md is written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/peers.md is stale: run `cargo xtask generate`");
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
