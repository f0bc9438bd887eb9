//! The instructions of the tests, and their faults and interrupts.

use core::arch::{asm, global_asm};
use core::fmt;

pub(crate) fn outb(port: u16, value: u8) {
    // SAFETY: no device here writes to memory.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) }
}

pub(crate) fn inb(port: u16) -> u8 {
    let value;
    // SAFETY: as above.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) }
    value
}

pub(crate) fn outl(port: u16, value: u32) {
    // SAFETY: as above.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nomem, nostack, preserves_flags)) }
}

pub(crate) fn inl(port: u16) -> u32 {
    let value;
    // SAFETY: as above.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nomem, nostack, preserves_flags)) }
    value
}

pub(crate) struct Serial;

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            while inb(0x3FD) & 0x20 == 0 {}
            outb(0x3F8, byte);
        }
        Ok(())
    }
}

/// A line on the first serial port.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => {{
        let _ = core::fmt::Write::write_fmt(&mut $crate::cpu::Serial, format_args!("{}\n", format_args!($($text)*)));
    }};
}

/// Ends the machine.
pub(crate) fn end(code: u8) -> ! {
    while inb(0x3FD) & 0x40 == 0 {}
    outb(0xF4, code);
    loop {
        // SAFETY: nothing comes after it.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) }
    }
}

pub(crate) fn write_msr(msr: u32, value: u64) {
    // SAFETY: the MSRs that are written here are those of SVM.
    unsafe {
        asm!("wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nostack, preserves_flags));
    }
}

pub(crate) fn read_msr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: it changes nothing.
    unsafe {
        asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags))
    }
    u64::from(low) | u64::from(high) << 32
}

unsafe extern "C" {
    /// 1 where VMRUN faulted.
    fn guarded_vmrun(rax: u64) -> u64;
    /// rdi: VMCB. Cycles: until L2's first instruction, and from #VMEXIT until the next one here.
    fn timed_round(vmcb: u64, entry: *mut u64, exit: *mut u64);
    fn xmm_round(vmcb: u64, own: *const u8, other: *const u8, seen_by_l2: *mut u8, seen_by_l1: *mut u8);
    /// L2 writes the MSR and reads it again.
    fn msr_round(vmcb: u64, msr: u32, value: u64, seen: *mut u64);
    static STUBS: [u8; 16 * 256];
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
    #[link_name = "top"]
    static TABLES: u8;
}

/// This program's own page tables, which map everything below 4 GiB to itself.
pub(crate) fn top() -> *const u8 {
    &raw const TABLES
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
    unsafe { guarded_vmrun(rax) == 0 }
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
    static mut IDT: [[u64; 2]; 256] = [[0; 2]; 256];
    // SAFETY: written once, before it is loaded.
    unsafe {
        for number in 0..256 {
            let handler = (&raw const STUBS) as u64 + 16 * number as u64;
            let low = handler & 0xFFFF | 8 << 16 | 0x8E00 << 32 | (handler >> 16 & 0xFFFF) << 48;
            (&raw mut IDT).cast::<[u64; 2]>().add(number).write([low, handler >> 32]);
        }
        let mut pointer = [0u8; 10];
        pointer[..2].copy_from_slice(&0xFFF_u16.to_le_bytes());
        pointer[2..].copy_from_slice(&((&raw const IDT) as u64).to_le_bytes());
        asm!("lidt [{}]", in(reg) pointer.as_ptr(), options(readonly, nostack, preserves_flags));
    }
}

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
extern "C" fn unexpected(vector: u64, error: u64, rip: u64) -> ! {
    say!("FAILED: vector {vector:#x}, error code {error:#x}, RIP {rip:#x}");
    end(2)
}

global_asm!(
    r#"
.section .data
.balign 8
.globl TICKS
TICKS: .quad 0
RECOVERY: .quad 0
.section .text
.balign 16
.globl STUBS
STUBS:
.set number, 0
.rept 256
    .balign 16
    .if (number < 32) && ((1 << (number & 31)) & 0x60227D00)
    .else
    push 0
    .endif
    push number
    jmp arrived
    .set number, number + 1
.endr

arrived:
    cmp qword ptr [rsp], 0x20
    jne 1f
    inc qword ptr [TICKS]
    push rax
    mov al, 0x20
    out 0x20, al
    pop rax
    add rsp, 16
    iretq
1:
    cmp qword ptr [RECOVERY], 0
    je 2f
    mov rsp, [RECOVERY]
    mov eax, 1
    jmp recovered
2:
    pop rdi
    pop rsi
    pop rdx
    and rsp, -16
    call unexpected

.globl guarded_vmrun
guarded_vmrun:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov [RECOVERY], rsp
    mov rax, rdi
    vmrun rax
    xor eax, eax
recovered:
    cld
    mov rsp, [RECOVERY]
    mov qword ptr [RECOVERY], 0
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
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
