//! L1's nested tables as shadow tables: what is reached, which faults L1 gets, and what is flushed.

use nested_svm::model::{Access, CPU, HOST, Machine, Pages, RAM, RAM_ON_HOST, Seen, Step, VMCB12, limits};
use nested_svm::{Exit, Guest, Host, HostBlock, MIN_PAGES, Memory, Shadow, Tables, TooFewPages};
use vmcb::Event;
use vmcb::layout::vmcb_field as f;

const P: u64 = 1;
const RW: u64 = 2;
const US: u64 = 4;
const A: u64 = 0x20;
const D: u64 = 0x40;
const PS: u64 = 0x80;
const NX: u64 = 1 << 63;
const ALL: u64 = P | RW | US;

/// EXITINFO1 beside the bits of the tables: a user access to the final address.
const FINAL: u64 = 1 << 32 | US;

/// How L1 pages, and so its nested tables: name, levels, bits of an index, bytes of an entry.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Mode {
    Legacy,
    Pae,
    Long,
    Long5,
}

const MODES: [Mode; 4] = [Mode::Legacy, Mode::Pae, Mode::Long, Mode::Long5];

impl Mode {
    fn levels(self) -> u32 {
        [2, 3, 4, 5][self as usize]
    }

    fn index_bits(self) -> u32 {
        if self == Mode::Legacy { 10 } else { 9 }
    }

    fn entry_bytes(self) -> u64 {
        if self == Mode::Legacy { 4 } else { 8 }
    }

    fn shift(self, level: u32) -> u32 {
        12 + self.index_bits() * (level - 1)
    }
}

/// Where L1 has its tables: one page a level.
const TABLES: u64 = 0x10_0000;

fn table(level: u32) -> u64 {
    TABLES + u64::from(level) * 0x1000
}

fn entry_at(mode: Mode, level: u32, address: u64) -> u64 {
    let index = address >> mode.shift(level) & ((1 << mode.index_bits()) - 1);
    table(level) + index * mode.entry_bytes()
}

fn put(machine: &mut Machine, mode: Mode, level: u32, address: u64, entry: u64) {
    let bytes = entry.to_le_bytes();
    machine.ram.write(entry_at(mode, level, address), &bytes[..mode.entry_bytes() as usize]).unwrap();
}

fn get(machine: &Machine, mode: Mode, level: u32, address: u64) -> u64 {
    let mut bytes = [0; 8];
    machine.ram.read(entry_at(mode, level, address), &mut bytes[..mode.entry_bytes() as usize]).unwrap();
    u64::from_le_bytes(bytes)
}

fn is_pointer(mode: Mode, level: u32) -> bool {
    mode == Mode::Pae && level == 3
}

/// L1 in this mode, with NXE and PSE as given, and a chain of tables for one address down to a level.
fn machine(mode: Mode, nx: bool, pse: bool, address: u64, leaf_level: u32, leaf: u64) -> Machine {
    machine_on(HOST, mode, [nx, pse], address, leaf_level, leaf)
}

/// The same on another host.
fn machine_on(
    host: Host,
    mode: Mode,
    [nx, pse]: [bool; 2],
    address: u64,
    leaf_level: u32,
    leaf: u64,
) -> Machine {
    let mut machine = Machine::on(host, limits("EPYC-Genoa-v2,phys-bits=48,-v-vmsave-vmload"));
    let cr4 = [0, 0x20, 0x20, 0x1020][mode as usize] | if pse { 0x10 } else { 0 };
    let long = matches!(mode, Mode::Long | Mode::Long5);
    machine.vmcb01.set(f::cr4, cr4);
    machine.vmcb01.set(f::efer, 0x1000 | if long { 0x500 } else { 0 } | if nx { 0x800 } else { 0 });
    if !long {
        machine.vmcb01.set(f::cs, 0x049B_0008);
    }
    machine.set12(f::nested_ctl, 1);
    machine.set12(f::n_cr3, table(mode.levels()));
    for level in leaf_level + 1..=mode.levels() {
        let bits = if is_pointer(mode, level) { P } else { ALL };
        put(&mut machine, mode, level, address, table(level - 1) | bits);
    }
    put(&mut machine, mode, leaf_level, address, leaf);
    assert_eq!(machine.vmrun(), Ok(Guest::L2), "{:?}", machine.log);
    machine
}

/// What an access comes to: the address of L1 that it reached, or EXITINFO1 of L1's fault.
fn access(machine: &mut Machine, access: Access) -> Result<u64, u64> {
    machine.hardware.seen.clear();
    let exit = machine.run([Step::Access(access), Step::Exit(0x72, [0, 0])]);
    match machine.hardware.seen.first() {
        Some(&Seen::Reached(host)) => {
            assert_eq!(exit, Exit::ForL0);
            Ok(host - RAM_ON_HOST)
        }
        _ => {
            assert_eq!(exit, Exit::ToL1);
            let page = machine.vmcb12();
            assert_eq!((page.get(f::exitcode), page.get(f::exitinfo2)), (0x400, access.address));
            Err(page.get(f::exitinfo1))
        }
    }
}

/// One that is below 4 GiB and uses an index of each level.
const ADDRESS: u64 = 0x40A0_3123;

#[test]
fn pages_of_each_size_in_each_mode() {
    for (mode, level, leaf, reached) in [
        (Mode::Legacy, 1, 0x20_0000 | ALL, 0x20_0123),
        (Mode::Legacy, 2, 0x40_0000 | PS | ALL, 0x60_3123),
        (Mode::Pae, 1, 0x20_0000 | ALL, 0x20_0123),
        (Mode::Pae, 2, 0x20_0000 | PS | ALL, 0x20_3123),
        (Mode::Long, 1, 0x20_0000 | ALL, 0x20_0123),
        (Mode::Long, 2, 0x20_0000 | PS | 1 << 12 | ALL, 0x20_3123),
        (Mode::Long, 3, PS | ALL, 0xA0_3123),
        (Mode::Long5, 1, 0x20_0000 | ALL, 0x20_0123),
        (Mode::Long5, 2, 0x20_0000 | PS | ALL, 0x20_3123),
        (Mode::Long5, 3, PS | ALL, 0xA0_3123),
    ] {
        for scattered in [false, true] {
            let mut machine = machine(mode, true, true, ADDRESS, level, leaf);
            let mut pages = Pages::new(64, 16 << 20);
            pages.scattered = scattered;
            machine.shadow = Shadow::new(pages).unwrap();
            machine.exits(0x81, [0, 0]);
            machine.vmcb01.set(f::rax, VMCB12);
            assert_eq!(machine.vmrun(), Ok(Guest::L2));
            for kind in
                [Access::read(ADDRESS), Access::fetch(ADDRESS), Access::write(ADDRESS), Access::walk(ADDRESS)]
            {
                assert_eq!(access(&mut machine, kind), Ok(reached), "{mode:?} {level} {kind:?}");
            }
        }
    }
}

/// Each level not present, read-only, supervisor, no-execute: each access gets the code that hardware gives.
#[test]
fn faults_of_each_level() {
    for mode in MODES {
        for level in 1..=mode.levels() {
            for (change, read, write, fetch) in [
                (P, Some(0), Some(0), Some(0)),
                (RW, None, Some(P), None),
                (US, Some(P), Some(P), Some(P)),
                (NX, None, None, Some(P)),
            ] {
                if is_pointer(mode, level) && change != P || change == NX && mode == Mode::Legacy {
                    continue;
                }
                for (kind, found) in [
                    (Access::read(ADDRESS), read),
                    (Access::write(ADDRESS), write),
                    (Access::fetch(ADDRESS), fetch),
                ] {
                    let mut machine = machine(mode, true, false, ADDRESS, 1, 0x20_0000 | ALL);
                    let entry = get(&machine, mode, level, ADDRESS) ^ change;
                    put(&mut machine, mode, level, ADDRESS, entry);
                    let nx = mode != Mode::Legacy;
                    let own = u64::from(kind.write) << 1 | u64::from(kind.fetch && nx) << 4;
                    let expected = found.map_or(Ok(0x20_0123), |found| Err(FINAL | own | found));
                    assert_eq!(
                        access(&mut machine, kind),
                        expected,
                        "{mode:?} level {level} {change:#x} {kind:?}"
                    );
                }
            }
        }
    }
}

/// A table that is not there is told before what a level above forbids.
#[test]
fn not_present_is_before_denied() {
    let mut machine = machine(Mode::Long, true, false, ADDRESS, 1, 0);
    put(&mut machine, Mode::Long, 4, ADDRESS, table(3) | P);
    assert_eq!(access(&mut machine, Access::write(ADDRESS)), Err(FINAL | RW));
}

/// Fetches are told apart with NXE or SMEP only; a walk of the guest's own tables has bit 33.
#[test]
fn bits_of_the_access() {
    for (nx, smep, told) in [(false, false, false), (true, false, true), (false, true, true)] {
        let mut machine = machine(Mode::Long, nx, false, ADDRESS, 1, 0);
        machine.exits(0x81, [0, 0]);
        machine.vmcb01.set_bits(f::cr4, 1 << 20, u64::from(smep) << 20);
        machine.vmcb01.set(f::rax, VMCB12);
        assert_eq!(machine.vmrun(), Ok(Guest::L2));
        let expected = FINAL | if told { 0x10 } else { 0 };
        assert_eq!(access(&mut machine, Access::fetch(ADDRESS)), Err(expected));
    }
    let mut machine = machine(Mode::Long, true, false, ADDRESS, 1, 0x20_0000 | P | US);
    assert_eq!(access(&mut machine, Access::walk(ADDRESS)), Err(0x2_0000_0007));
}

/// Every bit of an entry of every level: reserved exactly where the list says.
#[test]
fn reserved_bits() {
    for (mode, nx) in [
        (Mode::Pae, true),
        (Mode::Pae, false),
        (Mode::Long, true),
        (Mode::Long, false),
        (Mode::Long5, true),
        (Mode::Legacy, false),
    ] {
        for (leaf_level, size_bit) in [(1, 0), (2, PS), (3, PS)] {
            if leaf_level == 3 && !matches!(mode, Mode::Long | Mode::Long5) {
                continue;
            }
            for level in leaf_level..=mode.levels() {
                for bit in 0..8 * mode.entry_bytes() as u32 {
                    let large = level == leaf_level && leaf_level > 1;
                    let reserved = match (mode, bit) {
                        (_, 0) => continue,
                        // Where the table below stands; a table would be a page.
                        (_, 12..48) if level != leaf_level => continue,
                        (_, 7) if level != leaf_level && matches!(level, 2 | 3) => continue,
                        (Mode::Legacy, bit) => large && (bit == 21),
                        (_, 48..52) => true,
                        (Mode::Pae, 52..63) => true,
                        (_, 63) => !nx || is_pointer(mode, level),
                        (Mode::Pae, 1..=2 | 5..=8) if level == 3 => true,
                        (_, 13..=29) if large && bit < mode.shift(level) => true,
                        (Mode::Long | Mode::Long5, 7) => level >= 4,
                        (Mode::Long | Mode::Long5, 8) => level >= 4 || level == 3 && !large,
                        _ => false,
                    };
                    let mut machine = machine(mode, nx, true, ADDRESS, leaf_level, size_bit | ALL);
                    let entry = get(&machine, mode, level, ADDRESS) | 1 << bit;
                    put(&mut machine, mode, level, ADDRESS, entry);
                    machine.hardware.seen.clear();
                    let exit = machine.run([Step::Access(Access::read(ADDRESS)), Step::Exit(0x72, [0, 0])]);
                    let told = machine.vmcb12().get(f::exitinfo1) == FINAL | 8 | P && exit == Exit::ToL1;
                    assert_eq!(told, reserved, "{mode:?} nx {nx} level {level} of {leaf_level}: bit {bit}");
                }
            }
        }
    }
}

/// 32-bit tables without CR4.PSE have no large pages; with it, bits 20:13 are address bits 39:32.
#[test]
fn large_pages_of_32_bits() {
    let chain = |pse: bool, entry: u64| {
        let mut machine = machine(Mode::Legacy, false, pse, ADDRESS, 1, 0x20_0000 | ALL);
        put(&mut machine, Mode::Legacy, 2, ADDRESS, entry);
        machine
    };
    let mut machine = chain(false, table(1) | PS | ALL);
    assert_eq!(access(&mut machine, Access::read(ADDRESS)), Ok(0x20_0123));
    let mut machine = chain(true, 1 << 13 | PS | ALL);
    assert_eq!(machine.run([Step::Access(Access::read(ADDRESS))]), Exit::ForL0);
    assert_eq!(machine.nested.l1_address(), Some(0x1_0020_3123));
}

/// Accessed and dirty bits of L1's entries: A on the way at the first access, D at the first write.
#[test]
fn accessed_and_dirty() {
    for mode in MODES {
        let mut machine = machine(mode, true, false, ADDRESS, 1, 0x20_0000 | ALL);
        let bits = |machine: &Machine| {
            (1..=mode.levels()).map(|level| get(machine, mode, level, ADDRESS) & (A | D)).collect::<Vec<_>>()
        };
        let expected = |leaf: u64| {
            (1..=mode.levels())
                .map(|level| {
                    if is_pointer(mode, level) {
                        0
                    } else if level == 1 {
                        leaf
                    } else {
                        A
                    }
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(bits(&machine), vec![0; mode.levels() as usize]);
        access(&mut machine, Access::read(ADDRESS)).unwrap();
        assert_eq!(bits(&machine), expected(A), "{mode:?}");
        access(&mut machine, Access::write(ADDRESS)).unwrap();
        assert_eq!(bits(&machine), expected(A | D), "{mode:?}");
    }
    // A fault marks nothing.
    let mut machine = machine(Mode::Long, true, false, ADDRESS, 1, 0x20_0000 | P | US);
    access(&mut machine, Access::write(ADDRESS)).unwrap_err();
    assert_eq!(get(&machine, Mode::Long, 4, ADDRESS) & A, 0);
}

/// The other entry that is exchanged with a 32-bit one stays what it is.
#[test]
fn neighbours_of_32_bit_entries() {
    for address in [ADDRESS, ADDRESS + 0x1000] {
        let mut machine = machine(Mode::Legacy, false, false, address, 1, 0x20_0000 | ALL);
        put(&mut machine, Mode::Legacy, 1, address ^ 0x1000, 0xFFFF_FFFE);
        access(&mut machine, Access::write(address)).unwrap();
        assert_eq!(get(&machine, Mode::Legacy, 1, address ^ 0x1000), 0xFFFF_FFFE);
        assert_eq!(get(&machine, Mode::Legacy, 1, address), 0x20_0000 | ALL | A | D);
    }
}

/// L1's other CPU changes an entry between walk and mark: the access is made again. In memory that cannot be written the
/// bits are lost.
#[test]
fn races_and_tables_in_rom() {
    for mode in [Mode::Long, Mode::Legacy] {
        let mut machine = machine(mode, false, false, ADDRESS, 1, 0x20_0000 | ALL);
        machine.ram.races.set(3);
        assert_eq!(access(&mut machine, Access::write(ADDRESS)), Ok(0x20_0123));
        assert_eq!(get(&machine, mode, 1, ADDRESS), 0x20_0000 | ALL | A | D);
        let mut machine = self::machine(mode, false, false, ADDRESS, 1, 0x20_0000 | ALL);
        machine.ram.read_only = (1..=5).map(table).collect();
        assert_eq!(access(&mut machine, Access::write(ADDRESS)), Ok(0x20_0123));
        assert_eq!(get(&machine, mode, 1, ADDRESS), 0x20_0000 | ALL);
    }
}

/// Tables outside memory read as ones; pages outside memory are L0's to emulate, at L1's address.
#[test]
fn outside_memory() {
    for level in 1..=3 {
        let mut machine = machine(Mode::Long, true, false, ADDRESS, 1, 0x20_0000 | ALL);
        put(&mut machine, Mode::Long, level + 1, ADDRESS, 0x4000_0000 | ALL);
        assert_eq!(access(&mut machine, Access::read(ADDRESS)), Err(FINAL | 8 | P), "{level}");
    }
    let mut machine = machine(Mode::Long, true, false, ADDRESS, 1, 0xFEE0_0000 | ALL);
    assert_eq!(machine.run([Step::Access(Access::read(ADDRESS))]), Exit::ForL0);
    assert_eq!(machine.nested.l1_address(), Some(0xFEE0_0123));
    // Without nested paging EXITINFO2 is L1's address.
    let mut plain = Machine::new(limits(CPU));
    assert_eq!(plain.vmrun(), Ok(Guest::L2));
    assert_eq!(plain.run([Step::Access(Access::read(RAM as u64))]), Exit::ForL0);
    assert_eq!((plain.nested.l1_address(), plain.vmcb02.get(f::exitinfo2)), (None, RAM as u64));
}

/// Beyond what L1's mode translates, and beyond the 48 bits of the host's four levels.
#[test]
fn wide_addresses() {
    for (mode, address) in
        [(Mode::Legacy, 1 << 32 | ADDRESS), (Mode::Pae, 1 << 32 | ADDRESS), (Mode::Long, 1 << 48 | ADDRESS)]
    {
        let mut machine = machine(mode, true, false, ADDRESS, 1, 0x20_0000 | ALL);
        machine.vmcb02.set(f::exitinfo1, FINAL);
        assert_eq!(machine.exits(0x400, [FINAL, address]), Exit::ToL1);
        assert_eq!(machine.vmcb12().get(f::exitinfo1), FINAL, "{mode:?}");
    }
    let wide = 1 << 48 | ADDRESS;
    let mut machine = machine(Mode::Long5, true, false, wide, 1, 0x20_0000 | ALL);
    assert_eq!(machine.exits(0x400, [FINAL, wide]), Exit::ForL0);
    assert_eq!(access(&mut machine, Access::read(ADDRESS)), Err(FINAL), "no alias 48 bits lower");
}

/// Tables that point at themselves end where the levels do, and reach only L1's memory.
#[test]
fn loops_in_tables() {
    for mode in MODES {
        let mut machine = machine(mode, true, false, ADDRESS, 1, 0x20_0000 | ALL);
        let bits = if mode == Mode::Pae { P } else { ALL };
        for index in 0..512 {
            machine.ram.put_u64(table(mode.levels()) + index * 8, table(mode.levels()) | bits);
        }
        for address in [0, ADDRESS, 0xFFFF_FFFF, 0x7FFF_F000] {
            let result = access(&mut machine, Access::read(address));
            if mode != Mode::Pae && mode != Mode::Legacy {
                assert_eq!(result, Ok(table(mode.levels()) | address & 0xFFF));
            }
            if result.is_err() {
                machine.vmcb01.set(f::rax, VMCB12);
                assert_eq!(machine.vmrun(), Ok(Guest::L2));
            }
        }
    }
}

/// A pool that is too small for all: it is begun anew, and L2 gets on.
#[test]
fn the_pool_runs_out() {
    let mut machine = machine(Mode::Long, true, false, 0, 2, PS | ALL);
    machine.exits(0x81, [0, 0]);
    let mut pages = Pages::new(8, RAM as u64);
    pages.scattered = true;
    machine.shadow = Shadow::new(pages).unwrap();
    for index in 0..512 {
        machine.ram.put_u64(table(2) + index * 8, PS | ALL);
    }
    machine.vmcb01.set(f::rax, VMCB12);
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    for round in 0..2 {
        for block in 0..64_u64 {
            let address = block << 21 | 0x5010;
            assert_eq!(access(&mut machine, Access::write(address)), Ok(0x5010), "{round} {block}");
        }
    }
    assert_eq!(machine.nested.guest(), Guest::L2);
}

/// What is cached stays until L1 flushes it, by each of the ways there are.
#[test]
fn what_flushes() {
    type Flush = fn(&mut Machine);
    let ways: [(&str, Flush, bool); 9] = [
        ("nothing", |_| (), false),
        ("TLB_CONTROL 1", |m| m.set12(f::tlb_control, 1), true),
        ("TLB_CONTROL 3", |m| m.set12(f::tlb_control, 3), true),
        ("TLB_CONTROL 7", |m| m.set12(f::tlb_control, 7), true),
        ("another ASID", |m| m.set12(f::guest_asid, 8), true),
        (
            "INVLPGA",
            |m| {
                let (n, mut w) = m.split();
                n.invlpga(&mut w, 7).unwrap()
            },
            true,
        ),
        (
            "INVLPGA of another",
            |m| {
                let (n, mut w) = m.split();
                n.invlpga(&mut w, 6).unwrap()
            },
            false,
        ),
        (
            "L0 forgets",
            |m| {
                let (n, mut w) = m.split();
                n.forget(&mut w)
            },
            true,
        ),
        ("another mode of L1", |m| m.vmcb01.set_bits(f::cr4, 1 << 20, 1 << 20), true),
    ];
    for (name, way, flushes) in ways {
        let mut machine = machine(Mode::Long, true, false, ADDRESS, 1, 0x20_0000 | ALL);
        assert_eq!(access(&mut machine, Access::read(ADDRESS)), Ok(0x20_0123));
        machine.exits(0x81, [0, 0]);
        put(&mut machine, Mode::Long, 1, ADDRESS, 0x30_0000 | ALL);
        machine.vmcb01.set(f::rax, VMCB12);
        way(&mut machine);
        assert_eq!(machine.vmrun(), Ok(Guest::L2));
        let reached = if flushes { 0x30_0123 } else { 0x20_0123 };
        assert_eq!(access(&mut machine, Access::read(ADDRESS)), Ok(reached), "{name}");
    }
}

/// A flush that L1 or L0 requested stays pending until the hardware executes a VMRUN of L2, whatever ends L2
/// before that.
#[test]
fn a_flush_outlives_an_l2_that_was_not_entered() {
    type Change = fn(&mut Machine);
    const ASID: u64 = 3;
    const EVERYTHING: u64 = 1;
    let demands: [(&str, Change, u64); 6] = [
        ("TLB_CONTROL 1", |m| m.set12(f::tlb_control, 1), EVERYTHING),
        ("TLB_CONTROL 3", |m| m.set12(f::tlb_control, 3), ASID),
        ("another ASID", |m| m.set12(f::guest_asid, 8), ASID),
        ("another N_CR3", |m| m.set12(f::n_cr3, table(5)), ASID),
        (
            "INVLPGA",
            |m| {
                let (n, mut w) = m.split();
                n.invlpga(&mut w, 7).unwrap()
            },
            ASID,
        ),
        (
            "L0 forgets",
            |m| {
                let (n, mut w) = m.split();
                n.forget(&mut w)
            },
            ASID,
        ),
    ];
    let ends: [(&str, Change); 3] = [
        ("an interrupt that L1 intercepts", |m| {
            let (n, mut w) = m.split();
            n.inject(&mut w, Event::from_bits(0x8000_0030));
            assert_eq!(n.before_entry(&mut w), Guest::L1);
        }),
        ("an exception that L1 intercepts", |m| {
            let (n, mut w) = m.split();
            assert_eq!(n.inject(&mut w, Event::from_bits(0x8000_0301)), Exit::ToL1);
        }),
        ("a refusal by the hardware", |m| {
            m.hardware.refuses = true;
            assert_eq!(m.exits(0x81, [0, 0]), Exit::ToL1);
            m.hardware.refuses = false;
        }),
    ];
    for (demand, demanded, flush) in demands {
        for (end, ended) in ends {
            let mut machine = machine(Mode::Long, true, false, ADDRESS, 1, 0x20_0000 | ALL);
            access(&mut machine, Access::read(ADDRESS)).unwrap();
            machine.exits(0x81, [0, 0]);
            machine.set12(f::intercept_misc1, 1 << 31 | 1);
            machine.set12(f::intercept_exceptions, 2);
            let vmrun = |machine: &mut Machine| {
                machine.vmcb01.set(f::rax, VMCB12);
                machine.vmcb01.set(f::tlb_control, 0);
                assert_eq!(machine.vmrun(), Ok(Guest::L2));
                machine.vmcb02.get(f::tlb_control)
            };
            // The first entry into L1 flushes L1's own translations.
            let (nested, mut world) = machine.split();
            nested.before_entry(&mut world);
            demanded(&mut machine);
            assert_eq!(vmrun(&mut machine), flush, "{demand}");
            ended(&mut machine);
            assert_eq!(machine.nested.guest(), Guest::L1, "{end}");
            // A request to flush all ASIDs also flushes L1's own translations.
            let (nested, mut world) = machine.split();
            nested.before_entry(&mut world);
            let own = world.vmcb01.get(f::tlb_control);
            assert_eq!(own, if flush == EVERYTHING { ASID } else { 0 }, "{demand}, {end}");
            machine.set12(f::tlb_control, 0);
            assert_eq!(vmrun(&mut machine), flush, "{demand}, {end}");
            // The flush is not requested again.
            machine.exits(0x81, [0, 0]);
            assert_eq!(vmrun(&mut machine), 0, "{demand}, {end}");
        }
    }
}

/// Two address spaces in turn keep what they have; an ASID that is used for another root sees that root.
#[test]
fn address_spaces_in_turn() {
    let mut machine = machine(Mode::Long, true, false, ADDRESS, 1, 0x20_0000 | ALL);
    for level in 1..=4 {
        let page = machine.ram.page(table(level));
        machine.ram.put(table(level) + 0x10_0000, &page);
    }
    for level in 2..=4 {
        let at = entry_at(Mode::Long, level, ADDRESS) + 0x10_0000;
        machine.ram.put_u64(at, (table(level - 1) + 0x10_0000) | ALL);
    }
    machine.ram.put_u64(entry_at(Mode::Long, 1, ADDRESS) + 0x10_0000, 0x40_0000 | ALL);
    for (asid, second) in [(7, false), (8, true), (7, false), (7, true), (8, false), (9, true), (7, false)] {
        machine.exits(0x81, [0, 0]);
        machine.set12(f::guest_asid, asid);
        machine.set12(f::n_cr3, table(4) + if second { 0x10_0000 } else { 0 });
        machine.vmcb01.set(f::rax, VMCB12);
        assert_eq!(machine.vmrun(), Ok(Guest::L2));
        let expected = if second { 0x40_0123 } else { 0x20_0123 };
        assert_eq!(access(&mut machine, Access::read(ADDRESS)), Ok(expected));
    }
    // More than there are places for.
    for asid in 20..40 {
        machine.exits(0x81, [0, 0]);
        machine.set12(f::guest_asid, asid);
        machine.vmcb01.set(f::rax, VMCB12);
        assert_eq!(machine.vmrun(), Ok(Guest::L2));
        assert_eq!(access(&mut machine, Access::read(ADDRESS)), Ok(0x20_0123));
    }
}

/// L2 itself executes INVLPGA, or L0 forgets, while it runs: it goes on, on a new root.
#[test]
fn forgetting_under_a_running_guest() {
    for by_l2 in [true, false] {
        let mut machine = machine(Mode::Long, true, false, ADDRESS, 1, 0x20_0000 | ALL);
        access(&mut machine, Access::read(ADDRESS)).unwrap();
        put(&mut machine, Mode::Long, 1, ADDRESS, 0x30_0000 | ALL);
        let (nested, mut world) = machine.split();
        if by_l2 {
            nested.invlpga(&mut world, 7).unwrap();
        } else {
            nested.forget(&mut world);
        }
        assert_eq!(world.vmcb02.get(f::tlb_control), 3);
        assert_eq!(access(&mut machine, Access::read(ADDRESS)), Ok(0x30_0123));
    }
    // ASID 0 is L1's own.
    let mut machine = Machine::new(limits(CPU));
    let (nested, mut world) = machine.split();
    nested.invlpga(&mut world, 0).unwrap();
    nested.before_entry(&mut world);
    assert_eq!(world.vmcb01.get(f::tlb_control), 3);
}

/// Where an address of L2 leads can be asked without a trace: no fault, no accessed bit.
#[test]
fn addresses_are_looked_up_without_a_trace() {
    for (mode, leaf) in MODES.into_iter().zip([0x20_0000, 0x20_0000, 0x20_0000, 0x20_0000]) {
        let mut machine = machine(mode, false, false, ADDRESS, 1, leaf | ALL);
        let before: Vec<_> = (1..=mode.levels()).map(|level| get(&machine, mode, level, ADDRESS)).collect();
        let look = |machine: &mut Machine, address| {
            let (nested, mut world) = machine.split();
            nested.address_of_l2(&mut world, address)
        };
        assert_eq!(look(&mut machine, ADDRESS), Some(0x20_0123), "{mode:?}");
        assert_eq!(look(&mut machine, ADDRESS + 0x1000), None, "{mode:?}");
        let after: Vec<_> = (1..=mode.levels()).map(|level| get(&machine, mode, level, ADDRESS)).collect();
        assert_eq!(before, after, "{mode:?}");
        assert_eq!(access(&mut machine, Access::read(ADDRESS)), Ok(0x20_0123));
        assert_ne!(get(&machine, mode, 1, ADDRESS) & A, 0, "an access leaves one: {mode:?}");
    }
    let mut machine = Machine::new(limits(CPU));
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    let (nested, mut world) = machine.split();
    assert_eq!(nested.address_of_l2(&mut world, 0x1234_5678), Some(0x1234_5678), "without nested paging");
}

/// A page of 1 GiB is one where the virtual CPU has such pages; else PS is a reserved bit there.
#[test]
fn pages_of_1_gib_follow_the_virtual_cpu() {
    for mode in [Mode::Long, Mode::Long5] {
        for has in [true, false] {
            let host = Host { gib_pages: has, ..HOST };
            let mut machine = machine_on(host, mode, [false, false], ADDRESS, 3, PS | ALL);
            let found = access(&mut machine, Access::read(0x4000_0123));
            assert_eq!(found, if has { Ok(0x123) } else { Err(FINAL | 1 | 8) }, "{mode:?}");
        }
        // Pages of 2 MiB are there in any case.
        let host = Host { gib_pages: false, ..HOST };
        let mut machine = machine_on(host, mode, [false, false], ADDRESS, 2, 0x20_0000 | PS | ALL);
        assert_eq!(access(&mut machine, Access::read(ADDRESS)), Ok(0x20_0000 | ADDRESS & 0x1F_FFFF));
    }
}

/// L2 has no more rights to a page than L1 has, whatever L1's nested tables allow. An access that L0 does not
/// allow exits to L0. `Nested::l1_address` then returns the address in L1's memory.
#[test]
fn l2_has_no_more_rights_than_l1() {
    const PAGE: u64 = 0x20_0000;
    for (leaf_level, leaf) in [(1, PAGE | ALL), (2, PAGE | PS | ALL)] {
        for (kind, denied_by) in [
            (Access::read(ADDRESS), [false, false]),
            (Access::write(ADDRESS), [true, false]),
            (Access::fetch(ADDRESS), [false, true]),
            (Access::walk(ADDRESS), [true, false]),
        ] {
            for (rights, denied) in denied_by.into_iter().enumerate() {
                let mut machine = machine(Mode::Long, true, false, ADDRESS, leaf_level, leaf);
                let reached = PAGE + if leaf_level == 1 { 0x123 } else { ADDRESS & 0x1F_FFFF };
                let page = reached & !0xFFF;
                let mut pages = Pages::new(64, RAM as u64);
                if rights == 0 { &mut pages.read_only } else { &mut pages.no_execute }.push(page);
                machine.exits(0x81, [0, 0]);
                machine.shadow = Shadow::new(pages).unwrap();
                machine.vmcb01.set(f::rax, VMCB12);
                assert_eq!(machine.vmrun(), Ok(Guest::L2));
                if denied {
                    assert_eq!(machine.run([Step::Access(kind)]), Exit::ForL0, "{kind:?}");
                    assert_eq!(machine.nested.l1_address(), Some(reached));
                    // A read maps the page, but does not grant the denied right.
                    assert_eq!(access(&mut machine, Access::read(ADDRESS)), Ok(reached));
                    assert_eq!(machine.run([Step::Access(kind)]), Exit::ForL0, "{kind:?}");
                } else {
                    assert_eq!(access(&mut machine, kind), Ok(reached), "{kind:?}");
                }
            }
        }
    }
    // If L1 does not use nested paging, L2 runs on L0's tables for L1, which contain these rights.
    let mut machine = Machine::new(limits(CPU));
    let mut pages = Pages::new(64, RAM as u64);
    pages.read_only.push(0x3000);
    machine.shadow = Shadow::new(pages).unwrap();
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    assert_eq!(machine.run([Step::Access(Access::write(0x3000))]), Exit::ForL0);
}

/// A pool of many pages for shadow tables. All entries read as zero.
struct Many(u16);

impl Tables for Many {
    fn count(&self) -> u16 {
        self.0
    }

    fn base(&self) -> u64 {
        0
    }

    fn entry(&self, _: u16, _: u16) -> u64 {
        0
    }

    fn set_entry(&mut self, _: u16, _: u16, _: u64) {}

    fn clear(&mut self, _: u16) {}

    fn host(&self, _: u64, _: u8) -> Option<HostBlock> {
        None
    }
}

/// Every number of pages is either refused or usable. The largest numbers do not overflow.
#[test]
fn any_number_of_pages() {
    for count in (0..20).chain([u16::MAX - 5, u16::MAX - 4, u16::MAX]) {
        let shadow = Shadow::new(Many(count));
        assert_eq!(shadow.as_ref().err(), (count < MIN_PAGES).then_some(TooFewPages(count)).as_ref());
        let Ok(mut shadow) = shadow else { continue };
        let mut machine = Machine::new(limits(CPU));
        machine.set12(f::nested_ctl, 1);
        let mut roots = Vec::new();
        for round in 0..u64::from(u16::MAX) + 10 {
            machine.set12(f::n_cr3, round % 2 * 0x1000);
            machine.set12(f::tlb_control, 3);
            machine.vmcb01.set(f::rax, VMCB12);
            let Machine { nested, vmcb01, vmcb02, ram, log, .. } = &mut machine;
            let (memory, trace, shadow) = (ram, log, &mut shadow);
            let mut world = nested_svm::World { vmcb01, vmcb02, memory, shadow, trace, rcx: 0 };
            assert_eq!(nested.vmrun(&mut world, 0), Ok(Guest::L2));
            roots.push(world.vmcb02.get(f::n_cr3) >> 12);
            nested.reflect(&mut world, vmcb::ExitCode::from_bits(0x81), [0, 0]);
            if count < 20 && round > 100 {
                break;
            }
        }
        assert!(roots.iter().all(|&root| root < u64::from(count)), "{count}: {:?}", roots.iter().max());
    }
    assert_eq!(TooFewPages(3).to_string(), "3 pages for shadow tables are too few; provide 8 or more");
}

/// L0 changes N_CR3, intercepts and TSC_OFFSET of VMCB01 while L2 runs. `refresh` merges all of them into
/// VMCB02. `forget` updates only N_CR3. With nested paging, VMCB02 keeps the root of the shadow.
#[test]
fn changes_of_vmcb01_reach_a_running_l2() {
    for nested_paging in [false, true] {
        for refresh in [false, true] {
            let mut machine = Machine::new(limits(CPU));
            machine.set12(f::nested_ctl, nested_paging.into());
            machine.set12(f::tsc_offset, 5);
            assert_eq!(machine.vmrun(), Ok(Guest::L2));
            assert_eq!(machine.exits(0x72, [0, 0]), Exit::ForL0);
            let (nested, mut world) = machine.split();
            let root = world.vmcb02.get(f::n_cr3);
            for (field, value) in [(f::n_cr3, 0x7_0099_0000), (f::tsc_offset, 1000), (f::intercept_cr, 8)] {
                world.vmcb01.set(field, value);
            }
            world.vmcb02.set(f::rsp, 0x77);
            if refresh {
                nested.refresh(&mut world)
            } else {
                nested.forget(&mut world)
            }
            let page = world.vmcb02;
            let expected = if nested_paging { root } else { 0x7_0099_0000 };
            assert_eq!(page.get(f::n_cr3), expected, "nested paging {nested_paging}");
            assert_eq!((page.get(f::tlb_control), page.get(f::rsp)), (3, 0x77));
            let controls = if refresh { (1005, 8) } else { (5, 0) };
            assert_eq!((page.get(f::tsc_offset), page.get(f::intercept_cr)), controls);
        }
    }
    // `refresh` scales the offset by L1's TSC_RATIO and keeps the intercepts that the engine forces.
    let mut machine = Machine::new(limits(CPU));
    machine.nested.write_msr(&mut machine.vmcb01, nested_svm::Msr::TscRatio, 2 << 32).unwrap();
    assert_eq!(machine.vmrun(), Ok(Guest::L2));
    let (nested, mut world) = machine.split();
    world.vmcb01.set(f::tsc_offset, 1000);
    world.vmcb01.set(f::intercept_misc2, 0);
    nested.refresh(&mut world);
    assert_eq!((world.vmcb02.get(f::tsc_offset), world.vmcb02.get(f::intercept_misc2)), (2000, 0x7F));
}

/// A flush that L1 requests at a VMRUN without nested paging also drops the shadow of the same ASID.
#[test]
fn a_flush_without_nested_paging_drops_the_shadow() {
    for (control, flushes) in [(0, false), (1, true), (3, true)] {
        let mut machine = machine(Mode::Long, true, false, ADDRESS, 1, 0x20_0000 | ALL);
        assert_eq!(access(&mut machine, Access::read(ADDRESS)), Ok(0x20_0123));
        put(&mut machine, Mode::Long, 1, ADDRESS, 0x30_0000 | ALL);
        for (nested_paging, control) in [(0, control), (1, 0)] {
            machine.exits(0x81, [0, 0]);
            machine.set12(f::nested_ctl, nested_paging);
            machine.set12(f::tlb_control, control);
            machine.vmcb01.set(f::rax, VMCB12);
            assert_eq!(machine.vmrun(), Ok(Guest::L2));
        }
        let reached = if flushes { 0x30_0123 } else { 0x20_0123 };
        assert_eq!(access(&mut machine, Access::read(ADDRESS)), Ok(reached), "TLB_CONTROL {control}");
    }
}

/// L1 replaces a table with a large page. The CPU may have cached the pointer to the corresponding shadow
/// table, so the engine must fill that table. If it used another table, L2 would fault forever.
#[test]
fn a_large_page_fills_the_table_that_the_cpu_cached() {
    let mut machine = machine(Mode::Long, true, false, ADDRESS, 1, 0x20_0000 | ALL);
    assert_eq!(access(&mut machine, Access::read(ADDRESS)), Ok(0x20_0123));
    put(&mut machine, Mode::Long, 2, ADDRESS, 0x20_0000 | PS | ALL);
    assert_eq!(access(&mut machine, Access::write(ADDRESS + 0x1000)), Ok(0x20_4123));
    assert_eq!(get(&machine, Mode::Long, 2, ADDRESS), 0x20_0000 | PS | ALL | A | D);
}
