//! `cargo xtask ci`: what every commit must pass.

use crate::counted_tests::run_tests;
use crate::steps::{Outcome, Step, Tier};
use crate::workspace::{Workspace, cargo, run};
use crate::{bench, check_targets, generate, house, images, lab, msrv, prose};
use anyhow::Result;
use std::path::Path;

/// The first tier.
pub(crate) const TIER: Tier = Tier {
    name: "ci",
    summary: "Runs the steps that every commit must pass, except `cargo test --workspace`, which `.ci/run` runs after them.\n\
              The steps take up to 60 minutes on two cores.\n\
              The tests need QEMU 7.2, Bochs, Chromium, busybox, valgrind and gungraun-runner; `.ci/run` installs them.",
    steps: STEPS,
    goes_on: false,
};

const STEPS: &[Step] = &[
    Step { name: "format", headline: "rustfmt changes nothing", run: format },
    Step {
        name: "house",
        headline: "the rules of this repository",
        run: |workspace| passed(house::all(workspace)),
    },
    Step {
        name: "prose",
        headline: "the writing guide's patterns",
        run: |workspace| passed(prose::check(workspace)),
    },
    Step { name: "clippy", headline: "lints, without a warning", run: clippy },
    Step { name: "doc", headline: "documentation, without a warning", run: doc },
    Step {
        name: "generate",
        headline: "generated files are current",
        run: |workspace| passed(generate::generate(workspace, true)),
    },
    Step {
        name: "msrv",
        headline: "the oldest promised Rust",
        run: |workspace| passed(msrv::check(workspace, &[])),
    },
    Step {
        name: "check-targets",
        headline: "other systems and WebAssembly",
        run: |_| passed(check_targets::check()),
    },
    Step { name: "images", headline: "bare-metal programs", run: |_| passed(images::build()) },
    Step {
        name: "assembly",
        headline: "no loop, call or panic on the accepting paths",
        run: |workspace| passed(house::named(workspace, "assembly")),
    },
    Step {
        name: "bench",
        headline: "instruction counts against the recorded ones",
        run: |_| passed(bench::count()),
    },
    Step { name: "release-tests", headline: "tests of the no_std crates in release", run: release_tests },
    Step { name: "fuzz-bodies", headline: "bodies of the fuzz targets on random bytes", run: fuzz_bodies },
    Step { name: "fetch", headline: "kernel and Xen from Debian's archive", run: |_| lab::fetch() },
    Step { name: "machines", headline: "ignored tests that need QEMU, Bochs or Chromium", run: machines },
    Step {
        name: "lab",
        headline: "commit set on model, QEMU, Bochs and L0 in 60 s",
        run: |_| lab::commit_set(),
    },
    Step { name: "lab-kvm", headline: "EVENTINJ on KVM in 90 s", run: |_| lab::events_on_kvm() },
    Step {
        name: "lab-kvm-l0",
        headline: "EVENTINJ on KVM on L0 in 120 s",
        run: |_| lab::events_on_kvm_on_l0(),
    },
    Step { name: "packages", headline: "published packages compile from their archives", run: packages },
];

/// Runs the verb.
pub(crate) fn run_verb(workspace: &Workspace, parser: &mut lexopt::Parser) -> Result<()> {
    TIER.run(workspace, parser)
}

fn passed(result: Result<()>) -> Result<Outcome> {
    result.map(|()| Outcome::Passed)
}

fn format(_: &Workspace) -> Result<Outcome> {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    for manifest in ["fuzz/Cargo.toml", "bare/Cargo.toml"].into_iter().filter(|path| Path::new(path).exists())
    {
        run(cargo().args(["fmt", "--all", "--check", "--manifest-path", manifest]))?;
    }
    Ok(Outcome::Passed)
}

fn clippy(_: &Workspace) -> Result<Outcome> {
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))?;
    let fuzz = ["clippy", "--locked", "--manifest-path", "fuzz/Cargo.toml", "--lib", "--tests"];
    run(cargo().args(fuzz).args(["--", "-D", "warnings"]))?;
    // `cargo clippy` of bare/ is part of the step `images`, which adds its target.
    Ok(Outcome::Passed)
}

fn doc(_: &Workspace) -> Result<Outcome> {
    run(cargo().args(["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-D warnings"))?;
    Ok(Outcome::Passed)
}

/// Tests `vmcb` and `nested-svm` as release builds, because hypervisors use optimized code. A miscompilation
/// (docs/findings/) was visible in release builds only.
fn release_tests(_: &Workspace) -> Result<Outcome> {
    let packages = ["--package", "vmcb", "--package", "nested-svm"];
    run_tests(cargo().args(["test", "--release", "--locked", "--all-features"]).args(packages), 900)
}

fn fuzz_bodies(_: &Workspace) -> Result<Outcome> {
    run(cargo().args(["test", "--locked", "--manifest-path", "fuzz/Cargo.toml", "--lib"]))?;
    Ok(Outcome::Passed)
}

/// Runs the tests that `cargo test` ignores, except those of the second tier.
fn machines(_: &Workspace) -> Result<Outcome> {
    let ignored = ["--workspace", "--locked", "--tests", "--", "--ignored", "--skip", "nightly_"];
    run_tests(cargo().arg("test").args(ignored), 30)
}

fn packages(workspace: &Workspace) -> Result<Outcome> {
    // Remove the packages that an earlier run unpacked. Otherwise cargo would compile those and not the new ones.
    let home = std::env::var_os("CARGO_HOME").map(std::path::PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo"))).unwrap_or_default();
    for entry in std::fs::read_dir(home.join("registry/src")).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with('-') {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    let mut command = cargo();
    command.args(["package", "--locked", "--allow-dirty"]);
    let mut count = 0;
    for package in workspace.packages()?.iter().filter(|package| package.is_published) {
        command.args(["--package", &package.name]);
        count += 1;
    }
    run(&mut command)?;
    Ok(Outcome::Noted(format!("{count} packages")))
}
