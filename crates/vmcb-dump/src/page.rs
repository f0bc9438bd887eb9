//! The fields of a page of which the bytes are known, for raw pages and hex dumps.

use crate::found::{Place, Seen};
use vmcb::KnownPage;
use vmcb::layout::{Page, VMCB};

/// The four parts of a segment: suffix of its name, offset and size.
const PARTS: [(u16, u16); 4] = [(0, 2), (2, 2), (4, 4), (8, 8)];

macro_rules! segments {
    ($($name:literal)*) => {
        [$(($name, [
            concat!($name, ".selector"),
            concat!($name, ".attrib"),
            concat!($name, ".limit"),
            concat!($name, ".base"),
        ])),*]
    };
}

static SEGMENTS: [(&str, [&str; 4]); 10] = segments!("es" "cs" "ss" "ds" "fs" "gs" "gdtr" "ldtr" "idtr" "tr");

/// Every field of `page` of which some bit is known; of the reserved ranges, only what is not zero.
///
/// Fields longer than 8 bytes are handed out in pieces of 8.
pub(crate) fn fields(page: &KnownPage, place: impl Fn(u16, u16) -> Option<Place>) -> Vec<Seen> {
    let mut seen = Vec::with_capacity(VMCB.len() + 64);
    let mut take = |name: &'static str, reserved: bool, offset: u16, size: u16| {
        let bits = page.read(offset, size);
        let mask = bits.known_mask() & crate::number::mask(size);
        let value = bits.value() & mask;
        if mask == 0 || reserved && value == 0 {
            return;
        }
        if let Some(place) = place(offset, size) {
            seen.push(Seen { name, page: Page::Vmcb, offset, size, value, mask, place });
        }
    };
    for field in &VMCB {
        let segment = SEGMENTS.iter().find(|(name, _)| field.size == 16 && *name == field.name);
        if let Some((_, names)) = segment {
            for (name, (offset, size)) in names.iter().zip(PARTS) {
                take(name, false, field.offset + offset, size);
            }
            continue;
        }
        let end = field.offset + field.size;
        let mut offset = field.offset;
        while offset < end {
            let size = (end - offset).min(8);
            take(field.name, field.is_reserved(), offset, size);
            offset += size;
        }
    }
    seen
}
