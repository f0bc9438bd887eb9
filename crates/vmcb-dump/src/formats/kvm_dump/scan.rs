//! Reads the labels and values of one line of a dump.

use super::dump::{Dump, Pending};
use super::labels::{INTERCEPTS, Index, LABELS, Shows, Slot};
use super::printed::{ends_another, label_text, part_of, unknown_label};
use crate::found::{Place, RemarkKind};
use crate::number::{self, Form};
use crate::text::{Text, has_cut, skip_spaces};
use std::ops::Range;

impl Dump {
    /// Reads the labels and values of a line.
    pub(super) fn scan(&mut self, index: &Index, line: &Text<'_>) {
        let mut next = Some(line.start);
        while let Some(at) = next {
            next = self.word(index, line, skip_spaces(line.text.as_bytes(), at));
        }
    }

    /// Takes the word that begins at `at`. Returns where it ends, or `None` if nothing after it belongs to the dump.
    fn word(&mut self, index: &Index, line: &Text<'_>, at: usize) -> Option<usize> {
        let rest = line.text.as_bytes().get(at..).unwrap_or_default();
        if rest.is_empty() || rest == b"=" {
            // A lone `=` is the soft line break of a quoted-printable mail.
            return None;
        }
        let length = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        let word = rest.get(..length).unwrap_or_default();
        let place = |columns: Range<usize>| Place::Text { line: line.number, columns };
        if has_cut(word) {
            // What follows may be the rest of any label.
            self.cut();
            self.cut_in = Some(line.last);
            return None;
        }
        if let Some((row, length)) = index.find(rest) {
            let behind_cut = self.cut_in.take().is_some_and(|cut| line.number == cut + 1 && line.is_rest());
            if behind_cut && ends_another(row) {
                // Its beginning may have been cut off: `star:` is what is left of `lstar:`.
                self.settle();
                self.pending = Pending::Skip;
            } else {
                self.label(row, index.first(row), place(at..at + length));
            }
            return Some(at + length);
        }
        if let Some((segment, part)) = self.segment.zip(part_of(rest)) {
            self.settle();
            if let Some(Shows::Segment(parts)) = LABELS.get(segment).map(|label| label.shows)
                && let Some(&slot) = parts.get(part)
            {
                self.pending = Pending::One { row: segment, slot, label: place(at..at + 2) };
            }
            if part == 3 {
                self.segment = None;
            }
            return Some(at + 2);
        }
        self.value(index, line, at, word)
    }

    /// Takes a word that is not a label. Returns where it ends, or `None` if nothing after it belongs to the dump.
    fn value(&mut self, index: &Index, line: &Text<'_>, at: usize, word: &[u8]) -> Option<usize> {
        let text = line.text.as_bytes();
        let end = at + word.len();
        let place = |columns: Range<usize>| Place::Text { line: line.number, columns };
        match std::mem::take(&mut self.pending) {
            Pending::Nothing => {
                self.segment = None;
                let Some(name) = unknown_label(text.get(at..).unwrap_or_default()) else {
                    // A label may have ended in these dots.
                    if word.ends_with(b"...") {
                        self.before = None;
                    }
                    return None;
                };
                self.notes.remark(
                    RemarkKind::UnknownLabel { label: number::shorten(name) },
                    place(at..at + name.len()),
                );
                self.pending = Pending::Skip;
                return Some(at + name.len() + 1);
            }
            Pending::Skip => {}
            Pending::One { row, slot, label } => {
                let behind = text.get(end..).unwrap_or_default().trim_ascii();
                let blank = behind.is_empty();
                // Anything but a label or a remark may be what is left of a cut, or of the characters of a hex dump.
                let closed = blank
                    || matches!(behind, [b'#' | b'<' | b'(', ..])
                    || index.find(behind).is_some()
                    || unknown_label(behind).is_some();
                self.take(row, slot, word, place(at..end), line.maybe_cut(end) || !closed, &label);
                self.open_end = blank
                    && match slot.form {
                        Form::Hex => false,
                        Form::HexHalfOrWhole => number::hex_digits(word).len() != 16,
                        Form::Decimal => true,
                    };
            }
            Pending::Intercepts { row, label, mut words } => {
                if !self.take_intercepts(row, word, place(at..end), &label, &mut words) {
                    return None;
                }
                if words.len() < INTERCEPTS.len() {
                    self.pending = Pending::Intercepts { row, label, words };
                } else {
                    self.settle_intercepts(row, label, words);
                }
            }
        }
        Some(end)
    }

    /// A label that the kernel is known to print.
    fn label(&mut self, row: usize, first: usize, label: Place) {
        self.settle();
        self.labels += 1;
        self.first.get_or_insert(row);
        self.last = Some(row);
        self.segment = None;
        self.copy = self.is_copy(row);
        self.place_in_order = Some(first);
        self.before = Some(row);
        match LABELS.get(row).map(|label| label.shows) {
            Some(Shows::One(slot)) => self.pending = Pending::One { row, slot, label },
            Some(Shows::Intercepts) => {
                self.pending = Pending::Intercepts { row, label, words: Vec::new() };
            }
            Some(Shows::Segment(_)) => self.segment = Some(row),
            None => {}
        }
    }

    /// Whether a label is of KVM's list of general registers, which comes last and repeats rax and rsp.
    fn is_copy(&self, row: usize) -> bool {
        let before = self.before.and_then(label_text);
        match label_text(row) {
            Some("rax") => before != Some("rsp") || self.order.rows > row + 1,
            Some("rsp") => before.is_none_or(|before| before == "rbp") || self.order.rows > row + 1,
            _ => false,
        }
    }

    /// Takes a word of the intercepts; `false` if it is none.
    fn take_intercepts(
        &mut self,
        row: usize,
        word: &[u8],
        place: Place,
        label: &Place,
        words: &mut Vec<(u64, Place)>,
    ) -> bool {
        let name = INTERCEPTS[0].name;
        self.note_wrap(&place, label);
        let whole = words.is_empty() && number::hex_digits(word).len() > 8;
        match number::hex(word, name, if whole { 16 } else { 8 }) {
            Ok(value) if whole => {
                let words = [value & u64::from(u32::MAX), value >> 32];
                for (value, slot) in words.into_iter().zip(INTERCEPTS) {
                    self.push(row, slot, value, u64::from(u32::MAX), place.clone());
                }
                false
            }
            Ok(value) => {
                words.push((value, place));
                true
            }
            Err(kind) => {
                // A remark behind the words is no third word.
                if words.len() >= 2 {
                    self.settle_intercepts(row, label.clone(), std::mem::take(words));
                } else {
                    self.notes.remark(kind, place);
                }
                false
            }
        }
    }

    fn take(&mut self, row: usize, slot: Slot, word: &[u8], place: Place, maybe_cut: bool, label: &Place) {
        self.note_wrap(&place, label);
        match number::read(word, slot.name, slot.size, slot.form, maybe_cut) {
            Ok((value, mask)) => self.push(row, slot, value, mask, place),
            Err(kind) => self.notes.remark(kind, place),
        }
    }

    fn note_wrap(&mut self, value: &Place, label: &Place) {
        if let (Place::Text { line: value_line, .. }, Place::Text { line, .. }) = (value, label)
            && value_line != line
        {
            self.joined.get_or_insert_with(|| (value.clone(), 0)).1 += 1;
        }
    }
}
