//! The bodies of the fuzz targets of the nested engine.

use arbitrary::{Arbitrary, Unstructured};
use nested_svm::model::{Access, HOST, L1_TABLES, Machine, RAM, SHADOW_ON_HOST, Step, VMCB12, limits};
use nested_svm::{Exit, Guest, Memory, Msr, Page};
use vmcb::layout::{Field, VMCB, vmcb_field as f};
use vmcb::{Event, ExitCode};

const CPUS: [&str; 4] = [
    "EPYC-Milan-v3,phys-bits=48,-v-vmsave-vmload",
    "EPYC-Genoa-v2,phys-bits=52,-v-vmsave-vmload,+shstk,+decodeassists",
    "EPYC,phys-bits=40",
    "EPYC,phys-bits=48,-npt,-nrip-save,-lbrv",
];

/// An L1 that attacks.
#[derive(Arbitrary, Debug)]
pub struct Attack {
    cpu: u8,
    /// CR4, EFER and code size of L1.
    mode: u8,
    /// L1 has nested tables, at one of the pages that `memory` fills.
    nested_paging: bool,
    /// Words of L1's memory: page, index, a value.
    #[arbitrary(with = |input: &mut Unstructured<'_>| many(input, 8))]
    memory: Vec<(u8, u16, u64)>,
    #[arbitrary(with = |input: &mut Unstructured<'_>| many(input, 64))]
    actions: Vec<Action>,
}

/// As many as the bytes give, up to a number: a list of its own mind would mostly be short.
fn many<'a, T: Arbitrary<'a>>(input: &mut Unstructured<'a>, most: usize) -> arbitrary::Result<Vec<T>> {
    let mut all = Vec::new();
    while all.len() < most && !input.is_empty() {
        all.push(input.arbitrary()?);
    }
    Ok(all)
}

/// What L1, L2 or L0 does.
#[derive(Arbitrary, Debug)]
enum Action {
    /// Writes a field of VMCB12.
    Write(u8, u64),
    /// Flips a bit of the page.
    Flip(u16),
    /// Makes VMCB12 legal again.
    Mend,
    /// VMRUN at VMCB12, or anywhere; of a legal page, or as it is.
    Run(u8, u64),
    /// L2 exits: code, EXITINFO1 and 2, what was interrupted, ECX.
    Exit(u16, u64, u64, Option<u64>, u32),
    /// L2 accesses memory.
    Access(u64, u8),
    /// L0 has an event: type, vector, error code.
    Inject(u8, u8, Option<u32>),
    /// VMLOAD, VMSAVE, STGI, CLGI, INVLPGA at this rAX and ECX.
    Instruction(u8, u64, u32),
    /// WRMSR.
    Msr(u8, u64),
    /// Moves to another host.
    Move,
    /// L0 forgets the shadow.
    Forget,
}

fn fields() -> Vec<Field> {
    VMCB.iter().copied().filter(|field| !field.is_reserved() && field.size <= 8).collect()
}

/// Where L1's nested tables begin.
const TABLES: u64 = 0x10_0000;

fn machine(cpu: u8, mode: u8) -> Machine {
    let mut machine = Machine::new(limits(CPUS[usize::from(cpu) % CPUS.len()]));
    let (cr4, efer, cs) = [
        (0x6A0, 0x1D00, 0x029B_0008),
        (0x16A0, 0x1D00, 0x029B_0008),
        (0x6A0, 0x1800, 0x049B_0008),
        (0x690, 0x1000, 0x049B_0008),
    ][usize::from(mode) % 4];
    machine.vmcb01.set(f::cr4, cr4);
    machine.vmcb01.set(f::efer, efer);
    machine.vmcb01.set(f::cs, cs);
    machine
}

/// Whatever L1 writes: each VMRUN and each exit has an outcome that is defined, hardware takes every VMCB02, and L2
/// reaches only L1's memory. Returns how many VMRUNs entered L2.
///
/// # Panics
/// When it is not so: that is the finding.
pub fn vmrun(case: &Attack) -> usize {
    let fields = fields();
    let mut machine = machine(case.cpu, case.mode);
    if case.nested_paging {
        machine.set12(f::nested_ctl, 1);
        machine.set12(f::n_cr3, TABLES);
    }
    for &(page, index, value) in case.memory.iter().take(64) {
        let at = TABLES + u64::from(page % 8) * 4096 + u64::from(index % 512) * 8;
        // Half of the values point at another of these pages.
        let value =
            if value >> 63 == 0 { (TABLES + (value >> 12) % 8 * 4096) | (value & 0xFFF) } else { value };
        machine.ram.write(at, &value.to_le_bytes()).expect("there is memory");
    }
    let legal = machine.vmcb12();
    let _ = machine.vmrun();
    for action in case.actions.iter().take(64) {
        act(&mut machine, action, &fields, &legal);
    }
    machine.log.0.iter().filter(|line| line.starts_with("entered")).count()
}

/// Does what an action describes, and checks VMCB02 if L2 runs afterwards.
fn act(machine: &mut Machine, action: &Action, fields: &[Field], legal: &Page) {
    match *action {
        Action::Write(field, value) => machine.set12(fields[usize::from(field) % fields.len()], value),
        Action::Flip(bit) => {
            let mut page = machine.vmcb12();
            page.bytes_mut()[usize::from(bit / 8) % 4096] ^= 1 << (bit % 8);
            machine.ram.put(VMCB12, &page);
        }
        Action::Mend => machine.ram.put(VMCB12, legal),
        Action::Run(how, address) => enter(machine, how, address, legal),
        Action::Exit(code, info1, info2, interrupted, rcx) => {
            machine.rcx = rcx;
            exit(
                machine,
                code,
                [info1, info2],
                Event::from_bits(interrupted.unwrap_or(0) & 0xFFFF_FFFF_8000_0FFF),
            );
        }
        Action::Access(address, kind) => access(machine, address, kind),
        Action::Inject(kind, vector, error) => inject(machine, kind, vector, error),
        Action::Instruction(which, rax, ecx) => execute(machine, which, rax, ecx),
        Action::Msr(msr, value) => write_msr(machine, msr, value),
        Action::Move => move_to_another_host(machine),
        Action::Forget => {
            let (nested, mut world) = machine.split();
            nested.forget(&mut world);
        }
    }
    if machine.nested.guest() == Guest::L2 {
        sound(machine);
    }
}

/// L1 executes VMRUN, with a legal VMCB12 or with the one that it has, at its address or at another one.
fn enter(machine: &mut Machine, how: u8, address: u64, legal: &Page) {
    if machine.nested.guest() != Guest::L1 {
        return;
    }
    if how & 1 == 0 {
        machine.ram.put(VMCB12, legal);
    }
    machine.vmcb01.set(f::rax, if how & 0xE == 0 { address } else { VMCB12 });
    let before = machine.vmcb01.clone();
    match machine.vmrun() {
        Ok(Guest::L2) => sound(machine),
        Ok(Guest::L1) => assert!(!machine.nested.gif()),
        Err(_) => assert_eq!(before.bytes(), machine.vmcb01.bytes()),
    }
}

/// L2 exits with this code while the event is delivered.
fn exit(machine: &mut Machine, code: u16, info: [u64; 2], event: Event) {
    let code = if code >> 12 == 15 { u64::MAX - u64::from(code & 7) } else { (code % 0x480).into() };
    // An access makes nested page faults.
    if machine.nested.guest() == Guest::L2 && code != ExitCode::NPF.bits() {
        // Hardware interrupts only the delivery of an event that it can deliver.
        let event = if deliverable(machine, event) { event } else { Event::from_bits(0) };
        // The engine resumes L2 after #DB and #AC that neither L1 nor L0 intercepts.
        goes_on(machine, [Step::ExitDuring(event, code, info), Step::Exit(0x72, [0, 0])]);
    }
}

/// L2 reads, writes or fetches at an address, and then exits.
fn access(machine: &mut Machine, address: u64, kind: u8) {
    if machine.nested.guest() == Guest::L2 {
        let address = if kind & 8 == 0 { address % RAM as u64 } else { address & ((1 << 52) - 1) };
        let access = Access { address, write: kind & 1 != 0, fetch: kind & 2 != 0, walk: kind & 4 != 0 };
        goes_on(machine, [Step::Access(access), Step::Exit(0x72, [0, 0])]);
    }
}

/// L0 injects an event into the guest that runs.
fn inject(machine: &mut Machine, kind: u8, vector: u8, error: Option<u32>) {
    let bits = Event::V | [0_u64, 2, 3, 4][usize::from(kind % 4)] << 8 | u64::from(vector);
    let event = error.map_or(Event::from_bits(bits), |code| Event::from_bits(bits).with_error_code(code));
    if deliverable(machine, event) {
        let (nested, mut world) = machine.split();
        if nested.inject(&mut world, event) == Exit::Shutdown {
            nested.reflect(&mut world, ExitCode::from_bits(0x7F), [0, 0]);
        }
    }
}

/// The guest that runs executes an SVM instruction other than VMRUN.
fn execute(machine: &mut Machine, which: u8, rax: u64, ecx: u32) {
    let page = match machine.nested.guest() {
        Guest::L1 => &mut machine.vmcb01,
        Guest::L2 => &mut machine.vmcb02,
    };
    page.set(f::rax, rax);
    let (nested, mut world) = machine.split();
    let _ = match which % 5 {
        0 => nested.vmload(&mut world),
        1 => nested.vmsave(&mut world),
        2 => nested.stgi(&mut world),
        3 => nested.clgi(&mut world),
        _ => nested.invlpga(&mut world, ecx),
    };
}

/// The guest that runs writes an MSR that the engine emulates.
fn write_msr(machine: &mut Machine, msr: u8, value: u64) {
    let msr = [Msr::Efer, Msr::VmCr, Msr::VmHsavePa, Msr::TscRatio][usize::from(msr % 4)];
    let page = match machine.nested.guest() {
        Guest::L1 => &mut machine.vmcb01,
        Guest::L2 => &mut machine.vmcb02,
    };
    // A change of the paging mode needs writes to CR0 and CR4 too, which L0 does not emulate here.
    if msr != Msr::Efer || (value ^ page.get(f::efer)) & 0x500 == 0 {
        let _ = machine.nested.write_msr(page, msr, value);
    }
}

/// The virtual CPU moves to another host, which has its saved state only.
fn move_to_another_host(machine: &mut Machine) {
    let bytes = machine.save();
    let (nested, mut world) = machine.split();
    *world.vmcb02 = Page::zeroed();
    nested.load(&mut world, &bytes).expect("what was saved can be loaded");
    assert_eq!(machine.save(), bytes);
}

/// Whether VMRUN of L2 would take this event: L0 raises no others.
fn deliverable(machine: &Machine, event: Event) -> bool {
    let mut page = (*machine.vmcb02).clone();
    page.set(f::eventinj, event.bits());
    machine.nested.guest() == Guest::L1 || machine.hardware.judge(&page).is_accepted()
}

fn goes_on(machine: &mut Machine, script: impl IntoIterator<Item = Step>) {
    let (nested, mut world) = machine.split();
    if nested.before_entry(&mut world) == Guest::L2 {
        match machine.run(script) {
            Exit::ToL1 => assert_eq!(machine.nested.guest(), Guest::L1),
            Exit::ForL0 | Exit::Shutdown | Exit::Resume | Exit::NotInL2 => {
                assert_eq!(machine.nested.guest(), Guest::L2)
            }
        }
        machine.hardware.seen.clear();
        machine.hardware.delivery.clear();
    }
}

/// A VMCB02 that hardware takes, in which every physical address is L0's.
fn sound(machine: &Machine) {
    let page = &machine.vmcb02;
    let verdict = machine.hardware.judge(page);
    assert!(verdict.is_accepted(), "{:?} {:?}", verdict.broken(), verdict.undecided());
    let root = page.get(f::n_cr3);
    let pool = SHADOW_ON_HOST..SHADOW_ON_HOST + (64 << 12);
    assert!(root == L1_TABLES || pool.contains(&root), "{root:#x}");
    assert!([HOST.iopm, HOST.every_port].contains(&page.get(f::iopm_base_pa)));
    assert!([HOST.msrpm, HOST.every_msr].contains(&page.get(f::msrpm_base_pa)));
    for pointer in [f::vmsa_pa, f::avic_backing_page, f::avic_logical_table, f::avic_physical_table, f::ghcb]
    {
        assert_eq!(page.get(pointer), 0);
    }
    assert_eq!(page.get(f::nested_ctl), 1);
    assert_eq!(page.get(f::int_ctl) >> 30, 0, "AVIC");
}

/// Stored state that was changed.
#[derive(Arbitrary, Debug)]
pub struct Stored {
    cpu: u8,
    running: bool,
    eventinj: u16,
    /// Bytes that are written over it: place, value.
    changes: Vec<(u16, u8)>,
    cut: Option<u16>,
    /// The checksum fits.
    sealed: bool,
    /// Instead of all that.
    raw: Option<Vec<u8>>,
}

/// Whatever the bytes: loading ends with a reason or with a state that can be run, and that saves as it was loaded.
///
/// # Panics
/// When it is not so: that is the finding.
pub fn load(case: &Stored) {
    let mut machine = machine(case.cpu, 0);
    if case.running {
        machine.set12(f::nested_ctl, 1);
        machine.set12(f::n_cr3, TABLES);
        machine.set12(f::eventinj, Event::V | u64::from(case.eventinj & 0xFFF));
        let _ = machine.vmrun();
    }
    let mut bytes = machine.save();
    for &(at, value) in case.changes.iter().take(32) {
        let length = bytes.len();
        bytes[usize::from(at) % length] = value;
    }
    if let Some(cut) = case.cut {
        bytes.truncate(usize::from(cut));
    }
    if let Some(raw) = &case.raw {
        bytes.clone_from(raw);
    }
    if case.sealed && bytes.len() >= 4 {
        let body = bytes.len() - 4;
        let checksum = vmcb::crc32(&bytes[..body]);
        bytes[body..].copy_from_slice(&checksum.to_le_bytes());
    }
    let (nested, mut world) = machine.split();
    *world.vmcb02 = Page::zeroed();
    match nested.load(&mut world, &bytes) {
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert_eq!(world.vmcb02.bytes(), Page::zeroed().bytes(), "VMCB02 is not touched");
        }
        Ok(()) => {
            let again = machine.save();
            let (nested, mut world) = machine.split();
            *world.vmcb02 = Page::zeroed();
            nested.load(&mut world, &again).expect("what was saved");
            assert_eq!(machine.save(), again);
            if machine.nested.guest() == Guest::L2 {
                sound(&machine);
                goes_on(&mut machine, [Step::Access(Access::write(0x123)), Step::Exit(0x81, [0, 0])]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::bytes;

    #[test]
    fn the_engine_holds_on_random_attacks() {
        let mut entered = 0;
        for seed in 0..3_000 {
            let bytes = bytes(seed, 2_000);
            entered +=
                vmrun(&Attack::arbitrary(&mut arbitrary::Unstructured::new(&bytes)).expect("enough bytes"));
        }
        assert!(entered > 1_000, "{entered} VMRUNs entered L2");
    }

    #[test]
    fn random_state_is_loaded_or_refused() {
        for seed in 0..3_000 {
            let bytes = bytes(seed, 400);
            load(&Stored::arbitrary(&mut arbitrary::Unstructured::new(&bytes)).expect("enough bytes"));
        }
    }
}
