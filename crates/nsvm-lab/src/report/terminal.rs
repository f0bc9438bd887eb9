//! The report for a terminal.

use super::agreement::Agreement;
use super::table::Report;
use super::words::{CELL, about, cell};
use crate::results::Head;
use std::fmt::Write as _;
use textwrap::{Options, WordSplitter};

/// Columns of the number of cases.
const COUNT: usize = 6;

impl Report {
    /// For a terminal of so many columns, at least 40; many subjects take several tables.
    #[must_use]
    pub fn terminal(&self, colour: bool, columns: usize) -> String {
        let columns = columns.max(40);
        let mut out = String::new();
        let name =
            self.lines.iter().map(|line| line.name().len()).max().unwrap_or_default().max("skipped".len());
        let across = ((columns - 1 - COUNT).saturating_sub(name) / CELL).max(1);
        let headings: Vec<[String; 2]> = (0..self.rows.len()).map(|subject| self.heading(subject)).collect();
        let all: Vec<usize> = (0..self.rows.len()).collect();
        for part in all.chunks(across) {
            for (line, title, count) in [(0, "", ""), (1, "rule", "cases")] {
                let _ = write!(out, "{title:<name$} {count:>width$}", width = COUNT);
                for &subject in part {
                    let _ = write!(out, " {:<width$}", headings[subject][line], width = CELL - 1);
                }
                end(&mut out);
            }
            for line in &self.lines {
                let _ = write!(out, "{:<name$} {:>width$}", line.name(), line.cases(), width = COUNT);
                for &subject in part {
                    out.push(' ');
                    cell(&mut out, line.counts[subject], colour);
                }
                end(&mut out);
            }
            out.push('\n');
            for agreement in Agreement::ALL {
                let _ =
                    write!(out, "{:<name$} {:>width$}", agreement.words(), agreement.sign(), width = COUNT);
                for &subject in part {
                    let count = self.totals[subject].of(agreement);
                    let _ = write!(out, " {count:<width$}", width = CELL - 1);
                }
                end(&mut out);
            }
            if part.iter().any(|&subject| self.missing(subject) > 0) {
                let _ = write!(out, "{:<name$} {:>width$}", "missing", "", width = COUNT);
                for &subject in part {
                    let _ = write!(out, " {:<width$}", self.missing(subject), width = CELL - 1);
                }
                end(&mut out);
            }
            out.push('\n');
        }
        for (subject, row) in self.rows.iter().enumerate() {
            let [first, second] = &headings[subject];
            // A short name needs no key of its own.
            let heading = if second.is_empty() { format!("{first} ") } else { String::new() };
            wrap(&mut out, columns, &heading, &about(&row.head));
        }
        out.push('\n');
        let meanings: Vec<_> = Agreement::ALL.map(|a| format!("{} {}", a.sign(), a.meaning())).into();
        wrap(&mut out, columns, "", &format!("{}. · no case.", meanings.join("; ")));
        wrap(
            &mut out,
            columns,
            "",
            "A cell shows the number of differing cases, else of agreeing ones; ! behind it: others broke. \
             A case that breaks several rules counts for each.",
        );
        if !self.unmeasured.is_empty() {
            let _ = writeln!(out, "\nNot measured on any subject ({} rules):", self.unmeasured.len());
            for (why, rules) in self.unmeasured_by_reason() {
                wrap(&mut out, columns, "  ", &format!("{why}: {}", rules.join(", ")));
            }
        }
        out
    }

    /// Two short lines: name and version, or a number if they are long.
    fn heading(&self, subject: usize) -> [String; 2] {
        let short = |head: &Head| {
            let fits = |text: &str| text.chars().count() < CELL;
            (fits(&head.subject) && fits(&head.version)).then(|| [head.subject.clone(), head.version.clone()])
        };
        let one = short(&self.rows[subject].head);
        let alone = self.rows.iter().filter(|row| short(&row.head) == one).count() == 1;
        one.filter(|_| alone).unwrap_or_else(|| [format!("[{}]", subject + 1), String::new()])
    }
}

/// Ends a line of a table and removes the blanks at its end.
fn end(out: &mut String) {
    out.truncate(out.trim_end_matches(' ').len());
    out.push('\n');
}

/// Adds a paragraph of up to `columns`. Further lines are indented like what follows `lead`.
fn wrap(out: &mut String, columns: usize, lead: &str, words: &str) {
    let options = Options::new(columns).break_words(false).word_splitter(WordSplitter::NoHyphenation);
    let indent = if lead.is_empty() { "" } else { "    " };
    out.push_str(&textwrap::fill(words, options.initial_indent(lead).subsequent_indent(indent)));
    out.push('\n');
}
