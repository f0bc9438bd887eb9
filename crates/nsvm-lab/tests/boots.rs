//! The same image, booted in each way that QEMU knows: what boots it must not matter. And on L0, whose nested state is
//! saved and loaded in between: that must not matter either.
//!
//! Without QEMU in PATH the test prints why it is skipped; `NSVM_LAB_REQUIRE=qemu` makes that a failure.

use nsvm_lab::driver::Machine;
use nsvm_lab::driver::{self, Run};
use nsvm_lab::machine::{Boot, L0, Qemu};
use nsvm_lab::sets;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;

const QEMU: &str = "qemu-system-x86_64";

/// Whether there is a QEMU.
fn has_qemu() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(QEMU).is_file());
    if !found {
        let required = std::env::var("NSVM_LAB_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|one| one == "qemu"), "NSVM_LAB_REQUIRE and no {QEMU} in PATH");
        eprintln!("skipped: no {QEMU} in PATH");
    }
    found
}

/// Runs the commit set.
fn run(machine: &dyn Machine, name: &str) -> Run {
    let set = sets::set("commit").expect("the set");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let mut last = 0;
    let run = driver::run(machine, &set, &|_| None, &folder, &AtomicBool::new(false), &mut |progress| {
        assert!(progress.done >= last && progress.done <= progress.all);
        last = progress.done;
    });
    let _ = fs::remove_dir_all(&folder);
    run.unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The outcome of every case is the same where L0 goes on from saved bytes after each exit, but for those that only fill
/// in the shadow of L1's nested tables again.
#[test]
fn l0_is_saved_and_loaded_at_each_exit() {
    if !has_qemu() {
        return;
    }
    let [plain, reloaded] = [0, 1].map(|reload| {
        let machine = L0 { start: Box::new(|| Command::new(QEMU)), limits: None, reload };
        run(&machine, &format!("l0-{reload}"))
    });
    let set = sets::set("commit").expect("the set");
    assert_eq!((plain.outcomes.len(), plain.starts), (set.cases.len(), reloaded.starts));
    for ((case, one), two) in set.cases.iter().zip(&plain.outcomes).zip(&reloaded.outcomes) {
        assert_eq!(one, two, "{}", case.id);
    }
}

#[test]
fn three_ways_to_boot_give_the_same_results() {
    if !has_qemu() {
        return;
    }
    let set = sets::set("commit").expect("the set");
    let boots = [Boot::Pvh, Boot::Multiboot, Boot::Disk].map(|boot| {
        let machine = Qemu { start: Box::new(|| Command::new(QEMU)), cpu: "max".to_owned(), boot };
        (boot, run(&machine, &format!("{boot:?}")))
    });
    let [(_, first), others @ ..] = &boots;
    let Run { cpuid, msrs, outcomes, starts, .. } = first;
    assert_eq!((outcomes.len(), *starts), (set.cases.len(), 1));
    assert!(!cpuid.is_empty() && !msrs.is_empty());
    for (boot, other) in others {
        assert_eq!((&other.cpuid, &other.msrs, &other.starts), (cpuid, msrs, starts), "{boot:?}");
        for ((case, one), two) in set.cases.iter().zip(outcomes).zip(&other.outcomes) {
            assert_eq!(one, two, "{boot:?}: {}", case.id);
        }
    }
}
