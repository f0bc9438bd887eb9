//! Runs of `nsvm lab` that the tiers contain.

use crate::steps::Outcome;
use crate::workspace::{cargo, run, target_folder};
use anyhow::{Result, ensure};
use std::process::Command;
use std::time::{Duration, Instant};

/// Returns `nsvm lab` of a release build.
fn lab() -> Result<Command> {
    let packages = ["--package", "nsvm", "--package", "nsvm-lab"];
    run(cargo().args(["build", "--release", "--locked"]).args(packages))?;
    let mut command = Command::new(target_folder()?.join("release/nsvm"));
    command.arg("lab");
    Ok(command)
}

/// Runs the lab and fails if it takes longer than the limit.
fn within(seconds: u64, arguments: &[&str]) -> Result<Outcome> {
    let mut command = lab()?;
    let start = Instant::now();
    run(command.args(arguments))?;
    let time = start.elapsed();
    ensure!(time <= Duration::from_secs(seconds), "{} s are above the limit of {seconds} s", time.as_secs());
    Ok(Outcome::Noted(format!("{:.0} s of {seconds} s", time.as_secs_f32())))
}

/// Fetches the kernel and Xen that tests boot. It is a separate step because its time depends on the network.
pub(crate) fn fetch() -> Result<Outcome> {
    run(lab()?.args(["fetch", "kernel@bookworm", "xen@bookworm"]))?;
    Ok(Outcome::Passed)
}

/// The commit set on all subjects that need no kernel.
pub(crate) fn commit_set() -> Result<Outcome> {
    within(60, &["run", "model", "qemu", "bochs", "l0", "--require", "qemu,bochs,l0", "--offline"])
}

/// The commit set on the six recorded subjects, compared with the golden master. Other versions of QEMU, Bochs or the
/// kernel are a difference.
pub(crate) fn golden() -> Result<Outcome> {
    let results = target_folder()?.join("commit-set.txt");
    let subjects = ["model", "qemu", "bochs", "l0", "kvm@bookworm", "kvm-l0@bookworm"];
    run(lab()?.arg("run").args(subjects).args(["--offline", "--output"]).arg(&results))?;
    run(lab()?.args(["diff", "golden/lab/commit-set.txt"]).arg(&results))?;
    Ok(Outcome::Passed)
}

/// Events of TYPE 3 and others in a 64-bit guest, on KVM.
pub(crate) fn events_on_kvm() -> Result<Outcome> {
    within(90, &["run", "kvm@bookworm", "--only", "eventinj.long64*", "--require", "kvm", "--offline"])
}

/// The same in three levels: KVM runs as L1 of L0.
pub(crate) fn events_on_kvm_on_l0() -> Result<Outcome> {
    within(120, &["run", "kvm-l0@bookworm", "--only", "eventinj.long64*", "--require", "kvm-l0", "--offline"])
}

/// Runs the full set on these subjects. The run fails if one of the subjects in `required` is missing.
pub(crate) fn full_set(subjects: &[&str], required: &str) -> Result<Outcome> {
    let start = Instant::now();
    run(lab()?.arg("run").args(subjects).args(["--set", "full", "--require", required, "--offline"]))?;
    Ok(Outcome::Noted(format!("{} in {} s", subjects.join(", "), start.elapsed().as_secs())))
}
