//! Numbers and words as Xen prints them.

use super::labels::{Form, NP_WORDS, Slot};
use crate::found::RemarkKind;
use crate::number;

/// A number, and what its digits say of the others.
pub(super) struct Number {
    pub(super) value: u64,
    pub(super) padded: bool,
    pub(super) short_of: Option<usize>,
}

pub(super) fn read(word: &[u8], slot: Slot, maybe_cut: bool) -> Result<Number, RemarkKind> {
    let name = slot.name;
    let (width, bare) = match slot.form {
        Form::Fixed => {
            let value = number::hex(word, name, usize::from(slot.size) * 2)?;
            return Ok(Number { value, padded: false, short_of: None });
        }
        _ if maybe_cut => return Err(RemarkKind::MaybeCut { name }),
        Form::Decimal => {
            let (value, _) = number::read(word, name, slot.size, number::Form::Decimal, false)?;
            return Ok(Number { value, padded: false, short_of: None });
        }
        Form::Free(width) => (width, false),
        Form::Bare(width) => (width, true),
    };
    let digits = number::hex_digits(word);
    let prefixed = digits.len() < word.len();
    let value = number::hex(word, name, digits.len().min(16))?;
    // Without `0x` a number is zero, or one of the few that are printed so.
    if !prefixed && word != b"0" && !(bare && (digits.len() == width || digits.len() == 1)) {
        return Err(RemarkKind::NotANumber { name, text: number::shorten(word) });
    }
    let padded = digits.len() > 1 && digits.starts_with(b"0");
    if padded && digits.len() < width {
        return Err(RemarkKind::NumberTooShort { name, digits: digits.len(), expected: width });
    }
    if value & !number::mask(slot.size) != 0 {
        return Err(RemarkKind::OutOfRange { name, size: slot.size });
    }
    Ok(Number { value, padded, short_of: (digits.len() < width).then_some(width) })
}

pub(super) fn np_word(word: &[u8]) -> Option<u32> {
    NP_WORDS.iter().find(|(text, _)| text.as_bytes() == word).map(|&(_, bit)| bit)
}

/// `=`, also as a mail in quoted-printable writes it or breaks a line.
pub(super) fn is_separator(word: &[u8]) -> bool {
    matches!(word, b"=" | b"=3D" | b"=3D=")
}

pub(super) fn is_hex(word: &[u8]) -> bool {
    let digits = number::hex_digits(word);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit)
}

/// Whether a line begins as the rest of a number does that was broken in its middle.
pub(super) fn is_rest(message: &[u8]) -> bool {
    let word = message.split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
    let digits = number::hex_digits(word.strip_prefix(b"x").unwrap_or(word));
    let part = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b',' | b':' | b'=');
    !word.is_empty() && (is_separator(word) || digits.iter().all(part))
}
