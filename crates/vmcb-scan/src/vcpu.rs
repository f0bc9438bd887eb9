//! Virtual CPUs: what tells them apart, and what is counted for each.

use std::hash::Hasher;

/// What tells virtual CPUs apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[non_exhaustive]
pub enum VcpuKey {
    /// The thread that runs it.
    Thread(u32),
    /// The CPU, where no thread is named.
    Cpu(u32),
    /// The virtual CPU's own number, where there are no columns.
    Number(u32),
    /// Nothing names it.
    Unnamed,
}

impl VcpuKey {
    /// The number in it.
    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::Thread(number) | Self::Cpu(number) | Self::Number(number) => number,
            Self::Unnamed => 0,
        }
    }
}

/// Lines of one virtual CPU.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Vcpu {
    /// Its number, where a line names it.
    pub number: Option<u32>,
    /// Trace lines.
    pub lines: u64,
    /// Nested VMRUNs.
    pub vmruns: u64,
    /// Those that inject an event.
    pub events: u64,
    /// Lines that break a rule, or tell of a refusal.
    pub refused: u64,
}

/// Mixes a few bytes; the keys are bounded in number, so collisions cost little.
#[derive(Default, Debug)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(byte.into());
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(value.into());
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value as u64);
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(29) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 ^= self.0 >> 32;
    }
}
