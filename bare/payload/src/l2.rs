//! Low memory: what the guest's VMCB points at, and access to it by physical address.
//!
//! The first 4 GiB are mapped to themselves, so a physical address is a pointer. Nothing of the program itself
//! stands below its image, and everything here stays below that or within the blob.

use bare_interface::payload::{BASE, case_flag, memory, selector};

/// Where VMSAVE keeps L1's state.
pub(crate) const HOST_STATE: u64 = 0xE000;
/// The VMCB as it was before VMRUN.
pub(crate) const COPY: u64 = 0xF000;
const PAGE: u64 = 4096;
/// What [`lay_out`] writes: all but the BIOS's own data.
const FIRST: u64 = 0x1000;
const LAST: u64 = memory::MSRPM + 2 * PAGE;
const _: () = assert!(LAST < 0x8_0000 && LAST < BASE);

/// Reads 8 bytes.
pub(crate) fn read(address: u64) -> u64 {
    // SAFETY: below 4 GiB everything is mapped, and reading memory of a PC changes nothing.
    unsafe { (address as *const u64).read_unaligned() }
}

fn read16(address: u64) -> u64 {
    read(address) & 0xFFFF
}

/// Writes 8 bytes.
pub(crate) fn write(address: u64, value: u64) {
    // SAFETY: callers write to low memory, where no part of the program stands.
    unsafe { (address as *mut u64).write_unaligned(value) }
}

/// Writes 2 bytes.
pub(crate) fn write16(address: u64, value: u16) {
    // SAFETY: as above; the text screen is memory too.
    unsafe { (address as *mut u16).write_volatile(value) }
}

/// Bytes of the blob.
#[derive(Clone, Copy)]
pub(crate) struct Bytes {
    pub(crate) at: u64,
    pub(crate) size: u16,
}

/// A page of low memory.
#[derive(Clone, Copy)]
pub(crate) struct Page(u64);

impl Page {
    pub(crate) const fn at(address: u64) -> Self {
        Self(address)
    }

    pub(crate) fn address(self) -> u64 {
        self.0
    }

    pub(crate) fn copy_from(self, address: u64) {
        // SAFETY: both are whole pages, mapped, and not the same one.
        unsafe { core::ptr::copy_nonoverlapping(address as *const u8, self.0 as *mut u8, PAGE as usize) }
    }

    /// Writes bytes at an offset; what would leave the page is left out.
    pub(crate) fn patch(self, offset: u16, bytes: Bytes) {
        let room = PAGE.saturating_sub(offset.into());
        let size = u64::from(bytes.size).min(room) as usize;
        // SAFETY: within the page; the blob is elsewhere.
        unsafe {
            core::ptr::copy_nonoverlapping(
                bytes.at as *const u8,
                (self.0 + u64::from(offset)) as *mut u8,
                size,
            );
        }
    }

    pub(crate) fn read(self, offset: usize) -> u64 {
        read(self.0 + offset as u64)
    }

    pub(crate) fn equals_from(self, offset: usize, other: &Self) -> bool {
        (offset..PAGE as usize).step_by(8).all(|at| self.read(at) == other.read(at))
    }
}

/// What stands on the guest's stack.
pub(crate) struct Stack {
    /// Words between RSP and the top.
    pub(crate) slots: u64,
    /// The lowest two.
    pub(crate) words: [u64; 2],
}

impl Stack {
    pub(crate) const NONE: Self = Self { slots: 0, words: [0; 2] };
}

/// The words that were pushed; none where RSP is not on the stack.
pub(crate) fn stack(rsp: u64, ss_base: u64, flags: u16) -> Stack {
    let (size, address) = if flags & case_flag::SLOT8 != 0 {
        (8, rsp)
    } else if flags & case_flag::SLOT2 != 0 {
        (2, (ss_base + (rsp & 0xFFFF)) & 0xFFFF_FFFF)
    } else {
        (4, ss_base.wrapping_add(rsp) & 0xFFFF_FFFF)
    };
    if !(memory::STACK_TOP - PAGE / 2..memory::STACK_TOP).contains(&address) {
        return Stack::NONE;
    }
    let word = |index: u64| match size {
        8 => read(address + 8 * index),
        4 => read(address + 4 * index) & 0xFFFF_FFFF,
        _ => read16(address + 2 * index),
    };
    Stack { slots: (memory::STACK_TOP - address) / size, words: [word(0), word(1)] }
}

/// Writes everything that the guest's VMCB points at.
pub(crate) fn lay_out() {
    let kept = [Page(memory::HSAVE), Page(HOST_STATE)];
    for page in (FIRST..LAST).step_by(PAGE as usize) {
        if !kept.iter().any(|kept| kept.address() == page) {
            fill(page, 0, PAGE);
        }
    }
    // Intercepts of all ports and MSRs.
    fill(memory::IOPM, 0xFF, 3 * PAGE);
    fill(memory::MSRPM, 0xFF, 2 * PAGE);
    tables();
    descriptors();
    // VMMCALL, and HLT for a guest whose VMMCALL is not intercepted: where the guest begins, and each handler.
    const VMMCALL: u64 = 0xF4D9_010F;
    write(memory::START, VMMCALL);
    for vector in 0..256 {
        let handler = memory::STUBS + 16 * vector;
        write(handler, VMMCALL);
        // Interrupt gates, present, DPL 3, so that the DPL test of software interrupts passes at every CPL.
        let low = handler & 0xFFFF | 0xEE00 << 32 | (handler >> 16) << 48;
        write(memory::IDT64 + 16 * vector, low | u64::from(selector::CODE64) << 16);
        write(memory::IDT32 + 8 * vector, low | u64::from(selector::CODE32) << 16);
        let far = (16 * vector) as u32 | ((memory::STUBS >> 4) as u32) << 16;
        write16(memory::IVT + 4 * vector, far as u16);
        write16(memory::IVT + 4 * vector + 2, (far >> 16) as u16);
    }
}

/// The guest's page tables below their top level, and the nested ones.
fn tables() {
    const LARGE: u64 = 0x87;
    write(memory::PDPT, memory::PD | 7);
    write(memory::PD, LARGE);
    for page in 0..256 {
        // 32-bit entries, two at a time.
        write(memory::PT + 8 * (page / 2), (page & !1) << 12 | 7 | ((page | 1) << 12 | 7) << 32);
    }
    write(memory::N_CR3, memory::N_PDPT | 7);
    write(memory::N_PDPT, memory::N_PD | 7);
    write(memory::N_PD, LARGE);
}

/// GDT and TSS of the guest.
fn descriptors() {
    let gdt = |selector: u16, descriptor: u64| write(memory::GDT + u64::from(selector), descriptor);
    gdt(selector::CODE64, 0x00AF_9B00_0000_FFFF);
    gdt(selector::CODE32, 0x00CF_9B00_0000_FFFF);
    gdt(selector::DATA, 0x00CF_9300_0000_FFFF);
    gdt(selector::TSS, 0x0000_8B00_0000_0067 | (memory::TSS & 0xFF_FFFF) << 16);
    // ESP0 and SS0.
    write(memory::TSS + 4, memory::STACK_TOP | u64::from(selector::DATA) << 32);
    // The I/O map's base: beyond the limit.
    write16(memory::TSS + 102, 0x68);
}

fn fill(address: u64, byte: u8, size: u64) {
    // SAFETY: low memory, where no part of the program stands.
    unsafe { core::ptr::write_bytes(address as *mut u8, byte, size as usize) }
}
