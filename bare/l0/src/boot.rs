//! From PVH's 32-bit entry to `main` in 64-bit mode, at the place where L0 lives.
//!
//! Everything below 4 GiB is mapped to itself. That is more than comfort: QEMU's #VMEXIT can leave paging off behind
//! a guest in an odd mode (see `vcpu`), and then the next instruction is fetched by its physical address.

use bare_interface::l0::LOAD;
use core::arch::global_asm;

global_asm!(
    r#"
.section .head, "awx"
.code32
.globl start
start:
    jmp start32
    .balign 8
    .ascii "NSVML0\0\0"
    .quad 0, 0, 0, 0, 0         // 16: home, bundle, its size, bytes of the image, zeros behind it
    .long stack_top - start     // 56
    .long top - start           // 60
    .long gdt_pointer - start   // 64
    .long gdt - start           // 68
    .long copied - start        // 72
    .long start64 - start       // 76
    .long pointers - start      // 80
    .long directories - start   // 84

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
    mov eax, [ebp + 72]
    add eax, ebp
    jmp eax
copied:
    mov esp, [ebp + 56]
    add esp, ebp
    // 4 GiB mapped to itself by 2 MiB pages.
    mov edi, [ebp + 84]
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
    mov edi, [ebp + 80]
    add edi, ebp
    mov edx, edi
    mov ecx, 4
3:
    mov [edi], eax
    add eax, 4096
    add edi, 8
    loop 3b
    lea eax, [edx + 3]
    mov edi, [ebp + 60]
    add edi, ebp
    mov [edi], eax
    mov cr3, edi
    // PAE, OSFXSR, OSXMMEXCPT: compiled code uses XMM registers.
    mov eax, 0x620
    mov cr4, eax
    // SVME, NXE, LME: the nested tables are as this CPU's own.
    mov ecx, 0xC0000080
    rdmsr
    or eax, 0x1900
    wrmsr
    mov eax, 0x80010033
    mov cr0, eax
    mov eax, [ebp + 68]
    add eax, ebp
    mov edi, [ebp + 64]
    add edi, ebp
    mov [edi + 2], eax
    lgdt [edi]
    push 8
    mov eax, [ebp + 76]
    add eax, ebp
    push eax
    retf
.code64
start64:
    mov eax, 16
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    mov ebp, ebp
    lea rsi, [rip + RELA_START]
    lea rdi, [rip + RELA_END]
4:
    cmp rsi, rdi
    jae 5f
    mov rax, [rsi]
    mov rcx, [rsi + 16]
    add rcx, rbp
    mov [rax + rbp], rcx
    add rsi, 24
    jmp 4b
5:
    mov edi, ebx
    mov rsi, rbp
    xor ebp, ebp
    call main
6:
    hlt
    jmp 6b

.section .data
.balign 8
gdt:
    .quad 0
    .quad 0x00AF9B000000FFFF    // 64-bit code
    .quad 0x00CF93000000FFFF    // data
.balign 8
    .word 0, 0, 0
gdt_pointer:
    .word 23
    .long 0
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
    .skip 262144
stack_top:
.section .text
"#,
    LOAD = const LOAD,
);
