//! Words of bits for people.

use vmcb::{Event, EventType, Vector, Word};

/// `31, 10:0`: the bits of a mask, highest first.
pub(crate) fn ranges(mask: u64) -> String {
    let mut parts = Vec::new();
    let mut bit = 64;
    while bit > 0 {
        bit -= 1;
        if mask >> bit & 1 == 0 {
            continue;
        }
        let high = bit;
        while bit > 0 && mask >> (bit - 1) & 1 == 1 {
            bit -= 1;
        }
        parts.push(if high == bit { format!("{high}") } else { format!("{high}:{bit}") });
    }
    parts.join(", ")
}

/// `bit 5` or `bits 63:52, 3`.
pub(crate) fn bits(mask: u64) -> String {
    let word = if mask.count_ones() == 1 { "bit" } else { "bits" };
    format!("{word} {}", ranges(mask))
}

/// `bit 23 (CET)`.
pub(crate) fn bit_with_name(word: Word, bit: u8) -> String {
    match word.bit_names().iter().find(|(position, ..)| *position == bit) {
        Some((_, name, _)) => format!("bit {bit} ({name})"),
        None => format!("bit {bit}"),
    }
}

/// A mask wider than this is not spelt out bit by bit.
const MOST_BITS: u32 = 8;

/// What the bits of `mask` are, where that can be said shortly: `L=1 D=1`.
pub(crate) fn describe(word: Word, value: u64, mask: u64) -> String {
    match word {
        Word::EventInj => return event(value),
        Word::GPat => return pat(value),
        _ => {}
    }
    if mask.count_ones() > MOST_BITS {
        return String::new();
    }
    let mut rest = mask;
    let mut parts = Vec::new();
    for &(bit, name, _) in word.bit_names().iter().rev() {
        if mask >> bit & 1 == 1 {
            parts.push(format!("{name}={}", value >> bit & 1));
            rest &= !(1 << bit);
        }
    }
    if rest != 0 && !word.bit_names().is_empty() {
        parts.push(format!("{} = {:#x}", bits(rest), (value & rest) >> rest.trailing_zeros()));
    }
    parts.join(" ")
}

/// An event, its vector with its meaning.
pub(crate) fn event(value: u64) -> String {
    let event = Event::from_bits(value);
    let mut text = event.to_string();
    if event.event_type() == EventType::EXCEPTION
        && event.vector().mnemonic().is_none()
        && let Some(row) = event.vector().exception()
    {
        text = text.replacen(
            &format!("VECTOR={}", event.vector().number()),
            &format!("VECTOR={} ({})", event.vector().number(), row.meaning),
            1,
        );
    }
    text
}

/// The eight memory types of G_PAT, PA0 first.
pub(crate) fn pat(value: u64) -> String {
    let types = value.to_le_bytes().into_iter().enumerate().map(|(index, byte)| {
        let name = match byte {
            0 => "UC",
            1 => "WC",
            4 => "WT",
            5 => "WP",
            6 => "WB",
            7 => "UC-",
            _ => "no type",
        };
        format!("PA{index}={byte:#x} ({name})")
    });
    types.collect::<Vec<_>>().join(" ")
}

/// `31 (reserved)`, `13 (#GP, general protection)`.
pub(crate) fn vector(vector: Vector) -> String {
    match (vector.mnemonic(), vector.exception()) {
        (Some(name), Some(row)) => format!("{} ({name}, {})", vector.number(), row.meaning),
        (None, Some(row)) => format!("{} ({})", vector.number(), row.meaning),
        _ => vector.number().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_become_ranges() {
        for (mask, expected) in
            [(0, ""), (1, "0"), (0x8000_07FF, "31, 10:0"), (u64::MAX, "63:0"), (1 << 63 | 0b101, "63, 2, 0")]
        {
            assert_eq!(ranges(mask), expected, "{mask:#x}");
        }
    }

    #[test]
    fn a_reserved_vector_says_so() {
        assert!(event(0x8000_031f).contains("VECTOR=31 (reserved)"), "{}", event(0x8000_031f));
        assert!(event(0x8000_030d).contains("VECTOR=13 (#GP)"), "{}", event(0x8000_030d));
        assert!(event(0x8000_000d).ends_with("VECTOR=13"), "{}", event(0x8000_000d));
    }
}
