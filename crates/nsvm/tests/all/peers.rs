//! `nsvm check --as` and `--who`: what implementations would do, for people.

use crate::common::{file, legal, put, run, stdout};
use snapbox::file as snapshot;

/// What is printed for people.
#[test]
fn answers_stand_beside_how_they_are_known() {
    let dump = "samples/kvm-7.2-dmesg-refused-event-moved.txt";
    let stacks =
        ["--as", "kvm@6.1.170/qemu@7.2.22", "--as", "xen@4.17", "--as", "kvm/hardware", "--as", "bochs"];
    let arguments = [&["check", dump, "--cpu", "EPYC-Milan,phys-bits=48", "--who"], &stacks[..]].concat();
    run(&arguments).code(1).stdout_eq(snapshot!["snapshots/who.txt"]).stderr_eq("");
    // Most of it is not known: nothing is made up.
    run(&["check", "samples/tracecmd-kvm_nested_vmrun-eventinj.txt", "--as", "kvm@7.2.13/qemu@7.2.22"])
        .code(2)
        .stdout_eq(snapshot!["snapshots/as-unknown.txt"]);
    // A line that shows no VMCB is no VMCB to ask about.
    let line = b"a-1 [000] ..... 1.0: kvm_nested_vmenter_failed: save->quux & 1\n";
    let text = stdout(&run(&["check", &file("as-nothing.txt", line), "--who"]));
    assert!(!text.contains("who would do what"), "{text}");
}

/// The exit status is that of the rulebook.
#[test]
fn peers_change_no_verdict() {
    let mut page = legal();
    put(&mut page, 0xA8, 0x8000_0309);
    let path = file("vector-9.bin", &page);
    let arguments =
        ["check", &path, "--cpu", crate::common::MILAN, "--phase", "before", "--host", "rax=0x1000"];
    let alone = run(&arguments).code(1);
    let with = run(&[&arguments[..], &["--as", "bochs"]].concat()).code(1);
    let (alone, with) = (stdout(&alone), stdout(&with));
    assert!(with.contains("as Bochs 3.1: accepts\n"), "{with}");
    assert!(with.contains("measured 2026-11-24: lets pass what the rulebook is against, evt-exc-vector-9"));
    assert!(alone.lines().all(|line| with.contains(line)));
    // Each layer has the CPU that it is given.
    let cp = |stack: &str| {
        let mut page = page;
        put(&mut page, 0xA8, 0x8000_0315);
        stdout(&run(&["check", &file("cp.bin", &page), "--phase", "before", "--as", stack]))
    };
    assert!(cp("kvm@7.2.13:EPYC-Milan,+shstk").contains("as KVM 7.2.13: accepts\n"));
    assert!(
        cp("kvm@7.2.13:EPYC-Milan,-shstk").contains("as KVM 7.2.13: refuses by evt-exc-cp-without-shstk\n")
    );
    assert!(cp("kvm@7.2.13").contains("as KVM 7.2.13: unknown\n"));
}

#[test]
fn a_stack_that_is_none_is_told() {
    for (stack, error) in [
        ("bosch", "--as: `bosch` is none of kvm, bochs, qemu, virtualbox, xen, hardware"),
        ("qemu@new", "--as: qemu: `new` is no version"),
        ("hardware/kvm", "--as: nothing is below `hardware`"),
    ] {
        let output = run(&["check", "samples/INDEX.md", "--as", stack]).code(3);
        assert!(crate::common::stderr(&output).contains(error), "{}", crate::common::stderr(&output));
    }
}
