//! `cargo xtask nightly`: long tests, for which a commit cannot wait.

use crate::counted_tests::run_tests;
use crate::lab;
use crate::steps::{Outcome, Step, Tier};
use crate::workspace::{Workspace, cargo, proxy, run, succeeds};
use anyhow::{Result, ensure};
use std::process::Command;

/// The nightly toolchain of Miri and of the fuzzer. A date makes its results repeatable.
const TOOLCHAIN: &str = "nightly-2026-06-01";

/// Seconds that each fuzz target runs.
const FUZZ_SECONDS: u32 = 600;

/// The second tier.
pub(crate) const TIER: Tier = Tier {
    name: "nightly",
    summary: "Runs long tests. Run it before you resolve an issue, and put its table into the note.\n\
              A step that this machine cannot run is skipped, with the reason in the table.",
    steps: STEPS,
    goes_on: true,
};

const STEPS: &[Step] = &[
    Step { name: "trials", headline: "10,000,000 random steps of the nested engine", run: trials },
    Step { name: "enumerations", headline: "20 times the random rounds of vmcb's tests", run: enumerations },
    Step { name: "damaged", headline: "300,000 damaged dumps", run: damaged },
    Step { name: "events", headline: "all 2^32 low words of EVENTINJ", run: events },
    Step { name: "miri", headline: "vmcb's unit tests under Miri", run: miri },
    Step { name: "fuzz", headline: "each fuzz target for 10 minutes", run: fuzz },
    Step { name: "fetch", headline: "kernel and Xen from Debian's archive", run: |_| lab::fetch() },
    Step { name: "l0", headline: "L0: 1,000,000 attacks, 100,000 rounds of XMM registers", run: l0 },
    Step { name: "kvm-cases", headline: "all 8,192 events on KVM on L0, twice", run: kvm_cases },
    Step { name: "boots", headline: "Xen on L0, and Linux with dying guests", run: boots },
    Step { name: "lab-golden", headline: "commit set on six subjects, as recorded", run: |_| lab::golden() },
    Step { name: "lab-full", headline: "full set on model, QEMU, Bochs and L0", run: lab_full },
    Step { name: "lab-full-kvm", headline: "full set on KVM", run: lab_full_kvm },
    Step { name: "lab-full-kvm-l0", headline: "full set on KVM on L0", run: lab_full_kvm_l0 },
];

/// Runs the verb.
pub(crate) fn run_verb(workspace: &Workspace, parser: &mut lexopt::Parser) -> Result<()> {
    TIER.run(workspace, parser)
}

/// Returns the outcome `skipped` if one of these programs is not in PATH.
fn missing(programs: &[&str]) -> Option<Outcome> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has = |program: &str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    let missing = programs.iter().find(|program| !has(program))?;
    let install = match *missing {
        "cargo-fuzz" => "`cargo install cargo-fuzz --locked` installs it",
        _ => "`.ci/run` installs it",
    };
    Some(Outcome::Skipped(format!("`{missing}` is not in PATH; {install}")))
}

const QEMU: &str = "qemu-system-x86_64";

fn trials(_: &Workspace) -> Result<Outcome> {
    let arguments = ["test", "--release", "--locked", "--package", "nested-svm", "trials_find_no_fault"];
    run_tests(cargo().args(arguments).env("NSVM_TRIAL_STEPS", "10000000"), 1)
}

fn enumerations(_: &Workspace) -> Result<Outcome> {
    run_tests(
        cargo().args(["test", "--release", "--locked", "--package", "vmcb"]).env("VMCB_ROUNDS", "20"),
        800,
    )
}

fn damaged(_: &Workspace) -> Result<Outcome> {
    let example = ["run", "--release", "--locked", "--package", "vmcb-dump", "--example", "damaged", "--"];
    run(cargo().args(example).arg("300000"))?;
    run(cargo().args(example).args(["100000", "--two"]))?;
    Ok(Outcome::Passed)
}

fn events(_: &Workspace) -> Result<Outcome> {
    run(cargo().args([
        "run",
        "--release",
        "--locked",
        "--package",
        "vmcb",
        "--example",
        "event_exhaustive",
    ]))?;
    Ok(Outcome::Passed)
}

/// Returns a cargo of the pinned nightly toolchain, or the reason why it cannot be installed.
fn nightly_cargo(component: &str) -> Result<Command, Outcome> {
    let mut install = proxy("rustup");
    install.args(["toolchain", "install", TOOLCHAIN, "--profile", "minimal", "--component", component]);
    let mut cargo = proxy("cargo");
    cargo.arg(format!("+{TOOLCHAIN}"));
    if succeeds(&mut install) {
        return Ok(cargo);
    }
    Err(Outcome::Skipped(format!("rustup cannot install {TOOLCHAIN} with {component}")))
}

fn miri(_: &Workspace) -> Result<Outcome> {
    let mut cargo = match nightly_cargo("miri,rust-src") {
        Ok(cargo) => cargo,
        Err(skipped) => return Ok(skipped),
    };
    run(cargo.args(["miri", "test", "--locked", "--package", "vmcb", "--lib"]))?;
    Ok(Outcome::Passed)
}

fn fuzz(workspace: &Workspace) -> Result<Outcome> {
    if let Some(skipped) = missing(&["cargo-fuzz", "c++"]) {
        return Ok(skipped);
    }
    if let Err(skipped) = nightly_cargo("rust-src") {
        return Ok(skipped);
    }
    let mut targets: Vec<_> = workspace
        .rust_files()?
        .iter()
        .filter_map(|path| Some(path.strip_prefix("fuzz/fuzz_targets/")?.strip_suffix(".rs")?.to_owned()))
        .collect();
    targets.sort();
    ensure!(!targets.is_empty(), "fuzz/fuzz_targets is empty");
    for target in &targets {
        let mut cargo = proxy("cargo");
        cargo.arg(format!("+{TOOLCHAIN}")).args(["fuzz", "run", target, "--"]);
        run(cargo
            .arg(format!("-max_total_time={FUZZ_SECONDS}"))
            .args(["-rss_limit_mb=4096", "-print_final_stats=1"]))?;
    }
    Ok(Outcome::Noted(format!("{}, {FUZZ_SECONDS} s each", targets.join(", "))))
}

fn l0(_: &Workspace) -> Result<Outcome> {
    if let Some(skipped) = missing(&[QEMU]) {
        return Ok(skipped);
    }
    let arguments = ["test", "--locked", "--package", "nsvm-l0", "--tests", "--", "--ignored"];
    let tests = ["an_attacker_gets_nowhere", "xmm_registers_are_intact"];
    let mut command = cargo();
    command.args(arguments).args(tests).env("NSVM_L0_ATTACKS", "1000000").env("NSVM_L0_ROUNDS", "100000");
    run_tests(&mut command, 2)
}

fn kvm_cases(_: &Workspace) -> Result<Outcome> {
    if let Some(skipped) = missing(&[QEMU]) {
        return Ok(skipped);
    }
    let arguments = ["test", "--locked", "--package", "nsvm-lab", "--tests", "--", "--ignored"];
    let name = "kvm_runs_the_payload_twice_the_same";
    run_tests(cargo().args(arguments).arg(name).env("NSVM_L0_CASES", "8192"), 1)
}

/// Runs the tests that only this tier runs.
fn boots(_: &Workspace) -> Result<Outcome> {
    if let Some(skipped) = missing(&[QEMU]) {
        return Ok(skipped);
    }
    run_tests(cargo().args(["test", "--workspace", "--locked", "--tests", "--", "--ignored", "nightly_"]), 5)
}

fn lab_full(_: &Workspace) -> Result<Outcome> {
    match missing(&[QEMU, "bochs"]) {
        Some(skipped) => Ok(skipped),
        None => lab::full_set(&["model", "qemu", "bochs", "l0"], "qemu,bochs,l0"),
    }
}

fn lab_full_kvm(_: &Workspace) -> Result<Outcome> {
    match missing(&[QEMU]) {
        Some(skipped) => Ok(skipped),
        None => lab::full_set(&["kvm@bookworm"], "kvm"),
    }
}

fn lab_full_kvm_l0(_: &Workspace) -> Result<Outcome> {
    match missing(&[QEMU]) {
        Some(skipped) => Ok(skipped),
        None => lab::full_set(&["kvm-l0@bookworm"], "kvm-l0"),
    }
}
