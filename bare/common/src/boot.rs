//! From flat 32-bit protected mode to `main` in 64-bit mode.
//!
//! The entry of a program sets EBP to the address of the label `boot` and jumps to it. The code is position-independent,
//! so the program can copy itself to another place first. `main` is called with the values of EBX and ESI. Addresses
//! below 4 GiB are identity-mapped.

use core::arch::global_asm;

unsafe extern "C" {
    static page_tables: u8;
}

/// Physical address of the top level of the page tables.
#[must_use]
pub fn page_table() -> u64 {
    (&raw const page_tables) as u64
}

global_asm!(
    r#"
.section .head.boot, "awx"
.code32
.macro place symbol
    .set at_\symbol, . - boot
    .long \symbol - boot
.endm
.globl boot
boot:
    jmp 1f
    // Distances to other sections. The assembler accepts such distances in data directives only, not as immediates.
    .balign 4
    place directories
    place pointers
    place page_tables
    place gdt
    place gdt_pointer
    place stack_top
1:
    cli
    cld
    // 4 GiB mapped to itself by 2 MiB pages.
    mov edi, [ebp + at_directories]
    add edi, ebp
    mov edx, edi
    mov eax, 0x83
    mov ecx, 2048
2:
    mov [edi], eax
    add edi, 8
    add eax, 0x200000
    loop 2b
    lea eax, [edx + 3]
    mov edi, [ebp + at_pointers]
    add edi, ebp
    mov edx, edi
    mov ecx, 4
3:
    mov [edi], eax
    add eax, 4096
    add edi, 8
    loop 3b
    lea eax, [edx + 3]
    mov edi, [ebp + at_page_tables]
    add edi, ebp
    mov [edi], eax
    mov cr3, edi
    // PAE. OSFXSR and OSXMMEXCPT, because guests use XMM registers.
    mov eax, 0x620
    mov cr4, eax
    // EFER.LME
    mov ecx, 0xC0000080
    rdmsr
    or eax, 0x100
    wrmsr
    // PG, WP, NE, ET, MP, PE. EM and TS are clear.
    mov eax, 0x80010033
    mov cr0, eax
    mov eax, [ebp + at_gdt]
    add eax, ebp
    mov edi, [ebp + at_gdt_pointer]
    add edi, ebp
    mov [edi + 2], eax
    lgdt [edi]
    mov esp, [ebp + at_stack_top]
    add esp, ebp
    // In place of a far jump, whose target would be an absolute address.
    push 8
    .set to_start64, start64 - boot
    lea eax, [ebp + to_start64]
    push eax
    retf
.code64
start64:
    mov eax, 16
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov fs, eax
    mov gs, eax
    mov esp, esp
    mov eax, 24
    ltr ax
    mov edi, ebx
    mov esi, esi
    xor ebp, ebp
    call main
4:
    hlt
    jmp 4b

.section .data
.balign 8
gdt:
    .quad 0
    .quad 0x00AF9B000000FFFF    // 64-bit code
    .quad 0x00CF93000000FFFF    // data
    // A TSS at C000h. The CPU requires one but never reads it, because no handler switches the stack.
    .quad 0x00008900C0000067
    .quad 0
gdt_end:
.balign 8
    .word 0, 0, 0
gdt_pointer:
    .word gdt_end - gdt - 1
    .long 0
    .long 0

.section .bss, "aw", @nobits
.balign 4096
.globl page_tables
page_tables:
    .skip 4096
pointers:
    .skip 4096
directories:
    .skip 4 * 4096
.section .text
"#
);
