//! Numbers and short texts of the format.

use std::fmt::Write as _;

/// How numbers are written.
#[derive(Clone, Copy)]
pub(super) enum Base {
    Decimal,
    Hex,
}

/// Returns ascending numbers as ranges.
pub(super) fn ranges(numbers: impl IntoIterator<Item = u32>, base: Base, comma: &str) -> String {
    let mut text = String::new();
    let number = |text: &mut String, number: u32| match base {
        Base::Decimal => write!(text, "{number}"),
        Base::Hex => write!(text, "{number:x}"),
    };
    let mut numbers = numbers.into_iter().peekable();
    while let Some(first) = numbers.next() {
        let mut last = first;
        while let Some(next) = numbers.next_if(|&next| last.checked_add(1) == Some(next)) {
            last = next;
        }
        if !text.is_empty() {
            text.push_str(comma);
        }
        let _ = number(&mut text, first);
        if last != first {
            text.push('-');
            let _ = number(&mut text, last);
        }
    }
    text
}

/// Returns the number if these digits are its canonical form.
pub(super) fn canonical(digits: &str) -> Option<u32> {
    let number = u32::try_from(hex(digits)?).ok()?;
    let lower = !digits.bytes().any(|byte| byte.is_ascii_uppercase());
    (lower && (digits == "0" || !digits.starts_with('0'))).then_some(number)
}

pub(super) fn hex(digits: &str) -> Option<u64> {
    u64::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))
}

pub(super) fn decimal(digits: &str) -> Option<u32> {
    digits.parse().ok().filter(|_| !digits.starts_with('+'))
}

pub(super) fn numbers<const N: usize>(text: &str) -> Option<[u32; N]> {
    let mut numbers = [0; N];
    let mut words = text.split(' ');
    for number in &mut numbers {
        *number = u32::try_from(hex(words.next()?)?).ok()?;
    }
    words.next().is_none().then_some(numbers)
}

/// Returns a text as one line, without control characters.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Returns the part of an untrusted text that an error shows.
pub(super) fn excerpt(text: &str) -> String {
    let mut start: String = text.chars().take(60).collect();
    if start.len() < text.len() {
        start.push_str("...");
    }
    clean(&start)
}
