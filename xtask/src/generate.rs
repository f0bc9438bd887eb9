//! `cargo xtask generate`: writes all generated files again, or checks them.
//!
//! A generated file has a test named `generated_file_...`, which compares it with what the code makes now. With the
//! variable `NSVM_GENERATE` the test writes the file first.

use crate::workspace::{Workspace, cargo, is_test_file, shown};
use anyhow::{Context as _, Result, bail, ensure};
use lexopt::prelude::*;
use std::collections::BTreeSet;
use std::process::Stdio;

/// The beginning of the names of tests that check a generated file.
const PREFIX: &str = "generated_file_";

const HELP: &str = "\
Writes all generated files again: docs/rules, docs/lab.md, docs/peers.md, docs/formats.md

Usage: cargo xtask generate [--check]

Options:
  --check  Compare the files with what the code makes now, and write nothing

Examples:
  cargo xtask generate
  cargo xtask generate --check
";

/// Runs the verb.
pub(crate) fn run(workspace: &Workspace, parser: &mut lexopt::Parser) -> Result<()> {
    let mut only_check = false;
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => {
                print!("{HELP}");
                return Ok(());
            }
            Long("check") => only_check = true,
            other => return Err(other.unexpected().into()),
        }
    }
    generate(workspace, only_check)
}

/// Writes or checks the files.
pub(crate) fn generate(workspace: &Workspace, only_check: bool) -> Result<()> {
    let (packages, tests) = tests(workspace)?;
    ensure!(!tests.is_empty(), "no test is named {PREFIX}...");
    let mut command = cargo();
    command.args(["test", "--locked", "--tests"]);
    for package in &packages {
        command.args(["--package", package]);
    }
    command.arg(PREFIX);
    if !only_check {
        command.env("NSVM_GENERATE", "1");
    }
    println!("$ {}", shown(&command));
    let output = command.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let passed =
        |test: &String| text.lines().any(|line| line.contains(test.as_str()) && line.ends_with(" ... ok"));
    if !output.status.success() {
        print!("{text}");
        bail!("generated files are stale: run `cargo xtask generate` and commit them");
    }
    for test in &tests {
        ensure!(passed(test), "the test `{test}` did not run");
    }
    let what = if only_check { "checked" } else { "written" };
    println!("{} generated files or folders {what}", tests.len());
    Ok(())
}

/// Finds the tests in the sources, and the packages that they belong to.
fn tests(workspace: &Workspace) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let packages = workspace.packages()?;
    let mut names = BTreeSet::new();
    let mut found = BTreeSet::new();
    for path in workspace.rust_files()?.into_iter().filter(|path| is_test_file(path)) {
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        for line in text.lines() {
            let Some(rest) = line.trim().strip_prefix("fn ") else { continue };
            let name = rest.split('(').next().unwrap_or_default();
            if !name.starts_with(PREFIX) {
                continue;
            }
            let folder = |manifest: &str| manifest.trim_end_matches("Cargo.toml").to_owned();
            let owner = packages
                .iter()
                .filter(|package| path.starts_with(&folder(&package.manifest)))
                .max_by_key(|package| package.manifest.len());
            names.insert(owner.with_context(|| format!("no package contains {path}"))?.name.clone());
            found.insert(name.to_owned());
        }
    }
    Ok((names, found))
}
