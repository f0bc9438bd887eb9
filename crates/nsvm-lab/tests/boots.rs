//! The same image, booted in each way that QEMU knows: what boots it must not matter. And on L0, whose nested state is
//! saved and loaded in between: that must not matter either. What L2 then sees of an event is what it sees on the bare
//! machine.

use nsvm_l0::bundle::verdict as would;
use nsvm_lab::driver::{self, Machine, Run};
use nsvm_lab::machine::{Boot, L0, Qemu};
use nsvm_lab::outcome::{Answer, Seen};
use nsvm_lab::{sets, verdict};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;
use vmcb::{Cpu, Cr0, Decision, Efer, Limits, Policy, Vmcb};

const QEMU: &str = "qemu-system-x86_64";

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

fn on_l0(reload: u32) -> Run {
    let machine = L0 { start: Box::new(|| Command::new(QEMU)), limits: None, verdict_only: false, reload };
    run(&machine, &format!("l0-{reload}"))
}

fn booted(boot: Boot) -> Run {
    let machine = Qemu { start: Box::new(|| Command::new(QEMU)), cpu: "max".to_owned(), boot };
    run(&machine, &format!("{boot:?}"))
}

static ON_L0: LazyLock<Run> = LazyLock::new(|| on_l0(0));
static BARE: LazyLock<Run> = LazyLock::new(|| booted(Boot::Pvh));

/// An accepted VMCB does under L0 what it does on the bare machine: what L2 runs into, the event that arrives, its error
/// code, where it returns to. But where EFER.LMA in the VMCB is not what VMRUN makes of LME and PG: QEMU takes it from there.
#[test]
#[cfg_attr(not(has_payload), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_payload, ignore = "needs QEMU; `cargo xtask ci` runs it")]
fn l0_delivers_what_the_bare_machine_does() {
    let set = sets::set("commit").expect("the set");
    let limits = verdict::limits(&ON_L0.cpuid);
    let mut delivered = 0;
    for ((case, l0), bare) in set.cases.iter().zip(&ON_L0.outcomes).zip(&BARE.outcomes) {
        let page = set.page(case);
        let view = Vmcb::new(&page);
        let long = view.efer().contains(Efer::LME) && view.cr0().contains(Cr0::PG);
        let accepted = [l0, bare].iter().all(|outcome| outcome.answer() == Answer::Accepted);
        let legal = verdict::expected(&set, case, &limits).broken().is_empty();
        if accepted && legal && view.efer().contains(Efer::LMA) == long {
            assert_eq!(l0, bare, "{}", case.id);
            delivered += usize::from(view.eventinj().valid());
        }
    }
    assert!(delivered > 1000, "{delivered}");
}

/// What is refused follows L1's virtual CPU and not the machine below, which can run none of these: shadow stacks, SEV-ES,
/// virtual NMI, and three widths of physical addresses.
#[test]
#[cfg_attr(not(has_payload), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_payload, ignore = "needs QEMU; `cargo xtask ci` runs it")]
fn verdicts_on_l0_follow_the_virtual_cpu() {
    let set = sets::set("commit").expect("the set");
    let mut refused = BTreeSet::new();
    for cpu in [
        "EPYC-Genoa-v2,+shstk,phys-bits=52",
        "EPYC-Genoa-v2,-shstk,-vnmi,phys-bits=48",
        "EPYC-Milan,+sev-es,phys-bits=43",
    ] {
        let limits = Limits::compile(&Cpu::parse(cpu).expect("a CPU"), Policy::VirtualCpu);
        let machine = L0 {
            start: Box::new(|| Command::new(QEMU)),
            limits: Some(limits.clone()),
            verdict_only: true,
            reload: 0,
        };
        let ran = run(&machine, &format!("verdicts-{cpu}"));
        let mut ids = BTreeSet::new();
        for (case, outcome) in set.cases.iter().zip(&ran.outcomes) {
            if case.cannot_run.is_some() || case.meaningless.is_some() {
                continue;
            }
            let expected = verdict::expected(&set, case, &limits);
            // L0 reads the page directory pointers, of which the set does not know.
            if expected.undecided().iter().any(|rule| rule.id() == "sav-pdpte-reserved") {
                continue;
            }
            let told = match &outcome.seen {
                Seen::Exit { code: would::WOULD_ENTER, .. } => Decision::Accepted,
                Seen::Exit { code: would::UNDECIDED, .. } => Decision::Undecided,
                _ if matches!(outcome.answer(), Answer::Refused(_)) => Decision::Refused,
                other => panic!("{cpu}: {}: {other:?}", case.id),
            };
            assert_eq!(told, expected.decision(), "{cpu}: {}: {expected:?}", case.id);
            if told == Decision::Refused {
                ids.insert(case.id.clone());
            }
        }
        assert!(ids.len() > 3000, "{cpu}: {}", ids.len());
        refused.insert(ids);
    }
    assert_eq!(refused.len(), 3, "each of these CPUs refuses others");
}

/// The outcome of every case is the same where L0 goes on from saved bytes after each exit, but for those that only fill
/// in the shadow of L1's nested tables again.
#[test]
#[cfg_attr(not(has_payload), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_payload, ignore = "needs QEMU; `cargo xtask ci` runs it")]
fn l0_is_saved_and_loaded_at_each_exit() {
    let (plain, reloaded) = (&*ON_L0, on_l0(1));
    let set = sets::set("commit").expect("the set");
    assert_eq!((plain.outcomes.len(), plain.starts), (set.cases.len(), reloaded.starts));
    for ((case, one), two) in set.cases.iter().zip(&plain.outcomes).zip(&reloaded.outcomes) {
        assert_eq!(one, two, "{}", case.id);
    }
}

#[test]
#[cfg_attr(not(has_payload), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_payload, ignore = "needs QEMU; `cargo xtask ci` runs it")]
fn three_ways_to_boot_give_the_same_results() {
    let set = sets::set("commit").expect("the set");
    let others = [Boot::Multiboot, Boot::Disk].map(|boot| (boot, booted(boot)));
    let Run { cpuid, msrs, outcomes, starts, .. } = &*BARE;
    assert_eq!((outcomes.len(), *starts), (set.cases.len(), 1));
    assert!(!cpuid.is_empty() && !msrs.is_empty());
    for (boot, other) in &others {
        assert_eq!((&other.cpuid, &other.msrs, &other.starts), (cpuid, msrs, starts), "{boot:?}");
        for ((case, one), two) in set.cases.iter().zip(outcomes).zip(&other.outcomes) {
            assert_eq!(one, two, "{boot:?}: {}", case.id);
        }
    }
}
