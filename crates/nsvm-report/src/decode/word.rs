//! Words in every spelling, and guesses what they are.

use super::field::Field;
use crate::error::Error;
use crate::{bits, suggest};
use vmcb::{Event, EventType, ExceptionSet, ExitCode, IntCtl, Vector};

/// A word as the user wrote it.
pub(super) struct Read {
    pub(super) value: u64,
    /// Said where the spelling leaves a choice.
    pub(super) spelling: Option<String>,
    /// What the name stands for, where it is a name.
    pub(super) named: Option<Field>,
}

pub(super) fn read(word: &str, field: Option<Field>) -> Result<Read, Error> {
    let text = word.trim().replace('_', "");
    let plain = |value| Ok(Read { value, spelling: None, named: None });
    if let Some(digits) = text.strip_prefix('-') {
        return match digits.parse::<u64>() {
            Ok(value) => plain(value.wrapping_neg()),
            Err(_) => Err(unreadable(word)),
        };
    }
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let hexadecimal = hexadecimal.or_else(|| {
        let digits = text.strip_suffix(['h', 'H'])?;
        digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(digits)
    });
    if let Some(digits) = hexadecimal {
        return u64::from_str_radix(digits, 16).map_or_else(|_| Err(unreadable(word)), plain);
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // The kernel prints words in 8 or 16 digits, without 0x.
        if matches!(text.len(), 8 | 16) {
            let value = u64::from_str_radix(&text, 16).map_err(|_| unreadable(word))?;
            let spelling = Some(format!("{} digits: read as hexadecimal", text.len()));
            return Ok(Read { value, spelling, named: None });
        }
        let value = text.parse().map_err(|_| unreadable(word))?;
        let other = u64::from_str_radix(&text, 16).ok().filter(|&other| other != value);
        // 400 is the nested page fault in nearly every log, and no exit code as a decimal number.
        let code = |value| ExitCode::from_bits(value).name().is_some() || value < 0xA0;
        if let Some(other) = other.filter(|&other| field.is_none() && code(other) && !code(value)) {
            let spelling = Some("read as hexadecimal, in which it is an exit code".into());
            return Ok(Read { value: other, spelling, named: Some(Field::Exitcode) });
        }
        let spelling = other.map(|_| format!("read as decimal; write 0x{text} for hexadecimal"));
        return Ok(Read { value, spelling, named: None });
    }
    // Names come before hexadecimal digits without 0x only where they are none: `db` is a number.
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let value = u64::from_str_radix(&text, 16).map_err(|_| unreadable(word))?;
        return Ok(Read { value, spelling: Some("read as hexadecimal".into()), named: None });
    }
    name(word, field)
}

fn name(word: &str, field: Option<Field>) -> Result<Read, Error> {
    let upper = word.trim().to_uppercase();
    if let Some(number) = (0..32).find(|&number| {
        Vector::new(number).mnemonic().is_some_and(|name| name == upper && name.starts_with('#'))
    }) {
        let vector = Vector::new(number);
        let wanted = field.unwrap_or(Field::Eventinj);
        let value = match wanted {
            Field::Exitcode => 0x40 + u64::from(number),
            Field::Exceptions => ExceptionSet::EMPTY.with(vector).intercept_word().into(),
            _ => {
                let event = Event::new(EventType::EXCEPTION, vector);
                let event = if vector.exception().is_some_and(|row| row.error_code) {
                    event.with_error_code(0)
                } else {
                    event
                };
                event.bits()
            }
        };
        let spelling = (wanted == Field::Eventinj).then(|| {
            format!(
                "the event that injects {}; its #VMEXIT has exit code {:#x}",
                bits::vector(vector),
                0x40 + number
            )
        });
        return Ok(Read { value, spelling, named: Some(wanted) });
    }
    if let Some(code) = ExitCode::from_name(word.trim()) {
        return Ok(Read { value: code.bits(), spelling: None, named: Some(Field::Exitcode) });
    }
    Err(Error::unknown("neither a number nor the name of an exit code or exception", word, names()))
}

/// Names of exit codes and exceptions.
fn names() -> impl Iterator<Item = String> {
    let codes = (0..0xA7).chain(0x400..0x404).chain(u64::MAX - 3..=u64::MAX);
    let codes = codes.map(|code| ExitCode::from_bits(code).to_string());
    codes.chain((0..32).filter_map(|number| Vector::new(number).mnemonic().map(str::to_owned)))
}

fn unreadable(word: &str) -> Error {
    Error::usage(format!("`{}` is no number of at most 64 bits", suggest::shorten(word)), None)
}

/// The bits of int_ctl that have a meaning.
const INT_CTL: u64 = {
    let (mut mask, mut index) = (0xF_00FF, 0);
    while index < IntCtl::NAMES.len() {
        mask |= 1 << IntCtl::NAMES[index].0;
        index += 1;
    }
    mask
};

/// What a bare number most probably is.
pub(super) fn guess(word: &str, value: u64) -> Result<(Field, Option<String>), Error> {
    let code = ExitCode::from_bits(value);
    let event = Event::from_bits(value);
    let (field, reason) = if code.is_failure() {
        (Field::Exitcode, "guessed: an exit code, since it is one of -1 to -4")
    } else if event.valid() && event.reserved() == 0 {
        (Field::Eventinj, "guessed: EVENTINJ, since V is set and bits 30:12 are clear")
    } else if code.name().is_some() || value < 0xA0 {
        (Field::Exitcode, "guessed: an exit code, since the manual has one of this value")
    } else if value <= 0xFFF {
        (Field::Attributes, "guessed: attributes of a segment, which have 12 bits")
    } else if value >> 24 != 0 && value & !INT_CTL == 0 {
        (Field::IntCtl, "guessed: int_ctl, since only bits are set that it has")
    } else {
        return Err(Error::usage(
            format!("`{}` can be many things: say which with --field", suggest::shorten(word)),
            Some("`nsvm decode --help` lists the fields".to_owned()),
        ));
    };
    Ok((field, Some(format!("{reason}; --field says otherwise"))))
}
