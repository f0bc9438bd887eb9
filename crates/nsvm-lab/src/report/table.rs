//! Rules by subjects, counted.

use super::agreement::{Agreement, Counts, Expected};
use crate::outcome::{Outcome, Seen};
use crate::results::{Head, answer_name, compress, events};
use std::collections::{BTreeMap, BTreeSet};
use vmcb::Rule;

/// One subject: who it is and what became of each of its cases.
#[derive(Clone, Debug)]
pub struct Row {
    /// Head of its section in the results.
    pub head: Head,
    /// Its cases.
    pub cases: Vec<CaseReport>,
}

/// One case on one subject.
#[derive(Clone, Debug)]
pub struct CaseReport {
    /// The case's id.
    pub id: String,
    /// The rules of the rulebook that are broken, unstated or unknown; none if the VMCB is legal.
    pub rules: Vec<&'static str>,
    /// What the rulebook says.
    pub expected: Expected,
    /// What the subject did.
    pub outcome: Outcome,
    /// How the two compare.
    pub agreement: Agreement,
    /// Why a difference is known, as the list of expected differences gives it.
    pub reason: Option<String>,
    /// Whether `vmcb-implementations` predicted this answer; `None` if it predicts nothing here.
    pub prediction: Option<bool>,
    /// Which layer of the stack answered: `kvm`, `qemu-tcg`; `None` if nobody can tell.
    pub layer: Option<String>,
}

/// Rules by subjects.
#[derive(Clone, Debug)]
pub struct Report {
    pub(super) rows: Vec<Row>,
    pub(super) lines: Vec<Line>,
    pub(super) totals: Vec<Counts>,
    pub(super) unmeasured: Vec<Unmeasured>,
    /// Only a part of a set was run.
    pub(super) part: bool,
}

/// One rule, and how many of its cases did what on each subject.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// `None`: no rule is broken.
    pub(super) rule: Option<&'static str>,
    /// By subject.
    pub(super) counts: Vec<Counts>,
}

/// What stands for a rule in the line of legal VMCBs.
pub(super) const LEGAL: &str = "(legal)";

impl Line {
    pub(super) fn name(&self) -> &'static str {
        self.rule.unwrap_or(LEGAL)
    }

    pub(super) fn cases(&self) -> usize {
        self.counts.iter().map(Counts::total).max().unwrap_or_default()
    }
}

/// A rule that no subject could exercise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unmeasured {
    /// Its id.
    pub rule: &'static str,
    /// Why its cases were skipped; empty if it has none.
    pub why: Vec<String>,
}

/// Cases with one explanation and one answer, on one or several subjects.
pub(super) struct Finding {
    pub(super) reason: Option<String>,
    pub(super) layer: Option<String>,
    pub(super) rules: Vec<&'static str>,
    pub(super) expected: &'static str,
    pub(super) answer: String,
    pub(super) prediction: Option<bool>,
    /// Outcomes with their number of cases.
    pub(super) outcomes: BTreeMap<String, usize>,
    pub(super) cases: usize,
    pub(super) ids: Vec<String>,
    pub(super) events: Vec<String>,
    pub(super) subjects: Vec<usize>,
}

impl Report {
    /// Counts.
    #[must_use]
    pub fn new(rows: Vec<Row>) -> Self {
        let mut by_rule: BTreeMap<(usize, &'static str), Line> = BTreeMap::new();
        let mut totals = vec![Counts::default(); rows.len()];
        let mut skips: BTreeMap<&'static str, BTreeSet<&str>> = BTreeMap::new();
        let mut measured = BTreeSet::new();
        for (subject, row) in rows.iter().enumerate() {
            for case in &row.cases {
                totals[subject].add(case.agreement);
                let mut rules: Vec<Option<&'static str>> = case.rules.iter().copied().map(Some).collect();
                rules.sort_unstable();
                rules.dedup();
                if rules.is_empty() {
                    rules.push(None);
                }
                for rule in rules {
                    let line = by_rule
                        .entry(place(rule))
                        .or_insert_with(|| Line { rule, counts: vec![Counts::default(); rows.len()] });
                    line.counts[subject].add(case.agreement);
                    match (&case.outcome.seen, rule) {
                        (Seen::Skipped(why), Some(rule)) => drop(skips.entry(rule).or_default().insert(why)),
                        (_, Some(rule)) => drop(measured.insert(rule)),
                        (_, None) => {}
                    }
                }
            }
        }
        let unmeasured =
            Rule::ALL.iter().map(|rule| rule.id()).filter(|rule| !measured.contains(rule)).map(|rule| {
                let why = skips.get(rule).into_iter().flatten().map(|&why| why.to_owned()).collect();
                Unmeasured { rule, why }
            });
        let unmeasured = unmeasured.collect();
        let lines = by_rule.into_values().collect();
        Self { lines, totals, unmeasured, part: false, rows }
    }

    /// The subjects, in the order of the columns.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Counts of one subject over all of its cases.
    #[must_use]
    pub fn totals(&self, subject: usize) -> Counts {
        self.totals.get(subject).copied().unwrap_or_default()
    }

    /// Counts of one rule's cases on one subject; `None` as rule: the legal VMCBs.
    #[must_use]
    pub fn counts(&self, rule: Option<&str>, subject: usize) -> Counts {
        let line = self.lines.iter().find(|line| line.rule == rule);
        line.and_then(|line| line.counts.get(subject)).copied().unwrap_or_default()
    }

    /// Without the list of rules that no subject could exercise, which says nothing where a part of a set was run.
    #[must_use]
    pub fn of_a_part(mut self) -> Self {
        self.unmeasured.clear();
        self.part = true;
        self
    }

    /// Rules that no subject could exercise: without a case, or with skipped ones only.
    #[must_use]
    pub fn unmeasured(&self) -> &[Unmeasured] {
        &self.unmeasured
    }

    pub(super) fn unmeasured_by_reason(&self) -> BTreeMap<String, Vec<&'static str>> {
        let mut reasons: BTreeMap<String, Vec<&'static str>> = BTreeMap::new();
        for Unmeasured { rule, why } in &self.unmeasured {
            let why = if why.is_empty() { "no case".to_owned() } else { why.join("; ") };
            reasons.entry(why).or_default().push(rule);
        }
        reasons
    }

    /// How many cases of the set a subject has no outcome of.
    pub(super) fn missing(&self, subject: usize) -> usize {
        let row = &self.rows[subject];
        row.head.cases.saturating_sub(row.cases.len())
    }

    /// Cases of a kind, those without a reason first, then by reason.
    pub(super) fn findings(&self, agreement: Agreement) -> Vec<Finding> {
        type Key<'a> =
            (Option<&'a str>, Option<&'a str>, Vec<&'static str>, &'static str, String, Option<bool>);
        let mut groups: BTreeMap<(Key<'_>, usize), Vec<&CaseReport>> = BTreeMap::new();
        for (subject, row) in self.rows.iter().enumerate() {
            for case in row.cases.iter().filter(|case| case.agreement == agreement) {
                let mut rules = case.rules.clone();
                rules.sort_by_key(|rule| place(Some(rule)));
                let key = (
                    case.reason.as_deref(),
                    case.layer.as_deref(),
                    rules,
                    case.expected.name(),
                    answer_name(case.outcome.answer()),
                    case.prediction,
                );
                groups.entry((key, subject)).or_default().push(case);
            }
        }
        // Subjects that did the same with the same cases share a line.
        type Same<'a> = (Key<'a>, Vec<String>, BTreeMap<String, usize>);
        let mut shared: BTreeMap<Same<'_>, Finding> = BTreeMap::new();
        for ((key, subject), members) in groups {
            let ids = || members.iter().map(|case| case.id.as_str());
            let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
            for case in &members {
                *outcomes.entry(case.outcome.to_string()).or_default() += 1;
            }
            shared
                .entry((key, compress(ids()), outcomes))
                .or_insert_with_key(
                    |((reason, layer, rules, expected, answer, prediction), all, outcomes)| Finding {
                        reason: reason.map(str::to_owned),
                        layer: layer.map(str::to_owned),
                        rules: rules.clone(),
                        expected,
                        answer: answer.clone(),
                        prediction: *prediction,
                        outcomes: outcomes.clone(),
                        cases: members.len(),
                        ids: all.clone(),
                        events: events(ids()),
                        subjects: Vec::new(),
                    },
                )
                .subjects
                .push(subject);
        }
        shared.into_values().collect()
    }

    pub(super) fn labels(&self, subjects: &[usize]) -> String {
        subjects.iter().map(|&subject| self.rows[subject].head.label()).collect::<Vec<_>>().join("; ")
    }
}

/// Returns the sort key of a rule's line: legal VMCBs first, then the order of the rulebook, then unknown names.
fn place(rule: Option<&'static str>) -> (usize, &'static str) {
    let Some(rule) = rule else { return (0, "") };
    match Rule::ALL.iter().position(|known| known.id() == rule) {
        Some(index) => (1 + index, ""),
        None => (usize::MAX, rule),
    }
}
