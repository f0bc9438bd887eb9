//! Numbers as dumps print them.

use crate::found::RemarkKind;

/// How a value is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// Hexadecimal with leading zeros, so always two digits a byte of the field.
    Hex,
    /// Hexadecimal, 8 digits on kernels that keep 32 bits and 16 on those that keep all 64.
    HexHalfOrWhole,
    /// Decimal, with a minus sign where the top bit is set.
    Decimal,
}

/// Reads `token` as the value of a field of `size` bytes: the value and the bits known of it.
///
/// The kernel pads hexadecimal numbers with zeros, so a number with fewer digits was cut off
/// somewhere, and its digits say nothing.
pub(crate) fn read(
    token: &[u8],
    name: &'static str,
    size: u16,
    form: Form,
    maybe_cut: bool,
) -> Result<(u64, u64), RemarkKind> {
    let all = mask(size);
    match form {
        Form::Decimal => {
            // A decimal number has no fixed width, so nothing shows whether digits are missing.
            if maybe_cut {
                return Err(RemarkKind::MaybeCut { name });
            }
            let (minus, digits) = match token {
                [b'-', digits @ ..] => (true, digits),
                digits => (false, digits),
            };
            if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                return Err(not_a_number(name, token));
            }
            let value = digits
                .iter()
                .try_fold(0u64, |value, &digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
            let value = match (value, minus) {
                (Some(value), false) if value <= all => value,
                (Some(value), true) if value <= all / 2 + 1 => value.wrapping_neg() & all,
                _ => return Err(RemarkKind::OutOfRange { name, size }),
            };
            Ok((value, all))
        }
        Form::Hex => Ok((hex(token, name, usize::from(size) * 2)?, all)),
        Form::HexHalfOrWhole => {
            let half = usize::from(size);
            let digits = hex_digits(token).len();
            if digits == half {
                if maybe_cut {
                    return Err(RemarkKind::MaybeCut { name });
                }
                return Ok((hex(token, name, half)?, mask(size / 2)));
            }
            Ok((hex(token, name, half * 2)?, all))
        }
    }
}

/// A mask of the low `size` bytes.
pub(crate) fn mask(size: u16) -> u64 {
    if size >= 8 { u64::MAX } else { (1 << (size * 8)) - 1 }
}

/// The digits of a hexadecimal number: people add the prefix that the kernel leaves out.
pub(crate) fn hex_digits(token: &[u8]) -> &[u8] {
    token.strip_prefix(b"0x").unwrap_or(token)
}

/// The values of hexadecimal digits; 255 for what is none.
static DIGITS: [u8; 256] = {
    let mut digits = [u8::MAX; 256];
    let mut value = 0;
    while value < 16 {
        digits[b"0123456789abcdef"[value] as usize] = value as u8;
        digits[b"0123456789ABCDEF"[value] as usize] = value as u8;
        value += 1;
    }
    digits
};

/// The value of a hexadecimal digit.
#[inline]
pub(crate) fn digit(byte: u8) -> Option<u8> {
    DIGITS.get(usize::from(byte)).copied().filter(|&value| value != u8::MAX)
}

/// Reads exactly `expected` hexadecimal digits, at most 16.
pub(crate) fn hex(token: &[u8], name: &'static str, expected: usize) -> Result<u64, RemarkKind> {
    let text = hex_digits(token);
    if text.is_empty() {
        return Err(not_a_number(name, token));
    }
    let digits = text.len();
    let value = text.iter().try_fold(0u64, |value, &byte| Some(value << 4 | u64::from(digit(byte)?)));
    match value {
        None => Err(not_a_number(name, token)),
        Some(_) if digits > expected => Err(RemarkKind::NumberTooLong { name, digits, expected }),
        Some(_) if digits < expected => Err(RemarkKind::NumberTooShort { name, digits, expected }),
        Some(value) => Ok(value),
    }
}

/// Reads a hexadecimal number of at most `size` bytes that is printed without zeros in front.
pub(crate) fn unpadded(token: &[u8], name: &'static str, size: u16) -> Result<(u64, u64), RemarkKind> {
    let digits = hex_digits(token).len();
    let value = hex(token, name, digits.min(usize::from(size) * 2))?;
    Ok((value, mask(size)))
}

fn not_a_number(name: &'static str, token: &[u8]) -> RemarkKind {
    RemarkKind::NotANumber { name, text: shorten(token) }
}

/// The beginning of a token, for a message.
pub(crate) fn shorten(token: &[u8]) -> String {
    let text = String::from_utf8_lossy(token.get(..token.len().min(160)).unwrap_or_default());
    let mut short: String = text.chars().take(32).collect();
    if token.len() > short.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_and_ranges() {
        let check = |token: &str, size, form| read(token.as_bytes(), "x", size, form, false).ok();
        assert_eq!(check("0010", 2, Form::Hex), Some((0x10, 0xFFFF)));
        assert_eq!(check("010", 2, Form::Hex), None);
        assert_eq!(check("00010", 2, Form::Hex), None);
        assert_eq!(check("0x0010", 2, Form::Hex), Some((0x10, 0xFFFF)));
        assert_eq!(check("00g0", 2, Form::Hex), None);
        assert_eq!(check("ffffffffffffffff", 8, Form::Hex), Some((u64::MAX, u64::MAX)));
        assert_eq!(check("ffffffff", 8, Form::HexHalfOrWhole), Some((0xFFFF_FFFF, 0xFFFF_FFFF)));
        assert_eq!(check("fffffffff", 8, Form::HexHalfOrWhole), None);
        assert_eq!(check("ffffffffffffffff", 8, Form::HexHalfOrWhole), Some((u64::MAX, u64::MAX)));
        assert_eq!(check("255", 1, Form::Decimal), Some((255, 255)));
        assert_eq!(check("256", 1, Form::Decimal), None);
        assert_eq!(check("-1", 4, Form::Decimal), Some((0xFFFF_FFFF, 0xFFFF_FFFF)));
        assert_eq!(check("-2147483648", 4, Form::Decimal), Some((0x8000_0000, 0xFFFF_FFFF)));
        assert_eq!(check("-2147483649", 4, Form::Decimal), None);
        assert_eq!(check("18446744073709551615", 8, Form::Decimal), Some((u64::MAX, u64::MAX)));
        assert_eq!(check("18446744073709551616", 8, Form::Decimal), None);
        assert_eq!(check("-9223372036854775808", 8, Form::Decimal), Some((1 << 63, u64::MAX)));
        assert_eq!(check("", 4, Form::Decimal), None);
        assert_eq!(check("-", 4, Form::Decimal), None);
        assert_eq!(check("", 4, Form::Hex), None);
        let cut = |token: &str, form| read(token.as_bytes(), "x", 8, form, true).ok();
        assert_eq!(cut("15", Form::Decimal), None);
        assert_eq!(cut("ffffffff", Form::HexHalfOrWhole), None);
        assert_eq!(cut("ffffffffffffffff", Form::HexHalfOrWhole), Some((u64::MAX, u64::MAX)));
    }
}
