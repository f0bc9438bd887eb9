//! Regression tests for the bug classes that an adversarial review found in the engine.

mod common;

use common::{delivered, vmrun_again, with12};
use nested_svm::model::{AFTER_VMRUN, CPU, HOST, Machine, Pages, RAM, Step, VMCB12};
use nested_svm::{Exit, Fault, Guest, Host, Msr, Page, Shadow};
use vmcb::layout::{Field, vmcb_field as f};
use vmcb::{Event, EventType, ExitCode, Vector};

const VMMCALL: u64 = 0x81;
const CPUID: u64 = 0x72;

const INTR: u64 = 1;
const INVLPGA: u64 = 1 << 26;
const SHUTDOWN: u64 = 1 << 31;

const TPR: u64 = 0xFF;
const V_IRQ: u64 = 1 << 8;
const V_IGN_TPR: u64 = 1 << 20;
const V_INTR_MASKING: u64 = 1 << 24;

const DB: u64 = 0x8000_0301;
const AC: u64 = 0x8000_0B11;
const GP: u64 = 0x8000_0B0D;
const INTERRUPT: u64 = 0x8000_0030;

const IF: u64 = 1 << 9;

fn before_entry(machine: &mut Machine) -> Guest {
    let (nested, mut world) = machine.split();
    nested.before_entry(&mut world)
}

/// KVM let L2 execute VMLOAD and VMSAVE natively, on physical addresses of the host.
#[test]
fn cve_2021_3656_vmload_vmsave_natively() {
    const VGIF: u64 = 0x0200_0200;
    const VIRTUAL_VMLOAD: u64 = 2;
    // VMRUN, VMLOAD, VMSAVE, STGI, CLGI and SKINIT.
    const MISC2: u64 = 0x7D;
    for (case, fields) in [
        ("nothing", &[(f::intercept_misc2, 1), (f::intercept_misc1, 0)][..]),
        (
            "virtual VMLOAD and virtual GIF",
            &[
                (f::intercept_misc2, 1),
                (f::intercept_misc1, 0),
                (f::int_ctl, VGIF),
                (f::virt_ext, VIRTUAL_VMLOAD),
            ],
        ),
        ("everything", &[(f::intercept_misc2, 0x7F), (f::intercept_misc1, INVLPGA | SHUTDOWN)]),
    ] {
        let mut machine = with12(CPU, fields);
        // L0 gives L1 virtual VMLOAD and VMSAVE and a virtual GIF, and intercepts VMRUN only.
        machine.vmcb01.set(f::intercept_misc1, 0);
        machine.vmcb01.set(f::intercept_misc2, 1);
        machine.vmcb01.set(f::virt_ext, VIRTUAL_VMLOAD);
        machine.vmcb01.set(f::int_ctl, VGIF);
        assert_eq!(machine.vmrun(), Ok(Guest::L2), "{case}: {:?}", machine.log);
        let page = &machine.vmcb02;
        assert_eq!(page.get(f::intercept_misc2) & MISC2, MISC2, "L1 intercepts {case}");
        let misc1 = INVLPGA | SHUTDOWN;
        assert_eq!(page.get(f::intercept_misc1) & misc1, misc1, "L1 intercepts {case}");
        assert_eq!(page.get(f::intercept_exceptions) & 0x2_0002, 0x2_0002, "#DB and #AC: {case}");
        assert_eq!(page.get(f::virt_ext) & VIRTUAL_VMLOAD, 0, "{case}");
    }
}

/// Delivers an exception of L2 whose delivery raises the same exception again, without end.
fn endless(vector: u8, bits: u64) {
    let exit = 0x40 + u64::from(vector);
    let mask = 1 << vector;
    let event = Event::from_bits(bits);
    let code = u64::from(event.error_code());
    // L1 does not intercept it: L0 sees each round, and L2 gets the exception again.
    let mut machine = common::machine(CPU);
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    assert_eq!(machine.vmcb02.get(f::intercept_exceptions) & mask, mask, "{event}: not intercepted");
    let mut script = vec![Step::Set(f::dr6, 0xFFFF_4FF0)];
    script.extend([Step::ExitDuring(event, exit, [code, 0]); 5]);
    script.push(Step::Exit(CPUID, [0, 0]));
    assert_eq!(machine.run(script), Exit::ForL0, "{event}");
    assert_eq!(machine.vmcb02.get(f::exitcode), CPUID, "{event}: not reinjected");
    assert_eq!(delivered(&machine), [bits; 5], "{event}");
    assert_eq!(machine.vmcb02.get(f::dr6), 0xFFFF_4FF0, "{event}");
    // An interrupt whose delivery raised the exception is delivered after it.
    let mut machine = common::machine(CPU);
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    let interrupt = Event::from_bits(INTERRUPT);
    let script = [Step::ExitDuring(interrupt, exit, [code, 0]), Step::Exit(CPUID, [0, 0])];
    assert_eq!(machine.run(script), Exit::ForL0, "{event}");
    machine.vmcb02.set_bits(f::rflags, IF, IF);
    assert_eq!(before_entry(&mut machine), Guest::L2);
    assert_eq!(machine.exits(VMMCALL, [0, 0]), Exit::ToL1);
    assert_eq!(delivered(&machine), [bits, INTERRUPT]);
    // L1 intercepts it: the exit is L1's, with the event that it interrupted.
    let mut machine = with12(CPU, &[(f::intercept_exceptions, mask)]);
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    assert_eq!(machine.run([Step::ExitDuring(event, exit, [code, 0])]), Exit::ToL1);
    let after = machine.vmcb12();
    let seen = [f::exitcode, f::exitinfo1, f::exitintinfo].map(|field| after.get(field));
    assert_eq!(seen, [exit, code, bits], "{event}");
    assert_eq!(machine.vmcb02.get(f::eventinj) & Event::V, 0, "{event}");
}

/// Without an intercept of #DB, a breakpoint on the stack of its handler occupies the CPU forever.
#[test]
fn cve_2015_8104_endless_db() {
    endless(1, DB);
}

/// Without an intercept of #AC, a misaligned stack of its handler occupies the CPU forever.
#[test]
fn cve_2015_5307_endless_ac() {
    endless(17, AC);
    // Hardware stores an error code of 0. The engine must not rely on that.
    endless(17, AC | 0x1234 << 32);
}

/// A way to request a flush: what L1 does before its VMRUN, and what happens between VMRUN and the entry into L2.
struct Flush {
    name: &'static str,
    by_l1: fn(&mut Machine),
    before_the_entry: fn(&mut Machine),
    nested_paging_only: bool,
}

fn nothing(_: &mut Machine) {}

fn invlpga(machine: &mut Machine) {
    let (nested, mut world) = machine.split();
    nested.invlpga(&mut world, 7).unwrap();
}

fn forget(machine: &mut Machine) {
    let (nested, mut world) = machine.split();
    nested.forget(&mut world);
}

const FLUSHES: [Flush; 8] = {
    const fn flush(name: &'static str, by_l1: fn(&mut Machine), before_the_entry: fn(&mut Machine)) -> Flush {
        Flush { name, by_l1, before_the_entry, nested_paging_only: false }
    }
    [
        flush("INVLPGA", invlpga, nothing),
        flush("TLB_CONTROL 1", |m| m.set12(f::tlb_control, 1), nothing),
        flush("TLB_CONTROL 3", |m| m.set12(f::tlb_control, 3), nothing),
        flush("forget", forget, nothing),
        flush("another ASID", |m| m.set12(f::guest_asid, 8), nothing),
        Flush { nested_paging_only: true, ..flush("N_CR3", |m| m.set12(f::n_cr3, 0x20_0000), nothing) },
        flush("forget after VMRUN", nothing, forget),
        flush("INVLPGA of L2", nothing, invlpga),
    ]
};

/// Ends L2 after VMRUN and before the hardware executes it.
type End = fn(&mut Machine);

/// Requests each flush, ends L2 before it was entered, and asserts that the flush happens at a later entry.
///
/// The hardware has executed no VMRUN of VMCB02, so TLB_CONTROL had no effect.
fn flush_survives(end: &str, ends_l2: End) {
    for flush in FLUSHES {
        for np in [0, 1] {
            if np == 0 && flush.nested_paging_only {
                continue;
            }
            let case = format!("{}, np {np}, L2 ends by {end}", flush.name);
            let mut machine = with12(
                CPU,
                &[
                    (f::nested_ctl, np),
                    (f::n_cr3, 0x10_0000),
                    (f::intercept_misc1, INTR | SHUTDOWN),
                    (f::intercept_exceptions, 1 << 13),
                ],
            );
            for control in [3, 0] {
                assert_eq!(vmrun_again(&mut machine), Ok(Guest::L2));
                assert_eq!(machine.vmcb02.get(f::tlb_control), control, "{case}: not settled");
                assert_eq!(machine.exits(VMMCALL, [0, 0]), Exit::ToL1);
            }
            (flush.by_l1)(&mut machine);
            assert_eq!(vmrun_again(&mut machine), Ok(Guest::L2));
            (flush.before_the_entry)(&mut machine);
            let control = machine.vmcb02.get(f::tlb_control);
            assert_ne!(control, 0, "{case}: not requested");
            ends_l2(&mut machine);
            assert_eq!(machine.nested.guest(), Guest::L1, "{case}");
            // L1 is entered. L0 then clears TLB_CONTROL, and the hardware clears EVENTINJ.
            assert_eq!(before_entry(&mut machine), Guest::L1);
            let of_l1 = machine.vmcb01.get(f::tlb_control);
            machine.vmcb01.set(f::tlb_control, 0);
            machine.vmcb01.set(f::eventinj, 0);
            if control == 1 {
                assert_ne!(of_l1, 0, "{case}: L1's own translations are not flushed");
            }
            machine.set12(f::tlb_control, 0);
            assert_eq!(vmrun_again(&mut machine), Ok(Guest::L2));
            let later = machine.vmcb02.get(f::tlb_control);
            assert!(later != 0 || of_l1 == 1, "{case}: the flush is lost");
            // It happens once.
            assert_eq!(machine.exits(VMMCALL, [0, 0]), Exit::ToL1);
            assert_eq!(vmrun_again(&mut machine), Ok(Guest::L2));
            assert_eq!(machine.vmcb02.get(f::tlb_control), 0, "{case}");
        }
    }
}

/// L2 ends between VMRUN and the entry, and the flush that VMCB02 requests is lost.
#[test]
fn nested_run_pending_flush() {
    let ends: [(&str, End); 3] = [
        ("an interrupt of L0", |m| {
            let interrupt = Event::new(EventType::INTERRUPT, Vector::new(0x50));
            assert_eq!(m.inject(interrupt), Exit::ToL1);
            // L1 takes the interrupt before it executes VMRUN again.
            let (nested, mut world) = m.split();
            nested.stgi(&mut world).unwrap();
        }),
        ("an exception of L0", |m| assert_eq!(m.inject(Event::from_bits(GP)), Exit::ToL1)),
        ("an exit that L0 reflects", |m| {
            let (nested, mut world) = m.split();
            nested.reflect(&mut world, ExitCode::from_bits(VMMCALL), [0, 0]);
        }),
    ];
    for (name, end) in ends {
        flush_survives(name, end);
    }
}

/// The hardware refuses VMCB02, so it flushes nothing.
#[test]
fn host_refuses_vmcb02_keeps_flush() {
    flush_survives("a refusal of the host", |m| {
        m.hardware.refuses = true;
        assert_eq!(m.exits(VMMCALL, [0, 0]), Exit::ToL1);
        m.hardware.refuses = false;
    });
}

/// L1 single-steps VMRUN, and #DB follows the #VMEXIT.
#[test]
fn single_step_of_vmrun_tf() {
    const TF: u64 = 1 << 8;
    const BS: u64 = 1 << 14;
    let ends: [(&str, Field, u64, End); 4] = [
        ("an exit of L2", f::guest_asid, 7, |m| assert_eq!(m.exits(VMMCALL, [0, 0]), Exit::ToL1)),
        ("a refused VMRUN", f::guest_asid, 0, nothing),
        ("an interrupt before the entry", f::intercept_misc1, INTR | SHUTDOWN, |m| {
            assert_eq!(m.inject(Event::from_bits(INTERRUPT)), Exit::ToL1);
        }),
        ("a refusal of the host", f::guest_asid, 7, |m| {
            m.hardware.refuses = true;
            assert_eq!(m.exits(VMMCALL, [0, 0]), Exit::ToL1);
        }),
    ];
    for (name, field, value, end) in ends {
        for tf in [TF, 0] {
            let mut machine = with12(CPU, &[(field, value), (f::rflags, 0x202)]);
            machine.vmcb01.set_bits(f::rflags, TF, tf);
            machine.vmrun().unwrap();
            end(&mut machine);
            let l1 = &machine.vmcb01;
            assert_eq!((machine.nested.guest(), l1.get(f::rip)), (Guest::L1, AFTER_VMRUN), "{name}");
            assert_eq!(l1.get(f::eventinj), if tf == 0 { 0 } else { DB }, "{name}, TF {tf:#x}");
            assert_eq!(l1.get(f::dr6) & BS, if tf == 0 { 0 } else { BS }, "{name}, TF {tf:#x}");
            assert_eq!(l1.get(f::rflags) & TF, tf, "{name}");
        }
    }
    // A VMRUN that faults raises only its fault.
    let mut machine = common::machine(CPU);
    machine.vmcb01.set_bits(f::rflags, TF, TF);
    machine.vmcb01.set(f::rax, VMCB12 + 8);
    assert_eq!(machine.vmrun(), Err(Fault::GeneralProtection));
    assert_eq!((machine.vmcb01.get(f::eventinj), machine.vmcb01.get(f::dr6) & BS), (0, 0));
}

/// Without V_INTR_MASKING in VMCB12, CR8 of L2 is the TPR of L1, which VMCB01 holds as V_TPR.
///
/// # Source
/// Manual volume 2, 15.21.
#[test]
fn v_tpr_without_masking() {
    const OF_L1: u64 = 5;
    const OF_VMCB12: u64 = 9;
    const LEFT_BY_L2: u64 = 3;
    let under_l0_that_takes_interrupts = |int_ctl: u64| {
        let mut machine = Machine::on(
            Host { takes_interrupts: true, ..HOST },
            common::machine(CPU).nested.limits().clone(),
        );
        machine.set12(f::int_ctl, int_ctl);
        // L2 does not take the virtual interrupt now.
        machine.set12(f::rflags, 2);
        machine.vmcb01.set_bits(f::intercept_misc1, INTR, INTR);
        machine.vmcb01.set(f::int_ctl, V_INTR_MASKING | OF_L1);
        machine
    };
    let tpr = |page: &Page| page.get(f::int_ctl) & TPR;
    for (masking, start, l1_after, l2_after) in
        [(0, OF_L1, LEFT_BY_L2, LEFT_BY_L2), (V_INTR_MASKING, OF_VMCB12, OF_L1, LEFT_BY_L2)]
    {
        let mut machine = under_l0_that_takes_interrupts(masking | OF_VMCB12);
        assert_eq!(machine.vmrun(), Ok(Guest::L2), "{:?}", machine.log);
        assert_eq!(tpr(&machine.vmcb02), start, "masking {masking:#x}");
        machine.vmcb02.set_bits(f::int_ctl, TPR, LEFT_BY_L2);
        assert_eq!(machine.exits(VMMCALL, [0, 0]), Exit::ToL1);
        assert_eq!(tpr(&machine.vmcb01), l1_after, "masking {masking:#x}");
        assert_eq!(tpr(&machine.vmcb12()), l2_after, "masking {masking:#x}");
    }
    // The virtual interrupt of VMCB12 is compared with V_TPR of VMCB12, not with L1's TPR.
    let taken = |int_ctl: u64| {
        let priority = int_ctl >> 16 & 0xF;
        int_ctl & V_IRQ != 0 && (int_ctl & V_IGN_TPR != 0 || priority > int_ctl & 0xF)
    };
    for (priority, v_tpr, ignore) in [(6, 9, 0), (6, 2, 0), (4, 2, 0), (4, 9, 0), (4, 9, V_IGN_TPR)] {
        let int_ctl = V_IRQ | priority << 16 | v_tpr | ignore;
        let mut machine = under_l0_that_takes_interrupts(int_ctl);
        assert_eq!(machine.vmrun(), Ok(Guest::L2), "{:?}", machine.log);
        assert_eq!(taken(machine.vmcb02.get(f::int_ctl)), taken(int_ctl), "{int_ctl:#x}");
        assert_eq!(machine.exits(VMMCALL, [0, 0]), Exit::ToL1);
        assert_eq!(machine.vmcb12().get(f::int_ctl), int_ctl, "the interrupt is still pending");
    }
}

/// L1 disables SVM with GIF clear and cannot execute STGI any more, so its interrupts are lost.
#[test]
fn svme_cleared_with_gif_clear() {
    for takes_interrupts in [true, false] {
        let host = Host { takes_interrupts, ..HOST };
        let mut machine = Machine::on(host, common::machine(CPU).nested.limits().clone());
        let (nested, mut world) = machine.split();
        nested.clgi(&mut world).unwrap();
        assert_eq!(nested.inject(&mut world, Event::from_bits(INTERRUPT)), Exit::ToL1);
        assert_eq!(world.vmcb01.get(f::eventinj), 0);
        // A write that leaves SVME set leaves GIF clear.
        nested.write_msr(world.vmcb01, Msr::Efer, 0x1D01).unwrap();
        assert!(!nested.gif());
        nested.write_msr(world.vmcb01, Msr::Efer, 0xD01).unwrap();
        assert!(nested.gif(), "L0 takes interrupts: {takes_interrupts}");
        let masking = if takes_interrupts { V_INTR_MASKING } else { 0 };
        assert_eq!(world.vmcb01.get(f::int_ctl) & V_INTR_MASKING, masking);
        nested.before_entry(&mut world);
        assert_eq!(world.vmcb01.get(f::eventinj), INTERRUPT);
    }
}

/// Saved state, and the offsets of its registers, of the displaced event and of VMCB12's image.
struct Saved {
    bytes: Vec<u8>,
    registers: usize,
    displaced: usize,
    image: usize,
}

impl Saved {
    fn of(machine: &mut Machine) -> Self {
        let bytes = machine.save();
        let registers = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        // Flags, three MSRs, four words of pending interrupts and the address of VMCB12. After the displaced event: the
        // parked event and its address, then an origin, RIP, nRIP, V_TPR and eight shared registers.
        let displaced = registers + 1 + 8 * 8;
        let image = displaced + 3 * 8 + 1 + 3 * 8 + 8 * 8;
        Self { bytes, registers, displaced, image }
    }

    /// Returns the bytes with one number replaced and with a new checksum.
    fn with(&self, at: usize, before: u64, number: u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        assert_eq!(bytes[at..at + 8], before.to_le_bytes(), "the offset has changed");
        bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        let body = bytes.len() - 4;
        let checksum = vmcb::crc32(&bytes[..body]);
        bytes[body..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }
}

/// A ratio of 0 stops the TSC of L2, and an L0 that divides by it fails.
#[test]
fn tsc_ratio_zero() {
    const ONE: u64 = 1 << 32;
    let mut machine = common::machine(CPU);
    let written = machine.nested.write_msr(&mut machine.vmcb01, Msr::TscRatio, 0);
    assert_eq!(written, Err(Fault::GeneralProtection));
    assert_eq!(machine.nested.read_msr(&machine.vmcb01, Msr::TscRatio), Ok(ONE));
    assert_eq!(machine.nested.write_msr(&mut machine.vmcb01, Msr::TscRatio, 1), Ok(()), "the smallest ratio");
    let saved = Saved::of(&mut machine);
    for (ratio, loads) in [(0, false), (1, true), (ONE, true)] {
        let bytes = saved.with(saved.registers + 17, 1, ratio);
        let (nested, mut world) = machine.split();
        let loaded = nested.load(&mut world, &bytes).map_err(|error| error.to_string());
        assert_eq!(loaded.is_ok(), loads, "{ratio:#x}: {loaded:?}");
    }
}

/// Events of hostile saved state reach EVENTINJ with EV and reserved bits, which a CPU may refuse or interpret.
#[test]
fn hostile_saved_state_events() {
    const EV: u64 = 1 << 11;
    const RESERVED: u64 = 0x7FFF_F000;
    // L1's interrupt is displaced by #GP of L0, which is in EVENTINJ.
    let displaced = || {
        let mut machine = with12(CPU, &[(f::eventinj, INTERRUPT)]);
        assert_eq!(machine.vmrun(), Ok(Guest::L2));
        assert_eq!(machine.inject(Event::from_bits(GP)), Exit::Resume);
        machine
    };
    // The image contains bytes 00h to 17h and 38h to CFh of VMCB12 first.
    let eventinj = 0x18 + 0xA8 - 0x38;
    for hostile in (11..31).map(|bit| 1 << bit).chain([EV | RESERVED, EV | 0x55 << 32]) {
        for in_eventinj in [false, true] {
            let case = format!("{hostile:#x}, in EVENTINJ: {in_eventinj}");
            let mut machine = displaced();
            let saved = Saved::of(&mut machine);
            let bytes = if in_eventinj {
                saved.with(saved.image + eventinj, GP, INTERRUPT | hostile)
            } else {
                saved.with(saved.displaced, INTERRUPT, INTERRUPT | hostile)
            };
            machine.shadow = Shadow::new(Pages::new(64, RAM as u64)).unwrap();
            *machine.vmcb02 = Page::zeroed();
            let (nested, mut world) = machine.split();
            if nested.load(&mut world, &bytes).is_err() {
                continue;
            }
            let mut seen = vec![machine.vmcb02.get(f::eventinj)];
            for _ in 0..2 {
                assert_eq!(machine.exits(CPUID, [0, 0]), Exit::ForL0, "{case}: {:?}", machine.log);
                machine.vmcb02.set_bits(f::rflags, IF, IF);
                assert_eq!(before_entry(&mut machine), Guest::L2, "{case}");
                seen.push(machine.vmcb02.get(f::eventinj));
            }
            for bits in seen {
                assert_eq!(bits & RESERVED, 0, "{case}: reserved bits in {bits:#x}");
                assert!(bits & EV == 0 || bits & 0x700 == 0x300, "{case}: an error code in {bits:#x}");
            }
        }
    }
}
