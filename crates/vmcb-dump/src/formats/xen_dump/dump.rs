//! A dump of which lines are still expected.

use super::labels::{Form, Label, NP_LINE, NP_WORDS, NP_WORDS_ALWAYS, PARTS, Shows, Slot};
use super::printed::{is_hex, is_separator, np_word};
use crate::found::{Notes, Place, RemarkKind};
use crate::number;
use crate::text::Text;
use vmcb::layout::{Page, SAVE_AREA, vmcb_field as f};

/// Values after which no more are taken: real dumps have about 90.
const MAX_VALUES: usize = 512;
/// Words that say of a bit what it is, of which real dumps have about 10.
const MAX_CHECKS: usize = 64;

/// Which function asked for the dump.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    ExitHandler,
    Key,
    Unknown,
}

pub(super) struct Dump {
    pub(super) notes: Notes,
    pub(super) vcpu: Option<u32>,
    pub(super) asked: Asked,
    pub(super) address: Option<u64>,
    /// Addresses were shown that differ.
    pub(super) addresses: bool,
    /// Its lines come from Xen's log.
    pub(super) xen: bool,
    pub(super) values: Vec<Value>,
    pub(super) checks: Vec<Check>,
    pub(super) pending: Pending,
    pub(super) first: Option<&'static Label>,
    pub(super) last: Option<&'static Label>,
    /// Some number is padded, as old versions print all of them.
    pub(super) padded: bool,
    /// `np_ctrl` or `np_enable` was shown: some versions print it before the ASID, some after.
    pub(super) np: bool,
    /// Its names are those of versions that bring the VMCB up to date first.
    pub(super) synced: bool,
    /// What comes next is of the VMSA.
    pub(super) vmsa: bool,
    /// Length of the line scanned last, and of lines that were cut at their end.
    pub(super) length: usize,
    pub(super) clipped: Vec<usize>,
    pub(super) last_line: u64,
    pub(super) idle: u64,
    pub(super) joined: Option<(Place, u64)>,
}

pub(super) struct Value {
    pub(super) slot: Slot,
    pub(super) page: Page,
    pub(super) value: u64,
    pub(super) mask: u64,
    pub(super) place: Place,
    /// It may have lost digits if the line did: it has no fixed width.
    pub(super) free: bool,
    /// Digits that are printed where numbers are padded, if it has fewer.
    pub(super) short_of: Option<usize>,
    /// The length of the line that it ends, if it does.
    pub(super) ends: Option<usize>,
    pub(super) good: bool,
}

/// What a dump says of some bits besides their field.
pub(super) struct Check {
    pub(super) offset: u16,
    pub(super) shift: u32,
    pub(super) bits: u32,
    pub(super) value: u64,
}

pub(super) enum Pending {
    Nothing,
    Value {
        label: &'static Label,
        place: Place,
        /// Its `=` was there.
        equals: bool,
    },
    Segment {
        parts: [Slot; 4],
        label: Place,
        read: Vec<(u64, Place)>,
    },
    /// Words behind `np_ctrl`.
    Words {
        seen: Vec<u32>,
    },
}

impl Dump {
    /// Creates a dump that begins at a line.
    pub(super) fn new(line: &Text<'_>, vcpu: Option<u32>, asked: Asked) -> Self {
        Self {
            notes: Notes::default(),
            vcpu,
            asked,
            address: None,
            addresses: false,
            xen: line.has_xen_prefix(),
            values: Vec::new(),
            checks: Vec::new(),
            pending: Pending::Nothing,
            first: None,
            last: None,
            padded: false,
            np: false,
            synced: false,
            vmsa: false,
            length: 0,
            clipped: Vec::new(),
            last_line: line.number,
            idle: 0,
            joined: None,
        }
    }

    pub(super) fn touch(&mut self, line: &Text<'_>) {
        self.notes.keep(line.number, line.text);
        if line.truncated {
            let end = line.text.len();
            self.notes.remark(RemarkKind::LineTooLong, Place::Text { line: line.number, columns: end..end });
        }
        self.last_line = line.last;
        self.idle = 0;
    }

    pub(super) fn full(&self) -> bool {
        self.values.len() >= MAX_VALUES
    }

    /// Checks whether a line continues the last one.
    pub(super) fn goes_on(&self, message: &[u8], label: Option<&'static Label>) -> bool {
        if let Some(label) = label {
            return self.last.is_some_and(|last| {
                last.line == label.line && last.text != label.text && (!label.leads || label.line == NP_LINE)
            });
        }
        let word = message.split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
        match &self.pending {
            Pending::Nothing => false,
            Pending::Words { .. } => np_word(word).is_some(),
            Pending::Segment { .. } => {
                let word = word.strip_suffix(b",").unwrap_or(word);
                PARTS.iter().any(|part| word.starts_with(part.as_bytes())) || is_hex(word)
            }
            // A second `=` is that of another label, of which the line is missing.
            Pending::Value { equals: true, .. } if word == b"=" => false,
            Pending::Value { .. } => {
                let number = word.strip_suffix(b",").or_else(|| word.strip_suffix(b":")).unwrap_or(word);
                is_separator(word) || is_hex(number)
            }
        }
    }

    /// Ends the last line: the next one does not continue it.
    pub(super) fn settle(&mut self) {
        self.settle_before(false);
    }

    pub(super) fn settle_before(&mut self, goes_on: bool) {
        let last = self.last;
        if let Some(value) = self.values.last_mut()
            && let Some(length) = value.ends
        {
            if goes_on {
                value.ends = None;
            } else if !last.is_some_and(|last| last.ends && (last.text != "asid" || self.np)) {
                value.ends = None;
                if value.free {
                    value.good = false;
                    let (name, place) = (value.slot.name, value.place.clone());
                    self.notes.remark(RemarkKind::LineMaybeCut { name }, place);
                }
                self.clip(length);
            }
        }
        if !goes_on && last.is_some_and(|last| !last.ends && last.line != NP_LINE) {
            self.clip(self.length);
        }
        match std::mem::replace(&mut self.pending, Pending::Nothing) {
            Pending::Nothing => {}
            Pending::Value { label, place, .. } => {
                self.clip(self.length);
                if let Shows::One(slot) = label.shows {
                    self.notes.remark(RemarkKind::NoValue { name: slot.name }, place);
                }
            }
            Pending::Segment { parts: [_, _, _, base], label, .. } => {
                self.clip(self.length);
                self.notes.remark(RemarkKind::NoValue { name: base.name }, label);
            }
            Pending::Words { seen } => self.words(&seen),
        }
    }

    /// Ends the words after `np_ctrl`. Missing words stand for clear bits.
    pub(super) fn words(&mut self, seen: &[u32]) {
        for &(_, bit) in NP_WORDS.iter().take(NP_WORDS_ALWAYS).filter(|(_, bit)| !seen.contains(bit)) {
            self.check(f::nested_ctl.offset, bit, 1, 0);
        }
    }

    /// Marks the last number as one that may have lost digits.
    pub(super) fn void_last(&mut self) {
        if let Some(value) = self.values.last_mut().filter(|value| value.free && value.good) {
            value.good = false;
            let (name, place) = (value.slot.name, value.place.clone());
            self.notes.remark(RemarkKind::LineMaybeCut { name }, place);
        }
    }

    /// Notes that a line of this length was cut.
    pub(super) fn clip(&mut self, length: usize) {
        if self.clipped.len() < MAX_CHECKS {
            self.clipped.push(length);
        }
    }

    pub(super) fn check(&mut self, offset: u16, shift: u32, bits: u32, value: u64) {
        if self.checks.len() < MAX_CHECKS {
            self.checks.push(Check { offset, shift, bits, value });
        }
    }

    pub(super) fn push(&mut self, slot: Slot, value: u64, mask: u64, place: Place, short_of: Option<usize>) {
        if self.full() {
            return;
        }
        let save = slot.offset >= SAVE_AREA;
        let (page, slot) = if self.vmsa && save {
            (Page::Vmsa, Slot { offset: slot.offset - SAVE_AREA, ..slot })
        } else {
            (Page::Vmcb, slot)
        };
        let mask = mask & number::mask(slot.size);
        let free = slot.form != Form::Fixed;
        self.values.push(Value { slot, page, value, mask, place, free, short_of, ends: None, good: true });
    }
}
