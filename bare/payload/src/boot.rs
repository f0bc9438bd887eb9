//! From flat 32-bit protected mode to `main` in 64-bit mode.

use core::arch::global_asm;

unsafe extern "C" {
    #[link_name = "IMAGE_END"]
    static IMAGE_END: u8;
}

/// Physical address behind the image, where the blob of cases stands.
pub(crate) fn image_end() -> u64 {
    (&raw const IMAGE_END) as u64
}

global_asm!(
    r#"
.section .head, "awx"
.code32
.globl start
start:
    jmp start32
    .balign 8
    .ascii "NSVMLAB\0"
    .quad IMAGE_END

    // Multiboot, version 1. Bit 16: the addresses are here, the file is loaded as it is.
    .balign 4
multiboot:
    .long 0x1BADB002
    .long 0x00010000
    .long -(0x1BADB002 + 0x00010000)
    .long multiboot
    .long start
    .long 0
    .long 0
    .long start

.section .text
.code32
start32:
    cli
    cld
    mov esp, offset stack_top
    // 4 GiB mapped to itself by 2 MiB pages.
    mov edi, offset directories
    mov eax, 0x83
    mov ecx, 2048
2:
    mov [edi], eax
    add edi, 8
    add eax, 0x200000
    loop 2b
    mov eax, offset directories + 3
    mov edi, offset pointers
    mov ecx, 4
3:
    mov [edi], eax
    add eax, 4096
    add edi, 8
    loop 3b
    mov eax, offset pointers + 3
    mov [top], eax
    mov eax, offset top
    mov cr3, eax
    // PAE, OSFXSR, OSXMMEXCPT: compiled code uses XMM registers.
    mov eax, 0x620
    mov cr4, eax
    mov ecx, 0xC0000080
    rdmsr
    or eax, 0x100
    wrmsr
    // PG, WP, NE, MP, PE; EM and TS clear.
    mov eax, 0x80010023
    mov cr0, eax
    lgdt [gdt_pointer]
    // push and retf in the place of a far jump: the assembler knows no indirect far jump with a symbol here.
    push 8
    mov eax, offset start64
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
    mov rsp, offset stack_top
    mov eax, 24
    ltr ax
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
    // A TSS: nothing is read from it, since no stack is switched here, but VMLOAD and hardware want one.
    .word 0x67
    .word 0xC000                // a page that nothing else uses
    .byte 0
    .byte 0x89
    .byte 0
    .byte 0
    .quad 0
gdt_end:
.balign 8
    .word 0, 0, 0
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
    .long 0

.section .bss, "aw", @nobits
.balign 4096
top:
    .skip 4096
pointers:
    .skip 4096
directories:
    .skip 4 * 4096
stack:
    .skip 16384
stack_top:
.section .text
"#
);
