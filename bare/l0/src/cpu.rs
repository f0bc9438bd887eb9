//! The instructions of L0 that no compiler makes: ports, CPUID, MSRs, CR8, CLGI.

use core::arch::{asm, global_asm};

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
    // SAFETY: every CPU with long mode has CPUID, and it changes nothing else. Older compilers ask for this block.
    #[allow(unused_unsafe)]
    let answer = unsafe { core::arch::x86_64::__cpuid_count(leaf, subleaf) };
    [answer.eax, answer.ebx, answer.ecx, answer.edx]
}

unsafe extern "C" {
    /// Whether RDMSR succeeds; then the value stands at the address.
    fn try_read_msr(number: u32, value: *mut u64) -> bool;
    /// Whether WRMSR succeeds.
    fn try_write_msr(number: u32, value: u64) -> bool;
}

/// RDMSR; nothing where it faults.
pub(crate) fn read_msr(number: u32) -> Option<u64> {
    let mut value = 0;
    // SAFETY: it writes the value only, and its fault is caught.
    unsafe { try_read_msr(number, &raw mut value) }.then_some(value)
}

/// WRMSR; whether it does not fault.
pub(crate) fn write_msr(number: u32, value: u64) -> bool {
    // SAFETY: L1 may write all MSRs but those that are intercepted, which are not written here; none of the others is
    // one that L0 relies on.
    unsafe { try_write_msr(number, value) }
}

// A fault of the instructions at these two labels goes on behind them, with EDI zero: see `faults`.
global_asm!(
    r#"
.section .text
.globl try_read_msr
try_read_msr:
    mov ecx, edi
    mov edi, 1
.globl MAY_FAULT_READING
MAY_FAULT_READING:
    rdmsr
    shl rdx, 32
    mov eax, eax
    or rax, rdx
    mov [rsi], rax
    mov eax, edi
    ret

.globl try_write_msr
try_write_msr:
    mov ecx, edi
    mov eax, esi
    mov rdx, rsi
    shr rdx, 32
    mov edi, 1
.globl MAY_FAULT_WRITING
MAY_FAULT_WRITING:
    wrmsr
    mov eax, edi
    ret
"#
);

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
