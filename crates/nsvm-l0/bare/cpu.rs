//! The instructions of L0 that no compiler makes: ports, CPUID, MSRs, CR8, CLGI.

use core::arch::asm;

/// Writes 1, 2 or 4 bytes to a port.
pub(crate) fn output(port: u16, size: u8, value: u32) {
    // SAFETY: no device of this machine can write to memory by itself; what could is held off.
    unsafe {
        match size {
            1 => {
                asm!("out dx, al", in("dx") port, in("al") value as u8, options(nomem, nostack, preserves_flags))
            }
            2 => {
                asm!("out dx, ax", in("dx") port, in("ax") value as u16, options(nomem, nostack, preserves_flags))
            }
            _ => {
                asm!("out dx, eax", in("dx") port, in("eax") value, options(nomem, nostack, preserves_flags))
            }
        }
    }
}

/// Reads 1, 2 or 4 bytes from a port.
pub(crate) fn input(port: u16, size: u8) -> u32 {
    let mut value: u32 = 0;
    // SAFETY: reading a port does not change memory.
    unsafe {
        match size {
            1 => {
                asm!("in al, dx", in("dx") port, inout("eax") value, options(nomem, nostack, preserves_flags))
            }
            2 => {
                asm!("in ax, dx", in("dx") port, inout("eax") value, options(nomem, nostack, preserves_flags))
            }
            _ => {
                asm!("in eax, dx", in("dx") port, inout("eax") value, options(nomem, nostack, preserves_flags))
            }
        }
    }
    value
}

/// What CPUID says: EAX, EBX, ECX, EDX.
pub(crate) fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    let answer = core::arch::x86_64::__cpuid_count(leaf, subleaf);
    [answer.eax, answer.ebx, answer.ecx, answer.edx]
}

/// Gives #VMEXIT a page to keep L0's state in, and holds all interrupts back for good.
pub(crate) fn prepare_vmrun(host_save: u64) {
    const VM_HSAVE_PA: u32 = 0xC001_0117;
    // SAFETY: the page is L0's own and used for nothing else. What comes while GIF is clear waits for a guest.
    unsafe {
        asm!("wrmsr", in("ecx") VM_HSAVE_PA, in("eax") host_save as u32, in("edx") (host_save >> 32) as u32,
            options(nostack, preserves_flags));
        asm!("clgi", options(nomem, nostack));
    }
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

/// Stops for ever.
pub(crate) fn halt() -> ! {
    loop {
        // SAFETY: no interrupt is taken.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) }
    }
}
