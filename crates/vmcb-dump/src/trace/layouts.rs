//! Reads the values of a trace line by the layout of a recent line of the same event, or word by word.
//!
//! A kernel and a tool print each event in one way, so the text between the values is nearly always that of a recent
//! line. [`Layouts`] remembers that text. If a line has the same text and its values have the same form,
//! [`Line::walk`] would find the same values, so only the wanted values are read. Any other line is read by
//! `Line::walk`, which records a new layout. A line that matches a layout ends where the layout's text ends, so its
//! end is not searched.

use super::arguments::{Arguments, Slots};
use super::event::Event;
use super::layout::Layout;
use super::line::Line;
use super::reason::Reasons;
use super::table::Slot;
use super::wide::{WIDE, any};
use memchr::{memchr, memmem, memrchr};

/// Beginnings of lines that are remembered, by a few bits of a hash.
const HEADS: usize = 64;
/// Bytes of one.
const MOST_HEAD: usize = 64;
/// Windows of so many bytes between the CPU and the event's name.
const MOST_WINDOWS: usize = 3;
/// A line that is longer is left to the caller.
const MOST_LINE: usize = 4096;

/// Reads the lines of one trace. A line that resembles a recent one is read faster. The values are the same as those
/// of [`Line::arguments`] and [`Line::ids`].
///
/// # Examples
/// ```
/// use vmcb_dump::trace::{Arguments, Layouts, Slot};
/// let text = b" CPU 0/KVM-1234  [003] 1.0: kvm_exit: vcpu 0 reason npf rip 0x1\n \
///     CPU 0/KVM-1234  [003] 1.2: kvm_exit: vcpu 0 reason hlt rip 0x2\n";
/// let mut layouts = Layouts::new(&[Slot::ExitCode]);
/// let mut found = Arguments::none();
/// // The caller must find the event's name in the first line.
/// let first = layouts.read(text, 0, 28, &mut found).expect("an event");
/// assert_eq!(found.get(Slot::ExitCode), Some(0x400));
/// layouts.learn(&first);
/// let second = first.text().len() + 1;
/// let (name, (thread, cpu)) = layouts.name(text, second).expect("it begins like the first");
/// assert_eq!((thread, cpu), (Some(1234), Some(3)));
/// layouts.read(text, second, name, &mut found).expect("an event");
/// assert_eq!(found.get(Slot::ExitCode), Some(0x78));
/// assert_eq!(found.get(Slot::Rip), None, "it was not asked for");
/// ```
#[derive(Clone, Debug)]
pub struct Layouts {
    /// Those of each event: the one that fitted last, and the one before.
    events: [[Layout; 2]; Event::Other as usize + 1],
    begin: Begin,
    heads: Box<[Head; HEADS]>,
    reasons: Reasons,
    wanted: Slots,
}

/// Where a line's parts stood.
#[derive(Clone, Copy, Debug, Default)]
struct Begin {
    /// The `]` after the CPU, if there is one.
    bracket: Option<usize>,
    /// The event's name.
    name: usize,
    windows: usize,
    /// Ones for the bytes of the window that is farthest from the name which stand behind the bracket.
    last: [u8; WIDE],
    known: bool,
}

/// What a line begins with, up to the `]` after its CPU.
#[derive(Clone, Copy, Debug)]
struct Head {
    text: [u8; MOST_HEAD],
    length: usize,
    ids: Ids,
}

type Ids = (Option<u32>, Option<u32>);

/// Whether both are the same: at once where they are as short as most beginnings of lines.
#[inline]
fn equal(one: &[u8], other: &[u8]) -> bool {
    let ends = |text: &[u8]| {
        let (first, last) = (text.first_chunk()?, text.last_chunk()?);
        (text.len() <= 32).then(|| (u128::from_le_bytes(*first), u128::from_le_bytes(*last)))
    };
    one.len() == other.len()
        && match (ends(one), ends(other)) {
            (Some(one), Some(other)) => one == other,
            _ => one == other,
        }
}

impl Layouts {
    /// None is known yet. Of the arguments only those in `wanted` are read.
    #[must_use]
    pub fn new(wanted: &[Slot]) -> Self {
        let head = Head { text: [0; MOST_HEAD], length: 0, ids: (None, None) };
        Self {
            events: Default::default(),
            begin: Begin::default(),
            heads: Box::new([head; HEADS]),
            reasons: Reasons::new(),
            wanted: wanted.iter().fold(Slots::default(), |slots, &slot| slots.with(slot)),
        }
    }

    /// Where the name of the event stands in the line that begins at `start` of `text`, if the line begins like those
    /// before, and what [`Line::ids`] gives.
    #[must_use]
    #[inline]
    pub fn name(&self, text: &[u8], start: usize) -> Option<(usize, Ids)> {
        let begin = &self.begin;
        let line = text.get(start..)?;
        if !begin.known || !line.get(begin.name..)?.starts_with(b"kvm_") {
            return None;
        }
        // Between the CPU and the name are no other bracket, no other name, and no line's end.
        let mut found = [0_u8; WIDE];
        let mut end = begin.name;
        for window in 1..=begin.windows {
            let bytes: &[u8; WIDE] = line.get(end.checked_sub(WIDE)?..end)?.first_chunk()?;
            let mask = if window == begin.windows { &begin.last } else { &[0xFF; WIDE] };
            for ((found, &byte), mask) in found.iter_mut().zip(bytes).zip(mask) {
                let here = (byte == b']') | (byte == b'_') | (byte == b'\n');
                *found |= (here as u8).wrapping_neg() & mask;
            }
            end -= WIDE;
        }
        if any(&found) {
            return None;
        }
        let Some(bracket) = begin.bracket else { return Some((start + begin.name, (None, None))) };
        let head = line.get(..bracket).filter(|_| line.get(bracket) == Some(&b']'))?;
        let known = self.heads.get(place(head)?)?;
        let same = known.text.get(..known.length).is_some_and(|text| equal(text, head));
        same.then_some((start + begin.name, known.ids))
    }

    /// Learns what a line begins with: what [`Line::ids`] gives.
    pub fn learn(&mut self, line: &Line<'_>) -> Ids {
        let ids = line.ids();
        let name = line.name().start;
        let head = line.text().get(..name).unwrap_or_default();
        let bracket = memrchr(b']', head);
        let between = name - bracket.map_or(0, |bracket| bracket + 1);
        let mut begin = Begin { bracket, name, windows: between.div_ceil(WIDE), ..Begin::default() };
        let within = begin.last.iter_mut().rev().take(between - begin.windows.saturating_sub(1) * WIDE);
        within.for_each(|byte| *byte = 0xFF);
        begin.known = begin.windows <= MOST_WINDOWS && memmem::find(head, b"kvm_").is_none();
        if let Some(head) = bracket.and_then(|bracket| head.get(..bracket)) {
            let place = place(head).and_then(|place| self.heads.get_mut(place));
            match place.and_then(|known| {
                Some((known.text.get_mut(..head.len())?, &mut known.length, &mut known.ids))
            }) {
                Some((text, length, known)) => {
                    text.copy_from_slice(head);
                    (*length, *known) = (head.len(), ids);
                }
                None => begin.known = false,
            }
        }
        self.begin = begin;
        ids
    }

    /// Reads the line that begins at `start` of `text`, of which an event's name may stand at `name`; what
    /// [`Line::arguments`] gives goes into `found`, which a caller makes once for many lines. `None` where no event's
    /// name stands there, or where the line does not end in this text, or is very long.
    #[inline]
    pub fn read<'a>(
        &mut self,
        text: &'a [u8],
        start: usize,
        name: usize,
        found: &mut Arguments,
    ) -> Option<Line<'a>> {
        let line = Line::parse_at(text, name)
            .filter(|_| text.get(name..).is_some_and(|at| at.starts_with(b"kvm_")))?;
        let layouts = self.events.get_mut(line.event() as usize)?;
        let [last, before] = layouts;
        let mut end = last.follow(text, line.start(), &mut self.reasons, found);
        if end.is_none() && before.known {
            end = before.follow(text, line.start(), &mut self.reasons, found);
            if end.is_some() {
                std::mem::swap(last, before);
            }
        }
        if let Some(end) = end {
            return line.within(start..end);
        }
        let rest = text.get(name..)?;
        let end = name + memchr(b'\n', rest.get(..rest.len().min(MOST_LINE))?)?;
        let end = if text.get(end - 1) == Some(&b'\r') { end - 1 } else { end };
        let line = line.within(start..end)?;
        self.walk(&line, found);
        Some(line)
    }

    /// What [`Self::read`] does with a line of which no layout is known.
    pub fn walk(&mut self, line: &Line<'_>, found: &mut Arguments) {
        found.clear();
        match self.events.get_mut(line.event() as usize) {
            Some([last, before]) if !line.event().arguments().is_empty() => {
                if last.known {
                    std::mem::swap(last, before);
                }
                line.walk(found, last, self.wanted);
            }
            _ => line.read(found),
        }
        found.keep(self.wanted);
    }
}

/// Where a beginning of this end is remembered.
#[inline]
fn place(head: &[u8]) -> Option<usize> {
    let bits = u128::from_le_bytes(*head.last_chunk()?);
    Some((((bits >> 64) as u64 ^ bits as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `second` is read by the layout of `first`, and then as word by word.
    fn follows(first: &str, second: &str) -> bool {
        let first = Line::parse(first.as_bytes()).expect("a trace line");
        let (mut layout, mut found) = (Layout::default(), Arguments::NONE);
        first.walk(&mut found, &mut layout, Slots::ALL);
        // As many bytes are looked at together.
        let text = format!("{second}\n{}", "x".repeat(WIDE));
        let line = Line::parse(text.as_bytes()).expect("a trace line");
        let mut reasons = Reasons::new();
        found.clear();
        let end = layout.follow(text.as_bytes(), line.start(), &mut reasons, &mut found);
        let second = Line::parse(second.as_bytes()).expect("a trace line");
        assert!(
            end.is_none_or(|end| end == second.text().len() && found == second.arguments()),
            "{second:?}"
        );
        end.is_some()
    }

    #[test]
    fn other_values_of_the_same_form_follow() {
        for (first, second) in [
            (
                "kvm_exit: vcpu 0 reason npf rip 0x1 info1 0x0000000000000001 error_code 0x00000000",
                "kvm_exit: vcpu 12 reason GP excp rip 0x7f00123 info1 0x00000000ffffabcd error_code 0x00000010",
            ),
            (
                "kvm_exit: reason read_rt rip 0x1 info 1f 0",
                "kvm_exit: reason 0xffffffff rip 0x1000 info 0 abc",
            ),
            (
                "kvm_nested_vmenter: event_inj: 0x80000b0e nested_npt=y nested_cr3: 0x0000000000000000",
                "kvm_nested_vmenter: event_inj: 0x00000000 nested_npt=n nested_cr3: 0x0000000000001000",
            ),
            (
                "kvm_nested_intercepts: cr_read: 0010 excp: 00060042 intercepts: bc4c8027 00006e7f 00000000",
                "kvm_nested_intercepts: cr_read: ffff excp: 00000000 intercepts: 00000000 00000000 00000001",
            ),
            ("kvm_entry: vcpu 1, rip 0x1[immediate exit]", "kvm_entry: vcpu 1, rip 0x2[immediate exit]"),
        ] {
            assert!(follows(first, second) && follows(second, first), "{second}");
        }
    }

    #[test]
    fn what_looks_different_does_not() {
        let line = "kvm_entry: vcpu 1, rip 0xfff0 intr_info 0x80000b0e error_code 0x00000002";
        assert!(follows(line, line));
        for (from, to) in [
            ("intr_info", "intr_inf0"),
            ("0x80000b0e", "0x80000b0"),
            ("0x80000b0e", "0x80000b0e0"),
            ("0x80000b0e", "80000b0e"),
            ("0xfff0", "0xfff0fff0fff0fff0f"),
            ("0xfff0", "0x"),
            ("0xfff0", "0xfffg"),
            ("80000b0e", "80000B0E"),
            ("vcpu 1,", "vcpu ,"),
            ("vcpu 1,", "vcpu 1"),
            ("00000002", "00000002 "),
            ("00000002", "0000000"),
            (" error_code 0x00000002", ""),
        ] {
            assert!(!follows(line, &line.replace(from, to)), "{from} {to}");
            // Nothing is learned of a line of which something is unknown.
            let unknown = line.replace("0x80000b0e", "0x80000b0");
            assert!(!follows(&unknown, &unknown));
        }
    }
}
