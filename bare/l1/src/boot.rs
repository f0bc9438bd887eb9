//! The multiboot header and entry. `main` is called with multiboot's EBX and EAX.

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

start32:
    mov esi, eax
    mov ebp, offset boot
    jmp boot

.section .bss, "aw", @nobits
.balign 16
    .skip 65536
.globl stack_top
stack_top:
.section .text
.code64
"#
);
