//! Checks that unsafe code is in bare-metal programs and in the runner for KVM only.

use super::Report;
use crate::tokens::{self, Kind, Scope};
use crate::workspace::Workspace;
use anyhow::Result;
use std::collections::BTreeMap;

/// Folders of programs that run without an operating system, and of the program that drives KVM by ioctl.
const ALLOWED: &[&str] =
    &["bare/boot-sector/", "bare/common/", "bare/kvm-runner/", "bare/l0/", "bare/l1/", "bare/payload/"];

/// Reports `unsafe` outside the allowed folders, and each folder whose unsafe code has no `UNSAFETY: ` comment.
pub(super) fn check(workspace: &Workspace) -> Result<Report> {
    let mut report = Report::default();
    let mut allowed: BTreeMap<&str, (usize, bool)> = BTreeMap::new();
    for path in workspace.rust_files()? {
        let tokens = tokens::read(&path, Scope::WithTests)?;
        let mut places = tokens.iter().filter(|token| token.kind == Kind::Word("unsafe".to_owned()));
        match ALLOWED.iter().find(|folder| path.starts_with(**folder)) {
            None => {
                for token in places {
                    report.problems.push(format!(
                        "{path}:{}: unsafe code is allowed in bare-metal programs only",
                        token.line
                    ));
                }
            }
            Some(folder) => {
                let reason = std::fs::read_to_string(&path)?.contains("UNSAFETY: ");
                let entry = allowed.entry(folder).or_default();
                entry.0 += usize::from(places.next().is_some());
                entry.1 |= reason;
            }
        }
    }
    for (folder, (files, reason)) in &allowed {
        if *files > 0 && !reason {
            report
                .problems
                .push(format!("{folder}: no file gives the reason for its unsafe code after `UNSAFETY: `"));
        }
    }
    report.summary =
        format!("{} files with unsafe code", allowed.values().map(|(files, _)| files).sum::<usize>());
    Ok(report)
}
