//! The report as Markdown.

use super::agreement::Agreement;
use super::table::Report;
use super::words::{about, cases, cell, prediction};
use std::fmt::Write as _;

impl Report {
    /// The same as Markdown, and the list of differences.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut out = "# Who differs from the rulebook of VMRUN\n\n".to_owned();
        let _ = write!(out, "| rule | cases |");
        for row in &self.rows {
            let _ = write!(out, " {} |", text(&row.head.label()));
        }
        let _ = write!(out, "\n| --- | ---: |{}\n", " --- |".repeat(self.rows.len()));
        for line in &self.lines {
            let _ = write!(out, "| {} | {} |", text(line.name()), line.cases());
            for counts in &line.counts {
                let mut plain = String::new();
                cell(&mut plain, *counts, false);
                let _ = write!(out, " {} |", text(plain.trim_end()));
            }
            out.push('\n');
        }
        for agreement in Agreement::ALL {
            let _ = write!(out, "| *{}* | {} |", agreement.words(), text(&agreement.sign().to_string()));
            for counts in &self.totals {
                let _ = write!(out, " {} |", counts.of(agreement));
            }
            out.push('\n');
        }
        out.push_str("| *missing* | |");
        for subject in 0..self.rows.len() {
            let _ = write!(out, " {} |", self.missing(subject));
        }
        out.push_str("\n\n");
        let meanings = Agreement::ALL.map(|a| text(&format!("{} {}", a.sign(), a.meaning()))).join("; ");
        let _ = writeln!(
            out,
            "{meanings}. · no case. A cell shows the number of differing cases, else of agreeing ones; ! behind \
             it: others broke. A case that breaks several rules counts for each.\n\n## Subjects\n"
        );
        for row in &self.rows {
            let _ = writeln!(out, "- {}", text(&about(&row.head)));
            for note in &row.head.notes {
                let _ = writeln!(out, "  - {}", text(note));
            }
        }
        for (agreement, title) in [(Agreement::Differs, "Differences"), (Agreement::Broken, "Broken")] {
            self.list(&mut out, agreement, title);
        }
        if !self.unmeasured.is_empty() {
            let _ = writeln!(out, "\n## Not measured on any subject\n");
            for (why, rules) in self.unmeasured_by_reason() {
                let rules = rules.iter().map(|rule| code(rule)).collect::<Vec<_>>().join(", ");
                let _ = writeln!(out, "- {}: {rules}", text(&why));
            }
        }
        out
    }

    fn list(&self, out: &mut String, agreement: Agreement, title: &str) {
        let findings = self.findings(agreement);
        let _ = writeln!(out, "\n## {title}");
        if findings.is_empty() {
            out.push_str("\nNone.\n");
        }
        let mut reason = None;
        for finding in &findings {
            if reason.replace(&finding.reason) != Some(&finding.reason) {
                let _ = writeln!(
                    out,
                    "\n### {}\n",
                    finding.reason.as_deref().map_or("No reason known".to_owned(), text)
                );
            }
            out.push_str("- ");
            if let Some(layer) = &finding.layer {
                let _ = write!(out, "{}: ", text(layer));
            }
            let rules = finding.rules.iter().map(|rule| code(rule)).collect::<Vec<_>>().join(", ");
            let rules = if rules.is_empty() { "legal".to_owned() } else { rules };
            let _ = write!(
                out,
                "{rules}: expected {}, {}{}: ",
                text(finding.expected),
                text(&finding.answer),
                prediction(finding.prediction)
            );
            let outcomes = finding.outcomes.iter().map(|(outcome, count)| match finding.outcomes.len() {
                1 => code(outcome),
                _ => format!("{} ({count})", code(outcome)),
            });
            out.push_str(&outcomes.collect::<Vec<_>>().join(", "));
            let _ =
                writeln!(out, "\n  - {}: {}", text(&self.labels(&finding.subjects)), cases(finding.cases));
            for line in finding.events.iter() {
                let _ = writeln!(out, "  - {}", text(line));
            }
            let ids = finding.ids.iter().map(|ids| code(ids)).collect::<Vec<_>>().join(" ");
            let _ = writeln!(out, "  - {ids}");
        }
    }
}

/// Plain text in Markdown.
fn text(plain: &str) -> String {
    let mut out = String::new();
    for c in plain.chars() {
        if matches!(c, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '~' | '&') {
            out.push('\\');
        }
        out.push(if c.is_control() { ' ' } else { c });
    }
    out
}

/// Code in Markdown.
fn code(plain: &str) -> String {
    let plain: String = plain.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let longest = plain.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    if longest == 0 {
        return format!("`{plain}`");
    }
    let fence = "`".repeat(longest + 1);
    format!("{fence} {plain} {fence}")
}
