//! The numbers that follow the name of a register, and which bits of the VMCB they show.

use super::guest_view;
use super::registers::{Pair, Shows, digits};
use crate::found::{Place, Seen};
use crate::number;
use vmcb::layout::{Field, Page};
use vmcb::{CsAttributes, SegmentAttributes};

/// Attributes as the VMCB packs them, of the descriptor's high word.
fn packed(flags: u64) -> u64 {
    flags >> 8 & 0xFF | flags >> 12 & 0xF00
}

/// Returns the attributes of a segment as the VMCB has them.
pub(super) fn attributes_of(flags: u64) -> SegmentAttributes {
    SegmentAttributes::from_bits(packed(flags) as u16)
}

/// A number that stands behind a name.
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) digits: usize,
    pub(super) target: Option<Target>,
}

/// Where in the VMCB a number belongs.
#[derive(Clone, Copy)]
pub(super) struct Target {
    field: Field,
    /// First byte of the field that it shows, and how many.
    from: u16,
    size: u16,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Value,
    Attributes,
    /// KVM keeps 16 bits of it.
    TableLimit,
}

/// The numbers behind a name.
pub(super) fn parts(name: &'static str, shows: Shows, pair: &Pair<'_, '_>, long: bool) -> Vec<Part> {
    let width = if long { 16 } else { 8 };
    let length = pair.word(0).map_or(0, |(_, word)| word.len());
    let value = |field: Field| Target { field, from: 0, size: field.size, what: What::Value };
    match shows {
        Shows::Mode { field, .. } => vec![Part { name, digits: width, target: field.map(value) }],
        Shows::Fixed { digits, field } => vec![Part { name, digits, target: Some(value(field)) }],
        Shows::Digit(field) => vec![Part { name, digits: 1, target: field.map(value) }],
        Shows::Other => vec![Part { name, digits: if length == 8 { 8 } else { 16 }, target: None }],
        Shows::Segment(segment) => {
            let parts = [
                (4, 0, 2, What::Value),
                (width, 8, 8, What::Value),
                (8, 4, 4, What::Value),
                (8, 2, 2, What::Attributes),
            ];
            let names = segment.map_or([name; 4], |segment| segment.names);
            let part = |((digits, from, size, what), name)| Part {
                name,
                digits,
                target: segment.map(|segment| Target { field: segment.field, from, size, what }),
            };
            parts.into_iter().zip(names).map(part).collect()
        }
        Shows::Table(field, [base, limit]) => {
            // 16 digits in long mode. Outside 64-bit mode eight may be all, or the half of sixteen unless the
            // limit stands behind them.
            let followed = pair.word(1).is_some_and(|(_, word)| digits(word, limit, 8).is_ok());
            let eight = !long && length == 8 && followed;
            let target = |from, size, what| Some(Target { field, from, size, what });
            vec![
                Part { name: base, digits: if eight { 8 } else { 16 }, target: target(8, 8, What::Value) },
                Part { name: limit, digits: 8, target: target(4, 4, What::TableLimit) },
            ]
        }
    }
}

impl Part {
    /// What the number tells of the VMCB.
    pub(super) fn learn(&self, value: u64, place: Place) -> Option<Seen> {
        let Target { field, from, size, what } = self.target?;
        let (value, mask) = match what {
            What::Value => {
                let shown = number::mask(u16::try_from(self.digits.div_ceil(2)).unwrap_or(8));
                (value, shown & number::mask(size) & guest_view::same(field, from, value))
            }
            What::TableLimit => (value, 0xFFFF),
            What::Attributes => {
                let value = packed(value);
                let present = CsAttributes::P.bits();
                // Older QEMU shows nothing else of a segment that is not present.
                let shown = if value & present == 0 { present } else { 0xFFF };
                (value, shown & guest_view::same(field, from, value))
            }
        };
        let seen = Seen {
            name: self.name,
            page: Page::Vmcb,
            offset: field.offset + from,
            size,
            value: value & mask,
            mask,
            place,
        };
        (mask != 0).then_some(seen)
    }
}
