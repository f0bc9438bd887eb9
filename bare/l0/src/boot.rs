//! From PVH's 32-bit entry to `l0_main` in 64-bit mode, at the place where L0 lives.
//!
//! Addresses below 4 GiB are identity-mapped. L0 depends on that: after a guest in an unusual mode, QEMU's #VMEXIT can
//! leave paging off (see `vcpu`), and the CPU then fetches the next instruction by its physical address.

use bare_interface::l0::{HEAD_MAGIC, LOAD};
use core::arch::global_asm;

global_asm!(
    r#"
.section .head, "awx"
.code32
.globl start
start:
    jmp start32
    .balign 8
    .quad {HEAD_MAGIC}
    .quad 0, 0, 0, 0, 0         // 16: home, bundle, its size, bytes of the image, zeros after it
    .long boot - start          // 56

.set to_copied, copied - start
start32:
    cli
    cld
    mov esi, {LOAD}
    mov edx, esi
    mov edi, [esi + 16]
    mov ebp, edi
    mov ecx, [esi + 40]
    shr ecx, 2
    rep movsd
    xor eax, eax
    mov ecx, [edx + 48]
    shr ecx, 2
    rep stosd
    lea eax, [ebp + to_copied]
    jmp eax
copied:
    mov esi, ebp
    add ebp, [ebp + 56]
    jmp boot

.section .text
.code64
// RDI: the address of the start info. RSI: where L0 begins. Applies the relocations.
.globl main
main:
    lea rax, [rip + RELA_START]
    lea rcx, [rip + RELA_END]
4:
    cmp rax, rcx
    jae l0_main
    mov rdx, [rax]
    mov r8, [rax + 16]
    add r8, rsi
    mov [rdx + rsi], r8
    add rax, 24
    jmp 4b

.section .bss, "aw", @nobits
.balign 16
    .skip 262144
.globl stack_top
stack_top:
.section .text
"#,
    HEAD_MAGIC = const HEAD_MAGIC,
    LOAD = const LOAD,
);
