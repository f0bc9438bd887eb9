//! Events that are injected by L1 or L0, interrupted, paired, or pending. None is lost or duplicated.

mod common;

use common::delivered;
use nested_svm::model::{AFTER_VMRUN, Access, CPU, HOST, Log, Machine, Pages, Ram, Step, VMCB12, limits};
use nested_svm::{Exit, Guest, Host, Nested, World};
use vmcb::layout::vmcb_field as f;
use vmcb::{Event, EventType, ExitCode, Vector};

const INTERRUPT: u64 = 0x8000_0030;
const NMI: u64 = 0x8000_0202;
const GP: u64 = 0x77_8000_0B0D;
const PF: u64 = 0x2_8000_0B0E;
const INT3: u64 = 0x8000_0303;
const INTN: u64 = 0x8000_0480;

fn event(bits: u64) -> Event {
    Event::from_bits(bits)
}

/// L2 runs, with this EVENTINJ of L1 on its way and RAM for L0 to miss.
fn entered(eventinj: u64) -> Machine {
    let mut machine = Machine::new(limits(CPU));
    machine.set12(f::eventinj, eventinj);
    machine.set12(f::nrip, 0x8002);
    assert_eq!(machine.vmrun(), Ok(Guest::L2), "{:?}", machine.log);
    machine
}

/// An address that L1 has no memory at: the access stays with L0.
const MISSING: Access = Access::read(0x100_0000);

/// L0 keeps an exit that interrupts the delivery: every injected event comes again, software ones with their nRIP.
#[test]
fn interrupted_injections_come_again() {
    for bits in [INTERRUPT, NMI, GP, PF, INT3, INTN, 0x8000_0301, 0x8000_0308] {
        let mut machine = entered(bits);
        machine.hardware.delivery.extend([MISSING]);
        for _ in 0..3 {
            assert_eq!(machine.exits(0x81, [0, 0]), Exit::ForL0, "{bits:#x}");
            assert_eq!(machine.vmcb02.get(f::eventinj), bits);
            if bits == INT3 || bits == INTN {
                assert_eq!(machine.vmcb02.get(f::nrip), 0x8002, "the exit overwrote it");
            }
            assert_eq!(delivered(&machine), [0_u64; 0]);
            let (nested, mut world) = machine.split();
            assert_eq!(nested.before_entry(&mut world), Guest::L2);
        }
        machine.hardware.delivery.clear();
        assert_eq!(machine.exits(0x81, [0, 0]), Exit::ToL1);
        assert_eq!(delivered(&machine), [bits]);
        let after = machine.vmcb12();
        assert_eq!((after.get(f::eventinj) & Event::V, after.get(f::exitintinfo)), (0, 0));
    }
}

/// Of events that L2 itself raised, those come again that RIP does not point at.
#[test]
fn interrupted_events_of_l2() {
    for (bits, again) in [
        (INTERRUPT, true),
        (NMI, true),
        (GP, true),
        (PF, true),
        (0x8000_0301, true),
        (INT3, false),
        (0x8000_0304, false),
        (INTN, false),
    ] {
        for injected in [0, INTERRUPT] {
            let mut machine = entered(injected);
            machine.vmcb02.set(f::nrip, 0x1234);
            let exit = machine.run([Step::Set(f::rip, 0x8100), Step::Deliver(event(bits), MISSING)]);
            assert_eq!(exit, Exit::ForL0);
            assert_eq!(machine.vmcb02.get(f::eventinj), if again { bits } else { 0 }, "{bits:#x}");
            assert_eq!(machine.exits(0x81, [0, 0]), Exit::ToL1);
            let mut expected = vec![];
            expected.extend([injected].into_iter().filter(|&bits| bits != 0));
            expected.extend([bits].into_iter().filter(|_| again));
            assert_eq!(delivered(&machine), expected);
        }
    }
}

/// A software event that L1 injected and that was delivered is not taken for the same one executed elsewhere.
#[test]
fn executed_is_not_injected() {
    let mut machine = entered(INTN);
    let exit = machine.run([Step::Set(f::rip, 0x8100), Step::Deliver(event(INTN), MISSING)]);
    assert_eq!(exit, Exit::ForL0);
    assert_eq!(machine.vmcb02.get(f::eventinj), 0);
}

/// A task switch carries its event with it.
#[test]
fn a_task_switch_delivers_its_event() {
    let mut machine = entered(INTERRUPT);
    assert_eq!(machine.run([Step::ExitDuring(event(GP), 0x7D, [0, 0])]), Exit::ForL0);
    assert_eq!(machine.vmcb02.get(f::eventinj), 0);
}

/// An exit of L1's that interrupts a delivery shows the event in EXITINTINFO, and nothing is left for later.
#[test]
fn interrupted_by_an_exit_of_l1() {
    let mut machine = Machine::new(limits(CPU));
    machine.set12(f::eventinj, GP);
    machine.set12(f::nested_ctl, 1);
    machine.set12(f::n_cr3, 0x3000);
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    machine.hardware.delivery.extend([Access::walk(0x9000)]);
    assert_eq!(machine.exits(0x81, [0, 0]), Exit::ToL1);
    let after = machine.vmcb12();
    assert_eq!((after.get(f::exitcode), after.get(f::exitintinfo)), (0x400, GP));
    assert_eq!((after.get(f::exitinfo1), after.get(f::exitinfo2)), (0x2_0000_0006, 0x9000));
    assert_eq!(delivered(&machine), [0_u64; 0]);
    assert!(!machine.nested.waits());
}

/// L0 raises an exception while L1's event is on its way: by the double-fault rules.
#[test]
fn pairs() {
    let double_fault = 0x8000_0B08;
    for (first, second, expected) in [
        (0, GP, Some(GP)),
        (GP, GP, Some(double_fault)),
        (PF, GP, Some(double_fault)),
        (PF, PF, Some(double_fault)),
        (GP, PF, Some(PF)),
        (0x8000_0306, PF, Some(PF)),
        (INTN, GP, Some(GP)),
        (double_fault, GP, None),
        (double_fault, PF, None),
        (double_fault, 0x8000_0306, Some(0x8000_0306)),
    ] {
        for shutdown in [false, true] {
            let mut machine = Machine::new(limits(CPU));
            machine.set12(f::eventinj, first);
            machine.set12(f::intercept_misc1, if shutdown { 1 << 31 } else { 0 });
            assert_eq!(machine.vmrun(), Ok(Guest::L2));
            let exit = machine.inject(event(second));
            match (expected, shutdown) {
                (Some(bits), _) => {
                    assert_eq!(exit, Exit::Resume);
                    assert_eq!(machine.exits(0x81, [0, 0]), Exit::ToL1);
                    assert_eq!(delivered(&machine), [bits]);
                }
                (None, true) => {
                    assert_eq!((exit, machine.vmcb12().get(f::exitcode)), (Exit::ToL1, 0x7F));
                    assert_eq!(machine.vmcb12().get(f::exitintinfo), 0);
                }
                (None, false) => assert_eq!((exit, machine.nested.guest()), (Exit::Shutdown, Guest::L2)),
            }
        }
    }
}

/// An exception of L0 that L1 intercepts is L1's exit, with what it interrupted.
#[test]
fn exceptions_that_l1_intercepts() {
    let enter = |intercepts: u64, eventinj: u64| {
        let mut machine = Machine::new(limits(CPU));
        machine.set12(f::intercept_exceptions, intercepts);
        machine.set12(f::eventinj, eventinj);
        assert_eq!(machine.vmrun(), Ok(Guest::L2));
        machine
    };
    let seen = |machine: &Machine| {
        let page = machine.vmcb12();
        [f::exitcode, f::exitinfo1, f::exitinfo2, f::exitintinfo].map(|field| page.get(field))
    };
    let mut machine = enter(1 << 14, INTERRUPT);
    machine.vmcb02.set(f::cr2, 0xABC);
    assert_eq!(machine.inject(event(PF)), Exit::ToL1);
    assert_eq!(seen(&machine), [0x4E, 2, 0xABC, INTERRUPT]);
    let mut machine = enter(1 << 13, 0);
    assert_eq!(machine.inject(event(GP)), Exit::ToL1);
    assert_eq!(seen(&machine), [0x4D, 0x77, 0, 0]);
    // The pair makes #DF, which is not during its own delivery.
    let mut machine = enter(1 << 8, GP);
    assert_eq!(machine.inject(event(GP)), Exit::ToL1);
    assert_eq!(seen(&machine), [0x48, 0, 0, 0]);
    // INTn has the vector of an exception and is none.
    let mut machine = enter(u64::MAX, 0);
    assert_eq!(machine.inject(event(0x8000_040E)), Exit::Resume);
}

/// L1's interrupt that an exception pushed aside is delivered after it; it does not wait for ever.
#[test]
fn pushed_aside() {
    for (first, enabled_at_once) in [(INTERRUPT, false), (NMI, true)] {
        let mut machine = entered(first);
        assert_eq!(machine.inject(event(GP)), Exit::Resume);
        assert!(machine.nested.waits());
        // The handler of #GP runs with interrupts off; an NMI does not mind.
        assert_eq!(machine.exits(0x72, [0, 0]), Exit::ForL0);
        let (nested, mut world) = machine.split();
        nested.before_entry(&mut world);
        assert_eq!(machine.vmcb02.get(f::eventinj), if enabled_at_once { first } else { 0 });
        if !enabled_at_once {
            assert_eq!(machine.run([Step::Set(f::rflags, 0x202), Step::Exit(0x72, [0, 0])]), Exit::ForL0);
            let (nested, mut world) = machine.split();
            nested.before_entry(&mut world);
        }
        assert_eq!(machine.exits(0x81, [0, 0]), Exit::ToL1);
        assert_eq!(delivered(&machine), [GP, first]);
        assert_eq!(machine.vmcb12().get(f::exitintinfo), 0);
    }
    // If L2 ends before, L1 is told.
    let mut machine = entered(INTERRUPT);
    machine.inject(event(GP));
    assert_eq!(machine.exits(0x81, [0, 0]), Exit::ToL1);
    assert_eq!(machine.vmcb12().get(f::exitintinfo), INTERRUPT);
    assert!(!machine.nested.waits());
}

/// An NMI of L0 while L1's event is pending: both are delivered, or both are seen by L1.
#[test]
fn an_nmi_beside_an_event_of_l1() {
    let mut machine = entered(GP);
    assert_eq!(machine.inject(event(NMI)), Exit::Resume);
    assert_eq!(machine.inject(event(NMI)), Exit::Resume, "one is latched");
    assert_eq!(machine.exits(0x72, [0, 0]), Exit::ForL0);
    let (nested, mut world) = machine.split();
    nested.before_entry(&mut world);
    assert_eq!(machine.exits(0x81, [0, 0]), Exit::ToL1);
    assert_eq!(delivered(&machine), [GP, NMI]);
    assert!(!machine.nested.waits());

    let mut machine = Machine::new(limits(CPU));
    machine.set12(f::eventinj, GP);
    machine.set12(f::intercept_misc1, 2);
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    assert_eq!(machine.inject(event(NMI)), Exit::ToL1);
    let page = machine.vmcb12();
    assert_eq!((page.get(f::exitcode), page.get(f::exitintinfo)), (0x61, GP));
    // GIF is clear; L1 takes the NMI as soon as it sets it.
    let (nested, mut world) = machine.split();
    assert_eq!(nested.before_entry(&mut world), Guest::L1);
    assert_eq!(world.vmcb01.get(f::eventinj), 0);
    nested.stgi(&mut world).unwrap();
    nested.before_entry(&mut world);
    assert_eq!(world.vmcb01.get(f::eventinj), NMI);
    assert!(!nested.waits());
}

/// Interrupts of L0 wait until the guest takes them, the highest first, and go to L1 if it intercepts them.
#[test]
fn interrupts_of_l0() {
    let interrupt = |vector: u8| Event::new(EventType::INTERRUPT, Vector::new(vector));
    let mut machine = Machine::new(limits(CPU));
    machine.vmcb01.set_bits(f::rflags, 0x200, 0);
    for vector in [0x31, 0xFF, 0x31, 0x40] {
        assert_eq!(machine.inject(interrupt(vector)), Exit::ToL1);
        assert_eq!(machine.vmcb01.get(f::eventinj), 0, "interrupts are off");
    }
    machine.vmcb01.set_bits(f::rflags, 0x200, 0x200);
    machine.vmcb01.set(f::interrupt_state, 1);
    let next = |machine: &mut Machine| {
        let (nested, mut world) = machine.split();
        nested.before_entry(&mut world);
        let event = world.vmcb01.get(f::eventinj);
        world.vmcb01.set(f::eventinj, 0);
        event
    };
    assert_eq!(next(&mut machine), 0, "in the shadow");
    machine.vmcb01.set(f::interrupt_state, 0);
    let taken = [(); 4].map(|()| next(&mut machine));
    assert_eq!(taken, [0x8000_00FF, 0x8000_0040, 0x8000_0031, 0]);

    // L1 intercepts: at once, or when V_INTR_MASKING or L2's IF lets it through.
    for (masking, l1_if, l2_if, exits) in
        [(0, 0, 1, true), (0, 1, 0, false), (1, 1, 0, true), (1, 0, 1, false)]
    {
        let mut machine = Machine::new(limits(CPU));
        machine.set12(f::intercept_misc1, 1);
        machine.set12(f::int_ctl, masking << 24);
        machine.set12(f::rflags, 2 | l2_if << 9);
        machine.vmcb01.set_bits(f::rflags, 0x200, l1_if << 9);
        assert_eq!(machine.vmrun(), Ok(Guest::L2));
        assert_eq!(machine.nested.interrupts(), l1_if == 1);
        let exit = machine.inject(interrupt(0x50));
        assert_eq!(exit, if exits { Exit::ToL1 } else { Exit::Resume });
        assert_eq!(machine.vmcb02.get(f::eventinj), 0);
        assert!(machine.nested.waits(), "it stays with the CPU");
        if exits {
            assert_eq!(machine.vmcb12().get(f::exitcode), 0x60);
        }
    }
    // L1 does not intercept: L2 takes it.
    let mut machine = Machine::new(limits(CPU));
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    assert_eq!(machine.inject(interrupt(0x50)), Exit::Resume);
    assert_eq!(machine.vmcb02.get(f::eventinj), 0x8000_0050);
}

/// L0's own exception in L1, beside its own interrupt there.
#[test]
fn events_of_l1_itself() {
    let mut machine = Machine::new(limits(CPU));
    assert_eq!(machine.inject(event(INTERRUPT)), Exit::ToL1);
    assert_eq!(machine.inject(event(GP)), Exit::Resume);
    assert_eq!(machine.vmcb01.get(f::eventinj), GP);
    machine.vmcb01.set(f::eventinj, 0);
    let (nested, mut world) = machine.split();
    nested.before_entry(&mut world);
    assert_eq!(world.vmcb01.get(f::eventinj), INTERRUPT);
    // Intercepts of VMCB12 are not L1's own.
    nested.reflect(&mut world, ExitCode::from_bits(0x7F), [0, 0]);
    assert_eq!(nested.guest(), Guest::L1);
    assert!(machine.log.0.is_empty());
}

/// V_INTR_MASKING and L0's RFLAGS.IF follow GIF only if L0 passes physical interrupts through to the guests.
#[test]
fn interrupt_flags() {
    const MASKING: u64 = 1 << 24;
    for takes_interrupts in [false, true] {
        let mut machine = Machine::on(Host { takes_interrupts, ..HOST }, limits(CPU));
        let open = if takes_interrupts { MASKING } else { 0 };
        let (nested, mut world) = machine.split();
        nested.clgi(&mut world).unwrap();
        assert_eq!((nested.gif(), nested.interrupts()), (false, takes_interrupts));
        assert_eq!(world.vmcb01.get(f::int_ctl), MASKING);
        assert_eq!(nested.vmrun(&mut world, 0), Ok(Guest::L2));
        assert!(nested.gif(), "VMRUN sets GIF");
        let masking = |page: &nested_svm::Page| page.get(f::int_ctl) & MASKING;
        assert_eq!((masking(world.vmcb01), masking(world.vmcb02)), (open, open));
        // L2 itself, on an L1 that does not intercept CLGI.
        nested.clgi(&mut world).unwrap();
        assert_eq!((nested.gif(), nested.interrupts()), (false, takes_interrupts));
        assert_eq!(masking(world.vmcb02), MASKING);
        nested.stgi(&mut world).unwrap();
        assert_eq!(masking(world.vmcb02), open);
    }
    // With virtual GIF, it is that of L2.
    let mut machine = Machine::new(limits(CPU));
    machine.set12(f::int_ctl, 0x0200_0200);
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    let (nested, mut world) = machine.split();
    nested.clgi(&mut world).unwrap();
    assert_eq!((world.vmcb02.get(f::int_ctl), nested.gif()), (0x0200_0000, true));
    nested.stgi(&mut world).unwrap();
    assert_eq!(world.vmcb02.get(f::int_ctl), 0x0200_0200);
}

/// No guest masks the interrupts of an L0 that takes them: not with GIF clear, not with RFLAGS.IF clear.
#[test]
fn l0_takes_interrupts_whatever_the_guests_do() {
    for (gif, l1_if, l2_if, masking) in
        (0..16).map(|bits| (bits & 1 != 0, bits >> 1 & 1, bits >> 2 & 1, bits >> 3 & 1))
    {
        let mut machine = Machine::on(Host { takes_interrupts: true, ..HOST }, limits(CPU));
        machine.set12(f::int_ctl, masking << 24);
        machine.set12(f::rflags, 2 | l2_if << 9);
        machine.vmcb01.set_bits(f::rflags, 0x200, l1_if << 9);
        // An L1 that spins: CLGI; JMP $.
        let (nested, mut world) = machine.split();
        if gif { nested.stgi(&mut world) } else { nested.clgi(&mut world) }.unwrap();
        world.vmcb01.set_bits(f::intercept_misc1, 1, 1);
        assert!(l0_is_interrupted(nested.interrupts(), world.vmcb01), "L1: GIF {gif}, IF {l1_if}");
        // An L2 that spins with GIF or IF clear. VMCB02 has the intercept even if VMCB01 does not.
        world.vmcb01.set_bits(f::intercept_misc1, 1, 0);
        assert_eq!(nested.vmrun(&mut world, AFTER_VMRUN), Ok(Guest::L2));
        if !gif {
            nested.clgi(&mut world).unwrap();
        }
        let interrupted = l0_is_interrupted(nested.interrupts(), world.vmcb02);
        assert!(interrupted, "L2: GIF {gif}, IF {l1_if} of L1, {l2_if} of L2, V_INTR_MASKING {masking}");
    }
}

/// Returns whether a physical interrupt makes the guest of this VMCB exit to L0. `host_if` is L0's RFLAGS.IF
/// at VMRUN.
fn l0_is_interrupted(host_if: bool, page: &nested_svm::Page) -> bool {
    let masking = page.get(f::int_ctl) >> 24 & 1 != 0;
    let enabled = if masking { host_if } else { page.get(f::rflags) & 0x200 != 0 };
    enabled && page.get(f::intercept_misc1) & 1 != 0
}

/// L0 lets L1 execute STGI and CLGI on the hardware's virtual GIF, and tells what it found.
#[test]
fn gif_that_the_hardware_kept_for_l1() {
    let masking = |machine: &Machine| machine.vmcb01.get(f::int_ctl) >> 24 & 1;
    let mut machine = Machine::new(limits(CPU));
    machine.vmcb01.set_bits(f::intercept_misc1, 1, 0);
    for gif in [false, true, false] {
        let (nested, world) = machine.split();
        nested.set_gif_of_l1(world.vmcb01, gif);
        assert_eq!((nested.gif(), nested.interrupts()), (gif, gif));
        assert_eq!(masking(&machine), u64::from(!gif), "an L0 that passes interrupts through");
    }
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    let (nested, world) = machine.split();
    nested.set_gif_of_l1(world.vmcb01, false);
    assert!(nested.gif(), "L2 runs with GIF set whatever is found");
}

#[test]
fn vmload_and_vmsave() {
    let registers = |byte: usize| matches!(byte, 0x440..0x460 | 0x470..0x480 | 0x490..0x4A0 | 0x600..0x640);
    for guest in [Guest::L1, Guest::L2] {
        let mut machine = Machine::new(limits(CPU));
        if guest == Guest::L2 {
            // Nested paging does not translate L2's rAX.
            machine.set12(f::nested_ctl, 1);
            machine.set12(f::rax, 0x6000);
            assert_eq!(machine.vmrun(), Ok(Guest::L2));
        }
        machine.vmcb01.set(f::rax, 0x6000);
        let mut stored = nested_svm::Page::zeroed();
        for (at, byte) in stored.bytes_mut().iter_mut().enumerate() {
            *byte = at as u8 ^ 0x5A;
        }
        machine.ram.put(0x6000, &stored);
        let page = |machine: &Machine| {
            if guest == Guest::L1 { (*machine.vmcb01).clone() } else { (*machine.vmcb02).clone() }
        };
        let before = page(&machine);
        let (nested, mut world) = machine.split();
        nested.vmload(&mut world).unwrap();
        let loaded = page(&machine);
        for byte in 0..4096 {
            let from = if registers(byte) { &stored } else { &before };
            assert_eq!(loaded.bytes()[byte], from.bytes()[byte], "{byte:#x}");
        }
        machine.ram.put(0x6000, &nested_svm::Page::zeroed());
        let (nested, mut world) = machine.split();
        nested.vmsave(&mut world).unwrap();
        let saved = machine.ram.page(0x6000);
        for byte in 0..4096 {
            assert_eq!(
                saved.bytes()[byte],
                if registers(byte) { stored.bytes()[byte] } else { 0 },
                "{byte:#x}"
            );
        }
    }
}

/// The companions fault as VMRUN does, and SKINIT does not exist.
#[test]
fn faults_of_the_companions() {
    use nested_svm::{Fault, Msr};
    type Call = fn(&mut Machine) -> Result<(), Fault>;
    let calls: [(Call, bool); 5] = [
        (
            |m| {
                let (n, mut w) = m.split();
                n.vmload(&mut w)
            },
            true,
        ),
        (
            |m| {
                let (n, mut w) = m.split();
                n.vmsave(&mut w)
            },
            true,
        ),
        (
            |m| {
                let (n, mut w) = m.split();
                n.stgi(&mut w)
            },
            false,
        ),
        (
            |m| {
                let (n, mut w) = m.split();
                n.clgi(&mut w)
            },
            false,
        ),
        (
            |m| {
                let (n, mut w) = m.split();
                n.invlpga(&mut w, 7)
            },
            false,
        ),
    ];
    for (call, uses_rax) in calls {
        let with = |change: fn(&mut Machine)| {
            let mut machine = Machine::new(limits(CPU));
            change(&mut machine);
            let before = (*machine.vmcb01).clone();
            let result = call(&mut machine);
            assert!(result.is_ok() || before.bytes() == machine.vmcb01.bytes());
            result
        };
        let gp_of_address = if uses_rax { Err(Fault::GeneralProtection) } else { Ok(()) };
        assert_eq!(with(|_| ()), Ok(()));
        assert_eq!(
            with(|m| m.nested.write_msr(&mut m.vmcb01, Msr::Efer, 0x501).unwrap()),
            Err(Fault::InvalidOpcode)
        );
        assert_eq!(with(|m| m.vmcb01.set(f::cr0, 0x10)), Err(Fault::InvalidOpcode));
        assert_eq!(with(|m| m.vmcb01.set_bits(f::rflags, 1 << 17, 1 << 17)), Err(Fault::InvalidOpcode));
        assert_eq!(with(|m| m.vmcb01.set(f::cpl, 1)), Err(Fault::GeneralProtection));
        assert_eq!(with(|m| m.vmcb01.set(f::rax, VMCB12 + 1)), gp_of_address);
        assert_eq!(with(|m| m.vmcb01.set(f::rax, 1 << 50)), gp_of_address);
        assert_eq!(with(|m| m.ram.holes.push(VMCB12)), gp_of_address);
    }
    assert_eq!(Machine::new(limits(CPU)).nested.skinit(), Err(Fault::InvalidOpcode));
    assert_eq!(Fault::GeneralProtection.event().bits(), 0x8000_0B0D);
    assert_eq!(Fault::InvalidOpcode.event().bits(), 0x8000_0306);
}

/// Returns a machine whose L2 has received #GP, which displaced L1's interrupt.
fn with_displaced_interrupt() -> Machine {
    let mut machine = entered(INTERRUPT);
    assert_eq!(machine.inject(event(GP)), Exit::Resume);
    assert_eq!(machine.exits(0x72, [0, 0]), Exit::ForL0);
    let (nested, mut world) = machine.split();
    assert_eq!(nested.before_entry(&mut world), Guest::L2);
    assert_eq!(delivered(&machine), [GP], "the handler runs with interrupts off");
    machine
}

/// An exit to L1 interrupts the delivery of a second event while L1's own event is displaced. EXITINTINFO
/// holds only one of them. The other one is raised again, returns to its origin, or is kept for this L2.
#[test]
fn displaced_and_interrupted_at_once() {
    // A fault: its instruction raises it again.
    let mut machine = with_displaced_interrupt();
    assert_eq!(machine.run([Step::ExitDuring(event(PF), 0x81, [0, 0])]), Exit::ToL1);
    assert_eq!(machine.vmcb12().get(f::exitintinfo), INTERRUPT);
    assert!(!machine.nested.waits());

    // A virtual interrupt of L1, which L2 had begun to take.
    let mut machine = Machine::new(limits(CPU));
    machine.set12(f::eventinj, INTERRUPT);
    machine.set12(f::int_ctl, 0xF_0100);
    machine.set12(f::v_intr_vector, 0x55);
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    machine.inject(event(GP));
    let taken = [Step::Set(f::int_ctl, 0xF_0000), Step::ExitDuring(event(0x8000_0055), 0x81, [0, 0])];
    assert_eq!(machine.run(taken), Exit::ToL1);
    let page = machine.vmcb12();
    assert_eq!((page.get(f::exitintinfo), page.get(f::int_ctl)), (INTERRUPT, 0xF_0100));

    // An NMI of L0 stays pending for the guest that runs next.
    let mut machine = with_displaced_interrupt();
    assert_eq!(machine.inject(event(NMI)), Exit::Resume);
    assert_eq!(machine.run([Step::ExitDuring(event(NMI), 0x81, [0, 0])]), Exit::ToL1);
    assert_eq!(machine.vmcb12().get(f::exitintinfo), INTERRUPT);
    assert!(machine.nested.waits());

    // #DB may be a trap. If L1 injects it again, the interrupt is still pending for this L2.
    for resumes in [true, false] {
        let mut machine = with_displaced_interrupt();
        let db = 0x8000_0301;
        assert_eq!(machine.run([Step::ExitDuring(event(db), 0x81, [0, 0])]), Exit::ToL1);
        assert_eq!(machine.vmcb12().get(f::exitintinfo), db);
        assert!(!machine.nested.waits(), "it is not L1's");
        let (nested, mut world) = machine.split();
        nested.stgi(&mut world).unwrap();
        assert_eq!(nested.before_entry(&mut world), Guest::L1);
        assert_eq!(world.vmcb01.get(f::eventinj), 0, "it is not L1's");
        nested.open_window(&mut world);
        assert_eq!(world.vmcb01.get(f::intercept_misc1) & 0x10, 0, "L1 needs no window for it");
        machine.set12(f::eventinj, if resumes { db } else { 0 });
        machine.vmcb01.set(f::rax, VMCB12);
        assert_eq!(machine.vmrun(), Ok(Guest::L2));
        assert_eq!(machine.nested.waits(), resumes);
        let script = [Step::Set(f::rflags, 0x202), Step::Exit(0x72, [0, 0])];
        assert_eq!(machine.run(script), Exit::ForL0);
        let (nested, mut world) = machine.split();
        nested.before_entry(&mut world);
        assert_eq!(world.vmcb02.get(f::eventinj), if resumes { INTERRUPT } else { 0 });
    }
}

/// Returns a machine whose L2 took V_IRQ. Its delivery accessed a page that L0 does not map.
fn with_interrupted_virtual_interrupt() -> Machine {
    let mut machine = Machine::new(limits(CPU));
    machine.set12(f::int_ctl, 0xF_0100);
    machine.set12(f::v_intr_vector, 0x55);
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    machine.hardware.delivery.extend([MISSING]);
    assert_eq!(machine.exits(0x72, [0, 0]), Exit::ForL0);
    machine.hardware.delivery.clear();
    assert_eq!(machine.vmcb02.get(f::int_ctl), 0xF_0000);
    assert_eq!(machine.vmcb02.get(f::eventinj), 0x8000_0055, "it is delivered again");
    machine
}

/// A virtual interrupt of L1 that is displaced after an exit interrupted its delivery stays pending for L2.
#[test]
fn a_virtual_interrupt_that_is_pushed_aside_stays_l2s() {
    let mut machine = with_interrupted_virtual_interrupt();
    // L0 finds that the delivery faults.
    assert_eq!(machine.inject(event(PF)), Exit::Resume);
    assert!(!machine.nested.waits(), "nothing waits for L1's IDT");
    assert_eq!(machine.vmcb02.get(f::int_ctl), 0xF_0100, "the hardware delivers it after #PF");
    assert_eq!(machine.exits(0x81, [0, 0]), Exit::ToL1);
    assert_eq!(machine.vmcb12().get(f::int_ctl), 0xF_0100);
    assert_eq!(machine.vmcb12().get(f::exitintinfo), 0);
    assert_eq!(delivered(&machine), [PF]);
}

/// The window causes an exit as soon as the guest can take an interrupt. Closing it restores L1's own virtual
/// interrupt, which is also the one in VMCB12 and in saved state.
#[test]
fn interrupt_window() {
    const VINTR: u64 = 0x10;
    let closed = |page: &nested_svm::Page, int_ctl: u64| {
        page.get(f::int_ctl) == int_ctl && page.get(f::intercept_misc1) & VINTR == 0
    };
    let open = |page: &nested_svm::Page| {
        page.get(f::int_ctl) & 0x1F_0100 == 0x1F_0100 && page.get(f::intercept_misc1) & VINTR != 0
    };
    for own in [0, 0x3_0100, 0x10_0105] {
        // L2 has interrupts off, and L1 does not intercept INTR.
        let start = || {
            let mut machine = Machine::new(limits(CPU));
            machine.set12(f::int_ctl, own);
            machine.set12(f::v_intr_vector, 0x55);
            machine.set12(f::rflags, 2);
            assert_eq!(machine.vmrun(), Ok(Guest::L2));
            let (nested, mut world) = machine.split();
            nested.open_window(&mut world);
            assert!(closed(world.vmcb02, own), "nothing waits");
            assert_eq!(nested.inject(&mut world, event(0x8000_0050)), Exit::Resume);
            let before = save(nested, &mut world);
            nested.open_window(&mut world);
            nested.open_window(&mut world);
            assert!(open(world.vmcb02));
            assert_eq!(save(nested, &mut world), before, "a window is not saved");
            assert!(closed(world.vmcb02, own));
            nested.open_window(&mut world);
            machine
        };
        // The window opens: L2 takes the interrupt.
        let mut machine = start();
        let opens = [Step::Set(f::rflags, 0x202), Step::Exit(0x64, [0, 0])];
        machine.hardware.run(&mut machine.vmcb02, machine.shadow.tables(), &mut opens.into());
        let (nested, mut world) = machine.split();
        assert_eq!(nested.exit(&mut world), Exit::Resume);
        assert!(closed(world.vmcb02, own));
        assert_eq!(nested.before_entry(&mut world), Guest::L2);
        assert_eq!(world.vmcb02.get(f::eventinj), 0x8000_0050);
        assert!(!nested.waits());
        // L2 ends before.
        for reflect in [false, true] {
            let mut machine = start();
            if reflect {
                let (nested, mut world) = machine.split();
                nested.reflect(&mut world, ExitCode::from_bits(0x81), [0, 0]);
            } else {
                assert_eq!(machine.exits(0x81, [0, 0]), Exit::ToL1);
            }
            assert!(closed(&machine.vmcb12(), own), "own {own:#x}");
            assert!(machine.nested.waits());
        }
    }
    // L1 itself, which then executes VMRUN.
    let mut machine = Machine::new(limits(CPU));
    machine.vmcb01.set_bits(f::rflags, 0x200, 0);
    let (nested, mut world) = machine.split();
    nested.inject(&mut world, event(0x8000_0050));
    nested.open_window(&mut world);
    assert!(open(world.vmcb01));
    nested.before_entry(&mut world);
    assert!(closed(world.vmcb01, 0));
    nested.open_window(&mut world);
    save(nested, &mut world);
    assert!(closed(world.vmcb01, 0), "L0 saves VMCB01 next");
    nested.open_window(&mut world);
    assert_eq!(nested.vmrun(&mut world, AFTER_VMRUN), Ok(Guest::L2));
    assert!(closed(world.vmcb01, 0) && closed(world.vmcb02, 0));
    // With GIF clear only STGI, which exits, lets the interrupt through.
    let mut machine = Machine::new(limits(CPU));
    let (nested, mut world) = machine.split();
    nested.clgi(&mut world).unwrap();
    nested.inject(&mut world, event(0x8000_0050));
    nested.open_window(&mut world);
    assert_eq!(world.vmcb01.get(f::intercept_misc1) & VINTR, 0);
}

fn save(nested: &mut Nested, world: &mut World<'_, Ram, Pages, Log>) -> Vec<u8> {
    let mut buffer = Box::new([0; Nested::SAVED_MAX]);
    nested.save(world, &mut buffer).to_vec()
}

/// An interrupt of L0 that is undelivered when L2 ends or when the hardware refuses VMCB02 is pending again.
#[test]
fn an_undelivered_interrupt_of_l0_waits_again() {
    for refused in [false, true] {
        let mut machine = Machine::new(limits(CPU));
        machine.set12(f::intercept_misc1, 1 << 31 | 2);
        assert_eq!(machine.vmrun(), Ok(Guest::L2));
        assert_eq!(machine.inject(event(INTERRUPT)), Exit::Resume);
        assert_eq!(machine.vmcb02.get(f::eventinj), INTERRUPT);
        if refused {
            machine.hardware.refuses = true;
            assert_eq!(machine.exits(0x81, [0, 0]), Exit::ToL1);
        } else {
            assert_eq!(machine.inject(event(NMI)), Exit::ToL1);
        }
        assert_eq!(machine.vmcb12().get(f::exitintinfo), 0);
        let (nested, mut world) = machine.split();
        nested.stgi(&mut world).unwrap();
        let taken = [(); 3].map(|()| {
            nested.before_entry(&mut world);
            let event = world.vmcb01.get(f::eventinj);
            world.vmcb01.set(f::eventinj, 0);
            event
        });
        assert_eq!(taken.into_iter().filter(|&event| event == INTERRUPT).count(), 1, "refused {refused}");
    }
}

/// The hardware refuses VMCB02 after L2 has run. L1 then gets the current state of L2, not the state at
/// VMRUN.
#[test]
fn refused_after_l2_has_run() {
    let mut machine = entered(0);
    assert_eq!(machine.run([Step::Set(f::rsp, 0x4444), Step::Exit(0x72, [0, 0])]), Exit::ForL0);
    machine.inject(event(GP));
    machine.hardware.refuses = true;
    assert_eq!(machine.exits(0x81, [0, 0]), Exit::ToL1);
    let page = machine.vmcb12();
    assert_eq!((page.get(f::exitcode), page.get(f::rsp), page.get(f::exitintinfo)), (u64::MAX, 0x4444, GP));
}

/// A parked event stays with its L2 while L1 runs another one.
#[test]
fn a_parked_event_survives_another_l2() {
    const OTHER: u64 = VMCB12 + 0x1000;
    const DB: u64 = 0x8000_0301;
    let mut machine = with_displaced_interrupt();
    assert_eq!(machine.run([Step::ExitDuring(event(DB), 0x81, [0, 0])]), Exit::ToL1);
    let other = entered(0).vmcb12();
    machine.ram.put(OTHER, &other);
    machine.vmcb01.set(f::rax, OTHER);
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    machine.vmcb02.set_bits(f::rflags, 0x200, 0x200);
    assert!(!machine.nested.waits(), "it is not this L2's");
    assert_eq!(machine.exits(0x81, [0, 0]), Exit::ToL1);
    let saved = machine.save();
    let (nested, mut world) = machine.split();
    nested.load(&mut world, &saved).unwrap();
    machine.set12(f::eventinj, DB);
    machine.vmcb01.set(f::rax, VMCB12);
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    assert_eq!(machine.run([Step::Set(f::rflags, 0x202), Step::Exit(0x72, [0, 0])]), Exit::ForL0);
    let (nested, mut world) = machine.split();
    assert_eq!(nested.before_entry(&mut world), Guest::L2);
    assert_eq!(world.vmcb02.get(f::eventinj), INTERRUPT);
}

/// With V_INTR_MASKING set and L1's RFLAGS.IF clear, the interrupt is masked. A window would cause an exit at
/// once, but the interrupt could not be injected.
#[test]
fn no_window_for_an_interrupt_that_l1_masks() {
    for takes_interrupts in [false, true] {
        let mut machine = Machine::on(Host { takes_interrupts, ..HOST }, limits(CPU));
        machine.set12(f::int_ctl, 1 << 24);
        machine.set12(f::intercept_misc1, 1 << 31 | 1);
        machine.vmcb01.set(f::rflags, 2);
        assert_eq!(machine.vmrun(), Ok(Guest::L2));
        assert_eq!(machine.inject(event(INTERRUPT)), Exit::Resume);
        let (nested, mut world) = machine.split();
        nested.open_window(&mut world);
        assert_eq!(world.vmcb02.get(f::intercept_misc1) & 0x10, 0);
        assert_eq!(machine.exits(0x81, [0, 0]), Exit::ToL1);
        assert!(machine.nested.waits());
    }
}

/// Injecting an exception closes the interrupt window first. Otherwise V_IRQ of the window would be mistaken
/// for V_IRQ of L1, to which a displaced virtual interrupt returns.
#[test]
fn an_exception_closes_the_window() {
    let mut machine = with_interrupted_virtual_interrupt();
    assert_eq!(machine.inject(event(0x8000_0050)), Exit::Resume);
    let (nested, mut world) = machine.split();
    nested.open_window(&mut world);
    assert_ne!(world.vmcb02.get(f::intercept_misc1) & 0x10, 0, "open");
    assert_eq!(machine.inject(event(GP)), Exit::Resume);
    assert_eq!(machine.vmcb02.get(f::intercept_misc1) & 0x10, 0, "closed");
    assert_eq!(machine.exits(0x81, [0, 0]), Exit::ToL1);
    assert_eq!(machine.vmcb12().get(f::int_ctl), 0xF_0100);
}

/// An interrupt shadow holds an interrupt of L0 back, also with V_INTR_MASKING. It does not hold back an exit by INTR.
#[test]
fn an_interrupt_shadow_holds_back_injections_only() {
    for (masking, intercepted) in [(false, false), (true, false), (true, true)] {
        let mut machine = Machine::new(limits(CPU));
        machine.set12(f::int_ctl, u64::from(masking) << 24);
        machine.set12(f::intercept_misc1, 1 << 31 | u64::from(intercepted));
        machine.set12(f::interrupt_state, 1);
        assert_eq!(machine.vmrun(), Ok(Guest::L2));
        let exit = machine.inject(event(INTERRUPT));
        assert_eq!(exit, if intercepted { Exit::ToL1 } else { Exit::Resume });
        assert_eq!(machine.vmcb02.get(f::eventinj), 0, "{masking}");
        assert!(machine.nested.waits());
    }
}

/// #PF that L1 intercepts does not change CR2 (manual volume 2, 15.12.15).
#[test]
fn an_intercepted_page_fault_keeps_cr2() {
    for (intercepted, cr2) in [(true, 0x1234), (false, 0x5678)] {
        let mut machine = Machine::new(limits(CPU));
        machine.set12(f::intercept_exceptions, u64::from(intercepted) << 14);
        machine.set12(f::cr2, 0x1234);
        assert_eq!(machine.vmrun(), Ok(Guest::L2));
        let (nested, mut world) = machine.split();
        let exit = nested.inject_page_fault(&mut world, 2, 0x5678);
        assert_eq!(world.vmcb02.get(f::cr2), cr2);
        if intercepted {
            assert_eq!(exit, Exit::ToL1);
            let page = machine.vmcb12();
            let fields = [f::exitcode, f::exitinfo1, f::exitinfo2, f::cr2].map(|field| page.get(field));
            assert_eq!(fields, [0x4E, 2, 0x5678, 0x1234]);
        } else {
            assert_eq!((exit, world.vmcb02.get(f::eventinj)), (Exit::Resume, PF));
        }
    }
    // EXITINFO2 of any other exception is 0.
    let mut machine = Machine::new(limits(CPU));
    machine.set12(f::intercept_exceptions, 1 << 13);
    machine.set12(f::cr2, 0x1234);
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    assert_eq!(machine.inject(event(GP)), Exit::ToL1);
    assert_eq!(machine.vmcb12().get(f::exitinfo2), 0);
}

/// The model CPU compares V_INTR_PRIO with bits 3:0 of V_TPR (manual volume 2, 15.21.2).
#[test]
fn the_model_masks_virtual_interrupts_by_v_tpr() {
    for (v_tpr, events) in [(9, &[][..]), (5, &[]), (4, &[0x8000_0055])] {
        let mut machine = Machine::new(limits(CPU));
        machine.set12(f::int_ctl, 1 << 24 | 5 << 16 | 1 << 8 | v_tpr);
        machine.set12(f::v_intr_vector, 0x55);
        assert_eq!(machine.vmrun(), Ok(Guest::L2));
        assert_eq!(machine.exits(0x81, [0, 0]), Exit::ToL1);
        assert_eq!(delivered(&machine), events, "V_TPR {v_tpr}");
    }
}
