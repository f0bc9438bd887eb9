//! `cargo xtask check-targets`: the command compiles for other systems, and its report library for browsers.

use crate::arguments::none_or_help;
use crate::images::add_target;
use crate::workspace::{Workspace, cargo, run as execute};
use anyhow::Result;

/// Packages and the targets that they must compile for.
const CHECKS: &[(&str, &[&str])] = &[
    ("nsvm", &["x86_64-pc-windows-gnu", "aarch64-apple-darwin", "aarch64-unknown-linux-gnu"]),
    ("nsvm-report", &["wasm32-unknown-unknown"]),
];

const HELP: &str = "\
Checks that nsvm compiles for Windows, macOS and Arm, and nsvm-report for WebAssembly

Usage: cargo xtask check-targets

rustup adds the targets that are missing. Nothing is linked, so no other linker is needed.

Example:
  cargo xtask check-targets
";

/// Runs the verb.
pub(crate) fn run(_: &Workspace, parser: &mut lexopt::Parser) -> Result<()> {
    if none_or_help(parser, HELP)? { check() } else { Ok(()) }
}

/// Checks every package.
pub(crate) fn check() -> Result<()> {
    for (package, targets) in CHECKS {
        for target in *targets {
            add_target(target)?;
            execute(cargo().args([
                "check",
                "--quiet",
                "--locked",
                "--package",
                package,
                "--target",
                target,
            ]))?;
            println!("{package} compiles for {target}");
        }
    }
    Ok(())
}
