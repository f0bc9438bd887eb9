//! The instructions of L1: ports, MSRs, CPUID, VMRUN, and faults that are caught.

use bare_interface::payload::memory;
use core::arch::{asm, global_asm};

/// Writes a byte to a port.
pub(crate) fn outb(port: u16, value: u8) {
    // SAFETY: no device that is driven here writes to memory.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) }
}

/// Reads a byte from a port.
pub(crate) fn inb(port: u16) -> u8 {
    let value;
    // SAFETY: reading the status of a serial port has no effect on memory.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) }
    value
}

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

/// A model-specific register by its number.
#[derive(Clone, Copy)]
pub(crate) struct Msr(pub(crate) u32);

impl Msr {
    pub(crate) const EFER: Self = Self(0xC000_0080);
    pub(crate) const SYSCFG: Self = Self(0xC001_0010);
    pub(crate) const HWCR: Self = Self(0xC001_0015);
    pub(crate) const VM_CR: Self = Self(0xC001_0114);
    pub(crate) const VM_HSAVE_PA: Self = Self(0xC001_0117);
}

/// What CPUID says: EAX, EBX, ECX, EDX.
pub(crate) fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    // SAFETY: every CPU with long mode has CPUID, and it changes nothing else. Older compilers ask for this block.
    #[allow(unused_unsafe)]
    let answer = unsafe { core::arch::x86_64::__cpuid_count(leaf, subleaf) };
    [answer.eax, answer.ebx, answer.ecx, answer.edx]
}

unsafe extern "C" {
    /// Reads the MSR into `value`; 0 unless it faulted.
    fn guarded_rdmsr(msr: u32, value: *mut u64) -> u32;
    /// Writes the MSR; 0 unless it faulted.
    fn guarded_wrmsr(msr: u32, low: u32, high: u32) -> u32;
    /// VMRUN with this rAX, after VMLOAD of the VMCB where the second is not 0; 0 unless it faulted.
    fn guarded_vmrun(rax: u64, vmload: u32) -> u32;
    static mut FAULT_VECTOR: u64;
    static mut FAULT_ERROR: u64;
    static FAULT_STUBS: [u8; 32 * 16];
}

/// The MSR, or nothing where reading faults.
pub(crate) fn read_msr(msr: Msr) -> Option<u64> {
    let mut value = 0;
    // SAFETY: it writes `value` and nothing else, and comes back when RDMSR faults.
    let faulted = unsafe { guarded_rdmsr(msr.0, &raw mut value) };
    (faulted == 0).then_some(value)
}

/// Writes the MSR; false where that faults.
pub(crate) fn write_msr(msr: Msr, value: u64) -> bool {
    // SAFETY: the MSRs that are written here are those of SVM; it comes back when WRMSR faults.
    unsafe { guarded_wrmsr(msr.0, value as u32, (value >> 32) as u32) == 0 }
}

/// How VMRUN ended.
pub(crate) enum Exit {
    /// With #VMEXIT.
    Done,
    /// It faulted in L1.
    Fault { vector: u64, error: u64 },
}

/// VMRUN of the VMCB at this physical address, with GIF clear where there is SVM to clear it.
pub(crate) fn vmrun(rax: u64, vmload: bool, svme: bool) -> Exit {
    if svme {
        // SAFETY: only NMIs and the like wait until STGI.
        unsafe { asm!("clgi", options(nomem, nostack)) }
    }
    // SAFETY: the guest's memory is [0, 2 MiB), where nothing of this program stands; registers are saved.
    let faulted = unsafe { guarded_vmrun(rax, vmload.into()) };
    if svme {
        // SAFETY: as before.
        unsafe { asm!("stgi", options(nomem, nostack)) }
    }
    if vmload {
        // SAFETY: the page was written by `save_host_state`.
        unsafe { asm!("vmload rax", in("rax") crate::l2::HOST_STATE, options(nostack)) }
    }
    if faulted == 0 {
        return Exit::Done;
    }
    // SAFETY: one CPU; the handler that writes them is not running.
    unsafe { Exit::Fault { vector: FAULT_VECTOR, error: FAULT_ERROR } }
}

/// Keeps what VMLOAD overwrites.
pub(crate) fn save_host_state() {
    // SAFETY: the page belongs to this alone.
    unsafe { asm!("vmsave rax", in("rax") crate::l2::HOST_STATE, options(nostack)) }
}

/// Masks every line of both interrupt controllers.
pub(crate) fn mask_pics() {
    outb(0x21, 0xFF);
    outb(0xA1, 0xFF);
}

/// Stops for ever.
pub(crate) fn halt() -> ! {
    loop {
        // SAFETY: interrupts are off and masked: nothing happens after it.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) }
    }
}

/// Loads an IDT whose 32 handlers note the fault and go back to the guarded instruction's caller.
pub(crate) fn catch_faults() {
    const ENTRIES: usize = 32;
    static mut IDT: [[u64; 2]; ENTRIES] = [[0; 2]; ENTRIES];
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

/// The fault that nobody expected: the payload cannot go on.
#[unsafe(no_mangle)]
extern "C" fn unexpected_fault(vector: u64, error: u64, rip: u64) -> ! {
    crate::console::Line::new("e").text("fault in the payload:").hex(vector).hex(error).hex(rip).send();
    crate::console::end()
}

const _: () = assert!(memory::HSAVE.is_multiple_of(4096));

global_asm!(
    r#"
.section .data
.balign 8
.globl FAULT_VECTOR, FAULT_ERROR
FAULT_VECTOR: .quad 0
FAULT_ERROR:  .quad 0
RECOVERY:     .quad 0
L1_CR0:       .quad 0

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
    cmp qword ptr [RECOVERY], 0
    je 1f
    pop qword ptr [FAULT_VECTOR]
    pop qword ptr [FAULT_ERROR]
    mov rsp, [RECOVERY]
    mov eax, 1
    jmp leave_guard
1:
    pop rdi
    pop rsi
    pop rdx
    sub rsp, 8
    and rsp, -16
    call unexpected_fault

// Saves what a call must keep, and where a fault comes back to.
.macro enter_guard
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov [RECOVERY], rsp
.endm

.globl guarded_rdmsr
guarded_rdmsr:
    enter_guard
    mov ecx, edi
    rdmsr
    mov [rsi], eax
    mov [rsi + 4], edx
    xor eax, eax
    jmp leave_guard

.globl guarded_wrmsr
guarded_wrmsr:
    enter_guard
    mov ecx, edi
    mov eax, esi
    wrmsr
    xor eax, eax
    jmp leave_guard

.globl guarded_vmrun
guarded_vmrun:
    enter_guard
    mov rax, rdi
    test esi, esi
    jz 1f
    vmload rax
1:
    mov rbx, cr0
    mov [L1_CR0], rbx
    xor ebx, ebx
    xor ecx, ecx
    xor edx, edx
    xor esi, esi
    xor edi, edi
    xor ebp, ebp
    vmrun rax
    // QEMU keeps the guest's CR0 behind a guest with EFER.LME and neither paging nor CR4.PAE, and takes nested paging
    // for off from then on. Writing L1's own mends it; elsewhere PG is set and nothing is done.
    mov rax, cr0
    bt rax, 31
    jc 2f
    mov rax, [L1_CR0]
    mov cr0, rax
2:
    xor eax, eax

leave_guard:
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
"#
);
