//! Reads the labels and values of one line of a dump.

use super::dump::{Dump, Pending};
use super::labels::{Form, Index, Label, Mark, PARTS, SHADOW, SYNCS, Shows, Slot, TAILS};
use super::printed::{is_separator, np_word, read};
use crate::found::{Place, RemarkKind};
use crate::number;
use crate::text::{Text, has_cut, without_remark};
use vmcb::layout::{PAGE_SIZE, vmcb_field as f};

/// What is known of a line while it is read.
struct Scan<'a> {
    line: &'a Text<'a>,
    /// Where the line ends without a remark.
    end: usize,
    /// Something was cut out of the line, in front of the next label.
    cut: bool,
    /// The line of the dump that this one shows.
    shows: Option<u8>,
    /// The index of the value whose label may be the end of another one.
    doubtful: Option<usize>,
}

impl Scan<'_> {
    fn place(&self, from: usize, to: usize) -> Place {
        Place::Text { line: self.line.number, columns: from..to }
    }
}

impl Dump {
    /// Reads the labels and values from `start` on. `cut`: something was cut out in front of the line.
    pub(super) fn scan(&mut self, index: &Index, line: &Text<'_>, start: usize, cut: bool) {
        let text = line.text.as_bytes();
        self.length = text.len();
        let message = without_remark(text.get(start..).unwrap_or_default());
        let end = start + message.trim_ascii_end().len();
        let mut scan = Scan { line, end, cut, shows: None, doubtful: None };
        let mut next = Some(start);
        while let Some(at) = next {
            let rest = text.get(at..).unwrap_or_default();
            let spaces = rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            next = self.word(index, &mut scan, at + spaces);
        }
    }

    /// Takes the word that begins at `at`. Returns where it ends, or `None` if nothing after it belongs to the dump.
    fn word(&mut self, index: &Index, scan: &mut Scan<'_>, at: usize) -> Option<usize> {
        let rest = scan.line.text.as_bytes().get(at..).unwrap_or_default();
        if rest.is_empty() {
            return None;
        }
        let length = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        let word = rest.get(..length).unwrap_or_default();
        if is_separator(word) {
            return Some(at + length);
        }
        if has_cut(word) {
            self.void_last();
            self.pending = Pending::Nothing;
            scan.cut = true;
            return Some(at + length);
        }
        if let Some((label, used)) = index.find(rest).filter(|(label, _)| self.belongs(label)) {
            // What stands on one line is of one line of the dump: else its beginning was another label's end.
            if scan.shows.is_some_and(|line| line != label.line) {
                if let Some(value) = scan.doubtful.and_then(|index| self.values.get_mut(index)) {
                    value.good = false;
                }
                return None;
            }
            scan.shows = Some(label.line);
            let equals = used > label.text.len();
            let place = scan.place(at, at + label.text.len().min(length));
            self.label(label, place, std::mem::take(&mut scan.cut), equals);
            scan.doubtful = TAILS.contains(&label.text).then_some(self.values.len());
            return Some(at + used);
        }
        self.value(scan, at, word)
    }

    /// Takes a word that is not a label. Returns where it ends, or `None` if nothing after it belongs to the dump.
    fn value(&mut self, scan: &Scan<'_>, at: usize, word: &[u8]) -> Option<usize> {
        match std::mem::replace(&mut self.pending, Pending::Nothing) {
            Pending::Nothing => {
                // Behind a number stands its label's successor or the line's end, or more of it may have stood
                // there.
                if at < scan.end {
                    self.void_last();
                }
                return None;
            }
            Pending::Words { mut seen } => {
                let Some(bit) = np_word(word) else {
                    self.words(&seen);
                    return None;
                };
                seen.push(bit);
                self.check(f::nested_ctl.offset, bit, 1, 1);
                self.pending = Pending::Words { seen };
            }
            Pending::Value { label, place, .. } => self.number(scan, at, word, label, &place),
            Pending::Segment { parts, label, read } => {
                self.segment_part(scan, at, word, (parts, label, read))?;
            }
        }
        Some(at + word.len())
    }

    /// Takes the value of a label.
    fn number(&mut self, scan: &Scan<'_>, at: usize, word: &[u8], label: &'static Label, name: &Place) {
        let length = scan.line.text.len();
        let end = at + word.len();
        let bare = word.strip_suffix(b",").unwrap_or(word);
        let bare = if label.text == "np_ctrl" { bare.strip_suffix(b":").unwrap_or(bare) } else { bare };
        let place = scan.place(at, at + bare.len());
        self.note_wrap(&place, name);
        let lone = bare.len() == word.len();
        let before = self.values.len();
        self.take(label, bare, place, scan.line.maybe_cut(end) && lone);
        if label.text == "np_ctrl" && word.ends_with(b":") {
            self.pending = Pending::Words { seen: Vec::new() };
        }
        if lone && end == scan.end {
            match self.values.get_mut(before) {
                Some(value) => value.ends = Some(length),
                None if matches!(label.shows, Shows::One(_)) => self.clip(length),
                None => {}
            }
        }
    }

    /// Takes the next part of a segment. Returns `None` if the word is not one.
    fn segment_part(
        &mut self,
        scan: &Scan<'_>,
        at: usize,
        word: &[u8],
        (parts, label, mut read): ([Slot; 4], Place, Vec<(u64, Place)>),
    ) -> Option<()> {
        let &slot = parts.get(read.len())?;
        let bare = word.strip_suffix(b",").unwrap_or(word);
        let name = PARTS
            .get(read.len())
            .map_or(0, |part| if bare.starts_with(part.as_bytes()) { part.len() } else { 0 });
        let digits = bare.get(name..).unwrap_or_default();
        let coded = if name > 0 && digits.starts_with(b"3D0x") { 2 } else { 0 };
        let from = at + name + coded;
        let digits = digits.get(coded..).unwrap_or_default();
        let place = scan.place(from, from + digits.len());
        match number::hex(digits, slot.name, usize::from(slot.size) * 2) {
            Ok(value) => read.push((value, place)),
            Err(kind) => {
                self.notes.remark(kind, place);
                return None;
            }
        }
        if read.len() < parts.len() {
            self.pending = Pending::Segment { parts, label, read };
        } else {
            for (slot, (value, place)) in parts.into_iter().zip(read) {
                self.push(slot, value, u64::MAX, place, None);
            }
        }
        Some(())
    }

    /// Whether a label can stand where the dump is.
    fn belongs(&self, label: &Label) -> bool {
        let after = |texts: &[&str]| self.last.is_some_and(|last| texts.contains(&last.text));
        match label.text {
            "TR" => after(&["TR", "IDTR"]),
            "star" => after(&["star", "efer"]),
            _ => label.leads || self.last.is_some_and(|last| last.line <= label.line),
        }
    }

    fn label(&mut self, label: &'static Label, place: Place, cut: bool, equals: bool) {
        // A number that ends a line is whole if its successor begins the next one.
        let goes_on = self.last.is_some_and(|last| last.line == label.line);
        self.settle_before(goes_on);
        self.first.get_or_insert(label);
        self.last = Some(label);
        self.np |= label.text.starts_with("np_");
        self.synced |= SYNCS.contains(&label.text);
        if cut && TAILS.contains(&label.text) {
            return;
        }
        self.pending = match label.shows {
            Shows::Segment(parts) => Pending::Segment { parts, label: place, read: Vec::new() },
            _ => Pending::Value { label, place, equals },
        };
    }

    fn take(&mut self, label: &'static Label, word: &[u8], place: Place, maybe_cut: bool) {
        match label.shows {
            // QEMU prints some of these names too, but never `0x` behind them.
            Shows::One(slot)
                if slot.form == Form::Fixed && label.mark == Mark::Equals && !word.starts_with(b"0x") =>
            {
                let text = number::shorten(word);
                self.notes.remark(RemarkKind::NotANumber { name: slot.name, text }, place);
            }
            Shows::One(slot) => match read(word, slot, maybe_cut) {
                Ok(number) => {
                    self.padded |= number.padded;
                    let mask = if label.text == SHADOW && number.value <= 1 && number.short_of.is_some() {
                        // Either the whole number, or the bit that versions of 2018 and 2019 print.
                        1
                    } else {
                        u64::MAX
                    };
                    self.push(slot, number.value, mask, place, number.short_of);
                }
                Err(kind) => self.notes.remark(kind, place),
            },
            Shows::Again { of, shift, bits } => {
                let slot = Slot { name: label.text, offset: of.offset, size: 1, form: Form::Bare(2) };
                // What these words say is needed for nothing but a doubt, so a cut one is no loss.
                if !maybe_cut && let Ok(number) = read(word, slot, false) {
                    self.check(of.offset, shift, bits, number.value);
                }
            }
            Shows::Address => {
                let address = number::hex(word, "paddr", number::hex_digits(word).len().min(16));
                let whole = !maybe_cut && (word.starts_with(b"0x") || word.len() == 16);
                match address.ok().filter(|address| whole && address % PAGE_SIZE as u64 == 0) {
                    Some(address) if self.address.is_none_or(|first| first == address) => {
                        self.address = Some(address);
                    }
                    Some(_) => self.addresses = true,
                    None => self
                        .notes
                        .remark(RemarkKind::NotANumber { name: "paddr", text: number::shorten(word) }, place),
                }
            }
            Shows::Nothing | Shows::Segment(_) => {}
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
