//! Runs tests and counts them: a filter that matches no test must not look like a success.

use crate::steps::Outcome;
use crate::workspace::shown;
use anyhow::{Context as _, Result, ensure};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

/// Runs `cargo test`, and fails if fewer than `least` tests passed.
pub(crate) fn run_tests(command: &mut Command, least: u32) -> Result<Outcome> {
    println!("$ {}", shown(command));
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
    let output = child.stdout.take().context("cargo has no output")?;
    let mut passed = 0;
    for line in BufReader::new(output).lines() {
        let line = line.context("cannot read the output of cargo")?;
        println!("{line}");
        passed += passed_in(&line);
    }
    let status = child.wait().context("cannot wait for cargo")?;
    ensure!(status.success(), "`{}` failed: {status}", shown(command));
    ensure!(passed >= least, "{passed} tests passed instead of at least {least}: was one renamed?");
    Ok(Outcome::Noted(format!("{passed} tests")))
}

/// Returns the number of passed tests if the line is the summary of a test program.
fn passed_in(line: &str) -> u32 {
    let count = line.strip_prefix("test result: ok. ").and_then(|rest| rest.split_once(" passed"));
    count.and_then(|(count, _)| count.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_counted() {
        assert_eq!(passed_in("test result: ok. 59 passed; 0 failed; 1 ignored; finished in 1.00s"), 59);
        assert_eq!(passed_in("test result: FAILED. 58 passed; 1 failed"), 0);
        assert_eq!(passed_in("test a_test ... ok"), 0);
    }
}
