//! Where lines go: port E9h, the first serial port, the text screen.

use crate::cpu::{outs, ring};
use crate::l2;
use bare_common::cpu::halt;
use bare_common::port::outb;
use bare_common::serial::Serial;
use bare_interface::payload::console::{self as flag, BELL_PORT};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

/// Port E9h until the blob has said otherwise: nothing answers there on hardware, and nothing is hurt.
static CHOSEN: AtomicU32 = AtomicU32::new(flag::E9);
static ROW: AtomicUsize = AtomicUsize::new(0);

const SCREEN: u64 = 0xB_8000;
const COLUMNS: usize = 80;
const ROWS: usize = 25;

/// Chooses where lines go from now on.
pub(crate) fn choose(flags: u32) {
    CHOSEN.store(flags, Relaxed);
    if flags & flag::SERIAL != 0 {
        Serial::com1().open();
    }
}

/// A line being put together; it is sent in one piece.
pub(crate) struct Line {
    bytes: [u8; 256],
    length: usize,
}

impl Line {
    pub(crate) fn new(kind: &str) -> Self {
        let mut line = Self { bytes: [0; 256], length: 0 };
        for byte in kind.bytes() {
            line.push(byte);
        }
        line
    }

    fn push(&mut self, byte: u8) {
        // One byte is kept for the end of the line.
        if let Some(place) = self.bytes.get_mut(self.length).filter(|_| self.length < 255) {
            *place = byte;
            self.length += 1;
        }
    }

    /// A space and a number, in hexadecimal.
    pub(crate) fn hex(mut self, value: u64) -> Self {
        self.push(b' ');
        let digits = (64 - value.leading_zeros()).div_ceil(4).max(1);
        for place in (0..digits).rev() {
            let digit = (value >> (4 * place) & 0xF) as u8;
            self.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
        }
        self
    }

    /// A space and words.
    pub(crate) fn text(mut self, text: &str) -> Self {
        self.push(b' ');
        for byte in text.bytes() {
            self.push(byte);
        }
        self
    }

    pub(crate) fn send(mut self) {
        self.bytes[self.length.min(255)] = b'\n';
        let line = self.bytes.get(..=self.length).unwrap_or(&self.bytes);
        let chosen = CHOSEN.load(Relaxed);
        if chosen & flag::BELL != 0 {
            ring(BELL_PORT, line);
        } else if chosen & flag::E9 != 0 {
            outs(0xE9, line);
        }
        if chosen & flag::SERIAL != 0 {
            line.iter().for_each(|&byte| Serial::com1().send(byte));
        }
        if chosen & flag::SCREEN != 0 {
            show(line);
        }
    }
}

/// Writes a line on the text screen, which begins again at its top when it is full.
fn show(line: &[u8]) {
    let row = ROW.fetch_add(1, Relaxed) % ROWS;
    for column in 0..COLUMNS {
        let byte = line.get(column).copied().filter(|&byte| byte != b'\n').unwrap_or(b' ');
        l2::write16(SCREEN + 2 * (row * COLUMNS + column) as u64, 0x0700 | u16::from(byte));
    }
}

/// Nothing more comes: the emulator is told, and the CPU stops.
pub(crate) fn end() -> ! {
    let chosen = CHOSEN.load(Relaxed);
    if chosen & flag::SERIAL != 0 {
        Serial::com1().drain();
    }
    if chosen & flag::E9 != 0 {
        // QEMU's isa-debug-exit, and what ends Bochs.
        outb(0xF4, 0);
        b"Shutdown".iter().for_each(|&letter| outb(0x8900, letter));
    }
    halt()
}
