//! How L1's CPU pages, and the address spaces of L2 that follow from it.

use crate::l0::page::Page;
use vmcb::layout::vmcb_field as f;
use vmcb::{Cr4, Efer};

/// How the CPU that executed VMRUN pages, and with it its nested tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// Two levels of 32-bit entries.
    Legacy,
    /// Three levels.
    Pae,
    /// Four levels.
    Long,
    /// Five levels.
    Long5,
}

impl Mode {
    pub(super) const fn levels(self) -> u8 {
        match self {
            Self::Legacy => 2,
            Self::Pae => 3,
            Self::Long => 4,
            Self::Long5 => 5,
        }
    }

    /// Width of the addresses that the tables translate.
    pub(super) const fn width(self) -> u8 {
        match self {
            Self::Legacy | Self::Pae => 32,
            Self::Long => 48,
            Self::Long5 => 57,
        }
    }

    /// The lowest bit of the index at a level, 1 being the last.
    pub(super) const fn shift(self, level: u8) -> u8 {
        let per_level = if matches!(self, Self::Legacy) { 10 } else { 9 };
        12 + per_level * (level - 1)
    }
}

/// One address space of L2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Root {
    pub(super) n_cr3: u64,
    pub(super) asid: u32,
    pub(super) paging: Paging,
    pub(super) page: u16,
}

impl Root {
    /// Whether it is the same address space; where its shadow stands is another matter.
    #[inline(always)]
    pub(super) fn is(&self, other: &Self) -> bool {
        (self.n_cr3 ^ other.n_cr3)
            | u64::from(self.asid ^ other.asid)
            | u64::from(self.paging.0 ^ other.paging.0)
            == 0
    }
}

/// What of L1's registers decides about its nested tables, at its VMRUN: the bits of CR4 and EFER.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Paging(u32);

impl Paging {
    const CR4: u64 = Cr4::PSE.union(Cr4::PAE).union(Cr4::LA57).union(Cr4::SMEP).bits();
    const EFER: u64 = Efer::LMA.union(Efer::NXE).bits();

    #[inline(always)]
    pub(super) fn of(l1: &Page) -> Self {
        // Bits of CR4 and of EFER that do not meet.
        const _: () = assert!(Paging::CR4 & Paging::EFER == 0);
        Self((l1.get(f::cr4) & Self::CR4 | l1.get(f::efer) & Self::EFER) as u32)
    }

    const fn has(self, bit: u64) -> bool {
        self.0 as u64 & bit != 0
    }

    pub(super) fn mode(self) -> Mode {
        match (self.has(Efer::LMA.bits()), self.has(Cr4::PAE.bits())) {
            (true, _) if self.has(Cr4::LA57.bits()) => Mode::Long5,
            (true, _) => Mode::Long,
            (false, true) => Mode::Pae,
            (false, false) => Mode::Legacy,
        }
    }

    /// EFER.NXE: bit 63 means no-execute.
    pub(super) fn nx(self) -> bool {
        self.mode() != Mode::Legacy && self.has(Efer::NXE.bits())
    }

    /// CR4.PSE: large pages without PAE.
    pub(super) const fn pse(self) -> bool {
        self.has(Cr4::PSE.bits())
    }

    /// CR4.SMEP: fetches are told apart even without NXE.
    pub(super) const fn smep(self) -> bool {
        self.has(Cr4::SMEP.bits())
    }
}
