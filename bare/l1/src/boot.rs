//! From multiboot's entry to `main` in 64-bit mode.

use core::arch::global_asm;

global_asm!(
    r#"
.section .head, "awx"
.code32
.globl start
start:
    jmp start32
    .balign 4
multiboot:
    .long 0x1BADB002
    .long 0x00010002
    .long -(0x1BADB002 + 0x00010002)
    .long multiboot
    .long start
    .long DATA_END
    .long IMAGE_END
    .long start

.section .text
start32:
    cli
    cld
    mov esp, offset stack_top
    mov esi, eax
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
    // PAE, OSFXSR, OSXMMEXCPT
    mov eax, 0x620
    mov cr4, eax
    mov ecx, 0xC0000080
    rdmsr
    or eax, 0x100
    wrmsr
    mov eax, 0x80010033
    mov cr0, eax
    lgdt [gdt_pointer]
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
    mov edi, esi
    mov esi, ebx
    xor ebp, ebp
    call main
4:
    hlt
    jmp 4b

.section .data
.balign 8
gdt:
    .quad 0
    .quad 0x00AF9B000000FFFF
    .quad 0x00CF93000000FFFF
    .quad 0x0000890010000067
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
.globl top
top:
    .skip 4096
pointers:
    .skip 4096
directories:
    .skip 4 * 4096
stack:
    .skip 65536
stack_top:
.section .text
"#
);
