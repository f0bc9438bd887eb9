//! VMRUN of L1: faults in their order, refusals, and what they leave.

use nested_svm::model::{AFTER_VMRUN, CPU, HOST, Machine, RAM, Step, VMCB12, limits};
use nested_svm::{Exit, Fault, Guest, Host, Memory as _, Msr, Nested, Page, Unsupported};
use vmcb::layout::{Field, vmcb_field as f};
use vmcb::{Decision, Feature};

fn machine() -> Machine {
    Machine::new(limits(CPU))
}

/// What L1 is about to do wrong: name, how, the fault.
type Wrong = (&'static str, fn(&mut Machine), Fault);

const WRONG: [Wrong; 6] = [
    ("SVM off", |m| m.nested.write_msr(&mut m.vmcb01, Msr::Efer, 0x501).unwrap(), Fault::InvalidOpcode),
    ("real mode", |m| m.vmcb01.set_bits(f::cr0, 1, 0), Fault::InvalidOpcode),
    ("virtual-8086 mode", |m| m.vmcb01.set_bits(f::rflags, 1 << 17, 1 << 17), Fault::InvalidOpcode),
    ("CPL 3", |m| m.vmcb01.set(f::cpl, 3), Fault::GeneralProtection),
    ("an odd address", |m| m.vmcb01.set(f::rax, VMCB12 + 8), Fault::GeneralProtection),
    ("an address beyond MAXPHYADDR", |m| m.vmcb01.set(f::rax, 1 << 48), Fault::GeneralProtection),
];

/// Alone and in pairs: #UD is before #GP, nothing is read before either, and L1's state is as it was.
#[test]
fn faults_in_order() {
    for (index, (name, first, fault)) in WRONG.iter().enumerate() {
        for (other, second, other_fault) in &WRONG[index..] {
            let mut machine = machine();
            first(&mut machine);
            second(&mut machine);
            machine.ram.watched = Some(VMCB12);
            let before = (*machine.vmcb01).clone();
            let expected = if *other_fault == Fault::InvalidOpcode { *other_fault } else { *fault };
            assert_eq!(machine.vmrun(), Err(expected), "{name}, {other}");
            assert_eq!(machine.ram.reads().iter().max(), Some(&0), "{name}");
            assert_eq!(machine.vmcb01.bytes(), before.bytes(), "{name}");
            assert_eq!((machine.nested.guest(), machine.nested.gif()), (Guest::L1, true));
            assert!(machine.log.0[0].starts_with("refused"), "{:?}", machine.log);
            let mut trial = self::machine();
            first(&mut trial);
            second(&mut trial);
            let judged = trial.nested.judge(&trial.vmcb01, &trial.ram);
            assert_eq!(judged.err(), Some(expected), "{name}, {other}");
        }
    }
}

#[test]
fn addresses_of_32_bit_code_are_cut() {
    let mut machine = machine();
    machine.vmcb01.set(f::rax, 0xFFFF_FFFF_0000_0000 | VMCB12);
    assert_eq!(machine.vmrun(), Err(Fault::GeneralProtection));
    machine.vmcb01.set(f::cs, 0x049B_0008);
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
}

/// What a refusal leaves, by rulebook: EXITINFO zero, EXITINTINFO and save area as they were, EVENTINJ gone, GIF clear.
fn refused(machine: &mut Machine, log: &str) {
    machine.set12(f::exitintinfo, 0x1234_8000_0321);
    machine.set12(f::exitinfo1, 7);
    machine.set12(f::exitinfo2, 7);
    machine.vmcb01.set(f::dr7, 0x403);
    machine.vmcb01.set(f::interrupt_state, 1);
    let before = machine.vmcb12();
    let l1 = (*machine.vmcb01).clone();
    assert_eq!(machine.vmrun(), Ok(Guest::L1), "{log}");
    let after = machine.vmcb12();
    for byte in 0..4096 {
        let expected = match byte {
            0x70..0x78 => 0xFF,
            0x78..0x88 | 0xA8..0xB0 => 0,
            _ => before.bytes()[byte],
        };
        assert_eq!(after.bytes()[byte], expected, "{log}: byte {byte:#x}");
    }
    let mut expected = l1;
    expected.set(f::rip, AFTER_VMRUN);
    expected.set(f::dr7, 0x400);
    expected.set(f::interrupt_state, 0);
    expected.set(f::int_ctl, 1 << 24);
    assert_eq!(machine.vmcb01.bytes(), expected.bytes(), "{log}");
    assert!(!machine.nested.gif() && !machine.nested.interrupts());
    assert_eq!(machine.log.0, [log]);
}

#[test]
fn what_a_refusal_leaves() {
    let fields: [(&[(Field, u64)], &str); 5] = [
        (&[(f::guest_asid, 0)], "refused 0x5000: ctl-asid-zero"),
        (&[(f::eventinj, 0x77_8000_0B02)], "refused 0x5000: evt-exc-vector-2"),
        (&[(f::efer, 0)], "refused 0x5000: sav-efer-svme-clear"),
        (&[(f::intercept_misc2, 0)], "refused 0x5000: ctl-vmrun-intercept-clear"),
        // Undecided is not accepted: the manual does not say what VMRUN does with #OF in 64-bit mode.
        (&[(f::eventinj, 0x8000_0304)], "refused 0x5000: evt-exc-impossible-for-guest-mode"),
    ];
    for (fields, log) in fields {
        let mut machine = machine();
        for &(field, value) in fields {
            machine.set12(field, value);
        }
        refused(&mut machine, log);
    }
}

/// The manual refuses an address for its width only: where L1 has no memory, VMRUN reads what no CPU accepts, and the exit
/// code is kept nowhere.
#[test]
fn a_vmcb_without_memory_is_refused() {
    let mut machine = machine();
    machine.vmcb01.set(f::rax, RAM as u64);
    let verdict = machine.nested.judge(&machine.vmcb01, &machine.ram).unwrap();
    assert!(!verdict.broken().is_empty(), "{verdict:?}");
    assert_eq!(machine.vmrun(), Ok(Guest::L1));
    assert_eq!(machine.log.0, [format!("refused {RAM:#x}: NoVmcb")]);
    assert_eq!(machine.vmcb01.get(f::rip), AFTER_VMRUN);
    assert!(!machine.nested.gif());
    assert!(machine.nested.vmcb12().bytes().iter().all(|&byte| byte == 0xFF));
}

/// No rule asks that a permission map is memory. Where it is not, every access exits.
#[test]
fn permission_maps_may_lie_outside_memory() {
    let maps = [
        (f::intercept_misc1, 1 << 27, f::iopm_base_pa, RAM as u64 - 0x2000),
        (f::intercept_misc1, 1 << 28, f::msrpm_base_pa, RAM as u64),
    ];
    for (field, intercept, map, at) in maps {
        let mut machine = machine();
        machine.set12(field, intercept);
        machine.set12(map, at);
        assert_eq!(machine.vmrun(), Ok(Guest::L2));
        assert_ne!(machine.vmcb02.get(map), at, "L0's own");
    }
}

/// Without paging no rule looks at CR3, so every host must be able to run it.
#[test]
fn cr3_without_paging_fits_the_host() {
    for (cr0, seen) in [(0x10, 0xFFFF_FFFF_F018), (0x8000_0011, 0x1000)] {
        let mut machine = machine();
        machine.set12(f::cr0, cr0);
        machine.set12(f::cr3, if cr0 == 0x10 { !0xFE7 } else { 0x1000 });
        assert_eq!(machine.vmrun(), Ok(Guest::L2));
        assert_eq!(machine.vmcb02.get(f::cr3), seen);
    }
}

#[test]
fn pdptes_are_read_where_paging_needs_them() {
    let pae = |cr3: u64, np: u64| {
        let mut machine = machine();
        for (field, value) in
            [(f::efer, 0x1000), (f::cr4, 0x20), (f::cr3, cr3), (f::cs, 0x049B_0010), (f::nested_ctl, np)]
        {
            machine.set12(field, value);
        }
        machine
    };
    let mut machine = pae(0x2020, 0);
    machine.ram.put_u64(0x2020, 0x3001);
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    let mut machine = pae(0x2020, 0);
    machine.ram.put_u64(0x2038, 0x3003);
    refused(&mut machine, "refused 0x5000: sav-pdpte-reserved");
    let mut machine = pae(0x2020, 1);
    machine.ram.put_u64(0x2038, 0x3003);
    assert_eq!(machine.vmrun(), Ok(Guest::L2), "not with nested paging");
    refused(&mut pae(RAM as u64, 0), "refused 0x5000: NoPdptes(8388608)");
}

/// Hardware that sets the bit for accessed entries in them, as QEMU does: L1 does not see it, and can enter L2 again.
#[test]
fn marks_of_the_hardware_in_pdptes_are_taken_away() {
    const TABLE: u64 = 0x2020;
    let mut machine = machine();
    for (field, value) in [(f::efer, 0x1000), (f::cr4, 0x20), (f::cr3, TABLE), (f::cs, 0x049B_0010)] {
        machine.set12(field, value);
    }
    machine.set12(f::nested_ctl, 0);
    machine.ram.put_u64(TABLE, 0x3001);
    for marks in [[0x3021, 0, 0x4021, 0x20], [0x3021, 0x5021, 0, 0]] {
        assert_eq!(machine.vmrun(), Ok(Guest::L2), "{:?}", machine.log);
        for (entry, at) in marks.into_iter().zip((TABLE..).step_by(8)) {
            machine.ram.put_u64(at, entry);
        }
        assert_eq!(machine.exits(0x81, [0, 0]), Exit::ToL1);
        for (entry, at) in marks.into_iter().zip((TABLE..).step_by(8)) {
            // What is not present was not marked by the hardware.
            let expected = if entry & 1 == 1 { entry & !0x20 } else { entry };
            assert_eq!(machine.ram.read_u64(at), Ok(expected), "{at:#x}");
        }
    }
    // L2 has paging of another kind by the time it leaves: what lies at CR3 is no such table.
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    machine.ram.put_u64(TABLE, 0x3021);
    assert_eq!(machine.run([Step::Set(f::cr4, 0), Step::Exit(0x81, [0, 0])]), Exit::ToL1);
    assert_eq!(machine.ram.read_u64(TABLE), Ok(0x3021));
    // And the other way round: it turned to PAE paging as it ran.
    assert_eq!(machine.vmrun(), Ok(Guest::L2), "{:?}", machine.log);
    assert_eq!(machine.run([Step::Set(f::cr4, 0x20), Step::Exit(0x81, [0, 0])]), Exit::ToL1);
    assert_eq!(machine.ram.read_u64(TABLE), Ok(0x3001));
}

#[test]
fn a_host_that_refuses_vmcb02() {
    let mut machine = machine();
    machine.set12(f::eventinj, 0x8000_0B0E);
    machine.set12(f::exitintinfo, 5);
    let before = machine.vmcb12();
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    machine.hardware.refuses = true;
    assert_eq!(machine.exits(0x81, [0, 0]), Exit::ToL1);
    assert_eq!(machine.log.0, ["entered 0x5000", "host refused: INVALID"]);
    let mut expected = before;
    expected.set(f::exitcode, u64::MAX);
    expected.set(f::eventinj, 0);
    assert_eq!(machine.vmcb12().bytes(), expected.bytes());
    assert_eq!((machine.nested.guest(), machine.nested.gif()), (Guest::L1, false));
    assert_eq!(machine.vmcb01.get(f::rip), AFTER_VMRUN);
}

/// Entering needs what the rules and nothing else say: the verdict of `judge` is that of VMRUN.
#[test]
fn judging_is_not_entering() {
    let mut machine = machine();
    let verdict = machine.nested.judge(&machine.vmcb01, &machine.ram).unwrap();
    assert_eq!(verdict.decision(), Decision::Accepted);
    assert_eq!(machine.nested.guest(), Guest::L1);
    machine.set12(f::cr0, 0x2000_0000);
    let verdict = machine.nested.judge(&machine.vmcb01, &machine.ram).unwrap();
    assert_eq!(verdict.broken().iter().map(vmcb::Rule::id).collect::<Vec<_>>(), ["sav-cr0-nw-without-cd"]);
    assert_eq!(machine.nested.vmcb12().get(f::cr0), 0x2000_0000);
}

#[test]
fn what_no_host_can_give() {
    let host = HOST;
    let new = |cpu: &str, has: fn(Feature) -> bool| Nested::new(limits(cpu), host, has).map(|_| ());
    assert_eq!(
        new(CPU, |_| true),
        Err(Unsupported::Feature(Feature::LmsleUnsupported)),
        "the host has no LMSLE"
    );
    let has_lmsle = |feature| feature != Feature::LmsleUnsupported;
    assert_eq!(
        new("EPYC-Milan-v3,phys-bits=48", has_lmsle),
        Err(Unsupported::Feature(Feature::VmsaveVmload))
    );
    let without = |feature| feature != Feature::LmsleUnsupported && feature != Feature::Vgif;
    assert_eq!(new(CPU, without), Err(Unsupported::Feature(Feature::Vgif)));
    let lmsle = "EPYC-Milan-v3,phys-bits=48,-v-vmsave-vmload,+lmsle-unsupported";
    assert_eq!(new(lmsle, |_| true), Ok(()));
    let plain = "EPYC,phys-bits=48,-nrip-save,-lbrv,+lmsle-unsupported";
    let by_itself = [Feature::Npt, Feature::FlushByAsid, Feature::VmcbClean, Feature::SvmeAddrChk];
    for feature in by_itself {
        let cpu = format!("{plain},+{}", feature.name());
        let nested = Nested::new(limits(&cpu), host, |f| f == Feature::Npt || !by_itself_has(f)).unwrap();
        assert_ne!(nested.cpuid_svm()[3] & 1 << feature.cpuid().bit, 0);
    }
    fn by_itself_has(feature: Feature) -> bool {
        [Feature::Npt, Feature::FlushByAsid, Feature::VmcbClean, Feature::SvmeAddrChk].contains(&feature)
    }
    assert_eq!(
        Unsupported::Feature(Feature::Sev).to_string(),
        "this host cannot provide `sev` (SEV) as the virtual CPU specifies it"
    );
}

#[test]
fn cpuid_is_that_of_the_virtual_cpu() {
    let [eax, ebx, ecx, edx] = machine().nested.cpuid_svm();
    // NP, LBRV, NRIPS, TSC ratio, clean bits, flush by ASID, PAUSE filter and threshold, VGIF, address check.
    assert_eq!((eax, ebx, ecx, edx), (1, 0x8000, 0, 0x1001_147B));
    let without = Nested::for_verdicts(limits("EPYC,-svm,phys-bits=40"), HOST);
    assert_eq!(without.cpuid_svm(), [0; 4]);
}

/// TLB_CONTROL for the hardware, by what L1 does with ASIDs and TLB_CONTROL; without flush by ASID all is flushed.
#[test]
fn flushes() {
    let enter = |machine: &mut Machine, asid: u64, control: u64| {
        machine.set12(f::guest_asid, asid);
        machine.set12(f::tlb_control, control);
        assert_eq!(machine.vmrun(), Ok(Guest::L2));
        let seen = machine.vmcb02.get(f::tlb_control);
        machine.exits(0x81, [0, 0]);
        machine.vmcb01.set(f::rax, VMCB12);
        seen
    };
    for np in [0, 1] {
        let mut machine = machine();
        machine.set12(f::nested_ctl, np);
        machine.set12(f::n_cr3, 0x3000);
        let seen = [(7, 0), (7, 0), (8, 0), (8, 0), (8, 3), (8, 0), (8, 7), (8, 1), (8, 0), (9, 0), (8, 0)]
            .map(|(asid, control)| enter(&mut machine, asid, control));
        assert_eq!(seen, [3, 0, 3, 0, 3, 0, 3, 1, 0, 3, 3], "np {np}");
    }
    let host = Host { flush_by_asid: false, ..HOST };
    let mut machine = machine();
    machine.nested = Nested::new(limits(CPU), host, |feature| feature != Feature::LmsleUnsupported).unwrap();
    machine.nested.write_msr(&mut machine.vmcb01, Msr::Efer, 0x1501).unwrap();
    assert_eq!(enter(&mut machine, 7, 0), 1);
    assert_eq!(enter(&mut machine, 7, 3), 1);
}

/// TSC_OFFSET of L2 by TSC_RATIO of L1; the hardware's own ratio is L0's to write.
#[test]
fn tsc_ratio() {
    let mut machine = machine();
    machine.nested.write_msr(&mut machine.vmcb01, Msr::TscRatio, 3 << 31).unwrap();
    machine.vmcb01.set(f::tsc_offset, -100_i64 as u64);
    machine.set12(f::tsc_offset, 7);
    assert_eq!(machine.nested.tsc_ratio(), 1 << 32);
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    assert_eq!(machine.vmcb02.get(f::tsc_offset) as i64, -143);
    assert_eq!(machine.nested.tsc_ratio(), 3 << 31);
}

/// A page that is written from elsewhere while L2 runs, or is gone: the exit goes on.
#[test]
fn vmcb12_without_memory_at_the_exit() {
    let mut machine = machine();
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    machine.ram.holes.push(VMCB12);
    assert_eq!(machine.exits(0x81, [0, 0]), Exit::ToL1);
    assert_eq!(machine.nested.guest(), Guest::L1);
}

#[test]
fn pages_print_their_fields() {
    let mut page = Page::zeroed();
    page.set(f::guest_asid, 5);
    assert!(format!("{page:?}").contains("asid: 5"));
}

/// U_CET stands in no VMCB: what L0 says of it decides about an L2 in virtual-8086 mode with CR4.CET.
#[test]
fn u_cet_is_what_l0_says() {
    const RULE: &str = "sav-ucet-ss-in-v86";
    for (said, ran) in
        [(None, Ok(Guest::L1)), (Some(0), Ok(Guest::L2)), (Some(1), Ok(Guest::L1)), (Some(2), Ok(Guest::L2))]
    {
        let mut machine = Machine::new(limits("EPYC-Milan-v3,phys-bits=48,-v-vmsave-vmload,+shstk"));
        if let Some(value) = said {
            machine.nested.set_u_cet(value);
        }
        let cr4 = machine.vmcb12().get(f::cr4);
        let rflags = machine.vmcb12().get(f::rflags);
        machine.set12(f::cr4, cr4 | 1 << 23);
        machine.set12(f::cr0, machine.vmcb12().get(f::cr0) | 1 << 16);
        machine.set12(f::rflags, rflags | 1 << 17);
        assert_eq!(machine.vmrun(), ran, "{said:?}: {:?}", machine.log);
        let named = machine.log.0.iter().any(|line| line.contains(RULE));
        assert_eq!(named, ran == Ok(Guest::L1), "{said:?}: {:?}", machine.log);
    }
}

/// The engine runs L2 only with nested paging. On a host without nested paging, `Nested::new` returns
/// `HostWithoutNestedPaging`. If VMCB01 does not enable nested paging, VMRUN is refused with
/// `NoNestedPaging`.
#[test]
fn an_l0_without_nested_paging_is_refused() {
    for cpu in [CPU, "EPYC-Milan-v3,phys-bits=48,-v-vmsave-vmload,-npt"] {
        let has = |feature| !matches!(feature, Feature::LmsleUnsupported | Feature::Npt);
        let refused = Nested::new(limits(cpu), HOST, has).map(|_| ());
        assert_eq!(refused, Err(Unsupported::HostWithoutNestedPaging), "{cpu}");
    }
    assert_eq!(
        Unsupported::HostWithoutNestedPaging.to_string(),
        "the host has no nested paging (`npt`), which the engine needs to run L2; use a host that has it"
    );
    let mut machine = Machine::new(limits(CPU));
    machine.vmcb01.set(f::nested_ctl, 0);
    assert_eq!(machine.vmrun(), Ok(Guest::L1));
    assert_eq!(machine.vmcb12().get(f::exitcode), u64::MAX);
    assert_eq!(machine.log.0, ["refused 0x5000: NoNestedPaging"]);
}
