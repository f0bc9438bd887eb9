//! Into a guest and out of it.

use core::arch::{asm, global_asm};
use core::mem::offset_of;
use nested_svm::Page;

/// The registers of the guest that VMRUN does not switch: L1 and L2 share them, as on hardware.
#[repr(C, align(16))]
pub(crate) struct Registers {
    pub(crate) rcx: u64,
    pub(crate) rdx: u64,
    pub(crate) rbx: u64,
    pub(crate) rbp: u64,
    pub(crate) rsi: u64,
    pub(crate) rdi: u64,
    pub(crate) r8_to_r15: [u64; 8],
    /// x87 and XMM registers, in the form of FXSAVE64. L0's own code uses the lower 16 bytes of XMM0 to XMM15 and
    /// nothing else, so the upper halves of YMM registers stay where they are.
    pub(crate) fx: [u8; 512],
}

impl Registers {
    /// As after RESET, as far as it matters.
    pub(crate) const fn new() -> Self {
        let mut fx = [0; 512];
        // FCW = 037Fh, MXCSR = 1F80h.
        fx[0] = 0x7F;
        fx[1] = 0x03;
        fx[24] = 0x80;
        fx[25] = 0x1F;
        Self { rcx: 0, rdx: 0, rbx: 0, rbp: 0, rsi: 0, rdi: 0, r8_to_r15: [0; 8], fx }
    }
}

const _: () = {
    assert!(offset_of!(Registers, r8_to_r15) == 48);
    assert!(offset_of!(Registers, fx) == 112);
};

/// Runs the guest of a VMCB until it exits. `interrupts`: RFLAGS.IF at VMRUN.
#[inline(always)]
pub(crate) fn enter(vmcb: &mut Page, registers: &mut Registers, interrupts: bool) {
    // SAFETY: the VMCB is one of L0's own, whose nested tables map no byte of L0 to the guest. What is not named here is
    // saved and restored: the compiler lets nobody name RBX and RBP.
    unsafe {
        asm!(
            "call enter_guest",
            in("rdi") &raw mut *vmcb,
            in("rsi") &raw mut *registers,
            in("edx") u32::from(interrupts),
            out("r12") _,
            out("r13") _,
            out("r14") _,
            out("r15") _,
            clobber_abi("C"),
        );
    }
}

global_asm!(
    r#"
.section .text
.balign 16
.globl enter_guest
enter_guest:
    push rbx
    push rbp
    push rsi
    push rdi
    // With GIF clear L0 takes no interrupts whatever IF says; VMRUN keeps it for V_INTR_MASKING.
    cli
    test edx, edx
    jz 1f
    sti
1:
    mov rax, rdi
    fxrstor64 [rsi + 112]
    mov rcx, [rsi]
    mov rdx, [rsi + 8]
    mov rbx, [rsi + 16]
    mov rbp, [rsi + 24]
    mov rdi, [rsi + 40]
    mov r8, [rsi + 48]
    mov r9, [rsi + 56]
    mov r10, [rsi + 64]
    mov r11, [rsi + 72]
    mov r12, [rsi + 80]
    mov r13, [rsi + 88]
    mov r14, [rsi + 96]
    mov r15, [rsi + 104]
    mov rsi, [rsi + 32]
    vmload rax
    vmrun rax
    // QEMU leaves CR0 as the guest had it, paging and protection off, behind one with LME and neither PG nor PAE.
    mov rax, cr0
    test eax, eax
    jns 3f
2:
    pop rax
    vmsave rax
    pop rax
    mov [rax], rcx
    mov [rax + 8], rdx
    mov [rax + 16], rbx
    mov [rax + 24], rbp
    mov [rax + 32], rsi
    mov [rax + 40], rdi
    mov [rax + 48], r8
    mov [rax + 56], r9
    mov [rax + 64], r10
    mov [rax + 72], r11
    mov [rax + 80], r12
    mov [rax + 88], r13
    mov [rax + 96], r14
    mov [rax + 104], r15
    fxsave64 [rax + 112]
    pop rbp
    pop rbx
    ret
3:
    mov eax, 0x80010033
    mov cr0, rax
    jmp 2b
"#
);
