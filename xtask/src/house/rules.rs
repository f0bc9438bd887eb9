//! Checks that the rules of VMRUN are written in `vmcb` alone, and that `vmcb` names no implementation.

use super::Report;
use crate::tokens::{self, Kind, Scope};
use crate::workspace::{Workspace, is_test_file};
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeSet;

/// Tables of other crates that name rules, each with its reason.
const TABLES: &[(&str, &str)] = &[
    ("crates/vmcb-dump/src/refusal.rs", "KVM's and Xen's words for their conditions"),
    ("crates/vmcb-implementations/src/", "which implementation checks which rule"),
    ("crates/vmcb-cases/src/", "the rows of the test cases"),
];

/// Identifiers and numbers that only rules of VMRUN need. In this repository, only `vmcb` and the bare-metal programs
/// other than L0 may contain them.
const MASKS: &[&str] = &["EFER_SVME", "0x8000_0011", "0x1f01"];

const IMPLEMENTATIONS: &[&str] = &["KVM", "QEMU", "Bochs", "Xen", "VirtualBox", "Hyper-V"];

/// Checks that no other crate decides what is legal. Such code would need rule ids or register masks, so the check
/// searches for these.
pub(super) fn no_rule_is_written_outside_vmcb(workspace: &Workspace) -> Result<Report> {
    let ids = rule_ids(workspace)?;
    let mut report = Report { summary: format!("{} rules", ids.len()), ..Report::default() };
    for path in workspace.rust_files()? {
        let checked = path.starts_with("crates/") || path.starts_with("bare/");
        let excepted =
            path.starts_with("crates/vmcb/") || TABLES.iter().any(|(table, _)| path.starts_with(table));
        let example = path.contains("/examples/");
        if !checked || excepted || example || is_test_file(&path) {
            continue;
        }
        for token in tokens::read(&path, Scope::WithoutTests)? {
            let found = match &token.kind {
                Kind::Text(text) if ids.contains(text) => text,
                Kind::Word(text) | Kind::Literal(text)
                    if MASKS.contains(&text.as_str()) && !is_bare(&path) =>
                {
                    text
                }
                _ => continue,
            };
            report.problems.push(format!(
                "{path}:{}: only `vmcb` may contain the rule id or mask `{found}`",
                token.line
            ));
        }
    }
    Ok(report)
}

/// Whether the file belongs to a bare-metal program other than L0. These set registers that the rules are about.
fn is_bare(path: &str) -> bool {
    path.starts_with("bare/") && !path.starts_with("bare/l0/")
}

/// Returns the ids of all rules: each has a generated page.
fn rule_ids(workspace: &Workspace) -> Result<BTreeSet<String>> {
    let pages = workspace.files()?;
    let ids: BTreeSet<_> = pages
        .iter()
        .filter_map(|path| path.strip_prefix("docs/rules/")?.strip_suffix(".md"))
        .filter(|name| *name != "index")
        .map(str::to_owned)
        .collect();
    ensure!(ids.len() > 50, "docs/rules has {} pages: run `cargo xtask generate`", ids.len());
    Ok(ids)
}

/// Returns the implementation that a text or an identifier names, in any case.
fn implementation_in(text: &str) -> Option<&'static str> {
    let text = text.to_lowercase();
    IMPLEMENTATIONS.iter().find(|name| text.contains(&name.to_lowercase())).copied()
}

/// The checks of implementations are not part of the manual's rules.
pub(super) fn vmcb_names_no_implementation(workspace: &Workspace) -> Result<Report> {
    let mut report = Report::default();
    let files = workspace.rust_files()?;
    let files = files.iter().filter(|path| path.starts_with("crates/vmcb/src/") && !is_test_file(path));
    let mut count = 0;
    for path in files {
        count += 1;
        for token in tokens::read(path, Scope::WithoutTests).context("vmcb")? {
            let (Kind::Text(text) | Kind::Word(text)) = &token.kind else { continue };
            if let Some(name) = implementation_in(text) {
                report.problems.push(format!("{path}:{}: this names {name}", token.line));
            }
        }
    }
    report.summary = format!("{count} files");
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn implementations_are_found_in_any_case() {
        assert_eq!(implementation_in("kvm_checks"), Some("KVM"));
        assert_eq!(implementation_in("what hyper-v does"), Some("Hyper-V"));
        assert_eq!(implementation_in("EFER.SVME"), None);
    }
}
