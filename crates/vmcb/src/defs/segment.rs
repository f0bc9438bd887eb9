//! A segment register as the VMCB holds it.

/// The packed attribute word of a segment: 16 bits, of which the manual defines 12.
///
/// The descriptor's attribute bits without the gap that the limit leaves there. The unpacked layout,
/// with L at bit 13 and D/B at bit 14, is a usual bug of drivers: bits 15:12 are always zero here.
///
/// # Source
/// Manual volume 2, 15.5.1, figure 15-2 and appendix B.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub struct SegmentAttributes(u16);

impl SegmentAttributes {
    /// Bits with a name, lowest first; bits 3:0 are the type and 6:5 the DPL.
    pub const NAMES: &'static [(u8, &'static str)] =
        &[(4, "S"), (7, "P"), (8, "AVL"), (9, "L"), (10, "D/B"), (11, "G")];

    /// From all 16 bits.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// All 16 bits.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Descriptor type, bits 3:0.
    #[must_use]
    pub const fn kind(self) -> u8 {
        self.0 as u8 & 0xF
    }

    /// S, bit 4: a code or data segment, not a system one.
    #[must_use]
    pub const fn is_code_or_data(self) -> bool {
        self.0 & 1 << 4 != 0
    }

    /// DPL, bits 6:5.
    #[must_use]
    pub const fn dpl(self) -> u8 {
        (self.0 >> 5) as u8 & 3
    }

    /// P, bit 7.
    #[must_use]
    pub const fn present(self) -> bool {
        self.0 & 1 << 7 != 0
    }

    /// L, bit 9: a 64-bit code segment.
    #[must_use]
    pub const fn long(self) -> bool {
        self.0 & 1 << 9 != 0
    }

    /// D/B, bit 10.
    #[must_use]
    pub const fn default_size(self) -> bool {
        self.0 & 1 << 10 != 0
    }

    /// Bits 15:12, which the packed layout leaves zero: set, they are the mark of the unpacked one.
    #[must_use]
    pub const fn beyond(self) -> u16 {
        self.0 & 0xF000
    }
}

/// A segment register: 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub struct Segment {
    /// Selector.
    pub selector: u16,
    /// Attributes.
    pub attributes: SegmentAttributes,
    /// Limit in bytes, already scaled by G.
    pub limit: u32,
    /// Base, a linear address.
    pub base: u64,
}
