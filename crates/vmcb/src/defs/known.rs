//! What is known of a word or of a page: some bits, all of them, or none.

use super::layout::{Field, PAGE_SIZE};

/// A word of up to 64 bits, each of which is known, unknown, or answered for by the caller.
///
/// Two masks: the bits that *may be* one and the bits that *may be* zero. A known bit is in exactly
/// one of them, an unknown bit in both. A bit in neither is one that the caller has taken over
/// ([`Answer::TakenOver`](crate::Answer)): no condition on it can be met, so no rule that needs it
/// is ever broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Bits {
    may_set: u64,
    may_clear: u64,
}

impl Bits {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self { may_set: u64::MAX, may_clear: u64::MAX };
    /// The caller checks what depends on this word himself.
    pub const TAKEN_OVER: Self = Self { may_set: 0, may_clear: 0 };

    /// All 64 bits are known.
    #[must_use]
    #[inline(always)]
    pub const fn known(value: u64) -> Self {
        Self { may_set: value, may_clear: !value }
    }

    /// The bits of `mask` are known and as in `value`, the others unknown.
    #[must_use]
    #[inline(always)]
    pub const fn partly(value: u64, mask: u64) -> Self {
        Self { may_set: value | !mask, may_clear: !value | !mask }
    }

    /// From the two masks.
    #[must_use]
    pub(crate) const fn from_masks(may_set: u64, may_clear: u64) -> Self {
        Self { may_set, may_clear }
    }

    /// Bits that are one in some completion.
    #[must_use]
    #[inline(always)]
    pub const fn may_set(self) -> u64 {
        self.may_set
    }

    /// Bits that are zero in some completion.
    #[must_use]
    #[inline(always)]
    pub const fn may_clear(self) -> u64 {
        self.may_clear
    }

    /// Mask of the bits that are known.
    #[must_use]
    #[inline(always)]
    pub const fn known_mask(self) -> u64 {
        self.may_set ^ self.may_clear
    }

    /// Mask of the bits of which both values are possible.
    #[must_use]
    #[inline(always)]
    pub const fn unknown_mask(self) -> u64 {
        self.may_set & self.may_clear
    }

    /// The known bits, zero where unknown.
    #[must_use]
    #[inline(always)]
    pub const fn value(self) -> u64 {
        self.may_set & !self.may_clear
    }

    /// The largest completion, read as a number.
    #[must_use]
    #[inline(always)]
    pub const fn largest(self) -> u64 {
        self.may_set
    }

    /// The bit at `position` alone, as a word of one bit.
    #[must_use]
    #[inline(always)]
    pub(crate) const fn bit(self, position: u8) -> Self {
        Self {
            may_set: self.may_set >> (position & 63) & 1,
            may_clear: self.may_clear >> (position & 63) & 1,
        }
    }

    /// The single bit of `mask` moved to bit 0.
    #[must_use]
    #[inline(always)]
    pub(crate) const fn only(self, mask: u64) -> Self {
        self.bit(mask.trailing_zeros() as u8)
    }

    /// Both.
    #[must_use]
    #[inline(always)]
    pub(crate) const fn and(self, other: Self) -> Self {
        Self { may_set: self.may_set & other.may_set, may_clear: self.may_clear | other.may_clear }
    }

    /// Either.
    #[must_use]
    #[inline(always)]
    pub(crate) const fn or(self, other: Self) -> Self {
        Self { may_set: self.may_set | other.may_set, may_clear: self.may_clear & other.may_clear }
    }

    /// A word whose only bits that may be anything are those of `other`, moved up by `position`.
    #[must_use]
    #[inline(always)]
    pub(crate) const fn put(self, mask: u64, other: Self) -> Self {
        let position = mask.trailing_zeros() & 63;
        Self {
            may_set: self.may_set | other.may_set << position,
            may_clear: self.may_clear | other.may_clear << position,
        }
    }

    /// Whether `value` is a completion of the bits of `mask`.
    #[must_use]
    #[inline(always)]
    pub(crate) const fn may_be(self, mask: u64, value: u64) -> bool {
        self.may_set & value & mask == value & mask && self.may_clear & !value & mask == !value & mask
    }

    /// The bits of `mask` from `other`, the rest from `self`.
    #[must_use]
    #[inline(always)]
    pub const fn with(self, mask: u64, other: Self) -> Self {
        Self {
            may_set: self.may_set & !mask | other.may_set & mask,
            may_clear: self.may_clear & !mask | other.may_clear & mask,
        }
    }
}

/// A page of which some bits are known: what a dump or a trace line shows of a VMCB.
///
/// # Examples
/// ```
/// use vmcb::{KnownPage, layout::vmcb_field};
/// let mut page = KnownPage::nothing();
/// page.learn(vmcb_field::guest_asid.offset, 4, 15, u64::MAX);
/// assert_eq!(page.field(vmcb_field::guest_asid).value(), 15);
/// assert_eq!(page.field(vmcb_field::eventinj).known_mask(), 0);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct KnownPage {
    value: [u8; PAGE_SIZE],
    known: [u8; PAGE_SIZE],
}

impl KnownPage {
    /// A page of which nothing is known.
    #[must_use]
    pub const fn nothing() -> Self {
        Self { value: [0; PAGE_SIZE], known: [0; PAGE_SIZE] }
    }

    /// A page of which everything is known.
    #[must_use]
    pub const fn all(page: &[u8; PAGE_SIZE]) -> Self {
        Self { value: *page, known: [0xFF; PAGE_SIZE] }
    }

    /// Takes the bits of `mask` (counted from the first byte's bit 0) as known.
    ///
    /// `size` is in bytes and at most 8; bytes beyond the page or beyond `size` are left out. What was
    /// known before is overwritten.
    pub fn learn(&mut self, offset: u16, size: u16, value: u64, mask: u64) {
        let value = value.to_le_bytes();
        let mask = mask.to_le_bytes();
        let places = (0..PAGE_SIZE).skip(usize::from(offset)).take(usize::from(size));
        for (place, (value, mask)) in places.zip(value.into_iter().zip(mask)) {
            if let (Some(byte), Some(known)) = (self.value.get_mut(place), self.known.get_mut(place)) {
                *byte = *byte & !mask | value & mask;
                *known |= mask;
            }
        }
    }

    /// Forgets `size` bytes from `offset` on.
    pub fn forget(&mut self, offset: u16, size: u16) {
        let range = usize::from(offset)..usize::from(offset) + usize::from(size);
        for (place, (value, known)) in self.value.iter_mut().zip(&mut self.known).enumerate() {
            if range.contains(&place) {
                *value = 0;
                *known = 0;
            }
        }
    }

    /// The `size` bytes from `offset` on (at most 8) as a little-endian word. Bits beyond `size` are
    /// known to be zero.
    #[must_use]
    pub fn read(&self, offset: u16, size: u16) -> Bits {
        let mut value = [0; 8];
        let mut known = [0xFF; 8];
        for index in 0..usize::from(size).min(8) {
            let place = usize::from(offset) + index;
            value[index] = self.value.get(place).copied().unwrap_or(0);
            known[index] = self.known.get(place).copied().unwrap_or(0);
        }
        Bits::partly(u64::from_le_bytes(value), u64::from_le_bytes(known))
    }

    /// The first 8 bytes of a field.
    #[must_use]
    pub fn field(&self, field: Field) -> Bits {
        self.read(field.offset, field.size)
    }

    /// Whether no bit is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.iter().all(|&byte| byte == 0)
    }

    /// The bytes, if every bit is known.
    #[must_use]
    pub fn complete(&self) -> Option<&[u8; PAGE_SIZE]> {
        self.known.iter().all(|&byte| byte == 0xFF).then_some(&self.value)
    }
}

impl core::fmt::Debug for KnownPage {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let known: u32 = self.known.iter().map(|byte| byte.count_ones()).sum();
        write!(f, "KnownPage {{ {known} of 32768 bits known }}")
    }
}
