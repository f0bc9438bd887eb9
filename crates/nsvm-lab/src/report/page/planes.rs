//! What one subject does with events, by TYPE and VECTOR.

use crate::outcome::Answer;
use crate::report::agreement::Agreement;
use crate::report::table::Row;
use crate::results::event_of;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// What one subject does with events.
pub(super) struct Plane<'a> {
    /// By TYPE and VECTOR.
    pub(super) cells: BTreeMap<(u8, u8), Cell<'a>>,
    /// What cells have in common.
    pub(super) groups: Vec<Group>,
    /// Answers to V = 0, and how many cases got them.
    pub(super) no_event: BTreeMap<String, usize>,
}

pub(super) struct Cell<'a> {
    pub(super) group: usize,
    pub(super) ids: Vec<&'a str>,
}

pub(super) struct Group {
    pub(super) kind: &'static str,
    pub(super) agreement: Agreement,
    pub(super) text: String,
}

impl Group {
    pub(super) fn differs(&self) -> bool {
        self.agreement == Agreement::Differs
    }
}

impl<'a> Plane<'a> {
    pub(super) fn of(row: &'a Row) -> Self {
        let mut no_event = BTreeMap::new();
        let mut gathered: BTreeMap<(u8, u8), Vec<_>> = BTreeMap::new();
        let mut bases = BTreeSet::new();
        for case in &row.cases {
            let Some(event) = event_of(&case.id) else { continue };
            if event.valid {
                bases.insert(event.base);
                gathered.entry((event.kind, event.vector)).or_default().push((event, case));
            } else {
                let mark = if case.agreement == Agreement::Differs { " (differs)" } else { "" };
                let answer = crate::results::answer_name(case.outcome.answer());
                *no_event.entry(format!("{answer}{mark}")).or_default() += 1;
            }
        }
        let mut known: BTreeMap<(&'static str, Agreement, String), usize> = BTreeMap::new();
        let mut cells = BTreeMap::new();
        for (place, cases) in gathered {
            // Outcomes with whom they are of: (base, EV).
            let mut parts: BTreeMap<(String, &'static str), BTreeSet<(&str, bool)>> = BTreeMap::new();
            for (event, case) in &cases {
                let part = (case.outcome.to_string(), case.expected.name());
                parts.entry(part).or_default().insert((event.base, event.error));
            }
            let expectations: BTreeSet<_> = parts.keys().map(|(_, expected)| *expected).collect();
            let mut text: Vec<_> = parts
                .iter()
                .map(|((outcome, expected), of)| {
                    let whom = if parts.len() == 1 { String::new() } else { whom(of, bases.len()) };
                    let expected = if expectations.len() == 1 {
                        String::new()
                    } else {
                        format!(" (expected {expected})")
                    };
                    format!("{whom}{outcome}{expected}")
                })
                .collect();
            text.sort();
            let mut text = text.join("; ");
            if let (Some(expected), 1) = (expectations.first(), expectations.len()) {
                let _ = write!(text, " – expected {expected}");
            }
            let seen: BTreeSet<_> = cases.iter().map(|(_, case)| case.agreement).collect();
            use Agreement::{Agrees, Broken, Differs, NotComparable, Skipped};
            let order = [Differs, Broken, NotComparable, Agrees];
            let agreement = order.into_iter().find(|one| seen.contains(one)).unwrap_or(Skipped);
            let kinds: BTreeSet<_> = cases
                .iter()
                .map(|(_, case)| match case.outcome.answer() {
                    Answer::Accepted => "acc",
                    Answer::Refused(_) | Answer::Fault => "ref",
                    Answer::Broken => "bro",
                    Answer::Skipped => "ski",
                })
                .collect();
            let kind = match kinds.first() {
                Some(kind) if kinds.len() == 1 => *kind,
                _ => "mix",
            };
            let count = known.len();
            let group = *known.entry((kind, agreement, text)).or_insert(count);
            cells
                .insert(place, Cell { group, ids: cases.iter().map(|(_, case)| case.id.as_str()).collect() });
        }
        let mut groups: Vec<_> = known.into_iter().map(|(group, index)| (index, group)).collect();
        groups.sort_unstable();
        let groups =
            groups.into_iter().map(|(_, (kind, agreement, text))| Group { kind, agreement, text }).collect();
        Self { cells, groups, no_event }
    }

    /// Returns the runs of neighboring cells that differ: TYPE, first and last VECTOR.
    pub(super) fn outlines(&self) -> Vec<(u8, u8, u8)> {
        let mut runs: Vec<(u8, u8, u8)> = Vec::new();
        for (&(kind, vector), cell) in &self.cells {
            if !self.groups[cell.group].differs() {
                continue;
            }
            match runs.last_mut() {
                // Not across the gap.
                Some((k, _, last)) if *k == kind && last.checked_add(1) == Some(vector) && vector != 32 => {
                    *last = vector;
                }
                _ => runs.push((kind, vector, vector)),
            }
        }
        runs
    }
}

/// `EV 0: `, `long64, EV 1 of pae: `: which cases of a cell.
fn whom(of: &BTreeSet<(&str, bool)>, bases: usize) -> String {
    for error in [false, true] {
        if of.iter().all(|&(_, ev)| ev == error) && of.len() == bases {
            return format!("EV {}: ", u8::from(error));
        }
    }
    let names: BTreeSet<&str> = of.iter().map(|&(base, _)| base).collect();
    let parts =
        names.into_iter().map(|base| match (of.contains(&(base, false)), of.contains(&(base, true))) {
            (true, true) => base.to_owned(),
            (_, error) => format!("EV {} of {base}", u8::from(error)),
        });
    format!("{}: ", parts.collect::<Vec<_>>().join(", "))
}
