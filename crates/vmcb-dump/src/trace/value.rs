//! Numbers and switches as trace lines print them.

use crate::number::digit;

/// The end of the word that begins at `at`.
#[inline]
pub(crate) fn word_end(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    at + rest.iter().position(|&byte| byte <= b' ').unwrap_or(rest.len())
}

/// The value of a `y`, `n`, `on` or `off`.
pub(crate) fn switch(word: &[u8]) -> Option<u64> {
    match word {
        b"y" | b"on" => Some(1),
        b"n" | b"off" => Some(0),
        _ => None,
    }
}

/// The number that `text` begins with, and its digits; more than 16 make no number.
#[inline]
pub(crate) fn hex(text: &[u8]) -> (u64, usize) {
    let (mut value, mut used) = (0, 0);
    while used < 16
        && let Some(number) = text.get(used..).and_then(<[u8]>::first_chunk).and_then(|eight| digits(*eight))
    {
        value = value << 32 | u64::from(number);
        used += 8;
    }
    while used < 17
        && let Some(digit) = text.get(used).and_then(|&byte| digit(byte))
    {
        value = value << 4 | u64::from(digit);
        used += 1;
    }
    (value, used)
}

/// The value of eight hexadecimal digits, all at once.
#[inline]
pub(crate) fn digits(bytes: [u8; 8]) -> Option<u32> {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let text = u64::from_be_bytes(bytes);
    let values = nibbles(text);
    let letters = (values + EACH * 6) >> 4 & EACH;
    // Written again they are what was read, in small letters; the letters after f would be more than 15.
    let again = values + EACH * u64::from(b'0') + letters * u64::from(b'a' - b'9' - 1);
    let read = text | (text >> 6 & EACH) << 5;
    ((again ^ read) | (values & (EACH * 0xF0)) == 0).then(|| joined(values))
}

/// The same of eight that are known to be digits.
#[inline(always)]
pub(crate) fn value_of(digits: [u8; 8]) -> u32 {
    joined(nibbles(u64::from_be_bytes(digits)))
}

/// What each of eight digits is worth, in a byte each.
#[inline(always)]
const fn nibbles(text: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    // Letters have bit 6.
    (text & (EACH * 0x0F)) + (text >> 6 & EACH) * 9
}

#[inline(always)]
const fn joined(nibbles: u64) -> u32 {
    let pairs = (nibbles | nibbles >> 4) & 0x00FF_00FF_00FF_00FF;
    let fours = (pairs | pairs >> 8) & 0x0000_FFFF_0000_FFFF;
    (fours | fours >> 16) as u32
}

/// A decimal number of at most 32 bits; an empty one is 0.
#[inline]
pub(crate) fn decimal(digits: &[u8]) -> Option<u32> {
    if digits.len() > 9 {
        return long_decimal(digits);
    }
    let mut value = 0;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u32::from(digit);
    }
    Some(value)
}

#[cold]
fn long_decimal(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?.parse().ok()
}

/// A hexadecimal number with or without `0x`, if `fits` takes its digits, and its length.
#[inline]
pub(crate) fn number(rest: &[u8], fits: impl Fn(usize, bool) -> bool) -> Option<(u64, usize)> {
    let digits = rest.strip_prefix(b"0x");
    let (value, used) = hex(digits.unwrap_or(rest));
    let length = used + if digits.is_some() { 2 } else { 0 };
    let ends = match rest.get(length) {
        None => true,
        Some(&byte) => byte <= b' ' || byte == b'[',
    };
    (ends && used <= 16 && fits(used, digits.is_some())).then_some((value, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_digits_at_once_are_eight_digits() {
        for byte in 0..=255 {
            for place in 0..8 {
                let mut bytes = *b"09afAF5c";
                bytes[place] = byte;
                let one_by_one =
                    bytes.iter().try_fold(0, |value, &byte| Some(value << 4 | u32::from(digit(byte)?)));
                assert_eq!(digits(bytes), one_by_one, "{byte:#x} at {place}");
            }
        }
        assert_eq!(hex(b"0123456789abcdef"), (0x0123_4567_89AB_CDEF, 16));
        assert_eq!(hex(b"0123456789abcdef0").1, 17);
        assert_eq!(hex(b"81000000 1"), (0x8100_0000, 8));
        assert_eq!(hex(b"1f"), (0x1F, 2));
    }
}
