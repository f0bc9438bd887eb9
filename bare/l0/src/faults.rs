//! A fault of L0 itself: it says so and ends the machine, unless RDMSR or WRMSR raised it, executed in the place of a guest.

use core::arch::{asm, global_asm};

unsafe extern "C" {
    static FAULT_STUBS: [u8; 32 * 16];
}

const ENTRIES: usize = 32;
static mut IDT: [[u64; 2]; ENTRIES] = [[0; 2]; ENTRIES];

/// Loads the table of handlers.
pub(crate) fn catch() {
    // SAFETY: the table is written here only, before it is loaded; its handlers are the stubs below.
    unsafe {
        for number in 0..ENTRIES {
            let handler = (&raw const FAULT_STUBS) as u64 + 16 * number as u64;
            // A 64-bit interrupt gate: selector 8, present, DPL 0.
            let low = handler & 0xFFFF | 8 << 16 | 0x8E00 << 32 | (handler >> 16 & 0xFFFF) << 48;
            (&raw mut IDT).cast::<[u64; 2]>().add(number).write([low, handler >> 32]);
        }
        let mut pointer = [0u8; 10];
        pointer[..2].copy_from_slice(&(16 * ENTRIES as u16 - 1).to_le_bytes());
        pointer[2..].copy_from_slice(&((&raw const IDT) as u64).to_le_bytes());
        asm!("lidt [{}]", in(reg) pointer.as_ptr(), options(readonly, nostack, preserves_flags));
    }
}

#[unsafe(no_mangle)]
extern "C" fn unexpected_fault(vector: u64, error: u64, rip: u64) -> ! {
    crate::log::fail(format_args!(
        "a fault of L0 itself: vector {vector}, error code {error:#x}, RIP {rip:#x}"
    ))
}

global_asm!(
    r#"
.section .text
// 32 stubs of 16 bytes. Vectors 8, 10 to 14, 17, 21, 29 and 30 bring an error code, the others get a zero.
.balign 16
.globl FAULT_STUBS
FAULT_STUBS:
.set number, 0
.rept 32
    .balign 16
    .if (1 << number) & 0x60227D00
    .else
    push 0
    .endif
    push number
    jmp fault
    .set number, number + 1
.endr

fault:
    push rax
    lea rax, [rip + MAY_FAULT_READING]
    cmp rax, [rsp + 24]
    je 2f
    lea rax, [rip + MAY_FAULT_WRITING]
    cmp rax, [rsp + 24]
    je 2f
    pop rax
    pop rdi
    pop rsi
    pop rdx
    and rsp, -16
    call unexpected_fault
2:
    pop rax
    add rsp, 16
    // Both instructions have two bytes.
    add qword ptr [rsp], 2
    xor edi, edi
    iretq
"#
);
