//! `nsvm l0 run` with a test hypervisor as L1, in the QEMU of this machine.

use super::common::{check, run, status, stderr, stdout};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The test hypervisors.
fn hypervisors() -> &'static str {
    static IMAGE: LazyLock<PathBuf> = LazyLock::new(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hypervisors.bin");
        let image = nsvm_l0::HYPERVISORS.expect("needs `rustup target add x86_64-unknown-none`");
        std::fs::write(&path, image).expect("a file");
        path
    });
    IMAGE.to_str().expect("a name in UTF-8")
}

/// What the README tells people to do: L1 runs, its refused VMRUN is named in the log, and `check` explains the VMCB there.
#[test]
#[cfg_attr(not(has_payload), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_payload, ignore = "boots L0 in QEMU; `cargo xtask ci` runs it")]
fn a_refused_vmrun_of_a_hypervisor_is_explained() {
    let l1 = hypervisors();
    let log = super::common::file("l0.log", b"");
    let ran = run(&["l0", "run", "--l1", l1, "--append", "refused", "--log", &log]);
    assert_eq!(status(&ran), 0, "{}", stderr(&ran));
    assert!(stdout(&ran).ends_with("refused: passed\n"), "{}", stdout(&ran));
    let text = std::fs::read_to_string(&log).expect("the log");
    assert!(
        text.contains("refused: evt-exc-cp-without-shstk (EVENTINJ=0x80000315) VMEXIT_INVALID"),
        "{text}"
    );
    let (code, explained) = check(&[&log, "--cpu", &format!("cpuid:{log}"), "--phase", "before"]);
    assert_eq!(code, 1, "{explained}");
    assert!(explained.contains("error[evt-exc-cp-without-shstk]"), "{explained}");
}

/// A CPU that this machine cannot run is refused with all that it lacks; judging goes for any, and follows it.
#[test]
#[cfg_attr(not(has_payload), ignore = "needs `rustup target add x86_64-unknown-none`")]
#[cfg_attr(has_payload, ignore = "boots L0 in QEMU; `cargo xtask ci` runs it")]
fn verdicts_are_those_of_the_cpu_that_was_named() {
    let l1 = hypervisors();
    let run = |cpu: &str, more: &[&str]| {
        let log = super::common::file("other.log", b"");
        let ran =
            run(&[&["l0", "run", "--l1", l1, "--append", "refused", "--cpu", cpu, "--log", &log], more]
                .concat());
        (ran, std::fs::read_to_string(&log).expect("the log"))
    };
    let (ran, log) = run("EPYC-Genoa,phys-bits=52", &[]);
    assert_eq!(status(&ran), 3);
    let width = log.split(' ').find(|word| word.starts_with(",phys-bits=")).expect("what to append");
    assert!(run("EPYC-Genoa", &[]).1.contains("nrip-save"), "without a width it has the machine's, {width}");
    const GENOA: &str = "EPYC-Genoa";
    let (ran, log) = run(GENOA, &[]);
    assert_eq!(status(&ran), 3);
    let changes = log.split(' ').find(|word| word.starts_with(",-")).expect("what to append");
    let (ran, log) = run(&format!("{GENOA}{changes}"), &[]);
    assert_eq!(status(&ran), 0, "{log}");
    assert!(log.contains("refused: evt-exc-cp-without-shstk"), "{log}");

    let (ran, log) = run(GENOA, &["--verdict-only"]);
    assert!(stdout(&ran).contains("EXITCODE 0xffffffffffffffff, then 0xf0000000"), "{}", stdout(&ran));
    assert!(log.contains("refused: evt-exc-cp-without-shstk"), "{log}");
    let (ran, log) = run(&format!("{GENOA},+shstk"), &["--verdict-only"]);
    assert!(stdout(&ran).contains("EXITCODE 0xf0000000, then 0xf0000000"), "{}", stdout(&ran));
    assert_eq!(log, "");
}

#[test]
fn what_is_wrong_is_said_before_anything_runs() {
    let missing = run(&["l0", "run", "--l1", "no-such-file"]);
    assert_eq!(status(&missing), 3);
    assert!(stderr(&missing).contains("no-such-file"), "{}", stderr(&missing));
    let text = super::common::file("text", b"no hypervisor");
    let not_one = run(&["l0", "run", "--l1", &text]);
    assert_eq!(status(&not_one), 3);
    assert!(stderr(&not_one).starts_with("error: "), "{}", stderr(&not_one));
}
