//! KVM's trace lines of nested VMRUN: layouts of all kernels and tools.

use crate::common::{all, error, marked, one, remarks, seen, value};
use vmcb::Phase;
use vmcb::layout::vmcb_field as f;
use vmcb_dump::{Error, Kind, RemarkKind, read_all};

const NEW: &str = "rip: 0x0000000000100142 vmcb: 0x000000000010a000 nested_rip: 0x00000000001003b0 \
    int_ctl: 0x01000000 event_inj: 0x80000b0e nested_npt=y nested_cr3: 0x0000000000104000";

#[test]
fn every_tool() {
    for prefix in [
        "",
        "  ",
        "          kvmrun-108     [000] .....    54.665919: ",
        "qemu-system-x86-3456  (   3456) [012] d..2. 54.665919: ",
        " CPU 0/KVM-1234 [003] 123.456789: ",
        "qemu-system-x86  1234 [001]   123.456789: kvm:",
        "> qemu-kvm-99 [001] .... 1.0: ",
        "Nov 22 10:00:00 host trace[1]: ",
    ] {
        let found = one(format!("{prefix}kvm_nested_vmenter: {NEW}\n"));
        assert_eq!((found.kind, found.phase), (Kind::KvmTraceEnter, Phase::Before), "{prefix}");
        assert_eq!(found.vmcb_address, Some(0x10_A000));
        assert_eq!(value(&found, f::rip), (0x10_03B0, u64::MAX));
        assert_eq!(value(&found, f::int_ctl).0, 0x0100_0000);
        assert_eq!(value(&found, f::eventinj), (0x8000_0B0E, 0xFFFF_FFFF));
        assert_eq!(value(&found, f::nested_ctl), (1, 1));
        assert_eq!(value(&found, f::n_cr3), (0x10_4000, u64::MAX));
        assert_eq!(marked(&found, &seen(&found, "nested_npt").place), "y");
        assert_eq!(found.fields.len(), 5, "the rip of the hypervisor is no part of the VMCB");
    }
}

#[test]
fn every_layout() {
    let found = one("kvm_nested_vmenter: rip: 0x1 nested_npt=n guest_cr3: 0x0000000000104000\n");
    assert_eq!(value(&found, f::nested_ctl), (0, 1));
    assert_eq!(value(&found, f::cr3), (0x10_4000, u64::MAX));
    let found = one("kvm_nested_vmenter: nested_npt: off guest cr3: 0x0000000000104000\n");
    assert_eq!(value(&found, f::nested_ctl), (0, 1));
    assert_eq!(value(&found, f::cr3), (0x10_4000, u64::MAX));
    let found = one(
        "kvm_nested_vmrun: nrip: 0x0000000000001000 int_ctl: 0x01000000 event_inj: 0x00000000 npt: off\n\n",
    );
    assert_eq!(value(&found, f::rip), (0x1000, u64::MAX));
    assert_eq!(value(&found, f::nested_ctl), (0, 1));
}

#[test]
fn intercepts_belong_to_the_same_cpu() {
    let intercepts = |cpu: u8, rest: &str| {
        format!(
            "q-1 [00{cpu}] 1.0: kvm_nested_intercepts: cr_read: 0010 cr_write: 0011 excp: 00060042 {rest}\n"
        )
    };
    let enter = |cpu: u8| format!("q-1 [00{cpu}] 1.0: kvm_nested_vmenter: {NEW}\n");
    let found = one(enter(1) + &intercepts(1, "intercepts: 81000000 00000003 0000003f"));
    assert_eq!(value(&found, f::intercept_cr).0, 0x0011_0010);
    assert_eq!(value(&found, f::intercept_exceptions).0, 0x0006_0042);
    assert_eq!(value(&found, f::intercept_misc1).0, 0x8100_0000);
    assert_eq!(value(&found, f::intercept_misc2).0, 3);
    assert_eq!(value(&found, f::intercept_misc3).0, 0x3F);
    let found = one(enter(1) + &intercepts(1, "intercept: 0000000381000000"));
    assert_eq!((value(&found, f::intercept_misc1).0, value(&found, f::intercept_misc2).0), (0x8100_0000, 3));
    assert_eq!(value(&found, f::intercept_misc3).1, 0);
    let found = one(enter(1) + &intercepts(2, "intercepts: 81000000 00000003 0000003f"));
    assert_eq!(value(&found, f::intercept_misc1).1, 0);
    let exit = "q-1 [001] 1.0: kvm_nested_vmexit: vcpu 0 reason npf\n";
    let found = one(enter(1) + exit + &intercepts(1, "intercepts: 81000000 00000003 0000003f"));
    assert_eq!(value(&found, f::intercept_misc1).1, 0, "those of a later VMRUN");
}

#[test]
fn refusals() {
    let cases = [
        ("control->asid == 0", &["ctl-asid-zero"][..]),
        ("!kvm_vcpu_is_legal_cr3(vcpu, save->cr3)", &["sav-cr3-mbz-long", "sav-cr3-high-legacy"]),
        ("something that only a later kernel checks", &[]),
    ];
    for (condition, rules) in cases {
        let line = format!("q-1 [001] 1.0: kvm_nested_vmenter_failed: {condition}\r\n");
        let found = one(line);
        assert_eq!(found.kind, Kind::KvmTraceFailed);
        let refusal = &found.refusals[0];
        assert_eq!((refusal.condition.as_str(), refusal.rules), (condition, rules));
        assert_eq!(marked(&found, &refusal.place), condition);
    }
    // Of two lines only the condition that is checked later belongs to the VMCB shown before it.
    let enter = format!("q-1 [001] 1.0: kvm_nested_vmenter: {NEW}\n");
    let found = all(enter.clone() + "q-1 [001] 1.0: kvm_nested_vmenter_failed: control->asid == 0\n");
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].refusals, []);
    let found = one(enter + "q-1 [001] 1.0: kvm_nested_vmenter_failed: !load_pdptrs(vcpu, cr3)\n");
    assert_eq!(found.refusals[0].rules, ["sav-pdpte-reserved"]);
    assert!(vmcb_dump::refusal_rules().all(|id| id.contains('-')));
}

const REFUSED: &str = "vcpu 3 reason 0xffffffff rip 0x1003b0 info1 0x0000000000000001 info2 0x0000000000000002 \
    intr_info 0x8000031f error_code 0x00000000 requests 0x0000000000000000";

#[test]
fn exits_that_vmrun_refused() {
    let found = one(format!("q-1 [001] 1.0: kvm_exit: {REFUSED}\n"));
    assert_eq!((found.kind, found.phase, found.vcpu), (Kind::KvmTraceExit, Phase::After, Some(3)));
    assert_eq!(value(&found, f::exitcode), (0xFFFF_FFFF, 0xFFFF_FFFF));
    assert_eq!((value(&found, f::exitinfo1).0, value(&found, f::exitinfo2).0), (1, 2));
    // The kernel prints 0 where the event has no error code: that is no field of the VMCB.
    assert_eq!(value(&found, f::exitintinfo), (0x8000_031F, 0xFFFF_FFFF));
    assert_eq!(marked(&found, &seen(&found, "reason").place), "0xffffffff");
    // Exits that ran say only that VMRUN accepted, and trace-cmd's EXIT_ERR says nothing.
    for reason in ["npf", "0x403", "UNKNOWN (1027)", "EXIT_ERR", "GP excp"] {
        let line = format!("q-1 [001] 1.0: kvm_exit: {}\n", REFUSED.replace("0xffffffff", reason));
        assert!(matches!(error(line), Error::NothingFound { .. }), "{reason}");
    }
    let vmx = format!("q-1 [001] 1.0: kvm_exit: {}\n", REFUSED.replace("0xffffffff", "EPT_VIOLATION"));
    assert!(matches!(error(vmx), Error::Vmx { line: 1, .. }));
}

#[test]
fn one_refusal_told_in_several_lines_is_one() {
    let exit = format!("q-1 [001] 1.0: kvm_exit: {REFUSED}\n");
    let nested = exit.replace("kvm_exit", "kvm_nested_vmexit");
    let inject = "q-1 [001] 1.0: kvm_nested_vmexit_inject: reason: 0xffffffff ext_inf1: 0x0000000000000000 \
        ext_inf2: 0x0000000000000000 ext_int: 0x00000000 ext_int_err: 0x00000000\n";
    let failed = "q-1 [001] 1.0: kvm_nested_vmenter_failed: control->asid == 0\n";
    let entry = "q-1 [001] 1.0: kvm_entry: vcpu 3, rip 0x1\n";
    assert_eq!(all(format!("{exit}{nested}{inject}")).len(), 1);
    assert_eq!(all(format!("{failed}{inject}")).len(), 1);
    assert_eq!(all(format!("{exit}{entry}{exit}")).len(), 2);
    assert_eq!(all(format!("{failed}{entry}{inject}")).len(), 2);
    let other = exit.replace("[001]", "[002]");
    assert_eq!(all(format!("{exit}{other}")).len(), 2);
}

#[test]
fn an_exit_wrapped_by_mail() {
    let found = one("> q-1 [001] 1.0: kvm_nested_vmexit: vcpu 0 reason\n> 0xffffffff rip 0x1003b0 info1\n\
         > 0x0000000000000001 info2 0x0000000000000002 intr_info\n> 0x8000031f error_code 0x00000000\n");
    assert_eq!(value(&found, f::exitcode).0, 0xFFFF_FFFF);
    assert_eq!((value(&found, f::exitinfo1).0, value(&found, f::exitintinfo).0), (1, 0x8000_031F));
}

#[test]
fn wrapped_by_mail() {
    let wrapped = "kvm_nested_vmenter: rip: 0x0000000000008002 vmcb: 0x0000000000007000\n\
        \x20                   nested_rip: 0x0000000000000000 int_ctl:\n> 0x00000000\n\
        \t\t    event_inj: 0x00000000 nested_npt=n guest\n\t\t    cr3: 0x0000000000002000\n";
    let found = one(wrapped);
    assert_eq!(found.fields.len(), 5);
    assert_eq!(value(&found, f::cr3), (0x2000, u64::MAX));
    assert_eq!(found.remarks, []);
    assert_eq!(found.lines.len(), 5);
}

#[test]
fn bad_values_are_unknown() {
    let check = |from: &str, to: &str| {
        let found = one(format!("kvm_nested_vmenter: {}\n", NEW.replace(from, to)));
        assert_eq!(found.fields.len(), 4);
        remarks(&found).into_iter().cloned().collect::<Vec<_>>()
    };
    assert_eq!(
        check("0x01000000", "0x010000000"),
        [RemarkKind::NumberTooLong { name: "int_ctl", digits: 9, expected: 8 }]
    );
    assert_eq!(
        check("0x80000b0e", "0x80000b0"),
        [RemarkKind::NumberTooShort { name: "event_inj", digits: 7, expected: 8 }]
    );
    assert_eq!(
        check("nested_npt=y", "nested_npt=maybe"),
        [RemarkKind::NotANumber { name: "nested_npt", text: "maybe".to_owned() }]
    );
    assert_eq!(
        check("nested_npt=y", "int_ctl: 0x01000001 nested_npt=y"),
        [RemarkKind::Contradiction { name: "int_ctl", first: 0x0100_0000, second: 0x0100_0001 }]
    );
    let found = one(format!("kvm_nested_vmenter: {NEW} int_ctl: 0x01000001 int_ctl: 0x01000000\n"));
    assert_eq!(value(&found, f::int_ctl).1, 0, "a third showing does not bring it back");
}

#[test]
fn vmx_is_refused() {
    for (line, text) in [
        (
            1,
            "q-1 [001] 1.0: kvm_nested_vmenter: rip: 0x0000000000008002 vmcs: 0x0000000000007000 nested_rip: 0x0000000000000000 int_ctl: 0x00000000 event_inj: 0x00000000 nested_ept=n guest_cr3: 0x0000000000002000\n",
        ),
        (
            1,
            "kvm_nested_vmenter: rip: 0x0000000000008002 vmcs: 0x0000000000007000\n    nested_rip: 0x0000000000000000\n",
        ),
        (2, "\nq-1 [001] 1.0: kvm_nested_vmenter_failed: VMENTRY_INVALID_CONTROL_FIELD\n"),
        (
            2,
            "\n[   33.881551] kvm_intel: VMCS 000000008e180ab4, last attempted VM-entry on CPU 0\n[    2.7] kvm_intel: *** Guest State ***\n",
        ),
        (
            2,
            "[    2.779110] *** Guest State ***\n[    2.779288] CR0: actual=0x0000000000000030, shadow=0x0000000060000010, gh_mask=fffffffffffefff7\n",
        ),
        (
            1,
            "[    2.7] kvm_intel: CR0: actual=0x0000000000000030, shadow=0x0000000060000010, gh_mask=fffffffffffefff7\n",
        ),
        (1, "(XEN) *********** VMCS Areas **************\n(XEN)\n(XEN) >>> Domain 3 <<<\n"),
        (3, "x\ny\nPinBased=0000003f CPUBased=b6a1edfa SecondaryExec=000000eb\n"),
        (1, "kvm_intel: set kvm_intel.dump_invalid_vmcs=1 to dump internal KVM state.\n"),
    ] {
        match error(text) {
            Error::Vmx { line: at, what } => {
                assert_eq!(at, line, "{text}");
                assert!(!what.is_empty());
            }
            other => panic!("{other:?} for {text}"),
        }
    }
    // Beside a VMCB it is an error all the same, after the VMCB.
    let (found, error) =
        read_all(format!("kvm_nested_vmenter: {NEW}\nCR0: actual=0x30, shadow=0x10\n").as_bytes());
    assert_eq!(found.len(), 1);
    assert!(matches!(error, Some(Error::Vmx { line: 2, .. })));
}
