//! A serial port without interrupts.

use crate::port::{inb, outb};
use core::fmt;

/// A serial port by its first I/O port.
#[derive(Clone, Copy)]
pub struct Serial(u16);

const LINE_STATUS: u16 = 5;
const CAN_TAKE_A_BYTE: u8 = 1 << 5;
const IS_IDLE: u8 = 1 << 6;

impl Serial {
    /// The first serial port of a PC.
    #[must_use]
    pub const fn com1() -> Self {
        Self(0x3F8)
    }

    /// The second serial port of a PC.
    #[must_use]
    pub const fn com2() -> Self {
        Self(0x2F8)
    }

    /// Sets it to 115,200 baud, 8 bits, no parity, one stop bit, FIFOs on, no interrupts.
    pub fn open(self) {
        for (offset, value) in [(1, 0), (3, 0x80), (0, 1), (1, 0), (3, 3), (2, 7), (4, 3)] {
            outb(self.0 + offset, value);
        }
    }

    /// Sends a byte.
    pub fn send(self, byte: u8) {
        while inb(self.0 + LINE_STATUS) & CAN_TAKE_A_BYTE == 0 {}
        outb(self.0, byte);
    }

    /// Waits until the last byte is sent.
    pub fn drain(self) {
        while inb(self.0 + LINE_STATUS) & IS_IDLE == 0 {}
    }
}

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.send(byte));
        Ok(())
    }
}
