//! Dumps written at random in every format, for tests that read them back: `WRITERS` has one function a format.
//!
//! A test, the example `damaged` and others include this file as a module; what a format's writer needs stands in
//! a file of its own beside this one.
#![allow(dead_code, reason = "each user takes a part")]

pub(crate) mod check;
pub(crate) mod damage;
pub(crate) mod hex_dump;
pub(crate) mod kvm_dump;
pub(crate) mod kvm_trace;
pub(crate) mod prefix;
pub(crate) mod qemu_log;
pub(crate) mod qemu_registers;
pub(crate) mod xen_checks;
pub(crate) mod xen_dump;

use vmcb::layout::Page;

/// xorshift64*: the same inputs in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The inputs of one round; neighbouring seeds have nothing in common.
    pub(crate) fn seeded(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..4 {
            random.next();
        }
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16) % end
    }

    /// One time in `times`.
    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// A value of `size` bytes as fields have them: often zero, few bits, all ones, small, or any.
    pub(crate) fn value(&mut self, size: u16) -> u64 {
        let value = match self.below(6) {
            0 => 0,
            1 => 1 << self.below(64),
            2 => u64::MAX,
            3 => self.next() & 0xFF,
            4 => self.next() & 0xFFFF_FFFF,
            _ => self.next(),
        };
        value & mask(size)
    }
}

/// The bits of a field of `size` bytes.
pub(crate) fn mask(size: u16) -> u64 {
    if size >= 8 { u64::MAX } else { (1 << (size * 8)) - 1 }
}

/// A field that a dump shows.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) page: Page,
    pub(crate) offset: u16,
    /// In bytes, 1 to 8.
    pub(crate) size: u16,
    pub(crate) value: u64,
    /// The bits that the dump tells. The others of `value` are true and need not be read.
    pub(crate) mask: u64,
}

/// One dump, written, and what a reader may find in it.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) text: String,
    /// What the undamaged text tells, all of it.
    pub(crate) shows: Vec<Shown>,
}

/// Writes a dump.
pub(crate) type Writer = fn(&mut Random) -> Written;

/// The formats by name.
pub(crate) const WRITERS: &[(&str, Writer)] = &[
    ("kvm-dump", kvm_dump::write),
    ("hex-dump", hex_dump::write),
    ("qemu-registers", qemu_registers::write),
    ("qemu-log", qemu_log::write),
    ("xen-dump", xen_dump::write),
    ("xen-checks", xen_checks::write),
    ("kvm-trace-enter", kvm_trace::enter),
    ("kvm-trace-exit", kvm_trace::refused_exit),
];
