//! Which bits of a word a CPU does not define.

use crate::defs::known::Bits;

/// The bits of a word that a CPU does not define, as far as is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Reserved {
    /// Reserved on every CPU that fits what is known, but for `exempt`.
    pub(crate) certain: u64,
    /// Reserved on some CPU that fits what is known: a superset of `certain`.
    pub(crate) possible: u64,
    /// Bits of which one at most may be the C-bit, which is no part of an address.
    pub(crate) exempt: u64,
}

impl Reserved {
    /// Whether some bit of `mask` may be set and reserved (`wanted`), or none may be (not `wanted`).
    #[inline(always)]
    pub(crate) const fn may_be(self, bits: Bits, mask: u64, wanted: bool) -> bool {
        if wanted { self.some_of(bits.may_set() & mask) } else { self.none_of(!bits.may_clear() & mask) }
    }

    /// Whether one of these bits, which may be set, may be reserved.
    #[inline(always)]
    pub(crate) const fn some_of(self, may_be_set: u64) -> bool {
        may_be_set & self.possible != 0
    }

    /// Whether these bits, which are set, may all be defined.
    #[inline(always)]
    pub(crate) const fn none_of(self, set: u64) -> bool {
        let left = set & self.certain;
        left == 0 || left.is_power_of_two() && left & self.exempt != 0
    }
}
