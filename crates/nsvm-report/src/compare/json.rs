//! The comparison as JSON lines.

use super::comparison::Comparison;
use super::difference::Difference;
use super::named::letter;
use super::pages::Written;
use crate::record::{Decision, print};
use serde::Serialize;
use std::io::{Result, Write};
use vmcb::layout::Page;
use vmcb::{Contrast, Rule};

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Line<'a> {
    Difference {
        rule: &'static str,
        /// `verdict`: one accepts; `reason`: neither does, by different rules.
        kind: &'static str,
        title: String,
        register: Option<&'static str>,
        bit: Option<u8>,
        refused_by: &'a str,
        accepted_by: &'a str,
        decision: Decision,
        other_decision: Decision,
        because: &'a [String],
        unseen: Vec<&'static str>,
        witness: Vec<Value>,
        vmcb: Option<&'a str>,
        vmsa: Option<&'a str>,
    },
    Open {
        fact: &'a str,
        cpus: Vec<&'a str>,
        between: [&'a str; 2],
        rules: Vec<&'static str>,
    },
    Migration {
        from: &'a str,
        to: &'a str,
        answer: &'static str,
        text: &'a str,
    },
    SafeCpu {
        cpu: &'a str,
        phys_bits: Option<u8>,
        left_out: Vec<&'static str>,
        exceptions: Vec<Exception<'a>>,
        missing: &'a [String],
    },
    Comparison {
        cpus: Vec<Compared<'a>>,
        differences: usize,
        undecided: usize,
    },
}

#[derive(Serialize)]
struct Exception<'a> {
    rule: &'static str,
    refused_by: &'a str,
    features: Vec<&'static str>,
}

#[derive(Serialize)]
struct Compared<'a> {
    letter: char,
    cpu: &'a str,
}

/// A word that the witness has otherwise than the minimal legal guest.
#[derive(Serialize)]
struct Value {
    name: &'static str,
    page: &'static str,
    offset: Option<String>,
    before: String,
    after: String,
}

pub(super) fn show(comparison: &Comparison, files: &[Written], out: &mut dyn Write) -> Result<()> {
    let name = |index: usize| comparison.cpus.get(index).map_or("", |named| named.text.as_str());
    let ids = |rules: &[Rule]| rules.iter().map(|rule| rule.id()).collect();
    let mut files = files.iter();
    for difference in comparison.differences() {
        let file = files.next();
        print(
            out,
            &Line::Difference {
                rule: difference.rule.id(),
                kind: if difference.contrast == Contrast::Verdict { "verdict" } else { "reason" },
                title: difference.title(),
                register: difference.bit.map(|(word, _)| word.name()),
                bit: difference.bit.map(|(_, bit)| bit),
                refused_by: name(difference.refusing),
                accepted_by: name(difference.accepting),
                decision: difference.decision.into(),
                other_decision: difference.other.into(),
                because: &difference.because,
                unseen: difference.unseen.iter().map(|feature| feature.name()).collect(),
                witness: values(difference),
                vmcb: file.map(|file| file.vmcb.as_str()),
                vmsa: file.and_then(|file| file.vmsa.as_deref()),
            },
        )?;
    }
    for pair in &comparison.pairs {
        for open in &pair.open {
            let cpus = open.cpus.iter().map(|&cpu| name(cpu)).collect();
            let between = [name(pair.a), name(pair.b)];
            print(out, &Line::Open { fact: &open.fact, cpus, between, rules: ids(&open.rules) })?;
        }
    }
    for migration in &comparison.migrations {
        let (from, to) = (name(migration.from), name(migration.to));
        print(out, &Line::Migration { from, to, answer: migration.answer.name(), text: &migration.text })?;
    }
    let safe = &comparison.safe;
    print(
        out,
        &Line::SafeCpu {
            cpu: &safe.spec,
            phys_bits: safe.cpu.phys_bits(),
            left_out: safe.left_out.iter().map(|feature| feature.name()).collect(),
            exceptions: safe
                .exceptions
                .iter()
                .map(|exception| Exception {
                    rule: exception.rule.id(),
                    refused_by: name(exception.refusing),
                    features: exception.features.iter().map(|feature| feature.name()).collect(),
                })
                .collect(),
            missing: &safe.missing,
        },
    )?;
    let cpus = comparison.cpus.iter().enumerate();
    print(
        out,
        &Line::Comparison {
            cpus: cpus.map(|(index, named)| Compared { letter: letter(index), cpu: &named.text }).collect(),
            differences: comparison.differences().count(),
            undecided: comparison.pairs.iter().map(|pair| pair.open.len()).sum(),
        },
    )
}

fn values(difference: &Difference) -> Vec<Value> {
    let changes = difference.changes().into_iter();
    let value = |change: vmcb::Change| Value {
        name: change.word.name(),
        page: match change.field {
            Some(field) if field.page == Page::Vmsa => "vmsa",
            Some(_) => "vmcb",
            None => "host",
        },
        offset: change.field.map(|field| format!("{:#05x}", field.offset)),
        before: format!("{:#x}", change.before),
        after: format!("{:#x}", change.after),
    };
    changes.map(value).collect()
}
