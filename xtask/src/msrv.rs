//! `cargo xtask msrv`: each package compiles with the oldest Rust that it promises.

use crate::workspace::{Workspace, proxy, run as execute, succeeds, target_folder};
use anyhow::{Result, bail, ensure};
use lexopt::prelude::*;

const HELP: &str = "\
Compiles each package with the Rust version that its manifest promises (rust-version)

Usage: cargo xtask msrv [PACKAGE...]

rustup installs the toolchains that are missing.

Examples:
  cargo xtask msrv
  cargo xtask msrv vmcb nested-svm
";

/// Runs the verb.
pub(crate) fn run(workspace: &Workspace, parser: &mut lexopt::Parser) -> Result<()> {
    let mut wanted = Vec::new();
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => {
                print!("{HELP}");
                return Ok(());
            }
            Value(name) => wanted.push(name.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    check(workspace, &wanted)
}

/// Checks these packages, or all that promise a version.
pub(crate) fn check(workspace: &Workspace, wanted: &[String]) -> Result<()> {
    let mut packages = workspace.packages()?;
    // The build scripts of nsvm-lab and nsvm-l0 compile the packages of bare/.
    packages.retain(|package| package.rust_version.is_some() && !package.manifest.starts_with("bare/"));
    if let Some(name) = wanted.iter().find(|name| !packages.iter().any(|package| package.name == **name)) {
        let names: Vec<_> = packages.iter().map(|package| package.name.as_str()).collect();
        bail!("unknown package `{name}`: expected one of {}", names.join(", "));
    }
    let folder = target_folder()?;
    let mut count = 0;
    for package in packages {
        let Some(version) = package.rust_version else { continue };
        if !wanted.is_empty() && !wanted.contains(&package.name) {
            continue;
        }
        let toolchain = full_version(&version);
        install(&toolchain)?;
        // Without this target the packages of the lab compile without their bare-metal programs.
        let target = ["target", "add", "--toolchain", &toolchain, "x86_64-unknown-none"];
        if ["nsvm-lab", "nsvm-l0"].contains(&package.name.as_str()) {
            execute(proxy("rustup").args(target))?;
        }
        // The artifacts of different compilers do not fit together.
        let target = folder.join("msrv").join(&toolchain);
        for features in [&[][..], &["--no-default-features"], &["--all-features"]] {
            execute(
                proxy("cargo")
                    .arg(format!("+{toolchain}"))
                    .args(["check", "--quiet", "--locked", "--manifest-path", &package.manifest])
                    .args(features)
                    .env("CARGO_TARGET_DIR", &target),
            )?;
        }
        println!("{} compiles with Rust {toolchain}", package.name);
        count += 1;
    }
    ensure!(count > 0, "no package has a rust-version");
    println!("{count} packages compile with the Rust version that they promise");
    Ok(())
}

/// Returns a version with three numbers, which names a toolchain exactly.
fn full_version(version: &str) -> String {
    if version.matches('.').count() == 1 { format!("{version}.0") } else { version.to_owned() }
}

fn install(toolchain: &str) -> Result<()> {
    if succeeds(proxy("rustc").args([&format!("+{toolchain}"), "--version"])) {
        return Ok(());
    }
    execute(proxy("rustup").args(["toolchain", "install", toolchain, "--profile", "minimal"]))
}
