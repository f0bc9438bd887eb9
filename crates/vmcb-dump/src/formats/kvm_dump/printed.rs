//! How the kernel prints a line of a dump, and what looks like one.

use super::labels::{LABELS, Shows};
use crate::number;
use crate::text::{has_cut, skip_spaces};

/// Column at which the kernel prints a value of the control area, counted from its label.
const CONTROL_COLUMN: usize = 20;
/// The same for the save area.
const SAVE_COLUMN: usize = 16;

/// Whether a message begins with a number.
pub(super) fn first_number(message: &[u8]) -> bool {
    let word = message.split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
    let digits = word.strip_prefix(b"-").unwrap_or(word);
    !digits.is_empty() && number::hex_digits(digits).iter().all(u8::is_ascii_hexdigit)
}

pub(super) fn label_text(row: usize) -> Option<&'static str> {
    LABELS.get(row).map(|label| label.text)
}

/// Whether a label is the end of another one.
pub(super) fn ends_another(row: usize) -> bool {
    let text = label_text(row).unwrap_or_default();
    LABELS.iter().any(|label| label.text.len() > text.len() && label.text.ends_with(text))
}

/// Which part of a segment begins here.
pub(super) fn part_of(text: &[u8]) -> Option<usize> {
    let (&[letter, b':'], _) = text.split_first_chunk::<2>()? else {
        return None;
    };
    b"salb".iter().position(|&part| part == letter)
}

/// Whether a line that begins with a label looks exactly as the kernel prints it. Without the module's
/// prefix this is what tells a dump from other text with a colon in it.
pub(super) fn is_as_printed(row: usize, message: &[u8], label: usize) -> bool {
    let at = skip_spaces(message, label);
    let word = message
        .get(at..)
        .and_then(|rest| rest.split(|byte| byte.is_ascii_whitespace()).next())
        .unwrap_or_default();
    let column = at == CONTROL_COLUMN || at == SAVE_COLUMN || at == label && label >= CONTROL_COLUMN;
    match LABELS.get(row).map(|label| label.shows) {
        Some(Shows::One(slot)) => {
            column && number::read(word, slot.name, slot.size, slot.form, false).is_ok()
        }
        Some(Shows::Intercepts) => {
            column && matches!(word.len(), 8 | 16) && word.iter().all(u8::is_ascii_hexdigit)
        }
        Some(Shows::Segment(_)) => {
            let selector = message.get(at + 2..).unwrap_or_default().trim_ascii_start();
            let digits = selector.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            word == b"s:" && at <= 6 && digits == 4
        }
        None => false,
    }
}

/// Whether what follows a label may be its value, or nothing follows: people write `cs: 5` too.
pub(super) fn may_show(row: usize, message: &[u8], label: usize) -> bool {
    let rest = message.get(skip_spaces(message, label)..).unwrap_or_default();
    match LABELS.get(row).map(|label| label.shows) {
        Some(Shows::Segment(_)) => rest.is_empty() || part_of(rest).is_some(),
        _ => rest.first().is_none_or(|byte| byte.is_ascii_hexdigit() || *byte == b'-') || has_cut(rest),
    }
}

/// The name of a label as kernels write them, if `text` begins with one and its colon.
pub(super) fn unknown_label(text: &[u8]) -> Option<&[u8]> {
    let head = text.get(..text.len().min(32))?;
    let name = head.get(..memchr::memchr(b':', head)?)?;
    let ident = |&byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (name.len() > 1 && name.first()?.is_ascii_lowercase() && name.iter().all(ident)).then_some(name)
}

/// Whether a line is a field of a dump under a label that is not known.
pub(super) fn is_unknown_field(message: &[u8], line_prefixed: bool, dump_prefixed: bool) -> bool {
    let Some(name) = unknown_label(message) else {
        return false;
    };
    let at = skip_spaces(message, name.len() + 1);
    let word = message
        .get(at..)
        .and_then(|rest| rest.split(|byte| byte.is_ascii_whitespace()).next())
        .unwrap_or_default();
    let number = !word.is_empty() && word.iter().all(u8::is_ascii_hexdigit);
    let placed = at == CONTROL_COLUMN || at == SAVE_COLUMN || word.len() == 16;
    number && if dump_prefixed { line_prefixed } else { placed }
}
