//! Checks which packages depend on which, from `cargo metadata`.

use super::Report;
use crate::workspace::{Dependency, Package, Workspace, cargo, output};
use anyhow::{Context as _, Result};
use std::collections::BTreeSet;

/// `vmcb` has no dependency but the optional `serde`, and `nested-svm` depends on `vmcb` alone unless a feature adds more. Every dependency
/// has its reason in ARCHITECTURE.md. `nsvm` does not depend on the lab, on L0 or on bare-metal programs.
pub(super) fn check(workspace: &Workspace) -> Result<Report> {
    let packages = workspace.packages()?;
    let mut problems = core_only(&packages)?;
    problems.extend(each_dependency_has_a_reason(&packages)?);
    match the_command_is_light() {
        Ok(found) => problems.extend(found),
        // For instance, Cargo.lock is stale.
        Err(error) => problems.push(format!("{error:#}")),
    }
    Ok(Report { problems, summary: format!("{} packages", packages.len()), ..Report::default() })
}

fn core_only(packages: &[Package]) -> Result<Vec<String>> {
    let find = |name: &str| {
        let package = packages.iter().find(|package| package.name == name);
        package.with_context(|| format!("the package `{name}` does not exist"))
    };
    let not_dev = |dependency: &&Dependency| dependency.kind.as_deref() != Some("dev");
    let mut problems = Vec::new();
    let is_serde = |dependency: &&Dependency| dependency.is_optional && dependency.name == "serde";
    for dependency in find("vmcb")?.dependencies.iter().filter(not_dev).filter(|found| !is_serde(found)) {
        problems.push(format!(
            "crates/vmcb depends on `{}`: only `serde` is allowed, as a feature",
            dependency.name
        ));
    }
    for dependency in find("nested-svm")?.dependencies.iter().filter(not_dev) {
        if dependency.name != "vmcb" && !dependency.is_optional {
            problems.push(format!("crates/nested-svm depends on `{}`: make it optional", dependency.name));
        }
    }
    Ok(problems)
}

/// Users who install the command must not have to build the lab, L0 or bare-metal programs.
fn the_command_is_light() -> Result<Vec<String>> {
    let tree = ["tree", "--locked", "--package", "nsvm", "--edges", "normal,build", "--prefix", "none"];
    let tree = output(cargo().args(tree))?;
    let names = tree.lines().filter_map(|line| line.split(' ').next());
    let heavy: BTreeSet<_> =
        names.filter(|name| ["nsvm-l", "bare-"].iter().any(|start| name.starts_with(start))).collect();
    Ok(heavy.into_iter().map(|name| format!("crates/nsvm depends on `{name}`")).collect())
}

fn each_dependency_has_a_reason(packages: &[Package]) -> Result<Vec<String>> {
    let architecture = std::fs::read_to_string("ARCHITECTURE.md").context("cannot read ARCHITECTURE.md")?;
    let table = architecture
        .split("## Dependencies")
        .nth(1)
        .context("ARCHITECTURE.md has no table of dependencies")?;
    let rows: BTreeSet<_> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next())
        .filter(|name| !["crate", "---"].contains(name))
        .collect();
    let names: BTreeSet<_> = packages
        .iter()
        .flat_map(|package| &package.dependencies)
        .filter(|dependency| !dependency.is_local)
        .map(|dependency| dependency.name.as_str())
        .collect();
    let missing = names.difference(&rows);
    let mut problems: Vec<_> = missing
        .map(|name| format!("ARCHITECTURE.md gives no reason for `{name}`: add a row to its table"))
        .collect();
    problems.extend(
        rows.difference(&names).map(|name| format!("ARCHITECTURE.md: no package depends on `{name}`")),
    );
    Ok(problems)
}
