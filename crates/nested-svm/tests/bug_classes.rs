//! One regression test for each known bug class of nested SVM, named after its CVE or after the mechanism.
//!
//! `fault_classes.rs` contains the classes that the review of the engine found.

mod common;

use common::{machine, vmrun_again, with12};
use nested_svm::model::{AFTER_VMRUN, Access, CPU, HOST, Machine, RAM, RAM_ON_HOST, Seen, Step, VMCB12};
use nested_svm::{Exit, Fault, Guest, Memory as _, Msr, Nested, Page};
use vmcb::layout::vmcb_field as f;
use vmcb::{Event, EventType, Vector};

/// Every feature that the engine emulates.
const ALL: &str = "EPYC-Milan-v3,phys-bits=48,-v-vmsave-vmload,+decodeassists,+shstk,+vnmi";
/// A virtual CPU without LBR virtualization and without PCID.
const FEW: &str = "EPYC,phys-bits=48,-lbrv,-pcid";

const P: u64 = 1;
const RW: u64 = 1 << 1;
const US: u64 = 1 << 2;
const NX: u64 = 1 << 63;
const TABLE: u64 = P | RW | US;

const VMMCALL: u64 = 0x81;
const CPUID: u64 = 0x72;
const IOIO: u64 = 0x7B;
const MSR: u64 = 0x7C;
const SHUTDOWN: u64 = 0x7F;
const NPF: u64 = 0x400;

const IOIO_PROT: u64 = 1 << 27;
const MSR_PROT: u64 = 1 << 28;
const SHUTDOWN_INTERCEPT: u64 = 1 << 31;

const GP: u64 = 0x8000_0B0D;
const DF: u64 = 0x8000_0B08;
const INTERRUPT: u64 = 0x8000_0030;

/// Asserts that VMRUN stores VMEXIT_INVALID in VMCB12 and that L1 runs next.
fn assert_refused(mut machine: Machine, rule: &str, case: &str) {
    assert_eq!(machine.vmrun(), Ok(Guest::L1), "{case}");
    assert_eq!(machine.vmcb12().get(f::exitcode), u64::MAX, "{case}");
    assert_eq!(machine.log.0, [format!("refused {VMCB12:#x}: {rule}")], "{case}");
}

/// Returns what an access of L2 reaches: a physical address of L1, or EXITINFO1 of the fault that L1 receives.
fn access(machine: &mut Machine, access: Access) -> Result<u64, u64> {
    machine.hardware.seen.clear();
    let exit = machine.run([Step::Access(access), Step::Exit(CPUID, [0, 0])]);
    if let Some(&Seen::Reached(host)) = machine.hardware.seen.first() {
        assert_eq!(exit, Exit::ForL0);
        return Ok(host - RAM_ON_HOST);
    }
    assert_eq!(exit, Exit::ToL1);
    let after = machine.vmcb12();
    assert_eq!((after.get(f::exitcode), after.get(f::exitinfo2)), (NPF, access.address));
    Err(after.get(f::exitinfo1))
}

/// Address of the nested table of L1 at a level.
const fn table(level: u64) -> u64 {
    0x10_0000 + level * 0x1000
}

/// Address of the entry that translates an address at a level.
fn entry(level: u64, address: u64) -> u64 {
    table(level) + (address >> (3 + 9 * level) & 0x1FF) * 8
}

/// Maps an address of L2 to a page of L1 through one table per level.
fn map(machine: &mut Machine, address: u64, to: u64) {
    for level in 2..=4 {
        machine.ram.put_u64(entry(level, address), table(level - 1) | TABLE);
    }
    machine.ram.put_u64(entry(1, address), to | TABLE);
}

/// Returns a machine whose L2 runs on four levels of nested tables. L1 maps one page in them.
fn nested_paging(address: u64, to: u64) -> Machine {
    let mut machine = with12(CPU, &[(f::nested_ctl, 1), (f::n_cr3, table(4))]);
    machine.nested.write_msr(&mut machine.vmcb01, Msr::Efer, 0x1D01).expect("the virtual CPU has NX");
    map(&mut machine, address, to);
    assert_eq!(machine.vmrun(), Ok(Guest::L2), "{:?}", machine.log);
    machine
}

/// KVM copied int_ctl of VMCB12 with the AVIC bits, so L2 wrote the APIC page that VMCB02 pointed to.
#[test]
fn cve_2021_3653_int_ctl_and_avic() {
    const AVIC: u64 = 3 << 30;
    // V_TPR, V_IRQ, VGIF, V_NMI, V_NMI_MASK, V_INTR_PRIO, V_IGN_TPR, V_INTR_MASKING and the two enable bits.
    const KNOWN: u64 = 0x071F_1BFF;
    let pointers = [f::avic_apic_bar, f::avic_backing_page, f::avic_logical_table, f::avic_physical_table];
    let int_ctls = (0..32).map(|bit| 1 << bit).chain([AVIC, !KNOWN & 0xFFFF_FFFF, 0xFFFF_FFFF]);
    for cpu in [CPU, ALL] {
        for int_ctl in int_ctls.clone() {
            for avic_of_l1 in [0, AVIC] {
                let mut machine = with12(cpu, &[(f::int_ctl, int_ctl), (f::intercept_misc1, 2)]);
                for (pointer, page) in pointers.into_iter().zip([0xFEE0_0000, 0x2000, 0x3000, 0x4001]) {
                    machine.set12(pointer, page);
                    machine.vmcb01.set(pointer, page);
                }
                // A refused VMRUN copies all of VMCB12. The pointers stay in the copy until the next VMRUN.
                machine.set12(f::guest_asid, 0);
                assert_eq!(machine.vmrun(), Ok(Guest::L1));
                machine.set12(f::guest_asid, 7);
                machine.vmcb01.set(f::int_ctl, avic_of_l1);
                assert_eq!(machine.vmrun(), Ok(Guest::L2), "{int_ctl:#x}: {:?}", machine.log);
                let entered = machine.vmcb02.get(f::int_ctl);
                assert_eq!(entered & !(int_ctl & KNOWN), 0, "{cpu}: {int_ctl:#x}");
                for pointer in pointers {
                    assert_eq!(machine.vmcb02.get(pointer), 0, "{}", pointer.name);
                }
            }
        }
    }
}

/// KVM checked VMCB12 in guest memory and read it again, so another CPU of L1 changed it after the check.
#[test]
fn cve_2021_29657_double_fetch() {
    for (field, value) in [
        (f::intercept_misc2, 3),
        (f::guest_asid, 7),
        (f::iopm_base_pa, 0x1_0000),
        (f::msrpm_base_pa, 0x1_4000),
        (f::int_ctl, 0),
        (f::eventinj, GP),
        (f::nested_ctl, 1),
        (f::n_cr3, table(4)),
        (f::efer, 0x1D01),
        (f::cr0, 0x8000_0031),
        (f::cr4, 0x20),
        (f::dr6, 0xFFFF_0FF0),
    ] {
        let mut machine = with12(CPU, &[(field, value)]);
        // Every byte changes to its complement immediately after it was read.
        (machine.ram.watched, machine.ram.turns) = (Some(VMCB12), true);
        assert_eq!(machine.vmrun(), Ok(Guest::L2), "{}: {:?}", field.name, machine.log);
        assert_eq!(machine.nested.vmcb12().get(field), value, "{}", field.name);
        // The checked value of these fields reaches VMCB02 unchanged.
        if [f::eventinj, f::efer, f::cr0, f::cr4, f::dr6].contains(&field) {
            assert_eq!(machine.vmcb02.get(field), value, "{}", field.name);
        }
        // The copy intercepts VMMCALL, so L1 gets the exit. The changed page in memory does not intercept it.
        assert_eq!(machine.exits(VMMCALL, [0, 0]), Exit::ToL1, "{}", field.name);
        assert_eq!(machine.ram.reads().iter().max(), Some(&1), "{}: read again", field.name);
    }
    // The page directory pointers of L2 are checked from one read, too.
    let mut machine = legacy_pae(0x2000, 0);
    machine.ram.put_u64(0x2000, 0x3001);
    (machine.ram.watched, machine.ram.turns) = (Some(0x2000), true);
    assert_eq!(machine.vmrun(), Ok(Guest::L2), "{:?}", machine.log);
    assert_eq!(machine.ram.reads()[..0x20], [1; 0x20]);
}

/// A shutdown of L2 made KVM reset the vCPU while it was still in guest mode.
#[test]
fn cve_2022_3344_nested_shutdown() {
    // The hardware reports the shutdown, or L0 raises #GP in an L2 that is about to receive #DF.
    for by_hardware in [true, false] {
        for intercepted in [true, false] {
            let intercepts = if intercepted { SHUTDOWN_INTERCEPT } else { 0 };
            let eventinj = if by_hardware { 0 } else { DF };
            let mut machine = with12(CPU, &[(f::intercept_misc1, intercepts), (f::eventinj, eventinj)]);
            let before = machine.vmcb12();
            assert_eq!(machine.vmrun(), Ok(Guest::L2));
            let l1 = (*machine.vmcb01).clone();
            machine.vmcb02.set(f::cr3, 0xBAD_0000);
            let exit = if by_hardware {
                machine.exits(SHUTDOWN, [0, 0])
            } else {
                machine.inject(Event::from_bits(GP))
            };
            assert_eq!(exit, if intercepted { Exit::ToL1 } else { Exit::Shutdown });
            if !intercepted {
                // L1 is not resumed, and its VMCB12 and VMCB01 are unchanged.
                assert_eq!(machine.vmcb12().bytes(), before.bytes());
                assert_eq!(machine.vmcb01.bytes(), l1.bytes());
                assert_eq!(machine.vmcb02.get(f::eventinj), 0);
                let (nested, mut world) = machine.split();
                assert_eq!(nested.before_entry(&mut world), Guest::L2);
                assert!(nested.gif(), "the state of L2 can still be saved and loaded");
                let mut buffer = Box::new([0; Nested::SAVED_MAX]);
                let saved = nested.save(&mut world, &mut buffer);
                nested.load(&mut world, saved).expect("consistent state");
                assert_eq!(nested.guest(), Guest::L2);
                continue;
            }
            let after = machine.vmcb12();
            assert_eq!((after.get(f::exitcode), after.get(f::exitintinfo)), (SHUTDOWN, 0));
            assert_eq!(after.get(f::cr3), 0xBAD_0000);
            assert_eq!((machine.nested.guest(), machine.nested.gif()), (Guest::L1, false));
            for field in [f::rip, f::rsp, f::rax, f::cr0, f::cr3, f::cr4, f::efer, f::cs, f::rflags] {
                assert_eq!(machine.vmcb01.get(field), l1.get(field), "{}", field.name);
            }
            assert_eq!(machine.vmcb01.get(f::eventinj), 0);
        }
    }
}

/// KVM cached a shadow page with the rights of one path and used it for another path with fewer rights.
#[test]
fn cve_2021_38198_inherited_permissions() {
    const ADDRESS: u64 = 0x40A0_3000;
    const TARGET: u64 = 0x20_0000;
    for shared in 1..=3 {
        // The second path differs from the first one only in an entry above the shared table.
        let other = ADDRESS ^ 1 << (3 + 9 * (shared + 1));
        for (change, reads, writes, fetches) in
            [(RW, true, false, true), (US, false, false, false), (NX, true, true, false)]
        {
            for unrestricted_first in [true, false] {
                let case = format!("table {shared}, right {change:#x}, first {unrestricted_first}");
                let mut machine = nested_paging(ADDRESS, TARGET);
                map(&mut machine, other, TARGET);
                machine.ram.put_u64(entry(shared + 1, other), table(shared) | TABLE ^ change);
                let all = |at: u64| [Access::read(at), Access::write(at), Access::fetch(at)];
                let mut check = |address: u64, allowed: [bool; 3]| {
                    for (kind, allowed) in all(address).into_iter().zip(allowed) {
                        let found = access(&mut machine, kind);
                        assert_eq!(found.ok(), allowed.then_some(TARGET), "{case}: {kind:?}");
                        if let Err(info) = found {
                            assert_eq!(info & P, P, "{case}: not a protection fault: {kind:?}");
                            assert_eq!(vmrun_again(&mut machine), Ok(Guest::L2));
                        }
                    }
                };
                if unrestricted_first {
                    check(ADDRESS, [true; 3]);
                }
                check(other, [reads, writes, fetches]);
                check(ADDRESS, [true; 3]);
                check(other, [reads, writes, fetches]);
            }
        }
    }
}

/// KVM used bits 4:0 of a PAE nested CR3 as part of the table's address and read beyond its page.
#[test]
fn cve_2024_50115_ncr3_low_bits() {
    const POINTERS: u64 = 0x10_4FE0;
    for low in 0..0x20 {
        for index in 0..4 {
            let mut machine = with12(CPU, &[(f::nested_ctl, 1), (f::n_cr3, POINTERS + low)]);
            // L1 uses legacy PAE paging.
            for (field, value) in [(f::efer, 0x1000), (f::cr4, 0x20), (f::cs, 0x049B_0008)] {
                machine.vmcb01.set(field, value);
            }
            let address = index << 30 | 0x3000;
            machine.ram.put_u64(POINTERS + index * 8, table(2) | P);
            machine.ram.put_u64(entry(2, address), table(1) | TABLE);
            machine.ram.put_u64(entry(1, address), 0x20_0000 | TABLE);
            machine.ram.holes.push(0x10_5000);
            assert_eq!(machine.vmrun(), Ok(Guest::L2), "{:?}", machine.log);
            machine.ram.watched = Some(POINTERS & !0xFFF);
            assert_eq!(access(&mut machine, Access::read(address)), Ok(0x20_0000), "{low:#x} {index}");
            for (at, &count) in machine.ram.reads().iter().enumerate() {
                let expected = u32::from(at as u64 / 8 == (POINTERS & 0xFFF) / 8 + index);
                assert_eq!(count, expected, "{low:#x} {index}: byte {at:#x} of the page");
            }
        }
    }
}

/// The last-branch records of one guest were visible to another one.
///
/// # Source
/// Manual volume 2, 15.23: VMRUN and #VMEXIT switch them only if the VMCB enables LBR virtualization.
#[test]
fn lbr_leaks() {
    let fields = [f::dbgctl, f::br_from, f::br_to, f::last_excp_from, f::last_excp_to];
    const OF_L1: u64 = 0x0101;
    const OF_VMCB12: u64 = 0x0202;
    const LEFT_BY_L2: u64 = 0x0303;
    for (cpu, enabled12, own) in [(CPU, 1, true), (CPU, 0, false), (FEW, 1, false), (FEW, 0, false)] {
        for enabled01 in [0, 1] {
            let case = format!("{cpu}, VMCB12 {enabled12}, VMCB01 {enabled01}");
            let mut machine = with12(cpu, &[(f::virt_ext, enabled12)]);
            machine.vmcb01.set(f::virt_ext, enabled01);
            for field in fields {
                machine.vmcb01.set(field, OF_L1);
                machine.set12(field, OF_VMCB12);
            }
            assert_eq!(machine.vmrun(), Ok(Guest::L2), "{case}: {:?}", machine.log);
            assert_eq!(machine.vmcb02.get(f::virt_ext), u64::from(own) | enabled01, "{case}");
            for field in fields {
                let expected = if own { OF_VMCB12 } else { OF_L1 };
                assert_eq!(machine.vmcb02.get(field), expected, "{case}: {}", field.name);
                machine.vmcb02.set(field, LEFT_BY_L2);
            }
            // An MSR that VMCB02 does not hold belongs to L0. The engine does not return a stale field.
            let held = machine.nested.read_saved_msr(&machine.vmcb02, 0x1DB);
            assert_eq!(held, (own || enabled01 == 1).then_some(Ok(LEFT_BY_L2)), "{case}");
            assert_eq!(machine.exits(VMMCALL, [0, 0]), Exit::ToL1);
            for field in fields {
                let (of_l2, of_l1) = if own { (LEFT_BY_L2, OF_L1) } else { (OF_VMCB12, LEFT_BY_L2) };
                assert_eq!(machine.vmcb12().get(field), of_l2, "{case}: {}", field.name);
                assert_eq!(machine.vmcb01.get(field), of_l1, "{case}: {}", field.name);
            }
        }
    }
}

/// A merged or cached permission map gave L2 native access to an MSR or a port that L0 or L1 intercepts.
#[test]
fn msr_map_merge() {
    // VMCB02 uses one of L0's maps: the normal one, or one that intercepts everything so that the engine
    // reads L1's map.
    for (prot, iopm, msrpm) in [
        (0, HOST.iopm, HOST.msrpm),
        (IOIO_PROT, HOST.every_port, HOST.msrpm),
        (MSR_PROT, HOST.iopm, HOST.every_msr),
        (IOIO_PROT | MSR_PROT, HOST.every_port, HOST.every_msr),
    ] {
        let mut machine = with12(CPU, &[(f::intercept_misc1, prot)]);
        machine.vmcb01.set_bits(f::intercept_misc1, IOIO_PROT | MSR_PROT, u64::MAX);
        assert_eq!(machine.vmrun(), Ok(Guest::L2));
        let maps = [machine.vmcb02.get(f::iopm_base_pa), machine.vmcb02.get(f::msrpm_base_pa)];
        assert_eq!(maps, [iopm, msrpm], "{prot:#x}");
        let intercepts = machine.vmcb02.get(f::intercept_misc1);
        assert_eq!(intercepts & (IOIO_PROT | MSR_PROT), IOIO_PROT | MSR_PROT, "{prot:#x}");
    }
    const MAP: u64 = 0x1_4000;
    /// MSR numbers, with the byte and bit of the map for RDMSR. `None` marks an MSR that the map does not
    /// cover.
    const MSRS: [(u32, Option<(u64, u32)>); 10] = [
        (0, Some((0, 0))),
        (0x10, Some((4, 0))),
        (0x1FFF, Some((0x7FF, 6))),
        (0x2000, None),
        (0x4000_0000, None),
        (0xC000_0080, Some((0x820, 0))),
        (0xC000_1FFF, Some((0xFFF, 6))),
        (0xC000_2000, None),
        (0xC001_0117, Some((0x1045, 6))),
        (0xFFFF_FFFF, None),
    ];
    for (number, place) in MSRS {
        for write in [0, 1] {
            let mut machine = with12(CPU, &[(f::intercept_misc1, MSR_PROT)]);
            assert_eq!(machine.vmrun(), Ok(Guest::L2));
            machine.rcx = number;
            let Some((byte, bit)) = place else {
                assert_eq!(machine.exits(MSR, [write, 0]), Exit::ToL1, "{number:#x}: outside the ranges");
                continue;
            };
            // L1 changes its map while L2 runs. First all other bits are set, then only this bit.
            let this = 1 << (bit + write as u32);
            machine.ram.write(MAP, &[0xFF; 0x1800]).unwrap();
            machine.ram.write(MAP + byte, &[!this]).unwrap();
            assert_eq!(machine.exits(MSR, [write, 0]), Exit::ForL0, "{number:#x} {write}");
            machine.ram.write(MAP, &[0; 0x1800]).unwrap();
            machine.ram.write(MAP + byte, &[this]).unwrap();
            assert_eq!(machine.exits(MSR, [write, 0]), Exit::ToL1, "{number:#x} {write}");
        }
    }
    // A 4-byte access at port FFFFh uses the bits after those of the 64 Ki ports.
    let mut machine = with12(CPU, &[(f::intercept_misc1, IOIO_PROT)]);
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    assert_eq!(machine.exits(IOIO, [0xFFFF_0040, 0]), Exit::ForL0);
    machine.ram.write(0x1_0000 + 0x2000, &[1 << 2]).unwrap();
    assert_eq!(machine.exits(IOIO, [0xFFFF_0040, 0]), Exit::ToL1);
}

/// ASID 0 belongs to the host. An L2 that runs with ASID 0 or with L1's ASID uses translations of the host or
/// of L1.
#[test]
fn asid_zero() {
    for np in [0, 1] {
        assert_refused(with12(CPU, &[(f::guest_asid, 0), (f::nested_ctl, np)]), "ctl-asid-zero", "ASID 0");
        for asid in [1, 2, 7, 0x8000, 0xFFFF, 0x1_0000, 0xFFFF_FFFF] {
            let mut machine = with12(CPU, &[(f::guest_asid, asid), (f::nested_ctl, np)]);
            assert_eq!(machine.vmrun(), Ok(Guest::L2), "{asid:#x}: {:?}", machine.log);
            let hardware = machine.vmcb02.get(f::guest_asid);
            assert_eq!(hardware, u64::from(HOST.asid), "{asid:#x}");
            assert!(hardware != 0 && hardware != machine.vmcb01.get(f::guest_asid));
        }
    }
}

/// Returns a machine whose L2 uses legacy PAE paging.
fn legacy_pae(cr3: u64, np: u64) -> Machine {
    with12(
        CPU,
        &[(f::efer, 0x1000), (f::cr4, 0x20), (f::cr3, cr3), (f::cs, 0x049B_0010), (f::nested_ctl, np)],
    )
}

/// VMRUN checks the page directory pointers only without nested paging. With nested paging it does not read
/// them.
#[test]
fn pdptes() {
    const CR3: u64 = 0x2FE0;
    for np in [0, 1] {
        for index in 0..4 {
            for bit in 1..64 {
                for present in [0, P] {
                    // Bits 4:0 of CR3 are ignored.
                    let mut machine = legacy_pae(CR3 | bit & 0x1F, np);
                    machine.ram.put_u64(CR3 + index * 8, 1 << bit | present);
                    machine.ram.watched = Some(CR3 & !0xFFF);
                    let reserved = matches!(bit, 1 | 2 | 5..=8 | 48..=63);
                    let case = format!("np {np}, entry {index}, bit {bit}, present {present}");
                    if np == 0 && present == P && reserved {
                        assert_refused(machine, "sav-pdpte-reserved", &case);
                        continue;
                    }
                    assert_eq!(machine.vmrun(), Ok(Guest::L2), "{case}: {:?}", machine.log);
                    let reads = machine.ram.reads();
                    assert_eq!(reads.iter().sum::<u32>(), if np == 0 { 32 } else { 0 }, "{case}");
                }
            }
        }
        let outside = RAM as u64;
        let mut machine = legacy_pae(outside, np);
        if np == 0 {
            assert_refused(machine, &format!("NoPdptes({outside})"), "unbacked");
        } else {
            assert_eq!(machine.vmrun(), Ok(Guest::L2), "{:?}", machine.log);
        }
    }
}

/// Wrong reserved-bit masks of CR3 refused a PCID or entered L2 with an address that the CPU does not have.
#[test]
fn cr3_and_pcid() {
    const PAE: u64 = 0x20;
    const PCIDE: u64 = 1 << 17;
    for np in [0, 1] {
        for (cpu, cr4, cr3, rule) in [
            (CPU, PAE, 0x2000, None),
            (CPU, PAE, 0xFFFF_FFFF_F000, None),
            (CPU, PAE, 1 << 48, Some("sav-cr3-mbz-long")),
            (CPU, PAE, 1 << 51, Some("sav-cr3-mbz-long")),
            (CPU, PAE, 1 << 52, Some("sav-cr3-mbz-long")),
            (CPU, PAE, 1 << 63, Some("sav-cr3-mbz-long")),
            // Without PCIDE, bits 11:0 are ignored or select the memory type.
            (CPU, PAE, 0x2FFF, None),
            // With PCIDE they are the PCID. CR3 never holds bit 63: only the operand of MOV to CR3 may have it set.
            (CPU, PAE | PCIDE, 0x2001, None),
            (CPU, PAE | PCIDE, 0x2FFF, None),
            (CPU, PAE | PCIDE, 1 << 63 | 0x2001, Some("sav-cr3-mbz-long")),
            (CPU, PAE | PCIDE, 1 << 48 | 0x2001, Some("sav-cr3-mbz-long")),
            (FEW, PAE | PCIDE, 0x2001, Some("sav-cr4-mbz")),
        ] {
            let case = format!("np {np}, CR4 {cr4:#x}, CR3 {cr3:#x}");
            let mut machine = with12(cpu, &[(f::cr4, cr4), (f::cr3, cr3), (f::nested_ctl, np)]);
            if let Some(rule) = rule {
                assert_refused(machine, rule, &case);
                continue;
            }
            assert_eq!(machine.vmrun(), Ok(Guest::L2), "{case}: {:?}", machine.log);
            assert_eq!([machine.vmcb02.get(f::cr3), machine.vmcb02.get(f::cr4)], [cr3, cr4], "{case}");
            assert_eq!(machine.exits(VMMCALL, [0, 0]), Exit::ToL1);
            assert_eq!(machine.vmcb12().get(f::cr3), cr3, "{case}");
            assert_eq!(machine.vmcb01.get(f::cr3), 0x1000, "{case}: L1 has its own CR3 again");
        }
    }
}

/// A truncated ASID, a wrong address size or a missing check made INVLPGA flush too little or fault wrongly.
#[test]
fn invlpga_decoding() {
    const ADDRESS: u64 = 0x40A0_3000;
    /// What L1 prepares before it executes INVLPGA.
    type Setup = fn(&mut Page);
    let gp = Err(Fault::GeneralProtection);
    let ud = Err(Fault::InvalidOpcode);
    let cases: [(&str, Setup, u32, Result<(), Fault>); 14] = [
        ("the ASID", |_| (), 7, Ok(())),
        // ECX has 32 bits. None of these is ASID 7.
        ("bit 8", |_| (), 0x107, Ok(())),
        ("bit 16", |_| (), 0x1_0007, Ok(())),
        ("bit 31", |_| (), 0x8000_0007, Ok(())),
        // rAX is a linear address: unlike the operand of VMLOAD it is not checked.
        ("unaligned", |l1| l1.set(f::rax, 0x123), 7, Ok(())),
        ("non-canonical", |l1| l1.set(f::rax, 1 << 63), 7, Ok(())),
        (
            "32-bit code",
            |l1| {
                l1.set(f::cs, 0x049B_0008);
                l1.set(f::rax, 0xFFFF_FFFF_0000_0000);
            },
            7,
            Ok(()),
        ),
        ("ASID 0", |_| (), 0, Ok(())),
        ("CPL 1", |l1| l1.set(f::cpl, 1), 7, gp),
        ("CPL 3", |l1| l1.set(f::cpl, 3), 0, gp),
        ("real mode", |l1| l1.set_bits(f::cr0, 1, 0), 7, ud),
        ("virtual-8086 mode", |l1| l1.set_bits(f::rflags, 1 << 17, u64::MAX), 7, ud),
        (
            "virtual-8086 mode at CPL 3",
            |l1| {
                l1.set_bits(f::rflags, 1 << 17, u64::MAX);
                l1.set(f::cpl, 3);
            },
            7,
            ud,
        ),
        ("SVM off", |_| (), 7, ud),
    ];
    for (case, prepare, asid, expected) in cases {
        let mut machine = nested_paging(ADDRESS, 0x20_0000);
        assert_eq!(access(&mut machine, Access::read(ADDRESS)), Ok(0x20_0000));
        assert_eq!(machine.exits(VMMCALL, [0, 0]), Exit::ToL1);
        machine.ram.put_u64(entry(1, ADDRESS), 0x30_0000 | TABLE);
        // The first entry into L1 flushes its ASID. L0 then clears TLB_CONTROL.
        let (nested, mut world) = machine.split();
        nested.before_entry(&mut world);
        world.vmcb01.set(f::tlb_control, 0);
        let l1 = (*machine.vmcb01).clone();
        prepare(&mut machine.vmcb01);
        let svme = if case == "SVM off" { 0xD01 } else { 0x1D01 };
        machine.nested.write_msr(&mut machine.vmcb01, Msr::Efer, svme).unwrap();
        let (nested, mut world) = machine.split();
        assert_eq!(nested.invlpga(&mut world, asid), expected, "{case}");
        *world.vmcb01 = l1;
        nested.write_msr(world.vmcb01, Msr::Efer, 0x1D01).unwrap();
        // ASID 0 is that of L1 itself.
        nested.before_entry(&mut world);
        let of_l1 = if asid == 0 && expected.is_ok() { 3 } else { 0 };
        assert_eq!(world.vmcb01.get(f::tlb_control), of_l1, "{case}");
        assert_eq!(vmrun_again(&mut machine), Ok(Guest::L2));
        let flushed = asid == 7 && expected.is_ok();
        if flushed {
            assert_eq!(machine.vmcb02.get(f::tlb_control), 3, "{case}");
        }
        let reached = if flushed { 0x30_0000 } else { 0x20_0000 };
        assert_eq!(access(&mut machine, Access::read(ADDRESS)), Ok(reached), "{case}");
    }
    // Without nested paging L2 has no shadow tables. The hardware must flush for any ASID except 0, which is
    // L1's own.
    for (asid, control) in [(7, 3), (8, 3), (0, 0)] {
        let mut machine = machine(CPU);
        assert_eq!(machine.vmrun(), Ok(Guest::L2));
        assert_eq!(machine.exits(VMMCALL, [0, 0]), Exit::ToL1);
        let (nested, mut world) = machine.split();
        assert_eq!(nested.invlpga(&mut world, asid), Ok(()));
        assert_eq!(vmrun_again(&mut machine), Ok(Guest::L2));
        assert_eq!(machine.vmcb02.get(f::tlb_control), control, "ASID {asid}");
    }
    // VMLOAD and VMSAVE use all of RAX as the address in 64-bit code, and only EAX in 32-bit code.
    for (cs, expected) in [(0x029B_0008, gp), (0x049B_0008, Ok(()))] {
        let mut machine = machine(CPU);
        machine.vmcb01.set(f::cs, cs);
        machine.vmcb01.set(f::rax, 0xFFFF_FFFF_0000_0000 | VMCB12);
        let (nested, mut world) = machine.split();
        assert_eq!(nested.vmload(&mut world), expected, "{cs:#x}");
        assert_eq!(nested.vmsave(&mut world), expected, "{cs:#x}");
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Class {
    Benign,
    Contributory,
    PageFault,
    DoubleFault,
}

/// Returns exceptions with their class. #HV (28) is missing, because `vmcb` and `nested-svm` disagree about
/// its class.
fn exceptions() -> impl Iterator<Item = (u8, Class)> + Clone {
    let benign = [1, 3, 4, 5, 6, 7, 16, 17, 18, 19].map(|vector| (vector, Class::Benign));
    let contributory = [0, 10, 11, 12, 13, 21].map(|vector| (vector, Class::Contributory));
    let others = [(14, Class::PageFault), (8, Class::DoubleFault)];
    benign.into_iter().chain(contributory).chain(others)
}

fn exception(vector: u8) -> Event {
    let event = Event::new(EventType::EXCEPTION, Vector::new(vector));
    if matches!(vector, 8 | 10..=14 | 17 | 21) { event.with_error_code(0) } else { event }
}

/// L0 raises an exception in L2 while another event is on its way: every pair of the manual's table.
///
/// # Source
/// Manual volume 2, 8.2.9, table 8-3.
#[test]
fn double_fault_pairs() {
    use Class::{Contributory, DoubleFault, PageFault};
    // An exit of L2 for L0 interrupts the delivery of `first`.
    let interrupted = |first: Event, shutdown: bool| {
        let intercepts = if shutdown { SHUTDOWN_INTERCEPT } else { 0 };
        // L2 executes 32-bit code, which can raise #OF and #BR, on a virtual CPU with #CP.
        let mut machine = with12(ALL, &[(f::intercept_misc1, intercepts), (f::cs, 0x049B_0010)]);
        assert_eq!(machine.vmrun(), Ok(Guest::L2));
        assert_eq!(machine.run([Step::ExitDuring(first, CPUID, [0, 0])]), Exit::ForL0);
        machine
    };
    for (first, class) in exceptions() {
        for (second, class_of_second) in exceptions() {
            let shuts_down =
                class == DoubleFault && matches!(class_of_second, Contributory | PageFault | DoubleFault);
            let doubles = matches!(
                (class, class_of_second),
                (Contributory | PageFault, Contributory) | (PageFault, PageFault)
            );
            for intercepted in [true, false] {
                let case = format!("{first}, then {second}, shutdown intercepted: {intercepted}");
                let mut machine = interrupted(exception(first), intercepted);
                let exit = machine.inject(exception(second));
                if shuts_down && intercepted {
                    assert_eq!((exit, machine.vmcb12().get(f::exitcode)), (Exit::ToL1, SHUTDOWN), "{case}");
                    assert_eq!(machine.vmcb01.get(f::eventinj), 0, "{case}");
                    continue;
                }
                assert_eq!(exit, if shuts_down { Exit::Shutdown } else { Exit::Resume }, "{case}");
                let expected = match (shuts_down, doubles) {
                    (true, _) => 0,
                    (_, true) => DF,
                    _ => exception(second).bits(),
                };
                assert_eq!(machine.vmcb02.get(f::eventinj), expected, "{case}");
                assert!(!machine.nested.waits(), "{case}");
            }
        }
    }
    // Interrupts and NMIs are not exceptions, whatever their vector. They are delivered after the second event.
    for first in [INTERRUPT, 0x8000_0008, 0x8000_000E, 0x8000_0202] {
        for (second, _) in exceptions() {
            let mut machine = interrupted(Event::from_bits(first), true);
            assert_eq!(machine.inject(exception(second)), Exit::Resume);
            assert_eq!(machine.vmcb02.get(f::eventinj), exception(second).bits(), "{first:#x}, {second}");
            assert_eq!(machine.exits(CPUID, [0, 0]), Exit::ForL0, "{first:#x}, {second}: {:?}", machine.log);
            machine.vmcb02.set_bits(f::rflags, 1 << 9, u64::MAX);
            let (nested, mut world) = machine.split();
            assert_eq!(nested.before_entry(&mut world), Guest::L2);
            assert_eq!(machine.vmcb02.get(f::eventinj), first, "{first:#x} is lost after {second}");
        }
    }
    // An L1 that intercepts #DF gets that exit for the pair. EXITINTINFO does not contain #DF itself.
    let mut machine = with12(CPU, &[(f::intercept_exceptions, 1 << 8), (f::eventinj, GP)]);
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    assert_eq!(machine.inject(Event::from_bits(GP)), Exit::ToL1);
    let after = machine.vmcb12();
    assert_eq!((after.get(f::exitcode), after.get(f::exitintinfo)), (0x48, 0));
    assert_eq!(machine.vmcb01.get(f::rip), AFTER_VMRUN);
}
