//! Port I/O.

use core::arch::asm;

macro_rules! ports {
    ($($read:ident $write:ident $value:ty, $register:tt, $in:literal, $out:literal;)*) => {
        $(
            /// Reads from a port.
            #[must_use]
            pub fn $read(port: u16) -> $value {
                let value;
                // SAFETY: reading a port does not change memory.
                unsafe {
                    asm!($in, in("dx") port, out($register) value, options(nomem, nostack, preserves_flags));
                }
                value
            }

            /// Writes to a port.
            pub fn $write(port: u16, value: $value) {
                // SAFETY: no device that these programs use writes to memory by itself.
                unsafe {
                    asm!($out, in("dx") port, in($register) value, options(nomem, nostack, preserves_flags));
                }
            }
        )*
    };
}

ports! {
    inb outb u8, "al", "in al, dx", "out dx, al";
    inw outw u16, "ax", "in ax, dx", "out dx, ax";
    inl outl u32, "eax", "in eax, dx", "out dx, eax";
}

/// Masks every line of both interrupt controllers.
pub fn mask_pics() {
    outb(0x21, 0xFF);
    outb(0xA1, 0xFF);
}
