//! Checks the commands and figures in README.md, and that the tests that ARCHITECTURE.md names exist.

use super::Report;
use crate::workspace::Workspace;
use anyhow::{Context as _, Result};

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}

/// CI runs the README's commands, and the README's figures are those of the benchmark.
pub(super) fn readme_commands_and_figures(_: &Workspace) -> Result<Report> {
    let mut report = Report::default();
    let readme = read("README.md")?;
    let mut require = |condition: bool, problem: String| {
        if !condition {
            report.problems.push(problem);
        }
    };
    require(
        read(".ci/run")?.contains("README.md"),
        ".ci/run does not take its commands from README.md".to_owned(),
    );
    for command in ["cargo run --release -p nsvm -- check samples/", "cargo test --workspace"] {
        require(readme.contains(command), format!("README.md does not contain `{command}`"));
    }
    let benchmark = read("xtask/probes/benches/instructions.rs")?;
    for name in ["CHECK", "EVENT"] {
        let prefix = format!("const {name}: u64 = ");
        let figure = benchmark
            .lines()
            .find_map(|line| line.strip_prefix(&prefix)?.strip_suffix(';'))
            .with_context(|| format!("the benchmark has no figure `{name}`"))?;
        require(
            readme.contains(&format!("| {figure} |")),
            format!("README.md does not contain the figure {figure} of `{name}` in the benchmark"),
        );
    }
    report.summary = "2 commands, 2 figures".to_owned();
    Ok(report)
}

/// Each invariant in ARCHITECTURE.md names a test, and the test exists.
pub(super) fn invariants_name_tests(_: &Workspace) -> Result<Report> {
    let mut report = Report::default();
    let architecture = read("ARCHITECTURE.md")?;
    let invariants: Vec<_> = architecture.split("**Invariant").skip(1).collect();
    if invariants.len() < 8 {
        report.problems.push(format!("ARCHITECTURE.md has {} invariants, fewer than 8", invariants.len()));
    }
    for invariant in &invariants {
        let paragraph = invariant.split("\n\n").next().unwrap_or(invariant);
        let tests: Vec<_> =
            paragraph.split("Test: `").skip(1).filter_map(|rest| rest.split('`').next()).collect();
        if tests.is_empty() {
            report.problems.push(format!("ARCHITECTURE.md: an invariant names no test:{paragraph}"));
        }
        for test in tests {
            let (file, function) = test.split_once("::").unwrap_or((test, ""));
            let name = function.rsplit("::").next().unwrap_or(function);
            let exists = !name.is_empty() && read(file).is_ok_and(|text| text.contains(name));
            if !exists {
                report.problems.push(format!("ARCHITECTURE.md names `{test}`, which does not exist"));
            }
        }
    }
    report.summary = format!("{} invariants", invariants.len());
    Ok(report)
}
