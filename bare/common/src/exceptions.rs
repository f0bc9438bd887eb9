//! Interrupts and exceptions: a table of handlers, and calls that survive a fault.
//!
//! A fault outside of a [guarded] call reaches the program's function
//! `unexpected_fault(vector: u64, error_code: u64, rip: u64) -> !`.

use core::arch::{asm, global_asm};

const VECTORS: usize = 256;
const STUB: u64 = 16;

unsafe extern "C" {
    static EXCEPTION_STUBS: [u8; VECTORS * STUB as usize];
    static mut FAULT_VECTOR: u64;
    static mut FAULT_ERROR: u64;
    /// Calls the function with these arguments. Returns 1 if it faulted.
    fn guarded_call(function: unsafe extern "C" fn(u64, u64), first: u64, second: u64) -> u32;
}

static mut IDT: [[u64; 2]; VECTORS] = [[0; 2]; VECTORS];

/// The fault that ended a [guarded] call.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Its vector.
    pub vector: u64,
    /// Its error code; 0 if it has none.
    pub error: u64,
}

/// Loads the table of handlers.
pub fn load() {
    for vector in 0..=u8::MAX {
        set_gate(vector, (&raw const EXCEPTION_STUBS) as u64 + STUB * u64::from(vector));
    }
    let mut pointer = [0_u8; 10];
    pointer[..2].copy_from_slice(&((VECTORS * 16 - 1) as u16).to_le_bytes());
    pointer[2..].copy_from_slice(&((&raw const IDT) as u64).to_le_bytes());
    // SAFETY: every gate of the table leads to a handler.
    unsafe { asm!("lidt [{}]", in(reg) pointer.as_ptr(), options(readonly, nostack, preserves_flags)) }
}

/// Sets the handler of a vector: code that returns by IRETQ.
pub fn set_gate(vector: u8, handler: u64) {
    // A 64-bit interrupt gate: selector 8, present, DPL 0.
    let low = handler & 0xFFFF | 8 << 16 | 0x8E00 << 32 | (handler >> 16 & 0xFFFF) << 48;
    // SAFETY: there is one CPU, the index is within the table, and no reference to the table exists.
    unsafe { (&raw mut IDT).cast::<[u64; 2]>().add(vector.into()).write_volatile([low, handler >> 32]) }
}

/// Calls a function that may fault. A fault ends the call at once.
///
/// # Errors
/// The fault.
///
/// # Safety
/// The caller must meet the safety requirements of `function`. A fault abandons `function` without unwinding, so
/// `function` must not leave a state that only its remaining code would restore.
pub unsafe fn guarded(
    function: unsafe extern "C" fn(u64, u64),
    first: u64,
    second: u64,
) -> Result<(), Fault> {
    // SAFETY: the caller's. The call saves the registers that a function must preserve.
    if unsafe { guarded_call(function, first, second) } == 0 {
        return Ok(());
    }
    // SAFETY: there is one CPU, and the handler that writes them is not running.
    unsafe { Err(Fault { vector: FAULT_VECTOR, error: FAULT_ERROR }) }
}

global_asm!(
    r#"
.section .bss, "aw", @nobits
.balign 8
.globl FAULT_VECTOR, FAULT_ERROR
FAULT_VECTOR: .skip 8
FAULT_ERROR:  .skip 8
RECOVERY:     .skip 8

.section .text
.balign 16
.globl EXCEPTION_STUBS
EXCEPTION_STUBS:
.set number, 0
.rept 256
    .balign 16
    push number
    jmp exception
    .set number, number + 1
.endr

exception:
    // The CPU aligns RSP to 16 bytes before it pushes five words, and pushes an error code after them if the exception
    // has one. Without an error code RSP is aligned again here, and a zero takes the place of the error code.
    test spl, 8
    jnz 1f
    push [rsp]
    mov qword ptr [rsp + 8], 0
1:
    cmp qword ptr [rip + RECOVERY], 0
    je 2f
    pop qword ptr [rip + FAULT_VECTOR]
    pop qword ptr [rip + FAULT_ERROR]
    mov eax, 1
    jmp recovered
2:
    pop rdi
    pop rsi
    pop rdx
    and rsp, -16
    call unexpected_fault

.globl guarded_call
guarded_call:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    sub rsp, 8
    mov [rip + RECOVERY], rsp
    mov rax, rdi
    mov rdi, rsi
    mov rsi, rdx
    call rax
    xor eax, eax
recovered:
    cld
    mov rsp, [rip + RECOVERY]
    mov qword ptr [rip + RECOVERY], 0
    add rsp, 8
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
"#
);
