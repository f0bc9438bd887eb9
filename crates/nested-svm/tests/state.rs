//! Saving, loading, going on: nothing lost, nothing doubled, nothing taken on trust.

use nested_svm::model::{Access, CPU, HOST, Machine, Pages, RAM, Seen, Step, limits};
use nested_svm::{Exit, Guest, Host, LoadError, Msr, Nested, Page, Shadow};
use vmcb::layout::vmcb_field as f;
use vmcb::{Event, Limits, LimitsError};

/// Another host: other addresses, another ASID, a VMCB02 and a shadow of its own.
fn moved(machine: &mut Machine, bytes: &[u8]) {
    let host = Host { asid: 9, iopm: HOST.iopm + 0x10_0000, ..HOST };
    let limits = machine.nested.limits().clone();
    *machine.vmcb02 = Page::zeroed();
    machine.shadow = Shadow::new(Pages::new(32, RAM as u64)).unwrap();
    let (nested, mut world) = machine.split();
    *nested = Nested::for_verdicts(limits, host);
    nested.load(&mut world, bytes).unwrap();
}

/// Loads bytes into a virtual CPU with these limits that has not run yet.
fn load(bytes: &[u8], limits: &Limits) -> Result<(), String> {
    let mut machine = Machine::new(limits.clone());
    let (nested, mut world) = machine.split();
    nested.load(&mut world, bytes).map_err(|error| error.to_string())
}

fn delivered(machine: &Machine) -> Vec<Seen> {
    machine.hardware.seen.iter().copied().filter(|seen| matches!(seen, Seen::Delivered(..))).collect()
}

/// The state in which each of these tests is saved: an L2 with nested paging, whose injected event an exit interrupted.
fn interrupted(eventinj: u64) -> Machine {
    let mut machine = Machine::new(limits(CPU));
    for (field, value) in [
        (f::eventinj, eventinj),
        (f::nrip, 0x8002),
        (f::nested_ctl, 1),
        (f::n_cr3, 0x10_0000),
        (f::int_ctl, 0x0200_0205),
        (f::virt_ext, 1),
        (f::tsc_offset, 1000),
        (f::intercept_misc1, 0x1800_0000),
    ] {
        machine.set12(field, value);
    }
    // L2's addresses are L1's, but for one that L0 emulates.
    for (at, entry) in
        [(0x10_0000, 0x10_1007), (0x10_1000, 0x10_2007), (0x10_2000, 0x87), (0x10_2008, 0xFEE0_0087)]
    {
        machine.ram.put_u64(at, entry);
    }
    machine.vmcb01.set(f::gs, 0x77);
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    machine.hardware.delivery.extend([Access::read(0x20_0000)]);
    assert_eq!(machine.exits(0x81, [0, 0]), Exit::ForL0);
    assert_eq!(machine.nested.l1_address(), Some(0xFEE0_0000));
    machine.hardware.delivery.clear();
    machine
}

#[test]
fn in_the_middle_of_an_injected_event() {
    for bits in [0x8000_0030, 0x8000_0202, 0x77_8000_0B0D, 0x8000_0303, 0x8000_0480] {
        let script = || {
            [
                Step::Set(f::rsp, 0x4444),
                Step::Access(Access::write(0x3000)),
                Step::Exit(0x7B, [0x80_0010, 0]),
                Step::Set(f::rip, 0x9999),
                Step::Exit(0x81, [5, 6]),
            ]
        };
        let end = |machine: &mut Machine| {
            let mut script = script().into_iter().collect();
            assert_eq!(machine.run_script(&mut script), Exit::ForL0);
            assert_eq!(machine.run_script(&mut script), Exit::ToL1);
            (machine.vmcb12(), (*machine.vmcb01).clone())
        };
        let mut stayed = interrupted(bits);
        let mut moving = interrupted(bits);
        let bytes = moving.save();
        moved(&mut moving, &bytes);
        assert_eq!(moving.save(), bytes, "loading and saving again changes nothing");
        assert_eq!((moving.vmcb02.get(f::guest_asid), moving.vmcb02.get(f::tlb_control)), (9, 3));
        let (ours, theirs) = (end(&mut stayed), end(&mut moving));
        assert_eq!(delivered(&stayed), [Seen::Delivered(Event::from_bits(bits), delivered_rip(&stayed))]);
        assert_eq!(delivered(&moving), delivered(&stayed), "{bits:#x}");
        for byte in 0..4096 {
            assert_eq!(ours.0.bytes()[byte], theirs.0.bytes()[byte], "{byte:#x} of VMCB12");
            assert_eq!(ours.1.bytes()[byte], theirs.1.bytes()[byte], "{byte:#x} of VMCB01");
        }
    }
}

fn delivered_rip(machine: &Machine) -> u64 {
    match delivered(machine)[..] {
        [Seen::Delivered(_, rip)] => rip,
        _ => panic!("one event: {:?}", machine.hardware.seen),
    }
}

/// VMCB02 after a move is the one before it, but for what is the host's.
#[test]
fn vmcb02_is_the_same() {
    let mut machine = interrupted(0x8000_0480);
    for (field, value) in
        [(f::lstar, 0x1234), (f::cr2, 5), (f::br_to, 6), (f::spec_ctrl, 1), (f::interrupt_state, 1)]
    {
        machine.vmcb02.set(field, value);
    }
    let before = (*machine.vmcb02).clone();
    let bytes = machine.save();
    moved(&mut machine, &bytes);
    for byte in 0..4096 {
        // IOPM, ASID, TLB_CONTROL, what the last exit wrote, N_CR3.
        if matches!(byte, 0x40..0x48 | 0x58..0x5D | 0x70..0x90 | 0xB0..0xB8) {
            continue;
        }
        assert_eq!(machine.vmcb02.bytes()[byte], before.bytes()[byte], "{byte:#x}");
    }
}

/// L2 cleared GIF by an L1 that leaves that to it: interrupts are held back as before, and come afterwards.
#[test]
fn while_l2_has_gif_clear() {
    let mut machine = Machine::new(limits(CPU));
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    let (nested, mut world) = machine.split();
    nested.clgi(&mut world).unwrap();
    let held = world.vmcb02.get(f::int_ctl);
    assert_eq!(held, 1 << 24);
    let bytes = machine.save();
    moved(&mut machine, &bytes);
    assert!(!machine.nested.gif());
    assert_eq!(machine.vmcb02.get(f::int_ctl), held);
    let (nested, mut world) = machine.split();
    nested.stgi(&mut world).unwrap();
    assert_eq!(world.vmcb02.get(f::int_ctl), 0);
}

/// While L1 runs there is no L2 to save; MSRs, GIF and what waits go along.
#[test]
fn while_l1_runs() {
    let mut machine = Machine::new(limits(CPU));
    for (msr, value) in [(Msr::VmHsavePa, 0x7000), (Msr::VmCr, 2), (Msr::TscRatio, 5 << 30)] {
        machine.nested.write_msr(&mut machine.vmcb01, msr, value).unwrap();
    }
    let (nested, mut world) = machine.split();
    nested.clgi(&mut world).unwrap();
    for bits in [0x8000_0030, 0x8000_00F0, 0x8000_0202] {
        nested.inject(&mut world, Event::from_bits(bits));
    }
    let bytes = machine.save();
    moved(&mut machine, &bytes);
    assert!(!machine.nested.gif() && machine.nested.waits());
    // INVLPGA of L1 may have waited for the entry that never came.
    assert!(!machine.nested.is_settled());
    let (nested, mut world) = machine.split();
    nested.before_entry(&mut world);
    assert_eq!(world.vmcb01.get(f::tlb_control), 3, "what the hardware cached of L1 is not known");
    world.vmcb01.set(f::tlb_control, 0);
    for (msr, value) in
        [(Msr::VmHsavePa, 0x7000), (Msr::VmCr, 2), (Msr::TscRatio, 5 << 30), (Msr::Efer, 0x1D00 & !0x800 | 1)]
    {
        assert_eq!(machine.nested.read_msr(&machine.vmcb01, msr), Ok(value), "{msr:?}");
    }
    let (nested, mut world) = machine.split();
    nested.stgi(&mut world).unwrap();
    let taken = [(); 4].map(|()| {
        nested.before_entry(&mut world);
        let event = world.vmcb01.get(f::eventinj);
        world.vmcb01.set(f::eventinj, 0);
        event
    });
    assert_eq!(taken, [0x8000_0202, 0x8000_00F0, 0x8000_0030, 0]);
}

/// Events that wait for L2, and one that was pushed aside.
#[test]
fn events_that_wait() {
    let mut machine = interrupted(0x8000_0030);
    machine.inject(Event::from_bits(0x8000_0202));
    machine.inject(Event::from_bits(0x8000_0B0D));
    let bytes = machine.save();
    moved(&mut machine, &bytes);
    let mut seen = Vec::new();
    for _ in 0..3 {
        assert_eq!(machine.run([Step::Exit(0x72, [0, 0])]), Exit::ForL0);
        machine.vmcb02.set_bits(f::rflags, 0x200, 0x200);
        let (nested, mut world) = machine.split();
        nested.before_entry(&mut world);
    }
    seen.extend(delivered(&machine).iter().map(|seen| match seen {
        Seen::Delivered(event, _) => event.bits(),
        Seen::Reached(_) => 0,
    }));
    assert_eq!(seen, [0x8000_0B0D, 0x8000_0030, 0x8000_0202]);
}

/// The bytes with a new checksum.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let body = bytes.len() - 4;
    let checksum = vmcb::crc32(&bytes[..body]);
    bytes[body..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

#[test]
fn what_is_not_loaded() {
    let mut machine = interrupted(0x8000_0030);
    let good = machine.save();
    let load = |bytes: &[u8]| load(bytes, machine.nested.limits());
    assert_eq!(load(&good), Ok(()));
    assert_eq!(load(b""), Err("these bytes are no nested state: they do not begin with `nsvmNst`".into()));
    assert_eq!(
        load(b"nsvmNst"),
        Err("these bytes are no nested state: they do not begin with `nsvmNst`".into())
    );
    assert_eq!(load(b"nsvmNst2ab"), Err("corrupt nested state: no checksum".into()));
    let mut newer = good.clone();
    newer[7] = b'3';
    assert_eq!(
        load(&newer),
        Err("unsupported nested state version `3`; load it with a build that supports this version".into())
    );
    for at in 8..good.len() {
        let mut flipped = good.clone();
        flipped[at] ^= 0x10;
        assert!(matches!(load(&flipped), Err(text) if text.contains("checksum")), "{at}");
    }
    for length in 8..good.len() {
        assert!(load(&good[..length]).is_err(), "{length}");
        assert!(load(&sealed(good[..length].to_vec())).is_err() || length < 12, "{length}");
    }
    let longer = sealed([&good[..], &[0]].concat());
    assert_eq!(load(&longer), Err("corrupt nested state: bytes are left over".into()));

    let other = limits("EPYC-Milan-v3,phys-bits=47,-v-vmsave-vmload");
    assert_eq!(
        self::load(&good, &other),
        Err("nested state of another virtual CPU; load it into one with the same limits".into())
    );

    // The limits' own checksum and form.
    let mut bad = good.clone();
    bad[10] = b'x';
    let mut fresh = Machine::new(limits(CPU));
    let (nested, mut world) = fresh.split();
    let bad = sealed(bad);
    assert_eq!(nested.load(&mut world, &bad), Err(LoadError::Limits(LimitsError::NotLimits)));
}

/// Values that no state has, with a checksum that fits.
#[test]
fn impossible_values() {
    let mut machine = interrupted(0x8000_0030);
    let good = machine.save();
    let limits = usize::from(u16::from_le_bytes([good[8], good[9]]));
    let registers = 10 + limits;
    let [address, displaced] = [7 * 8, 8 * 8].map(|offset| registers + 1 + offset);
    let (parked, running) = (displaced + 8, displaced + 3 * 8);
    let shared = running + 1 + 3 * 8;
    let image = shared + 8 * 8;
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        load(&sealed(changed), machine.nested.limits())
    };
    let msr = Err("corrupt nested state: an MSR has a value that it cannot have".into());
    assert_eq!(with(registers, &[0xFF]), Err("corrupt nested state: an unknown flag".into()));
    assert_eq!(with(registers, &[0b0000_0111]), msr, "L2 runs without SVM");
    assert_eq!(with(registers + 1, &[0x20]), msr);
    assert_eq!(with(registers + 1, &[0x10]), msr, "SVM disabled and on");
    assert_eq!(with(registers + 9, &[1]), msr);
    assert_eq!(with(registers + 17 + 7, &[1]), msr);
    assert_eq!(with(registers + 17, &[0; 8]), msr, "TSC_RATIO 0");
    assert_eq!(with(running, &[3]), Err("corrupt nested state: the origin of an event is unknown".into()));
    let impossible = Err("corrupt nested state: an address or an event that cannot be".into());
    assert_eq!(with(address, &[1]), impossible);
    assert_eq!(with(address + 7, &[1]), impossible);
    // Only interrupts and NMIs can be displaced. They have no error code, and their reserved bits are clear.
    for event in [0x8000_0B0D, 0x8000_0830, 0x8000_1030, 0x1_8000_0030, 0x30, 0x8000_0430_u64] {
        assert_eq!(with(displaced, &event.to_le_bytes()), impossible, "{event:#x}");
    }
    assert_eq!(with(displaced, &0x8000_0030_u64.to_le_bytes()), Ok(()));
    assert_eq!(with(parked, &0x8000_0830_u64.to_le_bytes()), impossible);
    assert_eq!(with(parked + 8, &[1]), impossible);
    assert_eq!(with(parked, &0x8000_0030_u64.to_le_bytes()), Ok(()));
    assert_eq!(with(shared + 6 * 8, &[8]), msr, "SPEC_CTRL");
    assert_eq!(with(shared, &[2]), msr);
    // L2's state is judged as VMRUN would.
    // Where a byte of VMCB12 stands in the parts that are saved.
    let place = |offset: usize| match offset {
        0..0x18 => offset,
        0x38..0xD0 => offset - 0x38 + 0x18,
        0x4C8..0x4D8 => offset - 0x4C8 + 0x18 + 0x98 + 0x60,
        _ => offset - 0x548 + 0x18 + 0x98 + 0x60 + 0x10,
    };
    for (offset, bytes, rules) in [
        (0x58, &[0, 0, 0, 0][..], "ctl-asid-zero"),
        (0x10, &[0][..], "ctl-vmrun-intercept-clear"),
        (0x4D1, &[0x05], "sav-efer-svme-clear"),
        (0xA8, &[2, 0x0B], "evt-exc-vector-2"),
        (0x55C, &[1], "sav-cr0-high"),
        (0x4F, &[0xFF], "ctl-msrpm-beyond-maxphyaddr"),
        (0xB7, &[0xFF], "ctl-ncr3-mbz"),
    ] {
        let at = image + place(offset);
        assert_eq!(with(at, bytes), Err(format!("VMRUN refuses the state of L2: {rules}")), "{offset:#x}");
    }
}

#[test]
fn the_buffer_is_large_enough() {
    let all = "EPYC-Genoa-v2,phys-bits=52,-v-vmsave-vmload,+shstk,+decodeassists,+lmsle-unsupported,+tce,+mcommit,+uai,c-bit=51,sev-asid-max=5,sev-asid-min=1";
    let mut machine = Machine::new(limits(all));
    let bytes = machine.save();
    assert!(bytes.len() < Nested::SAVED_MAX);
    assert_eq!(load(&bytes, machine.nested.limits()), Ok(()));
}

/// L1 injects an interrupt with EV set, although interrupts have no error code. Saving the loaded state
/// produces the same bytes.
#[test]
fn an_interrupt_with_an_error_code() {
    let mut machine = Machine::new(limits(CPU));
    machine.set12(f::eventinj, 0x55_8000_0830);
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    let bytes = machine.save();
    moved(&mut machine, &bytes);
    assert_eq!(machine.save(), bytes);
    assert_eq!(machine.vmcb02.get(f::eventinj), 0x8000_0030);
}
