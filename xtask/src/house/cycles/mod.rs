//! Finds dependency cycles between modules.
//!
//! A module uses another one if its code names an item that the other one defines. A re-export counts for the module
//! that defines the item. The check compares siblings only, and everything inside a module counts as part of it. Code
//! that exists in tests only does not count.

mod load;
mod model;
mod report;
mod resolve;
#[cfg(test)]
mod tests;
mod uses;

use super::Report;
use crate::workspace::Workspace;
use anyhow::Result;
use model::Crate;
use std::path::Path;

/// Checks every crate of every workspace, and the crates with the given root files.
pub(super) fn check(workspace: &Workspace, more_roots: &[String]) -> Result<Report> {
    let mut report = Report::default();
    let mut crates = 0;
    for root in roots(workspace, more_roots)? {
        crates += 1;
        let krate = load::load(&root, Path::new(&root))?;
        report.problems.extend(cycles(&krate));
    }
    report.summary = format!("{crates} crates");
    Ok(report)
}

/// Returns the root files of all crates, relative to the workspace.
fn roots(workspace: &Workspace, more: &[String]) -> Result<Vec<String>> {
    let mut roots: Vec<_> = more.to_vec();
    for package in workspace.packages()? {
        roots.extend(
            package.targets.iter().filter(|target| !target.is_test).map(|target| target.root.clone()),
        );
    }
    roots.sort();
    roots.dedup();
    Ok(roots)
}

/// Returns a description of each cycle in a crate.
fn cycles(krate: &Crate) -> Vec<String> {
    let resolver = resolve::Resolver::new(krate);
    report::describe(krate, &uses::uses(&resolver))
}
