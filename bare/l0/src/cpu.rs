//! The instructions of L0 that no compiler emits, and ports by their width.

use bare_common::msr;
use bare_common::port::{inb, inl, inw, outb, outl, outw};
use core::arch::asm;
use vmcb::Efer;

/// Writes 1, 2 or 4 bytes to a port.
pub(crate) fn output(port: u16, size: u8, value: u32) {
    match size {
        1 => outb(port, value as u8),
        2 => outw(port, value as u16),
        _ => outl(port, value),
    }
}

/// Reads 1, 2 or 4 bytes from a port.
pub(crate) fn input(port: u16, size: u8) -> u32 {
    match size {
        1 => inb(port).into(),
        2 => inw(port).into(),
        _ => inl(port),
    }
}

/// Enables SVM, sets the page in which #VMEXIT finds L0's state, and blocks all interrupts for good.
///
/// # Errors
/// The number of the MSR that the machine refused.
pub(crate) fn prepare_vmrun(host_save: u64) -> Result<(), u32> {
    const EFER: u32 = 0xC000_0080;
    const VM_HSAVE_PA: u32 = 0xC001_0117;
    // NXE, because nested tables follow the EFER of this CPU.
    let wanted = Efer::SVME.union(Efer::NXE).bits();
    let efer = msr::read(EFER).ok_or(EFER)?;
    for (number, value) in [(EFER, efer | wanted), (VM_HSAVE_PA, host_save)] {
        if !msr::write(number, value) {
            return Err(number);
        }
    }
    // SAFETY: CLGI changes no memory. Interrupts that arrive while GIF is clear stay pending until a guest runs.
    unsafe { asm!("clgi", options(nomem, nostack)) }
    Ok(())
}

/// The task priority of the local APIC.
pub(crate) fn read_cr8() -> u64 {
    let value;
    // SAFETY: it changes nothing.
    unsafe { asm!("mov {}, cr8", out(reg) value, options(nomem, nostack, preserves_flags)) }
    value
}

/// Sets the task priority.
pub(crate) fn write_cr8(value: u64) {
    // SAFETY: L0 takes no interrupts; only 0 to 15 are legal.
    unsafe { asm!("mov cr8, {}", in(reg) value & 0xF, options(nomem, nostack, preserves_flags)) }
}
