//! The real dumps and traces of `samples`.

use crate::common;
use crate::common::{all, marked, one, remarks, sample, seen, value};
use vmcb::Phase;
use vmcb::layout::{vmcb_field as f, vmsa_field as v};
use vmcb_dump::{Kind, RemarkKind, VmType};

#[test]
fn kvm_6_1() {
    let found = one(sample("kvm-6.1-dmesg-refused-cs-l-d.txt"));
    assert_eq!(found.kind, Kind::KvmDump);
    assert_eq!(found.phase, Phase::After);
    assert_eq!(found.label.as_deref(), Some("00000000f5f21b6a"));
    assert_eq!((found.last_cpu, found.vcpu, found.vm_type), (Some(0), None, None));
    assert_eq!(found.vmcb_address, None, "the pointer is hashed");
    assert_eq!(found.remarks, []);
    assert_eq!(value(&found, f::exitcode), (0xFFFF_FFFF, 0xFFFF_FFFF), "32 bits are printed");
    assert_eq!(value(&found, f::intercept_misc1).1, 0xFFFF_FFFF);
    assert_eq!(value(&found, f::intercept_misc3).1, 0, "the third word is not printed");
    assert_eq!(value(&found, f::efer), (0x1500, u64::MAX));
    assert_eq!(value(&found, f::interrupt_state), (0, 0xFFFF_FFFF));
    assert_eq!(value(&found, f::eventinj), (0, u64::MAX), "two halves");
    assert_eq!(value(&found, f::clean).1, 0, "clean bits are never printed");
    let attrib = seen(&found, "cs.attrib");
    assert_eq!(marked(&found, &attrib.place), format!("{:04x}", attrib.value));
    assert_eq!(attrib.value & 0x600, 0x600, "L and D");
    // Control area; save area: 10 segments of 4 parts, vmpl, cpl, efer, and 24 more registers.
    assert_eq!(found.fields.len(), 34 + 40 + 3 + 24);
}

#[test]
fn kvm_7_2_with_renamed_labels_and_general_registers() {
    let found = one(sample("kvm-7.2-dmesg-refused-event-moved.txt"));
    assert_eq!(found.vm_type, Some(VmType::Svm));
    assert_eq!(found.vcpu, Some(0));
    assert_eq!(found.label.as_deref(), Some("000000007d3876fc"));
    assert_eq!(found.remarks, [], "rax and rsp are printed twice by the kernel");
    assert_eq!(value(&found, f::exitcode), (u64::MAX, u64::MAX));
    assert_eq!(value(&found, f::exitintinfo), (0x8000_031F, u64::MAX));
    assert_eq!(value(&found, f::nested_ctl), (1, u64::MAX));
    assert_eq!(value(&found, f::virt_ext), (0, u64::MAX));
    assert_eq!(value(&found, f::erap_control), (0, 0xFF));
    assert_eq!(value(&found, f::s_cet), (0, u64::MAX));
    assert_eq!(value(&found, f::isst_addr), (0, u64::MAX));
    assert_eq!(value(&found, f::guest_asid).0, 15);
    assert_eq!(seen(&found, "rax").value, 0x1122_3344_5566_7788);
    assert!(found.vmsa.is_none());
    assert!(!common::has(&found, "rbx"), "no part of a VMCB");
}

#[test]
fn kvm_5_14_wrapped_by_mail() {
    let found = one(sample("kvm-dmesg-dump_vmcb-npf.txt"));
    assert_eq!(remarks(&found), [&RemarkKind::WrapJoined { count: 13 }]);
    assert_eq!(found.last_cpu, Some(81));
    assert_eq!(value(&found, f::exitcode), (0x400, 0xFFFF_FFFF));
    assert_eq!(value(&found, f::efer), (0x1000, u64::MAX));
    assert_eq!(value(&found, f::last_excp_to), (0, u64::MAX));
    assert_eq!(value(&found, f::virt_ext), (2, u64::MAX));
    let efer = seen(&found, "efer");
    assert_eq!(marked(&found, &efer.place), "0000000000001000");
    assert_eq!(efer.place.to_string(), "48:1");
}

#[test]
fn sev_snp_with_vmsa() {
    let found = one(sample("kvm-6.14-dmesg-refused-snp-allowed-sev-features.txt"));
    assert_eq!((found.vm_type, found.vcpu, found.last_cpu), (Some(VmType::SevSnp), Some(1), Some(7)));
    assert_eq!(remarks(&found), [&RemarkKind::VmsaShown]);
    assert_eq!(value(&found, f::allowed_sev_features), (0x8000_0000_0000_0001, u64::MAX));
    assert_eq!(value(&found, v::sev_features), (0x81, u64::MAX));
    assert_eq!(value(&found, v::efer), (0x1000, u64::MAX));
    assert_eq!(value(&found, v::rsp), (0, u64::MAX));
    assert_eq!(value(&found, v::xcr0), (1, u64::MAX));
    assert_eq!(value(&found, f::efer).1, 0, "the VMCB's own save area is not shown");
    assert_eq!(value(&found, f::vmsa_pa), (0x5_D35C_0000, u64::MAX));
    assert_eq!(found.vmsa.as_ref().unwrap().read(0x010, 2).value(), 0x9900);
}

#[test]
fn trace_of_an_old_kernel() {
    let found = one(sample("tracecmd-kvm_nested_vmrun-eventinj.txt"));
    assert_eq!(found.kind, Kind::KvmTraceEnter);
    assert_eq!(found.phase, Phase::Before);
    assert_eq!(found.vmcb_address, Some(0x1_0359_4000));
    assert_eq!(found.remarks, []);
    assert_eq!(value(&found, f::rip), (0xFFFF_FFFF_814B_3B01, u64::MAX));
    assert_eq!(value(&found, f::int_ctl).0, 0x0100_0001);
    assert_eq!(value(&found, f::eventinj), (0x8000_0036, 0xFFFF_FFFF));
    assert_eq!(value(&found, f::nested_ctl), (1, 1));
    assert_eq!(value(&found, f::intercept_misc2).0, 0x6E7F, "from kvm_nested_intercepts below");
    assert_eq!(value(&found, f::intercept_misc3), (0, 0xFFFF_FFFF));
    assert_eq!(marked(&found, &seen(&found, "event_inj").place), "0x80000036");
}

#[test]
fn traces_of_6_1_and_7_2() {
    for (name, entered, failed, attached) in
        [("ftrace-kvm_nested-6.1.txt", 3, 3, 0), ("ftrace-kvm_nested-7.2.txt", 8, 13, 2)]
    {
        let text = sample(name);
        let found = all(&text);
        let count = |kind| found.iter().filter(|found| found.kind == kind).count();
        assert_eq!(count(Kind::KvmTraceEnter), text.matches("kvm_nested_vmenter:").count(), "{name}");
        assert_eq!(
            count(Kind::KvmTraceFailed) + attached,
            text.matches("kvm_nested_vmenter_failed:").count(),
            "{name}"
        );
        assert_eq!((count(Kind::KvmTraceEnter), count(Kind::KvmTraceFailed)), (entered, failed), "{name}");
        for found in &found {
            match found.kind {
                Kind::KvmTraceEnter => {
                    assert_eq!(found.vmcb_address, Some(0x10_A000));
                    assert_eq!(value(found, f::intercept_misc2), (3, 0xFFFF_FFFF));
                    assert_eq!(value(found, f::rip).0, 0x10_03B0);
                    let paging = value(found, f::nested_ctl);
                    assert_eq!(paging.1, 1);
                    let cr3 = if paging.0 == 1 { f::n_cr3 } else { f::cr3 };
                    let other = if paging.0 == 1 { f::cr3 } else { f::n_cr3 };
                    assert_eq!((value(found, cr3).1, value(found, other).1), (u64::MAX, 0));
                }
                _ => {
                    let refusal = found.refusals.first().expect("the reason");
                    assert_eq!(refusal.rules.len(), 1, "{}", refusal.condition);
                    assert!(found.vmcb.is_empty());
                }
            }
        }
        let refused = found.iter().filter(|found| found.kind == Kind::KvmTraceEnter);
        let rules: Vec<_> = refused.flat_map(|found| &found.refusals).collect();
        assert_eq!(rules.len(), attached, "{name}");
        assert!(rules.iter().all(|refusal| refusal.rules == ["sav-pdpte-reserved"]));
    }
}

#[test]
fn xen_debug_key() {
    let found = one(sample("xen-debugkey-v-vmcb-vcpu0.txt"));
    assert_eq!(found.kind, Kind::XenDump);
    assert_eq!(found.phase, Phase::Unknown, "the key does not stop the vCPU");
    assert_eq!((found.vcpu, found.vmcb_address), (Some(0), Some(0x8_4773_3000)));
    assert_eq!(remarks(&found), [&RemarkKind::XenMayHaveChanged, &RemarkKind::VmsaveStateMaybeStale]);
    for (field, expected) in [
        (f::intercept_cr, 0xFEF3_FEF3),
        (f::intercept_dr, 0xFFFF_FFFF),
        (f::intercept_exceptions, 0x6_0082),
        (f::intercept_misc1, 0xBDC4_000F),
        (f::intercept_misc2, 0x6F7F),
        (f::tsc_offset, 0xFFFF_FF8C_FFF7_85F6),
        (f::tlb_control, 0),
        (f::int_ctl, 0x10F_0001),
        (f::v_intr_vector, 0),
        (f::interrupt_state, 0),
        (f::eventinj, 0),
        (f::exitcode, 0x78),
        (f::exitintinfo, 0),
        (f::exitinfo2, 0),
        (f::guest_asid, 0x22D),
        (f::nested_ctl, 1),
        (f::virt_ext, 0),
        (f::cpl, 0),
        (f::efer, 0x1D01),
        (f::star, 0x0023_0010_0000_0000),
        (f::cr3, 0x2E2_3001),
        (f::rflags, 0x246),
        (f::dr6, 0xFFFF_0FF0),
        (f::g_pat, 0x0407_0506_0007_0106),
        (f::n_cr3, 0x8_476C_2000),
        (f::clean, 0xFFFF_FFF7),
    ] {
        let all = if field.size == 8 { u64::MAX } else { (1 << (field.size * 8)) - 1 };
        assert_eq!(value(&found, field), (expected, all), "{}", field.name);
    }
    assert_eq!(value(&found, f::intercept_misc3).1, 0, "not printed");
    assert_eq!(
        (seen(&found, "cs.attrib").value, seen(&found, "tr.base").value),
        (0x29B, 0xFFFF_FE00_0000_3000)
    );
    let attrib = seen(&found, "ss.attrib");
    assert_eq!((marked(&found, &attrib.place), attrib.offset), ("0c93", f::ss.offset + 2));
    assert_eq!(found.fields.len(), 19 + 4 + 19 + 40);
}

#[test]
fn all_samples_in_one_file() {
    let whole: String = common::READ.iter().map(|name| sample(name)).collect();
    let found = all(&whole);
    let alone: Vec<_> = common::READ.iter().flat_map(|name| all(sample(name))).collect();
    assert_eq!(found.len(), alone.len());
    for (found, alone) in found.iter().zip(&alone) {
        assert_eq!(found.kind, alone.kind);
        assert_eq!(found.vmcb, alone.vmcb);
        assert_eq!(found.vmsa, alone.vmsa);
        assert_eq!(found.remarks.len(), alone.remarks.len());
    }
    // A QEMU register dump beside a VMCB, as it stands in many reports, in the order of the text.
    let (dump, vmcb) = (sample("qemu-register-dump-prot32.txt"), sample("kvm-dmesg-dump_vmcb-npf.txt"));
    let kinds = |text: String| all(text).iter().map(|found| found.kind).collect::<Vec<_>>();
    assert_eq!(kinds(dump.clone() + &vmcb), [Kind::QemuRegisters, Kind::KvmDump]);
    assert_eq!(kinds(vmcb + &dump), [Kind::KvmDump, Kind::QemuRegisters]);
}
