//! `cargo xtask bench`: counts the instructions of the accepting paths.

use crate::arguments::none_or_help;
use crate::workspace::{Workspace, cargo, output, run as execute, succeeds};
use anyhow::{Context as _, Result, bail};
use std::process::Command;

const HELP: &str = "\
Counts the instructions of the accepting paths under callgrind, and compares them with the recorded counts

Usage: cargo xtask bench

This needs valgrind and gungraun-runner. A missing program is reported with the command that installs it.

Example:
  cargo xtask bench
";

/// Runs the verb.
pub(crate) fn run(_: &Workspace, parser: &mut lexopt::Parser) -> Result<()> {
    if none_or_help(parser, HELP)? { count() } else { Ok(()) }
}

/// Runs the benchmark, which fails if a count is above the recorded one.
pub(crate) fn count() -> Result<()> {
    if !succeeds(Command::new("valgrind").arg("--version")) {
        bail!("valgrind is missing: install it, for instance with `apt-get install valgrind libc6-dbg`");
    }
    // The runner and the library exchange data in a format without a version, so their versions must be equal.
    let version = locked_version("gungraun")?;
    let found = output(Command::new("gungraun-runner").arg("--version")).unwrap_or_default();
    if !found.split_whitespace().any(|word| word == version) {
        bail!(
            "gungraun-runner {version} is missing: `cargo install --locked gungraun-runner --version {version}`"
        );
    }
    execute(cargo().args(["bench", "--locked", "--package", "nsvm-probes", "--bench", "instructions"]))
}

/// Returns the version of a package in Cargo.lock.
fn locked_version(name: &str) -> Result<String> {
    let lock = std::fs::read_to_string("Cargo.lock").context("cannot read Cargo.lock")?;
    let mut lines = lock.lines().skip_while(|line| *line != format!("name = \"{name}\""));
    let version = lines.nth(1).and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    Ok(version.with_context(|| format!("Cargo.lock has no package `{name}`"))?.to_owned())
}
