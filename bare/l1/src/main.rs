//! Test hypervisors: they run as L1 under L0, and on the bare emulator too. The command line names the test.
//!
//! UNSAFETY: VMRUN and a machine without an operating system; nothing here is linked into anything else.
#![no_std]
#![no_main]

mod attack;
mod boot;
mod checks;
mod cpu;
mod l2;

use bare_common::port;
use cpu::{Code, read_msr};
use l2::{INTR, Page, VMCB, VMMCALL, field, lay_out};

static HOST_SAVE: Page = Page::new();
static HOST_STATE: Page = Page::new();

/// `info` and `magic` are multiboot's EBX and EAX.
#[unsafe(no_mangle)]
extern "C" fn main(info: u32, magic: u32) -> ! {
    cpu::load_idt();
    port::mask_pics();
    if magic != 0x2BAD_B002 {
        say!("FAILED: multiboot's magic is {magic:#x}");
        cpu::end(1);
    }
    const EFER: u32 = 0xC000_0080;
    cpu::write_msr(EFER, read_msr(EFER) | 1 << 12);
    cpu::write_msr(0xC001_0117, HOST_SAVE.address());
    let text = text_at(word(info + 16));
    let mut words = text.split(' ').filter(|word| !word.is_empty() && !word.contains('/'));
    let name = words.next().unwrap_or("");
    let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(1);
    let passed = match name {
        "hello" => hello(info),
        "refused" => refused(),
        "icount" => icount(),
        "xmm" => xmm(number()),
        "interrupts" => interrupts(),
        "msrs" => msrs(),
        "checks" => checks::run(),
        "pdptes" => pdptes(),
        "prefixes" => prefixes(),
        "devices" => attack::devices(),
        "attack" => attack::run(number(), number()),
        _ => {
            say!("no test is called `{name}`");
            false
        }
    };
    say!("{name}: {}", if passed { "passed" } else { "FAILED" });
    cpu::end(u8::from(!passed));
}

/// 4 bytes of multiboot's information.
fn word(at: u32) -> u32 {
    // SAFETY: it stands below 4 GiB, which is mapped to itself.
    unsafe { (at as *const u32).read_unaligned() }
}

/// A text of it, which ends with a zero.
fn text_at(at: u32) -> &'static str {
    // SAFETY: as above.
    let byte = |index: usize| unsafe { (at as *const u8).add(index).read() };
    let length = (0..4096).find(|&index| byte(index) == 0).unwrap_or(0);
    // SAFETY: so many bytes were read.
    let bytes = unsafe { core::slice::from_raw_parts(at as *const u8, length) };
    core::str::from_utf8(bytes).unwrap_or("?")
}

/// What multiboot gives: memory, modules.
fn hello(info: u32) -> bool {
    say!("memory {} KiB below 1 MiB, {} KiB above", word(info + 4), word(info + 8));
    let (mut at, end) = (word(info + 48), word(info + 48) + word(info + 44));
    while at < end {
        say!("range {:#010x} {:#010x} {}", word(at + 4), word(at + 12), word(at + 20));
        at += word(at) + 4;
    }
    for row in (0..word(info + 20)).map(|module| word(info + 24) + 16 * module) {
        let (start, end) = (word(row), word(row + 4));
        // SAFETY: a module stands where the information says.
        let bytes = unsafe { core::slice::from_raw_parts(start as *const u8, (end - start) as usize) };
        let sum = bytes.iter().fold(0_u32, |sum, &byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        say!(
            "module of {} bytes, sum {sum:#x}, page-aligned {}: {}",
            bytes.len(),
            start % 4096 == 0,
            text_at(word(row + 8))
        );
    }
    lay_out(&VMCB, Code::Vmmcall);
    cpu::vmrun(VMCB.address()) && VMCB.read(field::EXITCODE) == VMMCALL
}

/// EVENTINJ of #CP: refused without shadow stacks; then #GP, which L2 takes through an IDT that is not there.
fn refused() -> bool {
    lay_out(&VMCB, Code::Vmmcall);
    VMCB.write(field::EVENTINJ, 0x8000_0315);
    let ran = cpu::vmrun(VMCB.address());
    let first = VMCB.read(field::EXITCODE);
    lay_out(&VMCB, Code::Vmmcall);
    VMCB.write(field::EVENTINJ, 0x8000_0B0D);
    let again = cpu::vmrun(VMCB.address());
    let second = VMCB.read(field::EXITCODE);
    say!("EXITCODE {first:#x}, then {second:#x}");
    ran && again && first == u64::MAX
}

/// Instructions, where time counts those (`-icount shift=0,sleep=off`): the least of many.
fn icount() -> bool {
    const ROUNDS: u32 = 1000;
    let (mut entry, mut exit, mut load, mut save, mut none) =
        (u64::MAX, u64::MAX, u64::MAX, u64::MAX, u64::MAX);
    lay_out(&VMCB, Code::Timed);
    for _ in 0..ROUNDS {
        VMCB.write(field::RIP, Code::Timed.address());
        let (in_, out) = cpu::timed(VMCB.address());
        entry = entry.min(in_);
        exit = exit.min(out);
        save = save.min(cpu::vmsave(HOST_STATE.address()));
        load = load.min(cpu::vmload(HOST_STATE.address()));
        none = none.min(cpu::nothing(0));
    }
    say!("VMRUN until L2's first instruction {entry}, #VMEXIT until L1's next {exit}");
    say!("VMLOAD {load}, VMSAVE {save}, NOP {none}");
    VMCB.read(field::EXITCODE) == VMMCALL
}

/// L1 and L2 find in XMM registers what the other left there.
fn xmm(rounds: u64) -> bool {
    lay_out(&VMCB, Code::Xmm);
    let pattern = |seed: u64| {
        let mut bytes = [0; 256];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (index % 8 * 8)) as u8 ^ index as u8;
        }
        bytes
    };
    for round in 0..rounds {
        VMCB.write(field::RIP, Code::Xmm.address());
        let (own, other) = (pattern(2 * round), pattern(2 * round + 1));
        let (seen_by_l2, seen_by_l1) = cpu::xmm(VMCB.address(), &own, &other);
        if seen_by_l2 != own || seen_by_l1 != other {
            say!("round {round}: L2 {}, L1 {}", seen_by_l2 == own, seen_by_l1 == other);
            return false;
        }
    }
    say!("{rounds} rounds, two exits each");
    true
}

/// L2 writes and reads MSRs of which L1 intercepts one: those that VMCBs hold, one that they do not, and one that faults.
fn msrs() -> bool {
    const STAR: u32 = 0xC000_0081;
    const LSTAR: u32 = 0xC000_0082;
    const GS_BASE: u32 = 0xC000_0101;
    const TSC_AUX: u32 = 0xC000_0103;
    /// Rights of supervisor pages: the upper half is reserved, and any bit of it is a #GP in QEMU too.
    const PKRS: u32 = 0x6E1;
    const INTERCEPTED: u32 = GS_BASE;
    const GENERAL_PROTECTION: u64 = 0x4D;
    static MAP: [Page; 2] = [const { Page::new() }; 2];
    lay_out(&VMCB, Code::Msr);
    VMCB.write32(field::EXCEPTIONS, 1 << 13);
    VMCB.write32(field::MISC1, 1 << 31 | 1 << 28);
    VMCB.write(field::MSRPM, MAP[0].address());
    let bit = (INTERCEPTED as usize & 0x1FFF) * 2;
    MAP[0].write(0x800 + bit / 64 * 8, 3 << (bit % 64));
    let mut passed = true;
    for (msr, value, code) in [
        (STAR, 0x0123_4567_89AB_CDEF, VMMCALL),
        (LSTAR, 0xFFFF_8000_1234_5678, VMMCALL),
        (TSC_AUX, 0x7654_3210, VMMCALL),
        (PKRS, 1 << 32, GENERAL_PROTECTION),
        (INTERCEPTED, 0, 0x7C),
    ] {
        VMCB.write(field::RIP, Code::Msr.address());
        let before = read_msr(msr);
        let seen = cpu::msr(VMCB.address(), msr, value);
        let (after, found) = (read_msr(msr), VMCB.read(field::EXITCODE));
        // VMRUN and #VMEXIT leave them all alone: L1 finds what L2 left.
        let right = if code == VMMCALL { seen == value && after == value } else { after == before };
        if found != code || !right {
            say!("MSR {msr:#x}: EXITCODE {found:#x}, L2 reads {seen:#x}, L1 {after:#x}, {before:#x} before");
            passed = false;
        }
    }
    passed
}

/// An L2 in legacy PAE mode is entered twice. The CPU may mark its page directory pointers, and refuses marked ones.
fn pdptes() -> bool {
    static POINTERS: Page = Page::new();
    static DIRECTORY: Page = Page::new();
    // The first 4 MiB, where this program is, in two pages.
    DIRECTORY.write(0, 0xE7);
    DIRECTORY.write(8, 0x20_00E7);
    POINTERS.write(0, DIRECTORY.address() | 1);
    let mut passed = true;
    for _ in 0..2 {
        lay_out(&VMCB, Code::Vmmcall);
        // SVME; PAE; 32-bit code.
        for (offset, value) in [
            (field::EFER, 0x1000),
            (field::CR4, 0x20),
            (field::CR3, POINTERS.address()),
            (field::CS, 0xFFFF_FFFF_0C9B_0008),
        ] {
            VMCB.write(offset, value);
        }
        passed &= cpu::vmrun(VMCB.address()) && VMCB.read(field::EXITCODE) == VMMCALL;
        say!("EXITCODE {:#x}, mark {:#x}", VMCB.read(field::EXITCODE), POINTERS.read(0) & 0x20);
    }
    passed
}

/// L2 executes instructions with prefixes that L1 leaves to L0.
fn prefixes() -> bool {
    lay_out(&VMCB, Code::Prefixed);
    let ran = cpu::vmrun(VMCB.address());
    let (code, rip) = (VMCB.read(field::EXITCODE), VMCB.read(field::RIP));
    say!("EXITCODE {code:#x} at {:#x} of the code", rip.wrapping_sub(Code::Prefixed.address()));
    ran && code == VMMCALL && rip == Code::Prefixed.address() + 15
}

/// Interrupts reach L1, wait while its GIF is clear, and end an L2 that spins.
fn interrupts() -> bool {
    cpu::start_timer(1193);
    cpu::sti();
    let start = cpu::ticks();
    while cpu::ticks() < start + 3 {}
    cpu::wait();
    let halted = cpu::ticks();
    cpu::clgi();
    let held = cpu::ticks();
    // A PIT period is about a millisecond: read the counter until it has wrapped a few times.
    let mut wraps = 0;
    let mut last = u16::MAX;
    while wraps < 5 {
        port::outb(0x43, 0);
        let count = u16::from(port::inb(0x40)) | u16::from(port::inb(0x40)) << 8;
        wraps += u32::from(count > last);
        last = count;
    }
    let after = cpu::ticks();
    cpu::stgi();
    while cpu::ticks() == after {}
    say!("{} ticks in L1, halted until {halted}, held at {held}, {after} after a wait", halted - start);
    let mut passed = held == after && halted > start + 3;
    lay_out(&VMCB, Code::Spin);
    VMCB.write32(field::MISC1, 1 << 31 | 1);
    VMCB.write(field::INT_CTL, 1 << 24);
    for _ in 0..20 {
        let before = cpu::ticks();
        // VMRUN with IF set; after #VMEXIT GIF is clear, and the interrupt comes with STGI.
        cpu::clgi();
        let ran = cpu::vmrun(VMCB.address());
        let pending = cpu::ticks();
        cpu::stgi();
        while cpu::ticks() == pending {}
        passed &= ran && VMCB.read(field::EXITCODE) == INTR && pending == before;
    }
    // The task priority that is set while GIF is clear holds afterwards.
    cpu::cli();
    passed
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    say!("FAILED: {info}");
    cpu::end(3)
}
