//! Instructions that every program needs.

use core::arch::asm;

/// Returns EAX, EBX, ECX and EDX of CPUID.
#[must_use]
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    // SAFETY: every CPU with long mode has CPUID, and it changes nothing else. Older compilers require this block.
    #[allow(unused_unsafe)]
    let answer = unsafe { core::arch::x86_64::__cpuid_count(leaf, subleaf) };
    [answer.eax, answer.ebx, answer.ecx, answer.edx]
}

/// Stops the CPU for good.
pub fn halt() -> ! {
    loop {
        // SAFETY: no interrupt is taken, so nothing follows.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) }
    }
}
