//! The comparison as text.

use super::comparison::Comparison;
use super::difference::{Difference, Pair};
use super::named::{letter, list};
use super::pages::Written;
use super::safe::Safe;
use crate::style::{BOLD, PLAIN};
use std::io::{Result, Write};
use vmcb::{Contrast, Decision, Rule};

pub(super) fn show(comparison: &Comparison, files: &[Written], out: &mut dyn Write) -> Result<()> {
    for (index, named) in comparison.cpus.iter().enumerate() {
        writeln!(out, "{} = {}", letter(index), named.text)?;
    }
    let mut files = files.iter();
    for pair in &comparison.pairs {
        show_pair(pair, &mut files, out)?;
    }
    writeln!(out, "\n{BOLD}MIGRATION{PLAIN} (as if the guest saw the other CPU from then on)")?;
    for migration in &comparison.migrations {
        writeln!(out, "  {}", migration.text)?;
    }
    show_safe(&comparison.safe, out)
}

fn show_pair(pair: &Pair, files: &mut std::slice::Iter<'_, Written>, out: &mut dyn Write) -> Result<()> {
    let (a, b) = (letter(pair.a), letter(pair.b));
    if pair.differences.is_empty() && pair.open.is_empty() {
        return writeln!(
            out,
            "\n{BOLD}{a} AND {b} DO NOT DIFFER{PLAIN}: no VMCB is accepted by one and not by the other"
        );
    }
    // The files are in the order of the differences.
    let with_files: Vec<_> = pair.differences.iter().map(|difference| (difference, files.next())).collect();
    for (refusing, accepting) in [(pair.a, pair.b), (pair.b, pair.a)] {
        let shown: Vec<_> = with_files
            .iter()
            .filter(|(difference, _)| {
                difference.refusing == refusing && difference.contrast == Contrast::Verdict
            })
            .collect();
        if shown.is_empty() {
            continue;
        }
        writeln!(out, "\n{BOLD}{} ACCEPTS, {} DOES NOT{PLAIN}", letter(accepting), letter(refusing))?;
        for (difference, file) in shown {
            show_difference(difference, *file, out)?;
        }
    }
    let same: Vec<&str> = unique(
        pair.differences.iter().filter(|difference| difference.contrast != Contrast::Verdict).map(|d| d.rule),
    );
    if !same.is_empty() {
        writeln!(out, "\n{BOLD}NEITHER ACCEPTS, BY DIFFERENT RULES{PLAIN}: {}", list(&same))?;
    }
    if !pair.open.is_empty() {
        writeln!(out, "\n{BOLD}UNDECIDED BETWEEN {a} AND {b}{PLAIN}: not known, so perhaps not the same")?;
        for open in &pair.open {
            let cpus: Vec<String> = open.cpus.iter().map(|&cpu| letter(cpu).to_string()).collect();
            let rules = unique(open.rules.iter().copied());
            writeln!(out, "  give {} of {}: {}", open.fact, list(&cpus), list(&rules))?;
        }
    }
    Ok(())
}

fn unique(rules: impl Iterator<Item = Rule>) -> Vec<&'static str> {
    let mut ids = Vec::new();
    for rule in rules {
        if !ids.contains(&rule.id()) {
            ids.push(rule.id());
        }
    }
    ids
}

fn show_difference(difference: &Difference, file: Option<&Written>, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "  {:<40} {}", difference.rule.id(), difference.title())?;
    if difference.decision == Decision::Undecided {
        writeln!(out, "      required there; the manual does not say what VMRUN does")?;
    }
    for reason in &difference.because {
        writeln!(out, "      because {reason}")?;
    }
    let changes = difference.changes().into_iter().map(|change| match change.field {
        Some(field) if field.page == vmcb::layout::Page::Vmsa => {
            format!("{} (VMSA {:03X}h) = {:#x}", change.word.name(), field.offset, change.after)
        }
        Some(field) => format!("{} ({:03X}h) = {:#x}", name(change.word), field.offset, change.after),
        None => format!("{}: {}", change.word.name(), fact(change)),
    });
    writeln!(out, "      VMCB: {}", changes.collect::<Vec<_>>().join(", "))?;
    if let Some(file) = file {
        let vmsa = file.vmsa.as_ref().map(|name| format!(", {name}")).unwrap_or_default();
        writeln!(out, "      file: {}{vmsa}", file.vmcb)?;
    }
    Ok(())
}

/// Some words have their offset in their name already.
fn name(word: vmcb::Word) -> &'static str {
    word.name().split(" (").next().unwrap_or("")
}

/// What of the host is otherwise than every hypervisor has it.
fn fact(change: vmcb::Change) -> String {
    let bits =
        change.word.bit_names().iter().filter(|(bit, ..)| (change.before ^ change.after) >> bit & 1 == 1);
    let said: Vec<_> =
        bits.map(|(bit, _, meaning)| format!("{meaning} = {}", change.after >> bit & 1)).collect();
    if said.is_empty() { format!("{:#x}", change.after) } else { said.join(", ") }
}

fn show_safe(safe: &Safe, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "\n{BOLD}SAFE FOR ALL{PLAIN}: --cpu {}", safe.spec)?;
    if safe.exceptions.is_empty() {
        writeln!(out, "  every VMCB that it accepts, all of them accept")?;
    } else {
        writeln!(
            out,
            "  every VMCB that it accepts, all of them accept, but for these rules of features that it does not show:"
        )?;
        for exception in &safe.exceptions {
            let features: Vec<_> = exception.features.iter().map(|feature| feature.name()).collect();
            writeln!(
                out,
                "    {:<40} refused on {}, which has {}",
                exception.rule.id(),
                letter(exception.refusing),
                list(&features)
            )?;
        }
    }
    if !safe.left_out.is_empty() {
        let names: Vec<_> = safe.left_out.iter().map(|feature| feature.name()).collect();
        writeln!(out, "  not known of all, and taken as the narrower: {}", list(&names))?;
    }
    if !safe.missing.is_empty() {
        writeln!(out, "  as far as is known; to be sure give {}", list(&safe.missing))?;
    }
    Ok(())
}
