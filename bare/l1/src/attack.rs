//! L1 as an attacker: VMCBs written at random, tables that loop, pointers to where nothing is L1's, devices that
//! would write to memory.

use crate::cpu::{self, Code};
use crate::l2::{INTR, Page, VMCB, field, lay_out};
use crate::say;
use bare_common::port::{inl, outb, outl};

/// Pages that L2's tables are made of; nothing else of this program is given to an L2 of the attack.
static ARENA: [Page; 32] = [const { Page::new() }; 32];
static BASE: Page = Page::new();
/// A permission map for L2's ports.
static PORTS: [Page; 3] = [const { Page::new() }; 3];

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 32) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// The end of L1's memory, where L0 is.
const HOME: u64 = 128 << 20;

/// An address that an attacker would write.
///
/// It is not the address of the local APIC. An L2 that writes there can send INIT, which QEMU does not hold while GIF is
/// clear: it resets the CPU while L0 runs, one of the ways past L0 that its README lists.
fn pointer(random: &mut Random) -> u64 {
    let arena = ARENA[random.below(32) as usize].address();
    match random.below(8) {
        0..=3 => arena,
        4 => HOME + (random.below(0x400) << 12),
        5 => random.next(),
        6 => {
            [0, 0xA_0000, 0xF_F000, 0xFFFF_F000, 1 << 32, 1 << 39, (1 << 40) - 4096][random.below(7) as usize]
        }
        _ => arena | random.below(4096),
    }
}

/// Tables at random, in which some pages hold code that leaves at once.
fn shuffle(random: &mut Random) {
    for page in &ARENA {
        if random.one_in(3) {
            for offset in (0..4096).step_by(8) {
                // VMMCALL, HLT, and over again.
                page.write(offset, 0xF4D9_010F_F4D9_010F);
            }
            continue;
        }
        for offset in (0..4096).step_by(8) {
            let flags = 7 | random.next() & if random.one_in(4) { 0x8000_0000_0000_0FFF } else { 0 };
            let address = pointer(random) & !0xFFF;
            page.write(offset, if random.one_in(8) { random.next() } else { address | flags });
        }
    }
}

/// A VMCB: the legal one with changes, or all at random.
fn mutate(random: &mut Random) {
    VMCB.copy_from(&BASE);
    if random.one_in(16) {
        for offset in (0..4096).step_by(8) {
            VMCB.write(offset, random.next());
        }
    }
    VMCB.write(field::NESTED_CTL, random.below(4) & 1);
    for pointing in [field::N_CR3, field::IOPM, field::MSRPM, field::CR3] {
        if random.one_in(2) {
            VMCB.write(pointing, pointer(random));
        }
    }
    let bases = [field::GDTR, field::IDTR, field::CS, field::TR].map(|segment| segment + field::BASE);
    for pointing in [field::RIP, field::RSP].into_iter().chain(bases) {
        if random.one_in(3) {
            VMCB.write(pointing, pointer(random));
        }
    }
    for _ in 0..random.below(4) {
        let bit = random.below(8 * 0x6C0);
        let offset = (bit / 64 * 8) as usize;
        VMCB.write(offset, VMCB.read(offset) ^ 1 << (bit % 64));
    }
    if random.one_in(2) {
        VMCB.write(field::EVENTINJ, random.next() | 1 << 31);
    }
    // What brings L1 back from an L2 that spins or shuts down: it is L1 that would hang, not L0.
    VMCB.write32(
        field::MISC1,
        VMCB.read(field::MISC1) as u32
            | 1
            | 1 << 24
            | 1 << 27
            | 1 << 31
            | if random.one_in(2) { 1 << 28 } else { 0 },
    );
    // Nor may L2 end the test by the debug exit, ports F4h to F7h.
    let map = VMCB.read(field::IOPM) & !0xFFF;
    let map = ARENA.iter().find(|page| page.address() == map).unwrap_or_else(|| {
        if map < HOME {
            VMCB.write(field::IOPM, PORTS[0].address());
        }
        &PORTS[0]
    });
    map.write(0x18, map.read(0x18) | 0xF0 << 48);
    VMCB.write32(field::EXCEPTIONS, u32::MAX);
    VMCB.write(field::INT_CTL, VMCB.read(field::INT_CTL) | 1 << 24);
    // No writes of L2 to this program: tables of L1's own are not for it.
    if VMCB.read(field::NESTED_CTL) & 1 == 0 {
        VMCB.write(field::CR3, ARENA[random.below(32) as usize].address());
    }
}

pub(crate) fn run(rounds: u64, seed: u64) -> bool {
    const SENTINEL: u64 = 0x5E17_1E55_5E17_1E55;
    lay_out(&BASE, Code::Vmmcall);
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    // Seldom enough that L2 gets somewhere: L0's log takes its time.
    cpu::start_timer(23864);
    let (mut faults, mut invalid, mut vmmcalls, mut npf, mut timer, mut other) =
        (0_u64, 0_u64, 0_u64, 0_u64, 0_u64, 0_u64);
    for round in 0..rounds {
        if round % 64 == 0 {
            shuffle(&mut random);
        }
        mutate(&mut random);
        VMCB.write(field::EXITCODE, SENTINEL);
        let rax = if random.one_in(8) { pointer(&mut random) } else { VMCB.address() };
        cpu::clgi();
        cpu::sti();
        let ran = cpu::vmrun(rax);
        // The tick that ended L2 is taken here.
        cpu::stgi();
        cpu::cli();
        let code = VMCB.read(field::EXITCODE);
        if !ran {
            faults += 1;
            continue;
        }
        if rax != VMCB.address() {
            other += 1;
            continue;
        }
        match code {
            SENTINEL => {
                say!("round {round}: VMRUN left no exit code");
                return false;
            }
            u64::MAX => invalid += 1,
            0x81 => vmmcalls += 1,
            0x400 => npf += 1,
            INTR => timer += 1,
            _ => other += 1,
        }
    }
    say!(
        "{rounds} VMRUNs: {faults} faults, {invalid} refused, {vmmcalls} VMMCALL, {npf} nested page faults, {timer} by the timer, {other} others"
    );
    l0_region_is_one_page() && devices()
}

/// Checks that all pages of L0's region are one page that holds the last value written to any of them.
fn l0_region_is_one_page() -> bool {
    let at = |page: u64| (HOME + (page << 12)) as *mut u64;
    // SAFETY: this program has no memory there. L0 must not map its own memory there.
    unsafe {
        for page in 0..0x380 {
            at(page).write_volatile(0xA77A_C000 + page);
        }
        (0..0x380).all(|page| at(page).read_volatile() == 0xA77A_C000 + 0x37F)
    }
}

/// Devices that would write to memory by themselves do not.
pub(crate) fn devices() -> bool {
    static COMMAND: Page = Page::new();
    static TARGET: Page = Page::new();
    // fw_cfg's DMA: read the signature to `TARGET`. Big endian.
    TARGET.clear();
    COMMAND.clear();
    COMMAND.write32(0, 0x000A_u32.swap_bytes());
    COMMAND.write32(4, 4_u32.swap_bytes());
    COMMAND.write(8, TARGET.address().swap_bytes());
    outl(0x514, 0);
    outl(0x518, (COMMAND.address() as u32).swap_bytes());
    let firmware = TARGET.read(0) == 0 && inl(0x514) == u32::MAX;
    // Bus mastering, by each width of access.
    let mut bus = true;
    for device in 0..4 {
        for (offset, wide) in [(0, true), (0, false)] {
            outl(0xCF8, 1 << 31 | device << 11 | 4);
            if inl(0xCFC) == u32::MAX {
                continue;
            }
            if wide {
                outl(0xCFC, 7);
            } else {
                outb(0xCFC + offset, 7);
            }
            bus &= inl(0xCFC) & 4 == 0;
        }
    }
    // Configuration space stays out of memory, where a PCI Express machine would have it.
    let window = 0xB000_0000_u64;
    outl(0xCF8, 1 << 31);
    let bridge = inl(0xCFC);
    outl(0xCF8, 1 << 31 | 0x60);
    outl(0xCFC, window as u32 | 1);
    // SAFETY: no memory of this program stands there.
    let closed = unsafe { (window as *const u32).read_volatile() } != bridge;
    // A20 stays open.
    outb(0x92, 0);
    outb(0x64, 0xDD);
    outb(0x64, 0xD1);
    outb(0x60, 0xDD);
    let a20 = TARGET.address() ^ 1 << 20;
    // SAFETY: the other address is memory, too.
    let open = unsafe {
        let other = (a20 as *const u64).read_volatile();
        TARGET.write(0, !other);
        (a20 as *const u64).read_volatile() == other
    };
    let passed = firmware && bus && closed && open;
    if !passed {
        say!("fw_cfg {firmware}, bus mastering {bus}, configuration space {closed}, A20 {open}");
    }
    passed
}
