//! The cases of each rule.

use super::html::{anchor, class, ids};
use crate::report::agreement::Agreement;
use crate::report::table::{Line, Report};
use crate::report::words::prediction;
use crate::results::{compress, events};
use maud::{Markup, html};
use std::collections::BTreeMap;
use vmcb::Rule;

pub(super) fn cases(report: &Report) -> Markup {
    html! {
        section id="cases" {
            "\n"
            h2 { "Cases" } "\n"
            @for (index, line) in report.lines.iter().enumerate() {
                section id=(anchor(index, line, None)) class="rule" {
                    "\n"
                    h3 { (line.name()) } "\n"
                    @if line.rule.is_none() {
                        p class="small" { "VMCBs that break no rule." } "\n"
                    } @else if let Some(row) = line.rule.and_then(Rule::from_id).map(Rule::row) {
                        p class="small" {
                            (row.title) ". Manual volume 2, " (row.section) "; class " (row.class.letter()) "."
                        }
                        "\n"
                    }
                    @for (block, subjects) in blocks(report, line) {
                        (table(report, (index, line), &block, &subjects))
                    }
                }
                "\n"
            }
        }
        "\n"
    }
}

fn table(report: &Report, (index, line): (usize, &Line), block: &Block, subjects: &[usize]) -> Markup {
    html! {
        h4 {
            @for (at, &subject) in subjects.iter().enumerate() {
                @if at > 0 { "; " }
                span id=(anchor(index, line, Some(subject))) { (report.rows[subject].head.label()) }
            }
        }
        "\n"
        div class="scroll" {
            table class="plain wide" {
                "\n"
                caption class="hear" { (line.name()) } "\n"
                thead {
                    tr {
                        th scope="col" { "cases" }
                        th scope="col" { "expected" }
                        th scope="col" { "seen" }
                        th scope="col" { "why" }
                        th scope="col" { "which" }
                    }
                }
                "\n"
                tbody {
                    "\n"
                    @for (common, (count, cases, events)) in block {
                        tr {
                            th scope="row" class=(class(common.agreement)) {
                                i aria-hidden="true" { (common.agreement.sign()) }
                                " " (count) " " (common.agreement.words())
                            }
                            td { (common.expected) }
                            td { code { (common.outcome) } }
                            td { (common.why()) }
                            td { (ids(cases, events)) }
                        }
                        "\n"
                    }
                }
                "\n"
            }
        }
        "\n"
    }
}

/// What cases in one row of a table have in common.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Common {
    agreement: Agreement,
    reason: Option<String>,
    expected: &'static str,
    outcome: String,
    layer: Option<String>,
    prediction: Option<bool>,
}

impl Common {
    fn why(&self) -> String {
        let layer = self.layer.as_ref().map(|layer| format!("answered by {layer}"));
        let words = prediction(self.prediction).trim_start_matches(", ").to_owned();
        let why = [self.reason.clone(), layer, Some(words).filter(|words| !words.is_empty())];
        why.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

/// The cases of one rule on one subject: how many, which, which events.
type Block = BTreeMap<Common, (usize, Vec<String>, Vec<String>)>;

/// Subjects whose cases came out the same share a block.
fn blocks(report: &Report, line: &Line) -> Vec<(Block, Vec<usize>)> {
    let mut blocks: Vec<(Block, Vec<usize>)> = Vec::new();
    for subject in 0..report.rows.len() {
        let block = block(report, line, subject);
        match blocks.iter_mut().find(|(known, _)| *known == block) {
            _ if block.is_empty() => {}
            Some((_, subjects)) => subjects.push(subject),
            None => blocks.push((block, vec![subject])),
        }
    }
    blocks
}

fn block(report: &Report, line: &Line, subject: usize) -> Block {
    let mut groups: BTreeMap<Common, Vec<&str>> = BTreeMap::new();
    for case in &report.rows[subject].cases {
        let of_line = match line.rule {
            Some(rule) => case.rules.contains(&rule),
            None => case.rules.is_empty(),
        };
        if of_line {
            let common = Common {
                agreement: case.agreement,
                reason: case.reason.clone(),
                expected: case.expected.name(),
                outcome: case.outcome.to_string(),
                layer: case.layer.clone(),
                prediction: case.prediction,
            };
            groups.entry(common).or_default().push(&case.id);
        }
    }
    let folded = groups.into_iter().map(|(common, ids)| {
        (common, (ids.len(), compress(ids.iter().copied()), events(ids.iter().copied())))
    });
    folded.collect()
}
