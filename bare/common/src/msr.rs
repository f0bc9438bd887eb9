//! Reads and writes model-specific registers. An MSR that the CPU lacks causes a fault, which is caught.

use crate::exceptions::guarded;
use core::arch::global_asm;

unsafe extern "C" {
    /// Reads the MSR and stores its value at the address.
    fn read_msr(number: u64, value: u64);
    /// Writes the MSR.
    fn write_msr(number: u64, value: u64);
}

/// Returns the value of an MSR, or nothing if RDMSR faults.
#[must_use]
pub fn read(number: u32) -> Option<u64> {
    let mut value = 0_u64;
    // SAFETY: `read_msr` writes to `value` only, and only if RDMSR does not fault.
    let done = unsafe { guarded(read_msr, number.into(), (&raw mut value) as u64) };
    done.is_ok().then_some(value)
}

/// Writes an MSR. Returns `true` if WRMSR completed without a fault.
pub fn write(number: u32, value: u64) -> bool {
    // SAFETY: the programs write MSRs of SVM, and L0 writes MSRs of a guest. No program relies on another MSR.
    unsafe { guarded(write_msr, number.into(), value) }.is_ok()
}

global_asm!(
    r#"
.section .text
.globl read_msr
read_msr:
    mov ecx, edi
    rdmsr
    mov [rsi], eax
    mov [rsi + 4], edx
    ret
.globl write_msr
write_msr:
    mov ecx, edi
    mov eax, esi
    mov rdx, rsi
    shr rdx, 32
    wrmsr
    ret
"#
);
