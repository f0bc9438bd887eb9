//! The head of the image, and its entry in flat 32-bit protected mode.

use bare_interface::payload::HEADER_MAGIC;
use core::arch::global_asm;

unsafe extern "C" {
    #[link_name = "IMAGE_END"]
    static IMAGE_END: u8;
}

/// Physical address of the end of the image, where the blob of cases is.
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
    .quad {HEADER_MAGIC}
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

start32:
    mov ebp, offset boot
    jmp boot

.section .bss, "aw", @nobits
.balign 16
    .skip 16384
.globl stack_top
stack_top:
.section .text
.code64
"#,
    HEADER_MAGIC = const HEADER_MAGIC,
);
