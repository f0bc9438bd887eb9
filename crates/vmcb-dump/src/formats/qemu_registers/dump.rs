//! A dump of which lines are still expected.

use super::head::Head;
use super::part::{attributes_of, parts};
use super::registers::{KEYS, LAST, Pair, Shows, Word, digits};
use crate::found::{Found, Place, RemarkKind, Seen};
use crate::text::Text;
use vmcb::SegmentAttributes;
use vmcb::layout::vmcb_field as f;

/// A dump of which lines are still expected.
pub(super) struct Dump {
    head: Head,
    /// Registers are shown with 16 digits.
    long: bool,
    /// Its first register is not that with which dumps begin.
    beheaded: Option<&'static str>,
    /// All registers, to notice where another dump has a different value: index in [`KEYS`] and values.
    shown: Vec<(usize, [u64; 4])>,
    seen: Vec<Seen>,
    last: Option<(&'static str, Place)>,
    pub(super) complete: bool,
    /// Where it was noticed that two dumps mingle.
    pub(super) mingled: Option<Place>,
    /// Where its registers begin.
    start: Place,
}

impl Dump {
    pub(super) fn new(head: Head, start: Place) -> Self {
        Self {
            head,
            long: false,
            beheaded: None,
            shown: Vec::new(),
            seen: Vec::new(),
            last: None,
            complete: false,
            mingled: None,
            start,
        }
    }

    /// Whether the line is the first one again.
    pub(super) fn repeats(&self, first: &Pair<'_, '_>, line: &Text<'_>) -> bool {
        let width = if self.long { 16 } else { 8 };
        let value = first.first.and_then(|(_, word)| digits(word, first.name(), width).ok());
        let same = |&(key, values): &(usize, [u64; 4])| key == first.key && Some(values[0]) == value;
        matches!(self.start, Place::Text { line: first, .. } if line.number == first + 1)
            && self.shown.first().is_some_and(same)
    }

    pub(super) fn take(&mut self, line: &Text<'_>, pairs: &[Pair<'_, '_>]) {
        self.head.notes.keep(line.number, line.text);
        for pair in pairs {
            self.register(line, pair);
        }
    }

    fn register(&mut self, line: &Text<'_>, pair: &Pair<'_, '_>) {
        let Some(&(name, shows)) = KEYS.get(pair.key) else {
            return;
        };
        let place = |(at, word): Word<'_>| Place::Text { line: line.number, columns: at..at + word.len() };
        let whole = pair.word(0).map_or(Place::Text { line: line.number, columns: 0..0 }, place);
        if self.shown.is_empty() {
            self.long = name.starts_with('R');
            self.beheaded = (!name.ends_with("AX")).then_some(name);
        }
        if matches!(shows, Shows::Mode { long, .. } if long != self.long) {
            self.mingle(whole);
            return;
        }
        let parts = parts(name, shows, pair, self.long);
        let mut values = [0; 4];
        let mut seen = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let word = pair.word(index).ok_or((RemarkKind::NoValue { name: part.name }, whole.clone()));
            let read = word.and_then(|word| match digits(word.1, part.name, part.digits) {
                Ok(value) => Ok((value, place(word))),
                Err(kind) => Err((kind, place(word))),
            });
            match read {
                Ok((value, place)) => {
                    if let Some(slot) = values.get_mut(index) {
                        *slot = value;
                    }
                    seen.extend(part.learn(value, place));
                }
                Err((kind, place)) => {
                    if part.target.is_some() {
                        self.head.notes.remark(kind, place);
                    }
                    self.learn(seen);
                    return;
                }
            }
        }
        self.last = Some((name, whole.clone()));
        self.complete |= name == LAST;
        self.learn(seen);
        if self.remember(pair.key, values, name, &whole) && name == "SMM" && values[0] == 1 {
            self.head.notes.remark(RemarkKind::SystemManagementMode, whole);
        }
    }

    /// Keeps what is new; the same field with another value is that of another dump.
    fn learn(&mut self, seen: Vec<Seen>) {
        for seen in seen {
            match self.seen.iter().find(|before| before.offset == seen.offset) {
                None => self.seen.push(seen),
                Some(before) if before.value == seen.value && before.mask == seen.mask => {}
                Some(_) => self.mingle(seen.place),
            }
        }
    }

    /// Keeps the values of a register; `false` if it was known before.
    fn remember(&mut self, key: usize, values: [u64; 4], name: &'static str, place: &Place) -> bool {
        match self.shown.iter().find(|(known, _)| *known == key).map(|(_, values)| *values) {
            None => {
                self.shown.push((key, values));
                return true;
            }
            Some(before) if before == values => {
                self.head.notes.remark(RemarkKind::Duplicate { name }, place.clone());
            }
            Some(_) => self.mingle(place.clone()),
        }
        false
    }

    fn mingle(&mut self, place: Place) {
        self.mingled.get_or_insert(place);
    }

    /// The attributes of a segment, packed.
    fn attributes(&self, name: &str) -> Option<SegmentAttributes> {
        let key = KEYS.iter().position(|(key, _)| *key == name)?;
        let (_, values) = self.shown.iter().find(|(known, _)| *known == key)?;
        Some(attributes_of(values[3]))
    }

    /// Whether everything that shows CPL agrees: older QEMU takes it from CS, newer from SS.
    fn shows_cpl(&self, cpl: u64) -> bool {
        let agrees = |segment: SegmentAttributes| u64::from(segment.dpl()) == cpl;
        match (self.attributes("CS"), self.attributes("SS")) {
            (Some(cs), Some(ss)) => cs.present() && agrees(cs) && (!ss.present() || agrees(ss)),
            _ => false,
        }
    }

    pub(super) fn into_found(mut self) -> Option<Found> {
        if self.head.vmx {
            return None;
        }
        let (mingled, mut seen) = (self.mingled.take(), std::mem::take(&mut self.seen));
        seen.retain(|seen| seen.offset != f::cpl.offset || self.shows_cpl(seen.value));
        if seen.is_empty() && mingled.is_none() && self.head.failure.is_none() {
            return None;
        }
        let (start, notes) = (self.start, &mut self.head.notes);
        if let Some(place) = mingled {
            notes.remark(RemarkKind::DumpsMingle, place);
            return Some(self.head.into_found());
        }
        if let Some(name) = self.beheaded {
            notes.remark(RemarkKind::BeginsAt { name }, start.clone());
        }
        notes.remark(RemarkKind::GuestView, start);
        if let Some((name, place)) = self.last.filter(|_| !self.complete) {
            notes.remark(RemarkKind::EndsAfter { name }, place);
        }
        let mut found = self.head.into_found();
        for seen in seen {
            found.learn(seen);
        }
        Some(found)
    }
}
