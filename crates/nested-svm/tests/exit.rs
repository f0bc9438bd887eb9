//! #VMEXIT of L2: whose it is, and every field of what L1 sees; against lists that are written here once more.

use nested_svm::model::{AFTER_VMRUN, CPU, Machine, Step, VMCB12, limits};
use nested_svm::{Exit, Fault, Guest, Page};
use vmcb::layout::vmcb_field as f;

const ALL: &str = "EPYC-Milan-v3,phys-bits=48,-v-vmsave-vmload,+shstk,+decodeassists,+vnmi";
const FEW: &str = "EPYC,phys-bits=48,-nrip-save,-lbrv,-pause-filter,-vgif,-decodeassists";

/// Bytes of VMCB12 that #VMEXIT takes from VMCB02, in every case.
fn stored(byte: usize) -> u8 {
    match byte {
        // V_TPR; V_IRQ; INTERRUPT_SHADOW.
        0x060 => 0xFF,
        0x061 => 1,
        0x068 => 1,
        // ES, CS, SS, DS; GDTR; IDTR; CPL; EFER; CR4, CR3, CR0, DR7, DR6, RFLAGS, RIP; RSP; RAX; CR2.
        0x400..0x440 | 0x460..0x470 | 0x480..0x490 | 0x4CB | 0x4D0..0x4D8 | 0x548..0x580 => 0xFF,
        0x5D8..0x5E0 | 0x5F8..0x600 | 0x640..0x648 => 0xFF,
        _ => 0,
    }
}

/// And those with all features on.
fn stored_with_all(byte: usize) -> u8 {
    match byte {
        // VGIF, V_NMI, V_NMI_MASK beside V_IRQ; nRIP; bytes of the instruction.
        0x061 => 0x1B,
        0x0C8..0x0E0 => 0xFF,
        // S_CET, SSP, ISST_ADDR; G_PAT; DBGCTL to LASTEXCPTO.
        0x5E0..0x5F8 | 0x668..0x698 => 0xFF,
        _ => stored(byte),
    }
}

/// What #VMEXIT writes by itself.
fn own(byte: usize) -> bool {
    matches!(byte, 0x070..0x090 | 0x0AB)
}

/// Where L1's registers come from after the exit: VMCB02 where #VMEXIT restores nothing.
fn in_cpu(byte: usize, shared: bool) -> bool {
    match byte {
        // FS, GS; LDTR; TR; STAR to SYSENTER_EIP; CR2; DR6; SPEC_CTRL.
        0x440..0x460
        | 0x470..0x480
        | 0x490..0x4A0
        | 0x600..0x640
        | 0x640..0x648
        | 0x568..0x570
        | 0x6E0..0x6E8 => true,
        // G_PAT, and the last branch records, where L1 does not keep its own.
        0x668..0x698 => shared,
        _ => false,
    }
}

/// A page in which every byte is different from that of the other seeds.
fn noise(seed: u8) -> Page {
    let mut page = Page::zeroed();
    for (at, byte) in page.bytes_mut().iter_mut().enumerate() {
        *byte = (at as u8).wrapping_mul(31) ^ (at >> 8) as u8 ^ seed;
    }
    page
}

fn reflect(cpu: &str, everything: bool, stored: fn(usize) -> u8) {
    let mut machine = Machine::new(limits(cpu));
    if everything {
        for (field, value) in [
            (f::nested_ctl, 1),
            (f::n_cr3, 0x3000),
            (f::virt_ext, 1),
            (f::int_ctl, 0x0600_0000),
            (f::intercept_misc1, 0x8000_0002),
        ] {
            machine.set12(field, value);
        }
    }
    let mut page = machine.vmcb12();
    // Every byte that VMRUN ignores is noise, so that one which is written shows.
    let noise12 = noise(0x55);
    for (from, to) in [
        (0x18, 0x3C),
        (0x5D, 0x60),
        (0x64, 0x68),
        (0x98, 0xA8),
        (0x100, 0x134),
        (0x4CC, 0x4D0),
        (0x440, 0x460),
        (0x4A0, 0x4CA),
        (0x580, 0x5D8),
        (0x600, 0x640),
        (0x648, 0x668),
        (0x698, 0x1000),
    ] {
        page.bytes_mut()[from..to].copy_from_slice(&noise12.bytes()[from..to]);
    }
    machine.ram.put(VMCB12, &page);
    assert_eq!(machine.vmrun(), Ok(Guest::L2), "{:?}", machine.log);
    let l1 = (*machine.vmcb01).clone();
    // What L2 left behind, in the whole page; the exit is a VMMCALL during the delivery of an interrupt.
    let mut left = noise(0xAA);
    left.set(f::exitcode, 0x81);
    left.set(f::exitinfo1, 0x1111);
    left.set(f::exitinfo2, 0x2222);
    left.set(f::exitintinfo, 0x8000_0033);
    *machine.vmcb02 = left.clone();
    let (nested, mut world) = machine.split();
    assert_eq!(nested.exit(&mut world), Exit::ToL1);
    let after = machine.vmcb12();
    for byte in (0..4096).filter(|&byte| !own(byte)) {
        let mask = stored(byte);
        let expected = page.bytes()[byte] & !mask | left.bytes()[byte] & mask;
        assert_eq!(after.bytes()[byte], expected, "{cpu}: byte {byte:#x} of VMCB12");
    }
    for (field, value) in
        [(f::exitcode, 0x81), (f::exitinfo1, 0x1111), (f::exitinfo2, 0x2222), (f::exitintinfo, 0x8000_0033)]
    {
        assert_eq!(after.get(field), value, "{}", field.name);
    }
    let mut expected = l1;
    for byte in (0..4096).filter(|&byte| in_cpu(byte, !everything)) {
        expected.bytes_mut()[byte] = left.bytes()[byte];
    }
    expected.set(f::dr7, 0x400);
    expected.set(f::int_ctl, 1 << 24);
    for byte in 0..4096 {
        assert_eq!(machine.vmcb01.bytes()[byte], expected.bytes()[byte], "{cpu}: byte {byte:#x} of VMCB01");
    }
    assert_eq!(
        (machine.nested.guest(), machine.nested.gif(), machine.nested.interrupts()),
        (Guest::L1, false, false)
    );
    assert_eq!(machine.vmcb01.get(f::rip), AFTER_VMRUN);
    assert_eq!(machine.log.0, ["entered 0x5000", "reflected VMMCALL"]);
}

#[test]
fn every_field_of_a_reflection_with_all_features() {
    reflect(ALL, true, stored_with_all);
}

#[test]
fn every_field_of_a_reflection_with_few_features() {
    reflect(FEW, false, stored);
}

/// Every exit code: L1's exactly where its bit is set, and else L0's.
#[test]
fn every_exit_code_by_its_intercept() {
    let mut machine = Machine::new(limits(CPU));
    for code in (0..0xB0).chain([0x401, 0x402, 0x403, 0xF000_0000]) {
        if matches!(code, 0x7B | 0x7C) {
            continue;
        }
        for set in [false, true] {
            let mut page = machine.vmcb12();
            page.bytes_mut()[..0x18].fill(if set { 0 } else { 0xFF });
            // Port and MSR maps are not memory here.
            page.set_bits(f::intercept_misc1, 3 << 27, 0);
            let (byte, bit) = (code / 8, code % 8);
            if code < 0xC0 {
                page.bytes_mut()[byte as usize] ^= 1 << bit;
            }
            page.set_bits(f::intercept_misc2, 1, 1);
            machine.ram.put(VMCB12, &page);
            machine.vmcb01.set(f::rax, VMCB12);
            assert_eq!(machine.vmrun(), Ok(Guest::L2));
            let offered = code < 0x8F || (0xA0..0xA5).contains(&code);
            let expected = if offered && (set || code == 0x80) { Exit::ToL1 } else { Exit::ForL0 };
            // The engine forces these intercepts. It delivers the exception to L2, and reports the shutdown to L0.
            let expected = match (expected, code) {
                (Exit::ForL0, 0x41 | 0x51) => Exit::Resume,
                (Exit::ForL0, 0x7F) => Exit::Shutdown,
                (other, _) => other,
            };
            machine.hardware.run(
                &mut machine.vmcb02,
                machine.shadow.tables(),
                &mut [Step::Exit(code, [0, 0])].into(),
            );
            let (nested, mut world) = machine.split();
            assert_eq!(nested.exit(&mut world), expected, "{code:#x} {set}");
            if expected != Exit::ToL1 {
                assert_eq!(world.vmcb02.get(f::exitcode), code);
                nested.reflect(&mut world, vmcb::ExitCode::from_bits(0x7F), [0, 0]);
            }
        }
    }
}

/// Events of the machine are L0's first, where L0 intercepts them itself.
#[test]
fn events_of_the_machine() {
    for (code, field, bit) in [
        (0x60, f::intercept_misc1, 0),
        (0x61, f::intercept_misc1, 1),
        (0x62, f::intercept_misc1, 2),
        (0x63, f::intercept_misc1, 3),
        (0x52, f::intercept_exceptions, 18),
        (0x51, f::intercept_exceptions, 17),
    ] {
        for l0 in [false, true] {
            let mut machine = Machine::new(limits(CPU));
            machine.set12(field, machine.vmcb12().get(field) | 1 << bit);
            machine.vmcb01.set_bits(field, 1 << bit, if l0 { u64::MAX } else { 0 });
            assert_eq!(machine.vmrun(), Ok(Guest::L2));
            let expected = if l0 && code != 0x51 { Exit::ForL0 } else { Exit::ToL1 };
            assert_eq!(machine.exits(code, [0, 0]), expected, "{code:#x} {l0}");
        }
    }
}

/// Ports and MSRs by L1's maps, as they are at the exit.
#[test]
fn maps_are_read_at_the_exit() {
    let enter = |intercepts: u64| {
        let mut machine = Machine::new(limits(CPU));
        machine.set12(f::intercept_misc1, intercepts);
        assert_eq!(machine.vmrun(), Ok(Guest::L2));
        machine
    };
    const IO: u64 = 0x7B;
    const MSR: u64 = 0x7C;
    let mut machine = enter(3 << 27);
    machine.rcx = 0xC000_0080;
    assert_eq!(machine.exits(IO, [0x3F8_0010, 0]), Exit::ForL0);
    assert_eq!(machine.exits(MSR, [1, 0]), Exit::ForL0);
    let mut machine = enter(3 << 27);
    machine.ram.put_u64(0x1_0000 + 0x3F8 / 8, 1);
    assert_eq!(machine.exits(IO, [0x3F5_0040, 0x99]), Exit::ToL1);
    assert_eq!(machine.vmcb12().get(f::exitinfo2), 0x99);
    let mut machine = enter(3 << 27);
    machine.rcx = 0xC000_0080;
    machine.ram.put_u64(0x1_4000 + 0x800 + 0x80 / 4, 2);
    assert_eq!(machine.exits(MSR, [0, 0]), Exit::ForL0);
    assert_eq!(machine.exits(MSR, [1, 0]), Exit::ToL1);
    // Off, the maps say nothing.
    let mut machine = enter(0);
    machine.ram.put_u64(0x1_0000 + 0x3F8 / 8, u64::MAX);
    assert_eq!(machine.exits(IO, [0x3F8_0010, 0]), Exit::ForL0);
    assert_eq!(machine.exits(MSR, [1, 0]), Exit::ForL0);
}

/// Without decode assists EXITINFO tells nothing of register accesses, INTn and INVLPG.
#[test]
fn decode_assists() {
    for (cpu, told) in [(ALL, true), (FEW, false)] {
        for (code, always) in [
            (0x00, false),
            (0x10, false),
            (0x2F, false),
            (0x3F, false),
            (0x75, false),
            (0x79, false),
            (0x4E, true),
            (0x65, true),
        ] {
            let mut machine = Machine::new(limits(cpu));
            let mut page = machine.vmcb12();
            page.bytes_mut()[..0x10].fill(0xFF);
            page.set_bits(f::intercept_misc1, 3 << 27, 0);
            machine.ram.put(VMCB12, &page);
            assert_eq!(machine.vmrun(), Ok(Guest::L2));
            assert_eq!(machine.run([Step::Exit(code, [5, 6])]), Exit::ToL1);
            let after = machine.vmcb12();
            let seen = [after.get(f::exitinfo1), after.get(f::exitinfo2)];
            assert_eq!(seen, if told || always { [5, 6] } else { [0, 0] }, "{code:#x}");
        }
    }
}

/// A call for the guest that is not running changes neither VMCB12 nor the engine's copy of it, which decides
/// where exits of L2 go.
#[test]
fn calls_for_a_guest_that_is_not_running_change_nothing() {
    let mut machine = Machine::new(limits(CPU));
    let pages = |machine: &Machine| [(*machine.vmcb01).clone(), (*machine.vmcb02).clone(), machine.vmcb12()];
    let same = |machine: &Machine, before: &[Page; 3]| {
        pages(machine).iter().zip(before).all(|(now, before)| now.bytes() == before.bytes())
    };
    machine.vmcb02.set(f::exitcode, 0x81);
    let before = pages(&machine);
    let (nested, mut world) = machine.split();
    assert_eq!(nested.exit(&mut world), Exit::NotInL2);
    nested.reflect(&mut world, vmcb::ExitCode::from_bits(0x81), [0, 0]);
    assert_eq!(nested.address_of_l2(&mut world, 0x1000), None);
    assert!(same(&machine, &before));

    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    let before = pages(&machine);
    assert_eq!(machine.vmrun(), Err(Fault::InvalidOpcode));
    machine.ram.put(0x6000, &Page::zeroed());
    machine.vmcb01.set(f::rax, 0x6000);
    assert!(machine.nested.judge(&machine.vmcb01, &machine.ram).is_err());
    machine.vmcb01.set(f::rax, before[0].get(f::rax));
    assert!(same(&machine, &before));
    assert_eq!(machine.exits(0x81, [0, 0]), Exit::ToL1);
}
