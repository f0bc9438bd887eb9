//! The boot sector of a disk image: loads the image that follows it to its place and enters it.
//!
//! Reads by the BIOS's extended INT 13h into a buffer below 1 MiB, and copies each piece up with 32-bit addresses
//! in real mode ("unreal" mode). The writer of the image puts the number of sectors into the last 8 bytes before
//! the partition table's place.
//!
//! UNSAFETY: the program is machine code that the BIOS enters.
#![no_std]
#![no_main]

use core::arch::global_asm;

global_asm!(
    r#"
.section .head, "awx"
.code16
.globl start
start:
    cli
    cld
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7C00
    mov [drive], dl
    // A20 by the fast gate; emulators and most hardware have it open already.
    in al, 0x92
    or al, 2
    and al, 0xFE
    out 0x92, al
    sti

next:
    mov si, offset packet
    mov ah, 0x42
    mov dl, [drive]
    int 0x13
    jc failed
    // Protected mode and back: DS and ES keep their 4 GiB limits.
    cli
    lgdt [gdt_pointer]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    mov bx, 8
    mov ds, bx
    mov es, bx
    and al, 0xFE
    mov cr0, eax
    xor bx, bx
    mov ds, bx
    mov es, bx
    mov esi, 0x10000
    mov edi, [target]
    mov ecx, 64 * 512 / 4
    .byte 0x67, 0xF3, 0x66, 0xA5    // rep movsd with 32-bit addresses
    mov [target], edi
    sti
    add dword ptr [block], 64
    sub dword ptr [sectors], 64
    ja next

    cli
    lgdt [gdt_pointer]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    mov ax, 8
    mov ds, ax
    mov es, ax
    mov ss, ax
    .byte 0x66, 0xEA    // far jump, 32-bit offset
    .long 0x400000
    .word 16

failed:
    mov si, offset message
1:
    lodsb
    test al, al
    jz 2f
    mov ah, 0x0E
    mov bx, 7
    int 0x10
    jmp 1b
2:
    hlt
    jmp 2b

message:
    .asciz "nsvm-lab: the disk cannot be read"
.balign 4
gdt_pointer:
    .word 23
    .long gdt
.balign 8
gdt:
    .quad 0
    .quad 0x00CF93000000FFFF
    .quad 0x00CF9B000000FFFF
packet:
    .byte 16, 0
    .word 64            // sectors in one go
    .word 0, 0x1000     // to 1000h:0
block:
    .long 1, 0
target:
    .long 0x400000
drive:
    .byte 0
    .org 0x1B0
// The writer of the image fills this in.
.globl sectors
sectors:
    .long 0
    .org 0x1FE
    .byte 0x55, 0xAA
"#
);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
