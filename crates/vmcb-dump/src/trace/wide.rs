//! Comparison of several bytes at once, each with a range of values.

/// Bytes that are compared at once.
pub(super) const WIDE: usize = 16;

/// A few bytes of a stretch, which are compared at once: each has to be in one of two ranges, of which the second
/// is the first but for hexadecimal digits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    first: Ranges,
    second: Ranges,
}

/// A range of values for each byte.
#[derive(Clone, Copy, Debug)]
struct Ranges {
    lowest: [u8; WIDE],
    /// How much more than the lowest a byte may be.
    more: [u8; WIDE],
}

impl Piece {
    /// Any bytes.
    pub(super) const ANY: Self = {
        let any = Ranges { lowest: [0; WIDE], more: [0xFF; WIDE] };
        Self { first: any, second: any }
    };

    /// Of the byte at `place` this text, or a digit.
    pub(super) fn set(&mut self, place: usize, text: Option<u8>) {
        let [first, second] = match text {
            Some(byte) => [(byte, 0); 2],
            None => DIGITS,
        };
        for (ranges, (lowest, more)) in [(&mut self.first, first), (&mut self.second, second)] {
            if let (Some(place), Some(size)) = (ranges.lowest.get_mut(place), ranges.more.get_mut(place)) {
                (*place, *size) = (lowest, more);
            }
        }
    }

    /// Sets bits in `wrong` where `bytes` are not what they have to be.
    // The compiler makes of this a few instructions for all bytes at once.
    #[inline(always)]
    pub(super) fn compare(&self, bytes: &[u8; WIDE], wrong: &mut [u8; WIDE]) {
        let first = self.first.lowest.iter().zip(&self.first.more);
        let second = self.second.lowest.iter().zip(&self.second.more);
        for ((wrong, &byte), (first, second)) in wrong.iter_mut().zip(bytes).zip(first.zip(second)) {
            *wrong |= beyond(byte, first).min(beyond(byte, second));
        }
    }
}

/// The first byte and how many follow: hexadecimal digits as tools print them.
const DIGITS: [(u8, u8); 2] = [(b'0', 9), (b'a', 5)];

/// 0 if the byte is in the range.
#[inline(always)]
const fn beyond(byte: u8, (lowest, more): (&u8, &u8)) -> u8 {
    byte.wrapping_sub(*lowest).saturating_sub(*more)
}

/// Whether a bit is set.
#[inline(always)]
pub(super) fn any(bytes: &[u8; WIDE]) -> bool {
    bytes.iter().fold(0, |all, byte| all | byte) != 0
}

/// How many hexadecimal digits `bytes` begin with.
#[inline(always)]
pub(super) fn digits_before(bytes: &[u8; WIDE]) -> usize {
    let mut others = [0; WIDE];
    let [(zero, numbers), (a, letters)] = &DIGITS;
    for (other, &byte) in others.iter_mut().zip(bytes) {
        *other = beyond(byte, (zero, numbers)).min(beyond(byte, (a, letters)));
    }
    u128::from_le_bytes(others).trailing_zeros() as usize / 8
}
