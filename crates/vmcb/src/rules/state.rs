//! What conditions are evaluated on.

use crate::cpu::bounds::Bounds;
use crate::cpu::reserved::Reserved;
use crate::defs::known::Bits;
use crate::defs::word::Word;

/// What the tests are asked of: words of which each bit may be known or not.
pub(crate) trait State {
    fn bits(&self, word: Word) -> Bits;
    fn bounds(&self) -> &Bounds;
    /// Which bit of an address is the C-bit of memory encryption.
    fn c_bit(&self) -> CBit;

    /// The bits of a physical address that are reserved: at and above MAXPHYADDR, but for the C-bit.
    #[inline(always)]
    fn address_reserved(&self) -> Reserved {
        let CBit { certain, possible } = self.c_bit();
        let bounds = self.bounds();
        Reserved {
            certain: bounds.highest_limit().wrapping_neg() & !certain,
            possible: bounds.lowest_limit().wrapping_neg() & !certain,
            exempt: possible,
        }
    }
}

/// The C-bit: a bit that marks encrypted pages and is no part of the address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CBit {
    /// It is this one.
    pub(crate) certain: u64,
    /// It may be one of these, or none.
    pub(crate) possible: u64,
}
