//! `cargo xtask images`: builds the bare-metal programs, and checks their format and lints.

use crate::arguments::none_or_help;
use crate::workspace::{Workspace, cargo, proxy, run as execute, succeeds};
use anyhow::Result;

/// The target of programs without an operating system.
const TARGET: &str = "x86_64-unknown-none";

const HELP: &str = "\
Builds the bare-metal programs into nsvm-lab and nsvm-l0, and checks their format and lints

Usage: cargo xtask images

rustup adds the target x86_64-unknown-none if it is missing.

Example:
  cargo xtask images
";

/// Runs the verb.
pub(crate) fn run(_: &Workspace, parser: &mut lexopt::Parser) -> Result<()> {
    if none_or_help(parser, HELP)? { build() } else { Ok(()) }
}

/// Builds the images with the build scripts of the packages that contain them.
pub(crate) fn build() -> Result<()> {
    add_target(TARGET)?;
    // In that folder, so that cargo reads its configuration, which selects the target.
    let bare = |arguments: &[&str]| execute(cargo().args(arguments).current_dir("bare"));
    bare(&["fmt", "--all", "--check"])?;
    bare(&["clippy", "--locked", "--", "-D", "warnings"])?;
    // `kvm-runner` runs on Linux.
    let linux = ["--target", "x86_64-unknown-linux-gnu", "--", "-D", "warnings"];
    bare(&[&["clippy", "--locked", "--package", "kvm-runner"], &linux[..]].concat())?;
    // The example compiles for the bare machine above. Its tests run here.
    let tests = ["test", "--locked", "--package", "hypervisor-stub", "--target", "x86_64-unknown-linux-gnu"];
    bare(&tests)?;
    execute(cargo().args(["build", "--locked", "--package", "nsvm-lab", "--package", "nsvm-l0"]))
}

/// Makes rustup add a target, unless the compiler has it.
pub(crate) fn add_target(target: &str) -> Result<()> {
    let mut installed = proxy("rustup");
    installed.args(["target", "list", "--installed"]);
    let has =
        crate::workspace::output(&mut installed).is_ok_and(|text| text.lines().any(|line| line == target));
    if has || succeeds(proxy("rustup").args(["target", "add", target])) {
        return Ok(());
    }
    // Run the command again without capturing its output, so that the user sees rustup's message.
    execute(proxy("rustup").args(["target", "add", target]))
}
