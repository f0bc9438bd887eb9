//! Xen's dumps and checks: spellings of all versions, several vCPUs, what mail and people do to them.

use crate::common::{all, has, marked, one, remarks, sample, seen, value};
use vmcb::Phase;
use vmcb::layout::vmcb_field as f;
use vmcb_dump::{Error, Found, Kind, Refuser, RemarkKind, read_all};

const SAMPLE: &str = "xen-debugkey-v-vmcb-vcpu0.txt";

/// As Xen 4.1 and those before print it.
const OLD: &str = "\
*********** VMCB Areas **************

>>> Domain 3 <<<
\tVCPU 1
Dumping guest's current state at key_handler...
Size of VMCB = 4096, paddr = 0x000000011d3f2000, vaddr = ffff83011d3f2000
cr_intercepts = 0x0000fef3 dr_intercepts = 0x00ff00ff exception_intercepts = 0x00000080
general1_intercepts = 0xbdc4000f general2_intercepts = 0x00002e7f
iopm_base_pa = 0x00000000bd7bd000 msrpm_base_pa = 0x000000011d3f4000 tsc_offset = 0xffffffce12345678
tlb_control = 0x00000000 vintr = 0x0000000001000000 interrupt_shadow = 0x0000000000000001
exitcode = 0x0000000000000400 exitintinfo = 0x0000000000000000
exitinfo1 = 0x0000000100000004 exitinfo2 = 0x00000000fee00300 \n\
np_enable = 0x0000000000000001 guest_asid = 0x002
cpl = 3 efer = 0x0000000000001500 star = 0x0023001000000000 lstar = 0xffffffff81000000
CR0 = 0x0000000080050033 CR2 = 0x0000000000000000
CR3 = 0x000000007a5f2000 CR4 = 0x00000000000006f0
RSP = 0x00007fff00000000  RIP = 0x0000000000401000
RAX = 0x0000000000000001  RFLAGS=0x0000000000000202
DR6 = 0x00000000ffff0ff0, DR7 = 0x0000000000000400
CSTAR = 0x0000000000000000 SFMask = 0x0000000000047700
KernGSBase = 0x0000000000000000 PAT = 0x0007040600070406 \n\
H_CR3 = 0x000000011b0c0000 CleanBits = 0xffffffff
CS: sel=0x0033, attr=0x0afb, limit=0xffffffff, base=0x0000000000000000
DS: sel=0x0000, attr=0x0000, limit=0x00000000, base=0x0000000000000000
SS: sel=0x002b, attr=0x0cf3, limit=0xffffffff, base=0x0000000000000000
ES: sel=0x0000, attr=0x0000, limit=0x00000000, base=0x0000000000000000
FS: sel=0x0000, attr=0x0000, limit=0x00000000, base=0x00007f0000000000
GS: sel=0x0000, attr=0x0000, limit=0x00000000, base=0x0000000000000000
GDTR: sel=0x0000, attr=0x0000, limit=0x0000007f, base=0xffff880000000000
LDTR: sel=0x0000, attr=0x0000, limit=0x00000000, base=0x0000000000000000
IDTR: sel=0x0000, attr=0x0000, limit=0x00000fff, base=0xffffffff82000000
TR: sel=0x0040, attr=0x008b, limit=0x00002087, base=0xffff880000001000
**************************************
";

fn same(found: &Found, other: &Found) {
    assert_eq!(found.vmcb, other.vmcb);
    assert_eq!((found.vcpu, found.vmcb_address), (other.vcpu, other.vmcb_address));
}

/// The sample without Xen's name.
fn plain() -> String {
    sample(SAMPLE).replace("(XEN) ", "")
}

#[test]
fn the_old_spelling() {
    let found = one(OLD);
    assert_eq!(remarks(&found), [&RemarkKind::XenMayHaveChanged, &RemarkKind::VmsaveStateMaybeStale]);
    assert_eq!((found.vcpu, found.vmcb_address), (Some(1), Some(0x1_1D3F_2000)));
    assert_eq!(value(&found, f::intercept_cr).0, 0xFEF3);
    assert_eq!(value(&found, f::interrupt_state), (1, u64::MAX), "all digits are there");
    assert_eq!(value(&found, f::exitinfo2).0, 0xFEE0_0300);
    assert_eq!(value(&found, f::guest_asid), (2, 0xFFFF_FFFF));
    assert_eq!(value(&found, f::nested_ctl), (1, u64::MAX));
    assert_eq!(value(&found, f::eventinj).1, 0, "not printed");
    assert_eq!((seen(&found, "cs.attrib").value, seen(&found, "cs.selector").value), (0xAFB, 0x33));
    assert_eq!(marked(&found, &seen(&found, "tr.base").place), "0xffff880000001000");
    assert_eq!(found.fields.len(), 3 + 2 + 3 + 3 + 2 + 2 + 2 + 4 + 16 + 40);
    // Where numbers are padded, a short one lost digits.
    let cut = one(OLD.replace("exitcode = 0x0000000000000400", "exitcode = 0x40"));
    assert_eq!(value(&cut, f::exitcode).1, 0);
    assert!(
        remarks(&cut).iter().any(|kind| matches!(kind, RemarkKind::NumberTooShort { name: "exitcode", .. }))
    );
}

#[test]
fn spellings_between() {
    let text = plain()
        .replace("int_stat = 0", "interrupt_shadow = 0x1")
        .replace("asid = 0x22d np_ctrl = 0x1: NP", "np_ctrl = 0x1 guest_asid = 0x22d");
    let found = one(&text);
    assert_eq!(value(&found, f::interrupt_state), (1, 1), "the bit, or the whole");
    assert_eq!((value(&found, f::nested_ctl).0, value(&found, f::guest_asid).0), (1, 0x22D));
    let whole = one(text.replace("interrupt_shadow = 0x1", "interrupt_shadow = 0x3"));
    assert_eq!(value(&whole, f::interrupt_state), (3, u64::MAX));
    let bare = one(text.replace("np_ctrl = 0x1 ", "np_enable = 1 "));
    assert_eq!(value(&bare, f::nested_ctl), (1, u64::MAX));
    let oldest = OLD
        .replace("paddr = 0x000000011d3f2000, vaddr", "address")
        .replace("pa = 0x00000000bd", "pa = 00000000bd");
    let oldest = one(oldest
        .lines()
        .filter(|line| !line.starts_with("H_CR3"))
        .map(|line| format!("{line}\n"))
        .collect::<String>());
    assert_eq!((oldest.vmcb_address, value(&oldest, f::iopm_base_pa).0), (None, 0xBD7B_D000));
}

#[test]
fn every_prefix() {
    let reference = one(sample(SAMPLE));
    for prefix in [
        "(XEN) ",
        "",
        "(XEN) [2025-10-03 12:11:10] ",
        "(XEN) [   51.134391] ",
        "(XEN) [00000012a3f1b9c2] ",
        "(d1) ",
        "(d1v0) (XEN) ",
        "[12:11:10.123] (XEN) ",
        "2025-10-03T12:11:10 host xen-console[12]: (XEN) ",
        "Oct 03 12:11:10 host hypervisor.log: (XEN) [   51.134391] ",
        "> (XEN) ",
        "> > ",
        "\u{1b}[32m(XEN) \u{1b}[0m",
        "\t",
    ] {
        for end in ["\n", "\r\n", "\r\r\n", "  \n"] {
            let text: String = plain().lines().map(|line| format!("{prefix}{line}{end}")).collect();
            let found = one(&text);
            same(&found, &reference);
            assert_eq!(remarks(&found), remarks(&reference), "{prefix:?}");
        }
    }
}

#[test]
fn several_domains_and_vcpus() {
    let dump = sample(SAMPLE).lines().skip(2).collect::<Vec<_>>().join("\n");
    let vcpu = |number: u32, asid: &str| {
        format!("(XEN)  VCPU {number}\n{}\n", dump.replace("0x22d", asid).replace("847733000", "123456000"))
    };
    let text = format!(
        "(XEN) *********** VMCB Areas **************\n(XEN) \n(XEN) >>> Domain 1 <<<\n{}{}(XEN)  VCPU 2: not initialized\n\
         (XEN) \n(XEN) >>> Domain 2 <<<\n{}(XEN) **************************************\n",
        vcpu(0, "0x1"),
        vcpu(1, "0x2"),
        vcpu(0, "0x3"),
    );
    let found = all(&text);
    let seen: Vec<_> = found.iter().map(|found| (found.vcpu, value(found, f::guest_asid).0)).collect();
    assert_eq!(seen, [(Some(0), 1), (Some(1), 2), (Some(0), 3)]);
    assert!(found.iter().all(|found| found.vmcb_address == Some(0x1_2345_6000) && found.remarks.len() == 2));
    // Without the lines between them the order tells that another one begins.
    let bare: String = text
        .lines()
        .filter(|line| !line.contains("VCPU") && !line.contains("Dumping") && !line.contains("Size"))
        .map(|line| format!("{line}\n"))
        .collect();
    let asids: Vec<_> = all(&bare).iter().map(|found| (found.vcpu, value(found, f::guest_asid).0)).collect();
    assert_eq!(asids, [(None, 1), (None, 2), (None, 3)]);
}

#[test]
fn after_vmexit_invalid() {
    let dump = sample(SAMPLE)
        .lines()
        .skip(2)
        .map(|line| format!("{line}\n"))
        .collect::<String>()
        .replace("exitcode = 0x78", "exitcode = 0xffffffffffffffff");
    let handler = dump.replace("key_handler", "svm_vmexit_handler");
    for head in ["svm.c:2530:d5v3 ", "arch/x86/hvm/svm/svm.c:2662:d5v3 "] {
        let found = one(format!(
            "(XEN) {head}invalid VMCB state:\n{handler}(XEN) domain_crash called from svm.c:2532\n"
        ));
        assert_eq!((found.phase, found.vcpu), (Phase::After, Some(3)));
        assert_eq!(value(&found, f::exitcode), (u64::MAX, u64::MAX));
        assert_eq!(found.remarks, [], "this version brings the VMCB up to date");
    }
    // Release builds have no line before it, and a log may have lost the function.
    assert_eq!(one(&handler).phase, Phase::After);
    let lost: String = dump.lines().skip(2).map(|line| format!("{line}\n")).collect();
    let found = one(format!(
        "(XEN) svm.c:1:d1v0 invalid VMCB state:\n{}",
        lost.replace("0xffffffffffffffff", "0x[...]")
    ));
    assert_eq!(found.phase, Phase::After);
    // A refusal stays one: no VMRUN comes after it.
    assert_eq!(one(&dump).phase, Phase::After);
    assert_eq!(
        one(handler
            .replace("exit_int_info", "exitintinfo")
            .replace("event_inj", "eventinj")
            .replace("int_stat", "interrupt_shadow"))
        .remarks
        .len(),
        1
    );
}

#[test]
fn words_must_agree_with_their_number() {
    let text = sample(SAMPLE);
    let event =
        |line: &str| one(text.replace("event_inj 0000000000000000, valid? 0, ec? 0, type 0, vector 0", line));
    let good = event("event_inj 0000000480000b0e, valid? 1, ec? 1, type 3, vector 0xe");
    assert_eq!(value(&good, f::eventinj), (0x4_8000_0B0E, u64::MAX));
    for bad in [
        "event_inj 0000000480000b0e, valid? 0, ec? 1, type 3, vector 0xe",
        "event_inj 0000000480000b0e, valid? 1, ec? 0, type 3, vector 0xe",
        "event_inj 0000000480000b0e, valid? 1, ec? 1, type 4, vector 0xe",
        "event_inj 0000000480000b0e, valid? 1, ec? 1, type 3, vector 0xd",
        "event_inj 000000048000b0e, valid? 1, ec? 1, type 3, vector 0xe",
    ] {
        assert_eq!(value(&event(bad), f::eventinj).1, 0, "{bad}");
    }
    for (line, known) in [
        ("np_ctrl = 0x7: NP SEV SEV_ES", true),
        ("np_ctrl = 0: ", true),
        ("np_ctrl = 0: NP", false),
        ("np_ctrl = 0x1:", false),
        ("np_ctrl = 0x3: NP", false),
        ("np_ctrl = 0x3: NP\nSEV", true),
        ("np_ctrl = 0x1", false),
    ] {
        let found = one(text.replace("np_ctrl = 0x1: NP", line));
        assert_eq!(value(&found, f::nested_ctl).1 != 0, known, "{line}");
    }
    let found = one(text.replace("vmload/vmsave = 0,", "vmload/vmsave = 1,"));
    assert_eq!(value(&found, f::virt_ext).1, 0);
}

/// Wraps lines at the last space before a column, as mail programs do.
fn wrap(text: &str, width: usize) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut rest = line;
        while rest.len() > width {
            let at = rest[..width].rfind(' ').filter(|&at| at > 8).or(rest.find(' ')).unwrap_or(rest.len());
            out.push_str(&format!("{}\n", &rest[..at]));
            rest = rest[at..].trim_start();
        }
        out.push_str(&format!("{rest}\n"));
    }
    out
}

#[test]
fn wrapped_and_quoted_by_mail() {
    for text in [sample(SAMPLE), OLD.to_owned(), plain()] {
        let reference = one(&text);
        for width in [60, 72, 76] {
            let wrapped = wrap(&text, width);
            let found = one(&wrapped);
            for field in &found.fields {
                assert_eq!(
                    reference.vmcb.read(field.offset, field.size).value() & field.mask,
                    field.value,
                    "{field:?}"
                );
            }
            assert!(found.fields.len() + 2 >= reference.fields.len(), "{width}: {:?}", found.remarks);
            let quoted: String = wrapped.lines().map(|line| format!("> {line}\n")).collect();
            assert_eq!(one(&quoted).vmcb, found.vmcb);
        }
        let coded = one(text.replace('=', "=3D"));
        assert_eq!(coded.vmcb, reference.vmcb, "quoted-printable");
    }
}

#[test]
fn a_number_that_may_be_cut_is_unknown() {
    let text = sample(SAMPLE);
    for (from, to, field) in [
        // The rest of the line is missing.
        (
            "dr_intercepts = 0xffffffff exception_intercepts = 0x60082",
            "dr_intercepts = 0xffff",
            f::intercept_dr,
        ),
        // Marks of people.
        ("exception_intercepts = 0x60082", "exception_intercepts = 0x600 [...]", f::intercept_exceptions),
        ("exception_intercepts = 0x60082", "exception_intercepts = 0x600[...]", f::intercept_exceptions),
        ("exception_intercepts = 0x60082", "exception_intercepts = 0x600\n[...]", f::intercept_exceptions),
        ("exception_intercepts = 0x60082", "exception_intercepts = 0x600\u{2026}", f::intercept_exceptions),
        // The middle of a number, by a terminal and by a mail in quoted-printable.
        ("exception_intercepts = 0x60082", "exception_intercepts = 0x600\n82", f::intercept_exceptions),
        ("exception_intercepts = 0x60082", "exception_intercepts = 0\nx60082", f::intercept_exceptions),
        ("asid = 0x22d np_ctrl = 0x1: NP", "asid = 0x2", f::guest_asid),
        // The end of another label's name.
        ("efer = 0x1d01 star = 0x23001000000000 lstar", "efer = 0x1d01 l=\nstar", f::star),
        (
            "CR3 = 0x0000000002e23001 CR4 = 0x0000000000770ef0",
            "H_=\nCR3 = 0x0000000000001000 CleanBits = 0x1",
            f::cr3,
        ),
        (
            "CR3 = 0x0000000002e23001 CR4 = 0x0000000000770ef0",
            "CR3 = 0x0000000000001000 CleanBits = 0x1",
            f::cr3,
        ),
    ] {
        assert!(text.contains(from), "{from}");
        let found = one(text.replace(from, to));
        assert_eq!(value(&found, field).1, 0, "{to}");
    }
    // Lines that a terminal cut at one column.
    let clipped: String = text.lines().map(|line| format!("{}\n", &line[..line.len().min(67)])).collect();
    let found = one(&clipped);
    let reference = one(&text);
    for field in &found.fields {
        assert_eq!(reference.vmcb.read(field.offset, field.size).value(), field.value, "{field:?}");
    }
    let found = one(text.trim_end().split_once(" DR7").unwrap().0.to_owned() + " DR7 = 0x00000");
    assert!(remarks(&found).iter().any(|kind| matches!(kind, RemarkKind::EndsAfter { name: "DR7" })));
    assert!(!has(&found, "DR7"));
}

#[test]
fn remarks_of_people_are_no_values() {
    let text = sample(SAMPLE);
    let reference = one(&text);
    for (after, remark) in [
        ("NP\n", "so CR3 = 0x0000000000000001 is what the guest has\n"),
        ("NP\n", "CR3 = 0x0000000000000001 CR4 = 0x0000000000000001\n"),
        ("NP\n", "cr_intercepts = 0x1 looks odd\n"),
        ("exitinfo1 = 0", " <- HLT has none"),
    ] {
        let found = one(text.replacen(after, &format!("{after}{remark}"), 1));
        for field in &found.fields {
            assert_eq!(
                reference.vmcb.read(field.offset, field.size).value(),
                field.value,
                "{remark}: {field:?}"
            );
        }
    }
    // A line twice, and one with another value.
    let found = one(text.replacen(
        "(XEN) CR0",
        "(XEN) cpl = 0 efer = 0x1d01 star = 0x23001000000000 lstar = 0xffffffff82200000\n(XEN) CR0",
        1,
    ));
    assert_eq!((value(&found, f::efer).0, value(&found, f::lstar).1), (0x1D01, u64::MAX));
    let found =
        one(text.replacen("(XEN) CR0", "(XEN) cpl = 0 efer = 0x1d00 star = 0 lstar = 0\n(XEN) CR0", 1));
    assert_eq!((value(&found, f::efer).1, value(&found, f::lstar).1, value(&found, f::cpl).1), (0, 0, 0xFF));
}

#[test]
fn vmx_of_xen_is_not_judged() {
    let text = "(XEN) *********** VMCS Areas **************\n(XEN)\n(XEN) >>> Domain 3 <<<\n(XEN)   VCPU 0\n\
        (XEN) *** Guest State ***\n\
        (XEN) CR0: actual=0x0000000080000033, shadow=0x0000000080000033, gh_mask=ffffffffffffffff\n\
        (XEN) CR3 = 0x00000000002e9000\n\
        (XEN) RSP = 0x000000000ffffec0 (0x000000000ffffec0)  RIP = 0x0000000000209997 (0x0000000000209998)\n\
        (XEN)   CS: 0008 0a099 ffffffff 0000000000000000\n\
        (XEN) *** Host State ***\n(XEN) RSP = 0x000000000ffffec0  RIP = 0x0000000000209997\n";
    let (found, error) = read_all(text.as_bytes());
    assert!(found.is_empty(), "{found:?}");
    assert!(matches!(error, Some(Error::Vmx { line: 1, .. })));
}

#[test]
fn checks_of_one_call_are_one_vmcb() {
    let text = "\
(XEN) d1v2[nsvm_vmcb_prepare4vmrun]: EFER: SVME bit not set (0x500)
(XEN) d1v2[nsvm_vmcb_prepare4vmrun]: CR0: CD bit is zero and NW bit set (0xa0000031)
(XEN) d1v2[nsvm_vmcb_prepare4vmrun]: CR3: MBZ bits are set (0x1027)
(XEN) d1v2[nsvm_vmcb_prepare4vmrun]: CR4: invalid value 0x1000 (valid 0x7ff, rejected 0x1000)
(XEN) d1v2[nsvm_vmcb_prepare4vmrun]: EFER: LMA/LME/CR0.PG inconsistency (500)
(XEN) d1v2[nsvm_vmcb_prepare4vmrun]: EFER_LME and CR0.PG are both set and CR4.PAE is zero
(XEN) d1v2[nsvm_vmcb_prepare4vmrun]: GENERAL2_INTERCEPT: VMRUN intercept bit is clear (0x2)
(XEN) d1v2[nsvm_vmcb_prepare4vmrun]: eventinj: MBZ bits are set (0x1000)
(XEN) arch/x86/hvm/svm/nestedsvm.c:640:d1v2 virtual vmcb invalid
(XEN) arch/x86/hvm/svm/nestedsvm.c:750:d1v2 prepare4vmrun failed, ret = 1
(XEN) d1v2[nsvm_vmcb_prepare4vmrun]: DR7: bits [63:32] are not zero (0x100000400)
(XEN) arch/x86/hvm/svm/nestedsvm.c:647:d1v2 n2vmcb invalid
";
    let found = all(text);
    assert_eq!(found.len(), 2);
    let first = &found[0];
    assert_eq!((first.kind, first.phase, first.vcpu), (Kind::XenChecks, Phase::Before, Some(2)));
    assert!(first.refusals.iter().all(|refusal| refusal.by == Refuser::Xen));
    let rules: Vec<&[&str]> = first.refusals.iter().map(|refusal| refusal.rules).collect();
    assert_eq!(
        rules,
        [
            &["sav-efer-svme-clear"][..],
            &["sav-cr0-nw-without-cd"],
            &[],
            &["sav-cr4-mbz"],
            &["sav-efer-lma-without-lme"],
            &["sav-lme-pg-without-pae"],
            &["ctl-vmrun-intercept-clear"],
            &["evt-reserved-bits"],
        ]
    );
    assert_eq!(first.refusals[2].condition, "CR3: MBZ bits are set");
    assert_eq!(value(first, f::efer), (0x500, u64::MAX));
    assert_eq!(value(first, f::cr4), (0x1000, u64::MAX));
    assert_eq!(value(first, f::intercept_misc2), (2, 0xFFFF_FFFF));
    assert_eq!(value(first, f::eventinj), (0x1000, u64::MAX));
    assert_eq!(marked(first, &seen(first, "CR4").place), "0x1000");
    assert!(matches!(remarks(first)[..], [RemarkKind::XenChecked { vmcb: "virtual vmcb invalid", .. }]));
    assert!(matches!(remarks(&found[1])[..], [RemarkKind::XenChecked { vmcb: "n2vmcb invalid", .. }]));
    assert_eq!(found[1].refusals[0].rules, ["sav-dr7-high"]);
}

#[test]
fn old_checks_and_damaged_ones() {
    let found = one("\
(XEN) nsvm_vmcb_prepare4vmrun: CR3: MBZ bits are set (0x1007)
(XEN) nsvm_vmcb_prepare4vmrun: CR3: MBZ bits are set (0x1007)
(XEN) nsvm_vmcb_prepare4vmrun: CR4: bits [63:19] are not zero (0x100000)
(XEN) nsvm_vmcb_prepare4vmrun: EFER_LME, CR0.PG, CR4.PAE, CS.L and CS.D are all non-zero.
(XEN) nsvm_vmcb_prepare4vmrun: nested paging enabled but host cr3 is 0
");
    assert_eq!((found.vcpu, found.refusals.len()), (None, 5));
    assert_eq!(value(&found, f::cr3).0, 0x1007);
    for cut in ["(0x5", "(0x5[...]", "", "\n(0x500)", "(0x)", "(x)", "(0x5 \n"] {
        let line = format!("(XEN) d1v2[nsvm_vmcb_prepare4vmrun]: EFER: SVME bit not set {cut}");
        let found = one(&line);
        assert_eq!(found.refusals[0].rules, ["sav-efer-svme-clear"]);
        assert!(value(&found, f::efer).1 == 0, "{cut}: {:?}", found.fields);
    }
    let found = one("d1v0[f]: CR4: invalid value 0x1000 (valid 0x7ff, rejected 0x1001)\n");
    assert_eq!(value(&found, f::cr4).1, 0);
    let found =
        one("d1v0[f]: EFER: SVME bit not set (0x500)\nd1v0[f]: EFER: unknown bits are not zero (0x502)\n");
    assert_eq!(value(&found, f::efer).1, 0);
    // Who checked differs, or the order begins again: another call.
    let line = "(XEN) d1v0[f]: CR0: bits [63:32] are not zero (0x100000000)\n";
    assert_eq!(all([line, line].concat()).len(), 2);
    assert_eq!(all([line, &line.replace("d1v0", "d1v1").replace("CR0", "DR6")].concat()).len(), 2);
}
