//! The table of who differs, and what is not as listed.

use crate::files::Outputs;
use nsvm::{Error, Status};
use nsvm_lab::compare::{Comparison, Unlisted};
use nsvm_lab::expected;
use nsvm_lab::report::Report;
use std::io::Write;

/// Maximum number of groups of unlisted differences, and of case lines per group. Only the number of the others is printed.
const MOST_GROUPS: usize = 20;
const MOST_FAMILIES: usize = 8;
/// Maximum of columns. Wider tables and lines are hard to follow.
const WIDTH: usize = 100;

/// The text, indented, in lines that break behind blanks and commas only.
fn folded(indent: usize, text: &str, columns: usize) -> String {
    let mut out = " ".repeat(indent);
    let mut at = indent;
    for word in text.split_inclusive([' ', ',']) {
        let length = word.trim_end().chars().count();
        if at + length > columns && at > indent {
            out.truncate(out.trim_end().len());
            at = indent + 2;
            out.push('\n');
            out.push_str(&" ".repeat(at));
        }
        out.push_str(word);
        at += word.chars().count();
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// Prints the table, and what is not as listed; writes the files that were asked for. `all`: whole sets were run.
pub(crate) fn show(
    comparison: Comparison,
    all: bool,
    outputs: Outputs,
    out: &mut dyn Write,
) -> Result<Status, Error> {
    let colour = anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
    let columns = terminal_size::terminal_size_of(std::io::stdout())
        .map_or(WIDTH, |(columns, _)| usize::from(columns.0).min(WIDTH));
    let as_listed = comparison.is_as_listed();
    let Comparison { rows, unlisted, stale, predicted, unknown } = comparison;
    let labels: Vec<_> = rows.iter().map(|row| row.head.label()).collect();
    let report = Report::new(rows);
    let report = if all { report } else { report.of_a_part() };
    if !labels.is_empty() {
        writeln!(out, "{}", report.terminal(colour, columns))?;
    }
    for (label, (right, wrong)) in labels.iter().zip(predicted) {
        if right + wrong > 0 {
            let text = format!("{label}: {right} of {} predicted answers came out", right + wrong);
            write!(out, "{}", folded(0, &text, columns))?;
        }
    }
    if unknown > 0 {
        writeln!(out, "note: {unknown} outcomes are of cases that this build does not have")?;
    }
    print_unlisted(&unlisted, columns, out)?;
    print_stale(&stale, columns, out)?;
    if let Some(output) = outputs.markdown {
        output.write(report.markdown().as_bytes())?;
    }
    if let Some(output) = outputs.html {
        output.write(report.html().as_bytes())?;
    }
    Ok(if as_listed { Status::Fine } else { Status::Refused })
}

/// Prints the differences that the list does not have.
fn print_unlisted(unlisted: &[Unlisted], columns: usize, out: &mut dyn Write) -> Result<(), Error> {
    if unlisted.is_empty() {
        return Ok(());
    }
    let cases: usize = unlisted.iter().map(|group| group.ids.len()).sum();
    writeln!(out, "error: {cases} differences from the rulebook are not in the list of expected ones")?;
    let mut subject = None;
    for group in unlisted.iter().take(MOST_GROUPS) {
        if subject.replace(&group.subject) != Some(&group.subject) {
            writeln!(out, "  {}", group.subject)?;
        }
        write!(out, "{}", folded(4, &group.to_string(), columns))?;
        let families = group.cases();
        for ids in families.iter().take(MOST_FAMILIES) {
            write!(out, "{}", folded(6, ids, columns))?;
        }
        if families.len() > MOST_FAMILIES {
            writeln!(out, "      and more: {} of such lines", families.len() - MOST_FAMILIES)?;
        }
    }
    if unlisted.len() > MOST_GROUPS {
        writeln!(out, "  and {} more of such groups; --html FILE has all", unlisted.len() - MOST_GROUPS)?;
    }
    let help = format!(
        "= help: where a subject is known to do so, add a row to {}; its head says how",
        expected::FILE
    );
    write!(out, "{}", folded(2, &help, columns))?;
    Ok(())
}

/// Prints the rows of the list that no outcome shows any more.
fn print_stale(stale: &[String], columns: usize, out: &mut dyn Write) -> Result<(), Error> {
    if stale.is_empty() {
        return Ok(());
    }
    writeln!(out, "error: rows of the list of which nothing came out any more: {}", stale.len())?;
    for line in stale {
        write!(out, "{}", folded(2, line, columns))?;
    }
    let help = format!("= help: remove the row, or its subject or version, from {}", expected::FILE);
    write!(out, "{}", folded(2, &help, columns))?;
    Ok(())
}
