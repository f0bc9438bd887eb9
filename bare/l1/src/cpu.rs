//! The instructions of the tests, and their faults and interrupts.

use bare_common::cpu::halt;
use bare_common::exceptions::{self, guarded};
use bare_common::port::outb;
use bare_common::serial::Serial;
use core::arch::{asm, global_asm};

/// A line on the first serial port.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => {{
        use core::fmt::Write as _;
        let _ = writeln!(bare_common::serial::Serial::com1(), $($text)*);
    }};
}

/// Ends the machine.
pub(crate) fn end(code: u8) -> ! {
    Serial::com1().drain();
    outb(0xF4, code);
    halt()
}

pub(crate) fn write_msr(number: u32, value: u64) {
    assert!(bare_common::msr::write(number, value), "WRMSR of {number:#x} faults");
}

pub(crate) fn read_msr(number: u32) -> u64 {
    bare_common::msr::read(number).expect("RDMSR faults")
}

unsafe extern "C" {
    /// VMRUN. It preserves no register.
    fn run_guest(rax: u64, unused: u64);
    /// rdi: VMCB. Cycles: until L2's first instruction, and from #VMEXIT until the next one here.
    fn timed_round(vmcb: u64, entry: *mut u64, exit: *mut u64);
    fn xmm_round(vmcb: u64, own: *const u8, other: *const u8, seen_by_l2: *mut u8, seen_by_l1: *mut u8);
    /// L2 writes the MSR and reads it again.
    fn msr_round(vmcb: u64, msr: u32, value: u64, seen: *mut u64);
    static tick: u8;
    static mut TICKS: u64;
    static l2_vmmcall: [u8; 4];
    static l2_timed: [u8; 1];
    static l2_xmm: [u8; 1];
    static l2_spin: [u8; 1];
    static l2_msr: [u8; 1];
    static l2_read: [u8; 1];
    static l2_write: [u8; 1];
    static l2_jump: [u8; 1];
    static l2_prefixed: [u8; 1];
}

/// Where L2 begins.
#[derive(Clone, Copy)]
pub(crate) enum Code {
    /// VMMCALL again and again.
    Vmmcall,
    /// Reads the time, then VMMCALL.
    Timed,
    /// Stores what it finds in XMM registers, loads others, VMMCALL.
    Xmm,
    /// For ever.
    Spin,
    /// Writes an MSR and reads it, VMMCALL.
    Msr,
    /// Reads where rAX points, VMMCALL.
    Read,
    /// Writes there.
    Write,
    /// Goes on there.
    Jump,
    /// Instructions with prefixes, then VMMCALL.
    Prefixed,
}

impl Code {
    pub(crate) fn address(self) -> u64 {
        match self {
            Self::Vmmcall => (&raw const l2_vmmcall) as u64,
            Self::Timed => (&raw const l2_timed) as u64,
            Self::Xmm => (&raw const l2_xmm) as u64,
            Self::Spin => (&raw const l2_spin) as u64,
            Self::Msr => (&raw const l2_msr) as u64,
            Self::Read => (&raw const l2_read) as u64,
            Self::Write => (&raw const l2_write) as u64,
            Self::Jump => (&raw const l2_jump) as u64,
            Self::Prefixed => (&raw const l2_prefixed) as u64,
        }
    }
}

/// VMRUN; false where it faulted.
pub(crate) fn vmrun(rax: u64) -> bool {
    // SAFETY: L2 reaches what the test gives it; all registers are saved.
    unsafe { guarded(run_guest, rax, 0) }.is_ok()
}

pub(crate) fn timed(vmcb: u64) -> (u64, u64) {
    let (mut entry, mut exit) = (0, 0);
    // SAFETY: it writes these two.
    unsafe { timed_round(vmcb, &raw mut entry, &raw mut exit) }
    (entry, exit)
}

/// What L2 reads of an MSR that it wrote.
pub(crate) fn msr(vmcb: u64, msr: u32, value: u64) -> u64 {
    let mut seen = 0;
    // SAFETY: it writes this.
    unsafe { msr_round(vmcb, msr, value, &raw mut seen) }
    seen
}

/// The XMM registers, each 16 bytes.
pub(crate) type Xmm = [u8; 256];

pub(crate) fn xmm(vmcb: u64, own: &Xmm, other: &Xmm) -> (Xmm, Xmm) {
    let (mut seen_by_l2, mut seen_by_l1) = ([0; 256], [0; 256]);
    // SAFETY: it reads the first two and writes the others.
    unsafe { xmm_round(vmcb, own.as_ptr(), other.as_ptr(), seen_by_l2.as_mut_ptr(), seen_by_l1.as_mut_ptr()) }
    (seen_by_l2, seen_by_l1)
}

macro_rules! timed_instruction {
    ($name:ident, $instruction:literal) => {
        pub(crate) fn $name(rax: u64) -> u64 {
            let (before, after): (u64, u64);
            // SAFETY: the page is the test's own and was written by VMSAVE.
            unsafe {
                asm!(
                    "rdtsc", "shl rdx, 32", "or rdx, rax", "mov r8, rdx", "mov rax, rcx",
                    $instruction,
                    "rdtsc", "shl rdx, 32", "or rdx, rax",
                    in("rcx") rax, out("r8") before, out("rdx") after, out("rax") _,
                );
            }
            after - before
        }
    };
}

timed_instruction!(vmload, "vmload rax");
timed_instruction!(vmsave, "vmsave rax");
timed_instruction!(nothing, "nop");

pub(crate) fn ticks() -> u64 {
    // SAFETY: the handler of the one CPU writes it.
    unsafe { (&raw const TICKS).read_volatile() }
}

macro_rules! bare {
    ($($name:ident $instruction:literal;)*) => {
        $(pub(crate) fn $name() {
            // SAFETY: it changes interrupts only, and handlers save what they use.
            unsafe { asm!($instruction, options(nostack)) }
        })*
    };
}

bare! {
    sti "sti";
    cli "cli";
    clgi "clgi";
    stgi "stgi";
    wait "hlt";
}

/// Handlers for all vectors: 20h counts, the others end the test.
pub(crate) fn load_idt() {
    exceptions::load();
    exceptions::set_gate(TIMER, (&raw const tick) as u64);
}

const TIMER: u8 = 0x20;

/// The timer on vector 20h, at 1,193,182 Hz divided by this; everything else masked.
pub(crate) fn start_timer(divisor: u16) {
    for (port, value) in
        [(0x20, 0x11), (0xA0, 0x11), (0x21, 0x20), (0xA1, 0x28), (0x21, 4), (0xA1, 2), (0x21, 1), (0xA1, 1)]
    {
        outb(port, value);
    }
    outb(0x21, 0xFE);
    outb(0xA1, 0xFF);
    outb(0x43, 0x34);
    outb(0x40, divisor as u8);
    outb(0x40, (divisor >> 8) as u8);
}

#[unsafe(no_mangle)]
extern "C" fn unexpected_fault(vector: u64, error: u64, rip: u64) -> ! {
    say!("FAILED: vector {vector:#x}, error code {error:#x}, RIP {rip:#x}");
    end(2)
}

global_asm!(
    r#"
.section .bss, "aw", @nobits
.balign 8
.globl TICKS
TICKS: .skip 8

.section .text
.globl tick
tick:
    inc qword ptr [rip + TICKS]
    push rax
    mov al, 0x20
    out 0x20, al
    pop rax
    iretq

.globl run_guest
run_guest:
    mov rax, rdi
    vmrun rax
    ret

.globl timed_round
timed_round:
    push rbx
    push r12
    push r13
    push r14
    mov rcx, rdx
    rdtsc
    shl rdx, 32
    or rdx, rax
    mov r12, rdx
    mov rax, rdi
    vmrun rax
    rdtsc
    shl rdx, 32
    or rdx, rax
    sub rdx, r14
    mov [rcx], rdx
    sub r13, r12
    mov [rsi], r13
    pop r14
    pop r13
    pop r12
    pop rbx
    ret
.globl l2_timed
l2_timed:
    rdtsc
    shl rdx, 32
    or rdx, rax
    mov r13, rdx
    rdtsc
    shl rdx, 32
    or rdx, rax
    mov r14, rdx
    vmmcall
    jmp l2_timed

.macro each_xmm instruction, base
    .set place, 0
    .irp register, xmm0,xmm1,xmm2,xmm3,xmm4,xmm5,xmm6,xmm7,xmm8,xmm9,xmm10,xmm11,xmm12,xmm13,xmm14,xmm15
    .ifc \instruction,load
    movdqu \register, [\base + place]
    .else
    movdqu [\base + place], \register
    .endif
    .set place, place + 16
    .endr
.endm
.globl xmm_round
xmm_round:
    push rbx
    push r12
    push r13
    push r14
    push rbp
    mov r12, rdx
    mov r13, rcx
    mov r14, r8
    mov rax, rdi
    each_xmm load, rsi
    vmrun rax
    each_xmm store, r14
    // An exit that is L0's own, with what L2 left.
    xor eax, eax
    xor ecx, ecx
    cpuid
    movdqu xmm0, [r14]
    pop rbp
    pop r14
    pop r13
    pop r12
    pop rbx
    ret
.globl l2_xmm
l2_xmm:
    each_xmm store, r13
    each_xmm load, r12
    vmmcall
    jmp l2_xmm

.globl msr_round
msr_round:
    push rbx
    push r12
    push r13
    push r14
    push rbp
    mov r12d, esi
    mov r13, rdx
    mov rbx, rcx
    xor r14d, r14d
    mov rax, rdi
    vmrun rax
    mov [rbx], r14
    pop rbp
    pop r14
    pop r13
    pop r12
    pop rbx
    ret
.globl l2_msr
l2_msr:
    mov ecx, r12d
    mov eax, r13d
    mov rdx, r13
    shr rdx, 32
    wrmsr
    rdmsr
    shl rdx, 32
    mov eax, eax
    or rdx, rax
    mov r14, rdx
    vmmcall
    jmp l2_msr

.globl l2_read
l2_read:
    mov rcx, [rax]
    vmmcall
.globl l2_write
l2_write:
    mov [rax], rcx
    vmmcall
.globl l2_jump
l2_jump:
    jmp rax

.globl l2_vmmcall
l2_vmmcall:
    vmmcall
    jmp l2_vmmcall
.globl l2_spin
l2_spin:
    jmp l2_spin
.globl l2_prefixed
l2_prefixed:
    // CPUID, RDMSR of EFER and STGI; one byte too few, and what follows is another instruction.
    .byte 0x67, 0x0F, 0xA2
    mov ecx, 0xC0000080
    .byte 0x2E, 0x0F, 0x32
    .byte 0x67, 0x0F, 0x01, 0xDC
    vmmcall
    ud2
"#
);
