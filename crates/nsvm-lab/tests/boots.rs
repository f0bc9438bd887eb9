//! The same image, booted in each way that QEMU knows: what boots it must not matter.
//!
//! Without QEMU in PATH the test prints why it is skipped; `NSVM_LAB_REQUIRE=qemu` makes that a failure.

use nsvm_lab::driver::{self, Run};
use nsvm_lab::machine::{Boot, Qemu};
use nsvm_lab::sets;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;

const QEMU: &str = "qemu-system-x86_64";

#[test]
fn three_ways_to_boot_give_the_same_results() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|folder| folder.join(QEMU).is_file()) {
        let required = std::env::var("NSVM_LAB_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|one| one == "qemu"), "NSVM_LAB_REQUIRE and no {QEMU} in PATH");
        eprintln!("skipped: no {QEMU} in PATH");
        return;
    }
    let set = sets::set("commit").expect("the set");
    let boots = [Boot::Pvh, Boot::Multiboot, Boot::Disk].map(|boot| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{boot:?}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let machine = Qemu { start: Box::new(|| Command::new(QEMU)), cpu: "max".to_owned(), boot };
        let mut last = 0;
        let run = driver::run(&machine, &set, &|_| None, &folder, &AtomicBool::new(false), &mut |progress| {
            assert!(progress.done >= last && progress.done <= progress.all);
            last = progress.done;
        });
        let _ = fs::remove_dir_all(&folder);
        (boot, run.unwrap_or_else(|error| panic!("{boot:?}: {error}")))
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
