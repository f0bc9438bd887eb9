//! The masks and ranges of a virtual CPU that conditions compare a VMCB with.

use super::feature::Feature;
use super::gates::{reserved_in_cr4, reserved_in_efer};
use super::reserved::Reserved;
use super::virtual_cpu::{Cpu, PHYS_BITS};
use crate::defs::exception::{ExceptionSet, RESERVED_VECTORS};

/// A number of which the smallest and the largest possible value are known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Range<T> {
    pub(crate) lowest: T,
    pub(crate) highest: T,
}

impl<T: PartialEq> Range<T> {
    /// Whether only one number is possible.
    pub(crate) fn is_known(&self) -> bool {
        self.lowest == self.highest
    }
}

/// A virtual CPU, with what follows from it: masks of reserved bits, and ranges of numbers.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Bounds {
    pub(crate) cpu: Cpu,
    pub(crate) cr4: Reserved,
    pub(crate) efer: Reserved,
    pub(crate) reserved_vectors: ExceptionSet,
    pub(crate) sev_asid_maximum: Range<u32>,
    pub(crate) sev_asid_minimum: Range<u32>,
    pub(crate) phys_bits: Range<u8>,
    /// Bits that may be the C-bit.
    pub(crate) c_bit: u64,
}

impl Bounds {
    /// What this build knows of such a CPU.
    pub(crate) fn compile(cpu: &Cpu) -> Self {
        Self::assemble(*cpu, reserved_in_cr4(cpu.features), reserved_in_efer(cpu.features), RESERVED_VECTORS)
    }

    /// Fills in what follows from the rest.
    pub(crate) fn assemble(cpu: Cpu, cr4: Reserved, efer: Reserved, reserved_vectors: ExceptionSet) -> Self {
        let phys_bits = match cpu.phys_bits {
            Some(bits) => Range { lowest: bits, highest: bits },
            None => Range { lowest: PHYS_BITS.0, highest: PHYS_BITS.1 },
        };
        let range = |known: Option<u32>| match known {
            Some(number) => Range { lowest: number, highest: number },
            None => Range { lowest: 0, highest: u32::MAX },
        };
        let encrypts = cpu.features.may_set() & (Feature::Sme.mask() | Feature::Sev.mask()) != 0;
        let c_bit = match cpu.c_bit {
            _ if !encrypts => 0,
            Some(position) => 1 << (position & 63),
            // Where all known parts have it.
            None => 1 << 47 | 1 << 51,
        };
        Self {
            cpu,
            cr4,
            efer,
            reserved_vectors,
            sev_asid_maximum: range(cpu.sev_asid_maximum),
            sev_asid_minimum: range(cpu.sev_asid_minimum),
            phys_bits,
            c_bit,
        }
    }

    /// 2^MAXPHYADDR, the smallest that it can be.
    #[inline(always)]
    pub(crate) const fn lowest_limit(&self) -> u64 {
        1 << (self.phys_bits.lowest & 63)
    }

    /// 2^MAXPHYADDR, the largest that it can be.
    #[inline(always)]
    pub(crate) const fn highest_limit(&self) -> u64 {
        1 << (self.phys_bits.highest & 63)
    }
}
