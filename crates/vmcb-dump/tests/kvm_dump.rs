//! KVM's `dump_vmcb`: layouts of all kernels, what logs and people do to them, bad values.

use crate::common::{all, error, has, marked, one, remarks, sample, seen, value};
use vmcb::layout::{vmcb_field as f, vmsa_field as v};
use vmcb_dump::{Error, Kind, RemarkKind, VmType, read_all};

const NEW: &str = "kvm-7.2-dmesg-refused-event-moved.txt";

/// The messages of a sample without any prefix.
fn messages(name: &str) -> Vec<String> {
    sample(name)
        .lines()
        .map(|line| line.split_once("kvm_amd: ").or(line.split_once("SVM: ")).map_or(line, |parts| parts.1))
        .map(str::to_owned)
        .collect()
}

fn with(prefix: &str, end: &str) -> String {
    messages(NEW).iter().map(|message| format!("{prefix}{message}{end}")).collect()
}

#[test]
fn every_prefix() {
    let plain = one(sample(NEW));
    for prefix in [
        "",
        "SVM: ",
        "kvm_amd: ",
        "[   51.134391] ",
        "[   51.134391] SVM: ",
        "[   51.134391][ T1234] kvm_amd: ",
        "[   51.134391] [  T1234] kvm_amd: ",
        "[Fri Nov 22 10:00:00 2026] kvm_amd: ",
        "<3>[   51.134391] SVM: ",
        "<3>SVM: ",
        "Nov 22 10:00:00 host kernel: SVM: ",
        "Nov 22 10:00:00 host kernel: [   51.134391] SVM: ",
        "Nov 22 10:00:00 host kernel: [   51.134391] ",
        "2026-11-22T10:00:00.123456+00:00 host kernel: kvm_amd: ",
        "2026-11-22T10:00:00,123456+00:00 kvm_amd: ",
        "kern  :err   : [   51.134391] kvm_amd: ",
        "> ",
        "> > [   51.134391] kvm_amd: ",
        ">>[   51.134391] kvm_amd: ",
        "| kvm_amd: ",
        "\u{1b}[32m[   51.134391] \u{1b}[0m\u{1b}[33mkvm_amd: \u{1b}[0m",
        "\u{feff}",
        "\t",
    ] {
        for end in ["\n", "\r\n", "\r\r\n", "  \n"] {
            let found = one(with(prefix, end));
            assert_eq!(found.remarks, [], "{prefix:?}");
            assert_eq!(found.vmcb, plain.vmcb, "{prefix:?}");
            assert_eq!(found.fields.len(), plain.fields.len(), "{prefix:?}");
            assert_eq!(found.vm_type, Some(VmType::Svm), "{prefix:?}");
            assert_eq!(found.label, plain.label, "{prefix:?}");
            assert!(found.lines.iter().all(|line| !line.text.ends_with('\r')), "{prefix:?}");
        }
    }
}

#[test]
fn every_header() {
    let body: String = messages(NEW).iter().skip(1).map(|line| format!("SVM: {line}\n")).collect();
    for (header, vm_type, vcpu, cpu, label) in [
        ("", None, None, None, None),
        ("SVM: KVM: FAILED VMRUN WITH VMCB:\n", None, None, None, None),
        (
            "SVM: VMCB 00000000a4006788, last attempted VMRUN on CPU 81\n",
            None,
            None,
            Some(81),
            Some("00000000a4006788"),
        ),
        (
            "SVM: SEV VMCB 00000000a4006788, last attempted VMRUN on CPU 1\n",
            Some(VmType::Sev),
            None,
            Some(1),
            Some("00000000a4006788"),
        ),
        (
            "SVM: SVM vCPU3 VMCB (____ptrval____), last attempted VMRUN on CPU 4\n",
            Some(VmType::Svm),
            Some(3),
            Some(4),
            Some("(____ptrval____)"),
        ),
        ("SVM: SVM vCPU3 VMCB 0000\n", Some(VmType::Svm), Some(3), None, Some("0000")),
    ] {
        let found = one(format!("{header}{body}"));
        assert_eq!(found.remarks, [], "{header}");
        assert_eq!((found.vm_type, found.vcpu, found.last_cpu), (vm_type, vcpu, cpu), "{header}");
        assert_eq!(found.label.as_deref(), label, "{header}");
        assert_eq!(found.vmcb_address, None);
    }
}

#[test]
fn the_oldest_layout() {
    let found = one("KVM: FAILED VMRUN WITH VMCB:
VMCB Control Area:
cr_read:            0011
cr_write:           0011
dr_read:            00ff
dr_write:           00ff
exceptions:         00060040
intercepts:         00002e7fbd4c8027
pause filter count: 3000
iopm_base_pa:       0000000194674000
msrpm_base_pa:      00000040857d4000
tsc_offset:         ffff92710e0ed2c0
asid:               -1
tlb_ctl:            1
int_ctl:            01000000
int_vector:         00000000
int_state:          00000001
exit_code:          ffffffff
exit_info1:         0000000000000000
exit_info2:         0000000000000000
exit_int_info:      00000000
exit_int_info_err:  00000000
nested_ctl:         1
nested_cr3:         0000004184ca8000
event_inj:          80000b0e
event_inj_err:      00000004
lbr_ctl:            1
next_rip:           0000000000000000
VMCB State Save Area:
es:   s: 0010 a: 0c93 l: ffffffff b: 0000000000000000
cpl:            3                efer:         0000000000001500
excp_from:      0000000000000000 excp_to:      0000000000000000
");
    assert_eq!(found.remarks, []);
    assert_eq!(value(&found, f::intercept_misc1).0, 0xBD4C_8027);
    assert_eq!(value(&found, f::intercept_misc2).0, 0x2E7F);
    assert_eq!(seen(&found, "intercepts").place, seen(&found, "intercepts (2nd word)").place);
    assert_eq!(value(&found, f::guest_asid).0, 0xFFFF_FFFF);
    assert_eq!(value(&found, f::eventinj), (0x0000_0004_8000_0B0E, u64::MAX));
    assert_eq!(value(&found, f::virt_ext), (1, u64::MAX));
    assert_eq!(value(&found, f::interrupt_state), (1, 0xFFFF_FFFF));
    assert_eq!(value(&found, f::cpl), (3, 0xFF));
    assert_eq!(seen(&found, "cpl").size, 1);
}

#[test]
fn three_intercept_words() {
    let found = one("SVM: intercepts:         bd4c8027 00006e7f 0000003f\nSVM: asid: 1\n");
    assert_eq!(value(&found, f::intercept_misc3).0, 0x3F);
    let found = one("SVM: intercepts:         bd4c8027 00006e7f # mine\nSVM: asid: 1\n");
    assert_eq!(value(&found, f::intercept_misc2).0, 0x6E7F);
    assert_eq!(value(&found, f::intercept_misc3).1, 0);
    let wrapped = one("SVM: intercepts:         bd4c8027\n00006e7f\nSVM: asid: 1\n");
    assert_eq!(value(&wrapped, f::intercept_misc2).0, 0x6E7F);
    // One word alone may be either half of what an old kernel prints.
    let cut = one("SVM: intercepts:         bd4c8027\nSVM: asid: 1\n");
    assert_eq!(value(&cut, f::intercept_misc1).1, 0);
    assert_eq!(value(&cut, f::intercept_misc2).1, 0);
}

#[test]
fn between_other_messages_and_comments() {
    let plain = one(sample(NEW));
    let mixed: String = sample(NEW)
        .lines()
        .enumerate()
        .map(|(index, line)| match index % 4 {
            0 => format!("{line}\n[   51.2] usb 1-1: new high-speed USB device number 4 using xhci_hcd\n"),
            1 => format!("{line}\n\nrip: see above\n"),
            2 => format!("{line}    <-- look at this\n"),
            _ => format!("[   51.2] audit: type=1400 asid: none\n{line}\n"),
        })
        .collect();
    let found = one(mixed);
    assert_eq!(found.vmcb, plain.vmcb);
    assert_eq!(found.remarks, []);
    assert!(found.lines.iter().all(|line| line.text.contains("kvm_amd: ")));
}

#[test]
fn unknown_labels_are_remarked_and_left_out() {
    let text = sample(NEW).replace("misc_ctl2: ", "brand_new_ctl: ");
    let text = text + "[   51.2] kvm_amd: fred_config: 0000000000000001 guest_exitintdata:0000000000000002\n";
    let found = one(text);
    let unknown: Vec<_> = remarks(&found)
        .into_iter()
        .map(|kind| match kind {
            RemarkKind::UnknownLabel { label } => label.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(unknown, ["brand_new_ctl", "fred_config", "guest_exitintdata"]);
    assert_eq!(marked(&found, &found.remarks[2].place), "guest_exitintdata");
    assert_eq!(value(&found, f::virt_ext).1, 0);
    // Without the module's prefix the layout tells.
    let plain: String =
        messages(NEW).iter().map(|line| format!("{}\n", line.replace("tlb_ctl:", "tlbctrl:"))).collect();
    let found = one(plain);
    assert!(matches!(remarks(&found)[..], [RemarkKind::UnknownLabel { .. }]), "{:?}", found.remarks);
}

#[test]
fn bad_numbers_are_unknown() {
    for (line, wanted) in [
        (
            "cr3:            00000000000010000 cr4:          0000000000000060",
            RemarkKind::NumberTooLong { name: "cr3", digits: 17, expected: 16 },
        ),
        (
            "cr3:            000000000001000 cr4:          0000000000000060",
            RemarkKind::NumberTooShort { name: "cr3", digits: 15, expected: 16 },
        ),
        (
            "cr3:            000000000000g000 cr4:          0000000000000060",
            RemarkKind::NotANumber { name: "cr3", text: "000000000000g000".to_owned() },
        ),
        (
            "cr3:                             cr4:          0000000000000060",
            RemarkKind::NoValue { name: "cr3" },
        ),
    ] {
        let text =
            sample(NEW).replace("cr3:            0000000000001000 cr4:          0000000000000060", line);
        let found = one(text);
        assert_eq!(remarks(&found), [&wanted]);
        assert_eq!(value(&found, f::cr3).1, 0);
        assert_eq!(value(&found, f::cr4), (0x60, u64::MAX));
        let place = &found.remarks[0].place;
        let shown = marked(&found, place);
        assert!(shown == "cr3:" || line.contains(&format!(" {shown} ")), "{shown}");
    }
    for (label, bad, wanted) in [
        (
            "asid:               15",
            "asid:               4294967296",
            RemarkKind::OutOfRange { name: "asid", size: 4 },
        ),
        (
            "tlb_ctl:            0",
            "tlb_ctl:            256",
            RemarkKind::OutOfRange { name: "tlb_ctl", size: 1 },
        ),
        (
            "asid:               15",
            "asid:               0x15",
            RemarkKind::NotANumber { name: "asid", text: "0x15".to_owned() },
        ),
        (
            "int_ctl:            03000200",
            "int_ctl:            003000200",
            RemarkKind::NumberTooLong { name: "int_ctl", digits: 9, expected: 8 },
        ),
        (
            "exit_code:          ffffffffffffffff",
            "exit_code:          fffffffffffffff",
            RemarkKind::NumberTooShort { name: "exit_code", digits: 15, expected: 16 },
        ),
    ] {
        let found = one(sample(NEW).replace(label, bad));
        assert_eq!(remarks(&found), [&wanted]);
    }
    let long = "9".repeat(60_000);
    let found = one(sample(NEW).replace("asid:               15", &format!("asid: {long}")));
    assert_eq!(remarks(&found), [&RemarkKind::OutOfRange { name: "asid", size: 4 }]);
}

#[test]
fn duplicates_and_contradictions() {
    let again = |line: &str| sample(NEW) + &format!("[   51.2] kvm_amd: {line}\n");
    let found = one(again("asid:               15"));
    assert_eq!(remarks(&found), [&RemarkKind::Duplicate { name: "asid" }]);
    assert_eq!(value(&found, f::guest_asid).0, 15);

    let found = one(again("asid:               16"));
    assert_eq!(remarks(&found), [&RemarkKind::Contradiction { name: "asid", first: 15, second: 16 }]);
    assert_eq!(value(&found, f::guest_asid).1, 0);
    assert!(!has(&found, "asid"));

    // The same field under its old name.
    let found = one(again("nested_ctl:         0"));
    assert_eq!(remarks(&found), [&RemarkKind::Contradiction { name: "nested_ctl", first: 1, second: 0 }]);
    assert_eq!(value(&found, f::nested_ctl).1, 0);

    // What is shown a third time stays unknown.
    let found = one(again("asid:               16\n[   51.2] kvm_amd: asid:               15"));
    assert!(!has(&found, "asid"));

    // KVM's copy of a register is no part of the VMCB.
    let text =
        sample(NEW).replace("rax:            1122334455667788 rbx", "rax:            1122334455667789 rbx");
    let found = one(text);
    let (saved, copy) = (0x1122_3344_5566_7788, 0x1122_3344_5566_7789);
    assert_eq!(remarks(&found), [&RemarkKind::CopyDiffers { name: "rax", saved, copy }]);
    assert_eq!(value(&found, f::rax), (saved, u64::MAX));
}

#[test]
fn several_dumps() {
    let found = all(sample(NEW).repeat(3));
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|found| found.vmcb == one(sample(NEW)).vmcb && found.remarks.is_empty()));
    // Without headers, and with the first label missing.
    for skip in [1, 2, 3, 20] {
        let body: String = messages(NEW).iter().skip(skip).map(|line| format!("{line}\n")).collect();
        let found = all(body.repeat(2));
        assert_eq!(found.len(), 2, "from line {skip}");
        assert_eq!(found[0].vmcb, found[1].vmcb);
    }
    // The head of the first one scrolled away, and the second has no header.
    let body =
        |from: usize| -> String { messages(NEW).iter().skip(from).map(|line| format!("{line}\n")).collect() };
    let found = all(body(13) + &body(2));
    assert_eq!(found.len(), 2);
    assert_eq!(found[1].remarks, []);
    // The second one is cut.
    let text = sample(NEW) + sample(NEW).split_at(900).0;
    let found = all(text);
    assert_eq!(found.len(), 2);
    assert!(found[0].remarks.is_empty() && !found[1].remarks.is_empty());
}

#[test]
fn a_dump_that_is_cut_says_where() {
    let lines = messages(NEW);
    let cut = |from: usize, to: usize| -> String {
        lines[from..to].iter().map(|line| format!("SVM: {line}\n")).collect()
    };
    let found = one(cut(0, 18));
    assert_eq!(remarks(&found), [&RemarkKind::EndsAfter { name: "int_vector" }]);
    assert_eq!(marked(&found, &found.remarks[0].place), "00000000");
    let found = one(cut(18, lines.len()));
    assert_eq!(remarks(&found), [&RemarkKind::BeginsAt { name: "int_state" }]);
    let found = one(cut(13, 14));
    assert_eq!(
        remarks(&found),
        [&RemarkKind::BeginsAt { name: "asid" }, &RemarkKind::EndsAfter { name: "asid" }]
    );
    // A header alone is no VMCB.
    assert!(matches!(error(cut(0, 2)), Error::NothingFound { lines: 2, .. }));
}

#[test]
fn a_number_at_the_end_of_a_cut_file_is_not_trusted() {
    for (text, known) in [
        ("SVM: asid:               15\n", true),
        ("SVM: asid:               15", false),
        ("SVM: exit_code:          ffffffff\n", true),
        // It may be the upper half of 16 digits.
        ("SVM: exit_code:          ffffffff", false),
        ("SVM: exit_code:          ffffffffffffffff", true),
        ("SVM: int_ctl:            03000200", true),
        ("SVM: int_ctl:            0300020", false),
        ("SVM: intercepts:         bd4c8027", false),
    ] {
        assert_eq!(one(text).fields.len() == 1, known, "{text}");
    }
}

#[test]
fn mail_wraps() {
    let plain = one(sample(NEW));
    // After the second label of a pair, after its first value, and within a segment.
    let text = sample(NEW).replace("cr2:          0", "cr2:\n0").replace(" cr4:  ", "\ncr4:  ");
    let text = text.replace("0008 a: 0a9b l: ffffffff b: 0", "0008 a: 0a9b l: ffffffff b:\n0");
    let text = text.replace("0082 l: 0000ffff b:", "0082\nl: 0000ffff b:");
    let text = text.replace("iopm_base_pa:       ", "iopm_base_pa:\n    ");
    let text = text.replace("dr7:          ", "dr7:          =\n");
    let found = one(&text);
    assert_eq!(found.vmcb, plain.vmcb);
    assert_eq!(found.fields.len(), plain.fields.len());
    assert_eq!(remarks(&found), [&RemarkKind::WrapJoined { count: 3 }], "a soft line break is none");
    // Quoted in an answer.
    let quoted: String = text.lines().map(|line| format!("> {line}\n")).collect();
    assert_eq!(one(quoted).vmcb, plain.vmcb);
    // A number further down belongs to something else.
    let text =
        sample(NEW).replace("rflags:       0000000000000002", "rflags:\nnothing\nat\nall\n0000000000000002");
    let found = one(text);
    assert_eq!(remarks(&found), [&RemarkKind::NoValue { name: "rflags" }]);
}

#[test]
fn sev_es_that_cannot_be_decrypted() {
    let snp = sample("kvm-6.14-dmesg-refused-snp-allowed-sev-features.txt");
    let control: String =
        snp.lines().take_while(|line| !line.contains("State Save")).map(|line| format!("{line}\n")).collect();
    let found = one(&control);
    assert_eq!(remarks(&found), [&RemarkKind::VmsaNotShown]);
    assert!(found.vmsa.is_none());

    // Kernels before that print the save area of the VMCB, which the guest does not use.
    let old = snp.replace("SEV-SNP vCPU1 VMCB", "VMCB");
    let old: String = old
        .lines()
        .take_while(|line| !line.contains("sev_features    "))
        .map(|line| format!("{line}\n"))
        .collect();
    let found = one(old);
    assert_eq!(remarks(&found), [&RemarkKind::SaveAreaMeaningless]);
    assert!(found.vmsa.is_none());
    assert_eq!(value(&found, f::cr0).1, 0);
    assert_eq!(value(&found, f::vmsa_pa).1, u64::MAX);

    // The VMSA is recognised by its own labels when the header is lost.
    let body: String = snp.lines().skip(1).map(|line| format!("{line}\n")).collect();
    let found = one(body);
    assert_eq!(remarks(&found), [&RemarkKind::VmsaShown]);
    assert_eq!(value(&found, v::cr0), (0x6000_0010, u64::MAX));
    // In a VMSA rax is one field, shown twice.
    let found =
        one(snp.replace("rax:            0000000000000000 rbx", "rax:            0000000000000001 rbx"));
    assert_eq!(
        remarks(&found),
        [&RemarkKind::VmsaShown, &RemarkKind::Contradiction { name: "rax", first: 0, second: 1 }]
    );
    assert_eq!(value(&found, v::rax).1, 0);
    // SEV without -ES keeps its registers in the VMCB.
    let sev = sample(NEW)
        .replace("SVM vCPU0", "SEV vCPU0")
        .replace("misc_ctl:           1", "misc_ctl:           3");
    let found = one(sev);
    assert_eq!((found.vm_type, found.remarks.len()), (Some(VmType::Sev), 0));
    assert_eq!(value(&found, f::cr0).1, u64::MAX);
}

#[test]
fn ordinary_text_is_no_dump() {
    for text in [
        "rip: 0010 foo\ncs: 5\nasid: 3\n",
        "efer: yes\ncr0 is 0000000080010031\n",
        "RIP: 0010:native_safe_halt+0x6/0x10\nRSP: 0018:ffffffff81a03ea0 EFLAGS: 00000246\n",
        "SVM: kvm: Nested Paging enabled\nkvm_amd: TSC scaling supported\nkvm_amd: SEV enabled (ASIDs 1 - 509)\n",
    ] {
        let (found, error) = read_all(text.as_bytes());
        assert!(found.is_empty(), "{text}: {found:?}");
        assert!(matches!(error, Some(Error::NothingFound { .. })));
    }
    let text = "kvm_amd: set kvm_amd.dump_invalid_vmcb=1 to dump internal KVM state.\n";
    assert!(matches!(error(text), Error::KvmDumpDisabled { line: 1 }));
    let found = one("kvm_amd: cr0:            0000000000050032 cr2: ffff92dcf8601000\n");
    assert_eq!((found.kind, found.fields.len()), (Kind::KvmDump, 2), "an excerpt");
}

#[test]
fn a_dump_ends_after_many_other_lines() {
    let other = "usb 1-1: nothing\n".repeat(1500);
    let text = format!("{}{other}[   51.2] kvm_amd: asid:               99\n", sample(NEW));
    let found = all(text);
    assert_eq!(found.len(), 2);
    assert_eq!(value(&found[0], f::guest_asid).0, 15);
}

#[test]
fn places_are_in_the_lossy_text() {
    let mut bytes = Vec::new();
    for line in sample(NEW).lines() {
        bytes.extend(b"h\xF6st \xFF\xFE kernel: ");
        bytes.extend(line.as_bytes());
        bytes.push(b'\n');
    }
    let found = one(&bytes);
    assert_eq!(found.vmcb, one(sample(NEW)).vmcb);
    assert_eq!(marked(&found, &seen(&found, "efer").place), "0000000000001500");
    assert!(found.lines[0].text.contains('\u{FFFD}'));
}
