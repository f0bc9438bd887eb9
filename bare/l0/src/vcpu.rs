//! Into a guest and out of it.

use core::arch::asm;
use core::mem::offset_of;
use nested_svm::Page;

/// The general-purpose registers that VMRUN does not switch: L1 and L2 share them, as on hardware.
///
/// L1 and L2 also share x87 and XMM registers. L0 does not save those, because the code of a target with soft floats
/// uses neither.
#[repr(C)]
pub(crate) struct Registers {
    pub(crate) rcx: u64,
    pub(crate) rdx: u64,
    pub(crate) rbx: u64,
    pub(crate) rbp: u64,
    pub(crate) rsi: u64,
    pub(crate) rdi: u64,
    pub(crate) r8_to_r15: [u64; 8],
}

impl Registers {
    /// Zeros, as after RESET except for RDX.
    pub(crate) const fn new() -> Self {
        Self { rcx: 0, rdx: 0, rbx: 0, rbp: 0, rsi: 0, rdi: 0, r8_to_r15: [0; 8] }
    }
}

const _: () = assert!(offset_of!(Registers, r8_to_r15) == 48);

/// Sets x87 and XMM registers to defined values, which the first guest finds there.
pub(crate) fn reset_fpu() {
    /// The form of FXSAVE64.
    #[repr(C, align(16))]
    struct Area([u8; 512]);
    const fn area() -> Area {
        let mut area = [0; 512];
        // FCW = 037Fh, MXCSR = 1F80h.
        area[0] = 0x7F;
        area[1] = 0x03;
        area[24] = 0x80;
        area[25] = 0x1F;
        Area(area)
    }
    static RESET: Area = area();
    // SAFETY: it reads the area. The code of this target uses none of the registers that it sets.
    unsafe { asm!("fxrstor64 [{}]", in(reg) &raw const RESET, options(readonly, nostack, preserves_flags)) }
}

/// Runs the guest of a VMCB until it exits. `interrupts` is the value of RFLAGS.IF at VMRUN. With V_INTR_MASKING, that
/// flag masks physical interrupts while the guest runs. L0 itself takes no interrupt, because GIF is clear.
#[inline(always)]
pub(crate) fn enter(vmcb: &mut Page, registers: &mut Registers, interrupts: bool) {
    // SAFETY: the VMCB is one of L0's own, whose nested tables map no byte of L0 to the guest. The block saves RBX and
    // RBP, which no operand can name. The compiler uses no other register that is not named.
    unsafe {
        if interrupts {
            asm!("sti", options(nomem, nostack));
        } else {
            asm!("cli", options(nomem, nostack));
        }
        asm!(
            "push rbx",
            "push rbp",
            "push rsi",
            "push rax",
            "mov rcx, [rsi]",
            "mov rdx, [rsi + 8]",
            "mov rbx, [rsi + 16]",
            "mov rbp, [rsi + 24]",
            "mov rdi, [rsi + 40]",
            "mov r8, [rsi + 48]",
            "mov r9, [rsi + 56]",
            "mov r10, [rsi + 64]",
            "mov r11, [rsi + 72]",
            "mov r12, [rsi + 80]",
            "mov r13, [rsi + 88]",
            "mov r14, [rsi + 96]",
            "mov r15, [rsi + 104]",
            "mov rsi, [rsi + 32]",
            "vmload rax",
            "vmrun rax",
            // After a guest with LME and neither PG nor PAE, QEMU keeps the guest's CR0: paging and protection are off.
            "mov rax, cr0",
            "test eax, eax",
            "js 2f",
            "mov eax, 0x80010033",
            "mov cr0, rax",
            "2:",
            "pop rax",
            "vmsave rax",
            "pop rax",
            "mov [rax], rcx",
            "mov [rax + 8], rdx",
            "mov [rax + 16], rbx",
            "mov [rax + 24], rbp",
            "mov [rax + 32], rsi",
            "mov [rax + 40], rdi",
            "mov [rax + 48], r8",
            "mov [rax + 56], r9",
            "mov [rax + 64], r10",
            "mov [rax + 72], r11",
            "mov [rax + 80], r12",
            "mov [rax + 88], r13",
            "mov [rax + 96], r14",
            "mov [rax + 104], r15",
            "pop rbp",
            "pop rbx",
            inout("rax") &raw mut *vmcb => _,
            inout("rsi") &raw mut *registers => _,
            out("rcx") _,
            out("rdx") _,
            out("rdi") _,
            out("r8") _,
            out("r9") _,
            out("r10") _,
            out("r11") _,
            out("r12") _,
            out("r13") _,
            out("r14") _,
            out("r15") _,
        );
    }
}
