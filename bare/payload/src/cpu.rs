//! The instructions of L1: VMRUN, and output that is one exit per line.

use crate::l2::HOST_STATE;
use bare_common::exceptions::{Fault, guarded};
use core::arch::{asm, global_asm};

/// Writes bytes to a port by one instruction: under a hypervisor one exit, not one a byte.
pub(crate) fn outs(port: u16, bytes: &[u8]) {
    // SAFETY: it reads the slice and nothing else; the direction flag is clear.
    unsafe {
        asm!("rep outsb", in("dx") port, inout("rsi") bytes.as_ptr() => _, inout("rcx") bytes.len() => _,
            options(readonly, nostack, preserves_flags));
    }
}

/// Writes the physical address of the bytes to a port: whoever listens reads them from memory.
pub(crate) fn ring(port: u16, bytes: &[u8]) {
    // SAFETY: memory is mapped to itself and ends below 4 GiB; the listener reads the slice and nothing else.
    unsafe {
        asm!("out dx, eax", in("dx") port, in("eax") bytes.as_ptr() as u32, options(readonly, nostack, preserves_flags));
    }
}

/// Numbers of model-specific registers.
pub(crate) mod msr {
    pub(crate) const EFER: u32 = 0xC000_0080;
    pub(crate) const SYSCFG: u32 = 0xC001_0010;
    pub(crate) const HWCR: u32 = 0xC001_0015;
    pub(crate) const VM_CR: u32 = 0xC001_0114;
    pub(crate) const VM_HSAVE_PA: u32 = 0xC001_0117;
}

unsafe extern "C" {
    /// VMRUN with this rAX, after VMLOAD of the VMCB if `vmload` is not 0. It preserves no register.
    fn run_guest(rax: u64, vmload: u64);
}

/// VMRUN of the VMCB at this physical address, with GIF clear if EFER.SVME is set. Returns how it ended: with #VMEXIT,
/// or with a fault in L1.
pub(crate) fn vmrun(rax: u64, vmload: bool, svme: bool) -> Result<(), Fault> {
    if svme {
        // SAFETY: only NMIs and the like wait until STGI.
        unsafe { asm!("clgi", options(nomem, nostack)) }
    }
    // SAFETY: the guest's memory is [0, 2 MiB), where nothing of this program stands; registers are saved.
    let ended = unsafe { guarded(run_guest, rax, vmload.into()) };
    if svme {
        // SAFETY: as before.
        unsafe { asm!("stgi", options(nomem, nostack)) }
    }
    if vmload {
        // SAFETY: the page was written by `save_host_state`.
        unsafe { asm!("vmload rax", in("rax") HOST_STATE, options(nostack)) }
    }
    ended
}

/// Keeps what VMLOAD overwrites.
pub(crate) fn save_host_state() {
    // SAFETY: the page belongs to this alone.
    unsafe { asm!("vmsave rax", in("rax") HOST_STATE, options(nostack)) }
}

global_asm!(
    r#"
.section .bss, "aw", @nobits
.balign 8
L1_CR0: .skip 8

.section .text
.globl run_guest
run_guest:
    mov rax, rdi
    test esi, esi
    jz 1f
    vmload rax
1:
    mov rbx, cr0
    mov [rip + L1_CR0], rbx
    xor ebx, ebx
    xor ecx, ecx
    xor edx, edx
    xor esi, esi
    xor edi, edi
    xor ebp, ebp
    vmrun rax
    // After a guest with EFER.LME and neither paging nor CR4.PAE, QEMU keeps the guest's CR0 and takes nested paging for
    // off. Writing L1's own CR0 restores both. Elsewhere PG is set and nothing is written.
    mov rax, cr0
    bt rax, 31
    jc 2f
    mov rax, [rip + L1_CR0]
    mov cr0, rax
2:
    ret
"#
);
