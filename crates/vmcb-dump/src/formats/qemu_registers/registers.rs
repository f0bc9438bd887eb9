//! The registers of a dump, and how they are printed.

use crate::found::RemarkKind;
use crate::number;
use memchr::memchr;
use vmcb::layout::{Field, vmcb_field as f};

/// What a name shows.
#[derive(Clone, Copy)]
pub(super) enum Shows {
    /// A register of this mode alone, 16 digits in 64-bit mode and 8 otherwise: a field, or none that is of use.
    Mode { long: bool, field: Option<Field> },
    /// A number of so many digits in either mode.
    Fixed { digits: usize, field: Field },
    /// 8 or 16 digits, and of no use.
    Other,
    /// Selector, base, limit, attributes: of a segment that is learned, or of another.
    Segment(Option<Segment>),
    /// Base and limit.
    Table(Field, [&'static str; 2]),
    /// One digit: a field, or none.
    Digit(Option<Field>),
}

#[derive(Clone, Copy)]
pub(super) struct Segment {
    pub(super) field: Field,
    /// Names of the selector, the base, the limit and the attributes.
    pub(super) names: [&'static str; 4],
}

macro_rules! segment {
    ($name:literal, $field:expr) => {
        (
            $name,
            Shows::Segment(Some(Segment {
                field: $field,
                names: [
                    concat!($name, ".selector"),
                    concat!($name, ".base"),
                    concat!($name, ".limit"),
                    concat!($name, ".attrib"),
                ],
            })),
        )
    };
}

const fn long(field: Option<Field>) -> Shows {
    Shows::Mode { long: true, field }
}

const fn short(field: Option<Field>) -> Shows {
    Shows::Mode { long: false, field }
}

/// Every register that tells one dump from another, in the order of a dump.
pub(super) const KEYS: &[(&str, Shows)] = &[
    ("RAX", long(Some(f::rax))),
    ("EAX", short(Some(f::rax))),
    ("RBX", long(None)),
    ("RCX", long(None)),
    ("RDX", long(None)),
    ("RSI", long(None)),
    ("RDI", long(None)),
    ("RBP", long(None)),
    ("RSP", long(Some(f::rsp))),
    ("R8", long(None)),
    ("R9", long(None)),
    ("R10", long(None)),
    ("R11", long(None)),
    ("R12", long(None)),
    ("R13", long(None)),
    ("R14", long(None)),
    ("R15", long(None)),
    ("EBX", short(None)),
    ("ECX", short(None)),
    ("EDX", short(None)),
    ("ESI", short(None)),
    ("EDI", short(None)),
    ("EBP", short(None)),
    ("ESP", short(Some(f::rsp))),
    ("RIP", long(Some(f::rip))),
    ("EIP", short(Some(f::rip))),
    ("RFL", Shows::Fixed { digits: 8, field: f::rflags }),
    ("EFL", Shows::Fixed { digits: 8, field: f::rflags }),
    ("CPL", Shows::Digit(Some(f::cpl))),
    ("SMM", Shows::Digit(None)),
    segment!("ES", f::es),
    segment!("CS", f::cs),
    segment!("SS", f::ss),
    segment!("DS", f::ds),
    ("FS", Shows::Segment(None)),
    ("GS", Shows::Segment(None)),
    ("LDT", Shows::Segment(None)),
    ("TR", Shows::Segment(None)),
    ("GDT", Shows::Table(f::gdtr, ["GDT.base", "GDT.limit"])),
    ("IDT", Shows::Table(f::idtr, ["IDT.base", "IDT.limit"])),
    ("CR0", Shows::Fixed { digits: 8, field: f::cr0 }),
    ("CR2", Shows::Other),
    ("CR3", Shows::Other),
    ("CR4", Shows::Fixed { digits: 8, field: f::cr4 }),
    ("DR0", Shows::Other),
    ("DR1", Shows::Other),
    ("DR2", Shows::Other),
    ("DR3", Shows::Other),
    ("DR6", Shows::Other),
    ("DR7", Shows::Other),
    (LAST, Shows::Fixed { digits: 16, field: f::efer }),
];

/// The register with which a dump ends, as far as it is of interest.
pub(super) const LAST: &str = "EFER";

/// A word of a line and where it begins.
pub(super) type Word<'a> = (usize, &'a [u8]);

/// A name with what follows its `=`.
pub(super) struct Pair<'a, 'b> {
    pub(super) key: usize,
    /// The words behind `=`.
    pub(super) values: &'b [Word<'a>],
    /// The first of them begins here, if it stands in the same word as `=`.
    pub(super) first: Option<Word<'a>>,
}

impl Pair<'_, '_> {
    pub(super) fn name(&self) -> &'static str {
        KEYS.get(self.key).map_or("", |key| key.0)
    }

    /// The word at `index`.
    pub(super) fn word(&self, index: usize) -> Option<Word<'_>> {
        match (self.first, index) {
            (Some(first), 0) => Some(first),
            (Some(_), index) => self.values.get(index - 1).copied(),
            (None, index) => self.values.get(index).copied(),
        }
    }
}

pub(super) fn words(text: &[u8], start: usize) -> Vec<Word<'_>> {
    let rest = text.get(start..).unwrap_or_default();
    let mut at = start;
    let mut words = Vec::new();
    for word in rest.split(u8::is_ascii_whitespace) {
        if !word.is_empty() {
            words.push((at, word));
        }
        at += word.len() + 1;
    }
    words
}

/// The registers among the words of a line.
pub(super) fn pairs<'a, 'b>(words: &'b [Word<'a>]) -> Vec<Pair<'a, 'b>> {
    let mut pairs = Vec::new();
    for (index, &(at, word)) in words.iter().enumerate() {
        let Some(equals) = memchr(b'=', word) else {
            continue;
        };
        let before = index.checked_sub(1).and_then(|before| words.get(before));
        let name = match (equals, before) {
            (0, Some((_, before))) => before,
            _ => word.get(..equals).unwrap_or_default(),
        };
        let Some(key) = KEYS.iter().position(|(key, _)| key.as_bytes() == name) else {
            continue;
        };
        let mut value = word.get(equals + 1..).unwrap_or_default();
        // A mail's quoted-printable `=`; QEMU itself prints small letters.
        value = value.strip_prefix(b"3D").unwrap_or(value);
        let first = (!value.is_empty()).then(|| (at + word.len() - value.len(), value));
        pairs.push(Pair { key, values: words.get(index + 1..).unwrap_or_default(), first });
    }
    pairs
}

/// Reads exactly `digits` hexadecimal digits, as QEMU prints them: in small letters and, other than Xen, without `0x`.
pub(super) fn digits(word: &[u8], name: &'static str, digits: usize) -> Result<u64, RemarkKind> {
    if word.iter().any(u8::is_ascii_uppercase) || word.starts_with(b"0x") {
        return Err(RemarkKind::NotANumber { name, text: number::shorten(word) });
    }
    number::hex(word, name, digits)
}
