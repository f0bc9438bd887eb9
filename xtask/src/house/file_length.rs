//! Lists long files. A long file is a reason to look whether it has more than one topic.

use super::Report;
use crate::workspace::{Workspace, is_test_file};
use anyhow::{Context as _, Result};

/// Number of lines above which a file is listed.
const LIMIT: usize = 600;

/// Files that are long because they are one table, each with the table.
const TABLES: &[(&str, &str)] = &[("crates/vmcb/src/rules/table.rs", "the rules, one row each")];

/// Lists Rust files outside tests that have more than [`LIMIT`] lines.
pub(super) fn check(workspace: &Workspace) -> Result<Report> {
    let mut report = Report::default();
    let mut count = 0;
    for path in workspace.rust_files()?.into_iter().filter(|path| !is_test_file(path)) {
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let lines = text.lines().count();
        count += 1;
        if lines > LIMIT && !TABLES.iter().any(|(table, _)| *table == path) {
            report.notes.push(format!("{path} has {lines} lines; split it by topic if it has more than one"));
        }
    }
    report.summary = format!("{count} files, {} above {LIMIT} lines", report.notes.len());
    Ok(report)
}
