//! Comparison of short texts, 16 bytes at a time.

/// The first 16 bytes of a text, which are compared at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed {
    key: u128,
    mask: u128,
}

impl Packed {
    pub(super) const fn new(text: &[u8]) -> Self {
        let (mut key, mut mask, mut index) = (0, 0, 0);
        while index < text.len() && index < 16 {
            key |= (text[index] as u128) << (index * 8);
            mask |= 0xFF << (index * 8);
            index += 1;
        }
        Self { key, mask }
    }

    /// Whether the bytes of `head` begin with them.
    #[inline]
    pub(super) const fn is_in(self, head: u128) -> bool {
        head & self.mask == self.key
    }
}
