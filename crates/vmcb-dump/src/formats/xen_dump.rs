//! What Xen's `svm_vmcb_dump` prints, by the debug key `v` and after VMEXIT_INVALID, in the layouts of all versions.
//!
//! Most numbers have no fixed width, so that nothing in a number shows that digits of it are missing. What shows it
//! is the line: each has its labels, and a number is taken where its label's successor follows it or where the line
//! may end. All other numbers that may be cut are unknown.

mod labels;

use self::labels::{
    Form, Index, LAST, Label, Mark, NP_LINE, NP_WORDS, NP_WORDS_ALWAYS, PARTS, SHADOW, SYNCS, Shows, Slot,
    TAILS, VMSAVE,
};
use crate::format::{Format, Out, Taken};
use crate::found::{Found, Notes, Place, RemarkKind, Seen};
use crate::kind::Kind;
use crate::number;
use crate::text::{Text, begins_with_cut, has_cut, skip_spaces, without_remark};
use vmcb::layout::{PAGE_SIZE, Page, SAVE_AREA, vmcb_field as f};
use vmcb::{ExitCode, Phase};

/// Lines of other matters after which a dump counts as ended.
const MAX_IDLE: u64 = 1000;
/// Lines that may stand between the line that names a virtual CPU and its dump.
const MAX_BEFORE: u64 = 8;
/// Values after which no more are taken: real dumps have about 90.
const MAX_VALUES: usize = 512;
/// Words that say of a bit what it is, of which real dumps have about 10.
const MAX_CHECKS: usize = 64;

/// How a dump's first line begins; what follows is the function that asked for it.
const DUMPING: &[u8] = b"Dumping guest's current state at ";
/// The function that handles a #VMEXIT: it dumps the VMCB after VMEXIT_INVALID, and for no other reason.
const EXIT_HANDLER: &[u8] = b"svm_vmexit_handler";
/// What stands in its place for the debug key.
const KEY_HANDLER: &[u8] = b"key_handler";

pub(crate) struct XenDump {
    index: Index,
    open: Option<Dump>,
    before: Option<Before>,
    /// The last line that was looked at, and how it ended.
    line: u64,
    end: End,
    /// Something was cut out behind it.
    cut: bool,
}

/// What a line before the dump said of it.
struct Before {
    line: u64,
    vcpu: Option<u32>,
    /// VMRUN was refused.
    invalid: bool,
}

/// How a line ends, for the one after it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    /// In the middle of a word, by a soft line break of a mail in quoted-printable.
    Word,
    /// With a mark that says that something is left out.
    Cut,
}

/// Which function asked for the dump.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    ExitHandler,
    Key,
    Unknown,
}

struct Dump {
    notes: Notes,
    vcpu: Option<u32>,
    asked: Asked,
    address: Option<u64>,
    /// Addresses were shown that differ.
    addresses: bool,
    /// Its lines come from Xen's log.
    xen: bool,
    values: Vec<Value>,
    checks: Vec<Check>,
    pending: Pending,
    first: Option<&'static Label>,
    last: Option<&'static Label>,
    /// Some number is padded, as old versions print all of them.
    padded: bool,
    /// `np_ctrl` or `np_enable` was shown: some versions print it before the ASID, some after.
    np: bool,
    /// Its names are those of versions that bring the VMCB up to date first.
    synced: bool,
    /// What comes next is of the VMSA.
    vmsa: bool,
    /// Length of the line scanned last, and of lines that were cut at their end.
    length: usize,
    clipped: Vec<usize>,
    last_line: u64,
    idle: u64,
    joined: Option<(Place, u64)>,
}

struct Value {
    slot: Slot,
    page: Page,
    value: u64,
    mask: u64,
    place: Place,
    /// It may have lost digits if the line did: it has no fixed width.
    free: bool,
    /// Digits that are printed where numbers are padded, if it has fewer.
    short_of: Option<usize>,
    /// The length of the line that it ends, if it does.
    ends: Option<usize>,
    good: bool,
}

/// What a dump says of some bits besides their field.
struct Check {
    offset: u16,
    shift: u32,
    bits: u32,
    value: u64,
}

enum Pending {
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

impl XenDump {
    pub(crate) fn new() -> Self {
        Self { index: Index::new(), open: None, before: None, line: 0, end: End::Whole, cut: false }
    }

    fn begin(&mut self, line: &Text<'_>, asked: Asked, out: &mut Out) -> &mut Dump {
        self.finish(out);
        let before = self.before.take().filter(|before| line.number - before.line <= MAX_BEFORE);
        let invalid = before.as_ref().is_some_and(|before| before.invalid) && asked == Asked::Unknown;
        let asked = if invalid { Asked::ExitHandler } else { asked };
        self.open.insert(Dump {
            notes: Notes::default(),
            vcpu: before.and_then(|before| before.vcpu),
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
        })
    }

    /// A line that says what comes next.
    fn header(&mut self, line: &Text<'_>, message: &[u8], out: &mut Out) -> Option<Taken> {
        if let Some(rest) = message.strip_prefix(DUMPING) {
            let name = rest.trim_ascii_end().strip_suffix(b"...");
            let asked = match name {
                Some(EXIT_HANDLER) => Asked::ExitHandler,
                Some(KEY_HANDLER) => Asked::Key,
                _ => Asked::Unknown,
            };
            let dump = self.begin(line, asked, out);
            dump.touch(line);
            return Some(Taken::Began);
        }
        if let Some(before) = message.trim_ascii_end().strip_suffix(b"invalid VMCB state:") {
            self.finish(out);
            let vcpu = vcpu_of(before.trim_ascii_end());
            self.before = Some(Before { line: line.number, vcpu, invalid: true });
            return Some(Taken::Yes);
        }
        let number = message.strip_prefix(b"VCPU ").and_then(whole_decimal);
        let domain = message.strip_prefix(b"Domain ").and_then(|rest| rest.strip_suffix(b" <<<"));
        let vmx = message.starts_with(b"*** ") || message.starts_with(b"CR0: actual=");
        if number.is_some() || domain.is_some() || vmx || message.starts_with(b"***********") {
            self.finish(out);
            let vcpu = number.filter(|_| !line.maybe_cut(line.text.len()));
            self.before = Some(Before { line: line.number, vcpu, invalid: false });
            return Some(if number.is_some() { Taken::Yes } else { Taken::No });
        }
        None
    }
}

/// The number of the virtual CPU in `d5v0`, which ends the text.
fn vcpu_of(text: &[u8]) -> Option<u32> {
    let word = text.rsplit(|byte| matches!(byte, b':' | b' ')).next()?;
    let (domain, vcpu) =
        word.strip_prefix(b"d")?.split_at_checked(memchr::memchr(b'v', word)?.checked_sub(1)?)?;
    whole_decimal(domain)?;
    whole_decimal(vcpu.strip_prefix(b"v")?)
}

fn whole_decimal(text: &[u8]) -> Option<u32> {
    let text = text.trim_ascii_end();
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    if digits { std::str::from_utf8(text).ok()?.parse().ok() } else { None }
}

impl Format for XenDump {
    fn offer(&mut self, line: &Text<'_>, out: &mut Out) -> Taken {
        let before = match std::mem::take(&mut self.cut) {
            true => End::Cut,
            false if line.number == self.line + 1 => self.end,
            false => End::Whole,
        };
        self.line = line.last;
        self.end = end_of(line);
        let message = line.message();
        if let Some(taken) = self.header(line, message, out) {
            return taken;
        }
        if message.trim_ascii_end() == b"Decrypted SEV-ES state"
            && let Some(dump) = &mut self.open
        {
            dump.settle();
            dump.touch(line);
            dump.vmsa = true;
            return Taken::Yes;
        }
        // A word broken by a mail makes the first word the end of another one.
        let broken = before == End::Word && !line.text.starts_with([' ', '\t']);
        let cut = before == End::Cut;
        let mut start = line.start;
        if broken {
            start += message.iter().position(u8::is_ascii_whitespace).unwrap_or(message.len());
            start = skip_spaces(line.text.as_bytes(), start);
        }
        let message = line.text.as_bytes().get(start..).unwrap_or_default();
        if broken && let Some(dump) = &mut self.open {
            // What the broken word was the value of has none.
            dump.settle_before(true);
        }
        let label = self.index.find(message).map(|(label, _)| label);
        let next = self.open.as_ref().is_some_and(|dump| line.number == dump.last_line + 1);
        let xen = line.has_xen_prefix();
        // A line that goes on where the one before ended has no prefix of its own.
        let goes_on = next
            && before != End::Cut
            && match &self.open {
                Some(dump) if !dump.xen || !xen => dump.goes_on(message, label),
                _ => false,
            };
        if goes_on {
            if let Some(dump) = &mut self.open {
                dump.touch(line);
                dump.scan(&self.index, line, start, cut);
            }
            return Taken::Yes;
        }
        if let Some(dump) = &mut self.open {
            dump.settle();
            // What follows a number that ended its line may be the rest of it, or say that the rest is left out.
            let rest = next && !(dump.xen && xen) && is_rest(message);
            if rest || next && begins_with_cut(message) {
                dump.void_last();
            }
            if rest {
                dump.clip(dump.length);
                // No one else shall take it for something whole.
                return Taken::Yes;
            }
        }
        let Some(label) = label.filter(|label| label.leads && !broken) else {
            return self.pass(out);
        };
        if self.open.as_ref().is_some_and(|dump| dump.xen && !xen) {
            // Somebody wrote about the dump.
            return self.pass(out);
        }
        let expected = self
            .open
            .as_ref()
            .is_some_and(|dump| dump.last.is_none_or(|last| last.line <= label.line) && !dump.full());
        let taken = if expected {
            Taken::Yes
        } else if label.own {
            self.begin(line, Asked::Unknown, out);
            Taken::Began
        } else {
            // A label that others have too, where no dump can go on with it.
            return self.pass(out);
        };
        if let Some(dump) = &mut self.open {
            dump.touch(line);
            dump.scan(&self.index, line, start, cut);
        }
        taken
    }

    fn cut(&mut self) {
        self.cut = true;
        if let Some(dump) = &mut self.open {
            // The mark may have stood behind the last number, before a mail program broke the line.
            if dump.values.last().is_some_and(|value| value.ends.is_some()) {
                dump.void_last();
            }
            dump.settle();
        }
    }

    fn finish(&mut self, out: &mut Out) {
        if let Some(found) = self.open.take().and_then(Dump::into_found) {
            out.push_back(found);
        }
    }
}

fn end_of(line: &Text<'_>) -> End {
    match line.text.as_bytes() {
        _ if has_cut(without_remark(line.message()).trim_ascii_end()) => End::Cut,
        [.., last, b'='] if !last.is_ascii_whitespace() => End::Word,
        _ => End::Whole,
    }
}

impl XenDump {
    /// The line is of another matter.
    fn pass(&mut self, out: &mut Out) -> Taken {
        if let Some(dump) = &mut self.open {
            dump.idle += 1;
            if dump.idle > MAX_IDLE {
                self.finish(out);
            }
        }
        Taken::No
    }
}

impl Dump {
    fn touch(&mut self, line: &Text<'_>) {
        self.notes.keep(line.number, line.text);
        if line.truncated {
            let end = line.text.len();
            self.notes.remark(RemarkKind::LineTooLong, Place::Text { line: line.number, columns: end..end });
        }
        self.last_line = line.last;
        self.idle = 0;
    }

    fn full(&self) -> bool {
        self.values.len() >= MAX_VALUES
    }

    /// Whether a line goes on where the last one ended.
    fn goes_on(&self, message: &[u8], label: Option<&'static Label>) -> bool {
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

    fn scan(&mut self, index: &Index, line: &Text<'_>, start: usize, mut cut: bool) {
        let text = line.text.as_bytes();
        let place = |from: usize, to: usize| Place::Text { line: line.number, columns: from..to };
        self.length = text.len();
        let message = without_remark(text.get(start..).unwrap_or_default());
        let line_end = start + message.trim_ascii_end().len();
        let mut at = start;
        // The line of the dump that this one shows, and a label that may be the end of another one.
        let mut shows: Option<u8> = None;
        let mut doubtful: Option<usize> = None;
        loop {
            at += text
                .get(at..)
                .unwrap_or_default()
                .iter()
                .take_while(|byte| byte.is_ascii_whitespace())
                .count();
            let rest = text.get(at..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            let length = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
            let word = rest.get(..length).unwrap_or_default();
            if is_separator(word) {
                at += length;
                continue;
            }
            if has_cut(word) {
                self.void_last();
                self.pending = Pending::Nothing;
                cut = true;
                at += length;
                continue;
            }
            if let Some((label, used)) = index.find(rest).filter(|(label, _)| self.belongs(label)) {
                // What stands on one line is of one line of the dump: else its beginning was another label's end.
                if shows.is_some_and(|line| line != label.line) {
                    if let Some(value) = doubtful.and_then(|index| self.values.get_mut(index)) {
                        value.good = false;
                    }
                    return;
                }
                shows = Some(label.line);
                let equals = used > label.text.len();
                self.label(label, place(at, at + label.text.len().min(length)), cut, equals);
                cut = false;
                doubtful = TAILS.contains(&label.text).then_some(self.values.len());
                at += used;
                continue;
            }
            let end = at + length;
            match std::mem::replace(&mut self.pending, Pending::Nothing) {
                Pending::Nothing => {
                    // Behind a number stands its label's successor or the line's end, or more of it may have stood
                    // there.
                    if at < line_end {
                        self.void_last();
                    }
                    return;
                }
                Pending::Words { mut seen } => {
                    let Some(bit) = np_word(word) else {
                        self.words(&seen);
                        return;
                    };
                    seen.push(bit);
                    self.check(f::nested_ctl.offset, bit, 1, 1);
                    self.pending = Pending::Words { seen };
                }
                Pending::Value { label, place: name, .. } => {
                    let bare = word.strip_suffix(b",").unwrap_or(word);
                    let bare =
                        if label.text == "np_ctrl" { bare.strip_suffix(b":").unwrap_or(bare) } else { bare };
                    let place = place(at, at + bare.len());
                    self.note_wrap(&place, &name);
                    let lone = bare.len() == word.len();
                    let before = self.values.len();
                    self.take(label, bare, place, line.maybe_cut(end) && lone);
                    if label.text == "np_ctrl" && word.ends_with(b":") {
                        self.pending = Pending::Words { seen: Vec::new() };
                    }
                    if lone && end == line_end {
                        match self.values.get_mut(before) {
                            Some(value) => value.ends = Some(text.len()),
                            None if matches!(label.shows, Shows::One(_)) => self.clip(text.len()),
                            None => {}
                        }
                    }
                }
                Pending::Segment { parts, label, mut read } => {
                    let Some(&slot) = parts.get(read.len()) else {
                        return;
                    };
                    let bare = word.strip_suffix(b",").unwrap_or(word);
                    let name = PARTS
                        .get(read.len())
                        .map_or(0, |part| if bare.starts_with(part.as_bytes()) { part.len() } else { 0 });
                    let digits = bare.get(name..).unwrap_or_default();
                    let coded = if name > 0 && digits.starts_with(b"3D0x") { 2 } else { 0 };
                    let from = at + name + coded;
                    let digits = digits.get(coded..).unwrap_or_default();
                    let place = place(from, from + digits.len());
                    match number::hex(digits, slot.name, usize::from(slot.size) * 2) {
                        Ok(value) => read.push((value, place)),
                        Err(kind) => {
                            self.notes.remark(kind, place);
                            return;
                        }
                    }
                    if read.len() < parts.len() {
                        self.pending = Pending::Segment { parts, label, read };
                    } else {
                        for (slot, (value, place)) in parts.into_iter().zip(read) {
                            self.push(slot, value, u64::MAX, place, None);
                        }
                    }
                }
            }
            at = end;
        }
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

    /// Nothing goes on where the last line ended.
    fn settle(&mut self) {
        self.settle_before(false);
    }

    fn settle_before(&mut self, goes_on: bool) {
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

    /// The words behind `np_ctrl` have ended: those that are missing stand for clear bits.
    fn words(&mut self, seen: &[u32]) {
        for &(_, bit) in NP_WORDS.iter().take(NP_WORDS_ALWAYS).filter(|(_, bit)| !seen.contains(bit)) {
            self.check(f::nested_ctl.offset, bit, 1, 0);
        }
    }

    /// The last number may have lost digits.
    fn void_last(&mut self) {
        if let Some(value) = self.values.last_mut().filter(|value| value.free && value.good) {
            value.good = false;
            let (name, place) = (value.slot.name, value.place.clone());
            self.notes.remark(RemarkKind::LineMaybeCut { name }, place);
        }
    }

    /// A line of this length was cut.
    fn clip(&mut self, length: usize) {
        if self.clipped.len() < MAX_CHECKS {
            self.clipped.push(length);
        }
    }

    fn check(&mut self, offset: u16, shift: u32, bits: u32, value: u64) {
        if self.checks.len() < MAX_CHECKS {
            self.checks.push(Check { offset, shift, bits, value });
        }
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

    fn push(&mut self, slot: Slot, value: u64, mask: u64, place: Place, short_of: Option<usize>) {
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

    /// Takes back what the dump as a whole makes doubtful.
    fn doubt(&mut self) {
        for value in self.values.iter_mut().filter(|value| value.good) {
            let name = value.slot.name;
            let kind = match (value.short_of, value.ends) {
                (Some(expected), _) if self.padded => {
                    let digits = match &value.place {
                        Place::Text { columns, .. } => columns.len().saturating_sub(2).max(1),
                        Place::Byte { .. } => 0,
                    };
                    RemarkKind::NumberTooShort { name, digits, expected }
                }
                (Some(_), Some(length)) if self.clipped.contains(&length) => {
                    RemarkKind::LineMaybeCut { name }
                }
                _ => continue,
            };
            value.good = false;
            self.notes.remark(kind, value.place.clone());
        }
    }

    fn into_found(mut self) -> Option<Found> {
        self.settle();
        let last = self.last?;
        if self.values.is_empty() && self.address.is_none() {
            return None;
        }
        let place = self.notes.first_line();
        let mut found = Found::new(Kind::XenDump, Phase::Unknown, place.clone());
        found.vcpu = self.vcpu;
        found.vmcb_address = self.address.filter(|_| !self.addresses);
        if let Some(first) = self.first.filter(|first| first.line > 2) {
            self.notes.remark(RemarkKind::BeginsAt { name: first.text }, place.clone());
        }
        if let Some((place, count)) = self.joined.take() {
            self.notes.remark(RemarkKind::WrapJoined { count }, place);
        }
        if self.vmsa {
            self.notes.remark(RemarkKind::VmsaShown, place.clone());
        }
        if last.text != LAST {
            if self.values.last().is_some_and(|value| value.ends.is_some()) {
                self.void_last();
            }
            let end = self.values.last().map_or(place.clone(), |value| value.place.clone());
            self.notes.remark(RemarkKind::EndsAfter { name: last.text }, end);
        }
        self.doubt();
        for seen in self.merge() {
            found.learn(seen);
        }
        self.phase(&mut found, place);
        self.notes.hand_over(&mut found);
        Some(found)
    }

    /// Which side of #VMEXIT the VMCB is seen from.
    ///
    /// `svm_vmexit_handler` dumps it as #VMEXIT left it. The debug key does not stop the virtual CPU: it may run, or
    /// Xen may have written what the next VMRUN shall read (EVENTINJ, control registers), and EXITCODE is that of
    /// the VMRUN before; of a virtual CPU that never ran it is 0. So the key's dump is neither, unless EXITCODE is
    /// that of a refusal: Xen crashes the domain then, and no VMRUN comes after.
    fn phase(&mut self, found: &mut Found, place: Place) {
        let code = found.vmcb.field(f::exitcode);
        let refused = code.known_mask() == u64::MAX && ExitCode::from_bits(code.value()) == ExitCode::INVALID;
        if refused || self.asked == Asked::ExitHandler {
            found.phase = Phase::After;
        } else {
            self.notes.remark(RemarkKind::XenMayHaveChanged, place.clone());
        }
        let vmsave = |seen: &Seen| VMSAVE.iter().any(|&(from, to)| (from..to).contains(&seen.offset));
        let shown = found.fields.iter().any(|seen| seen.page == Page::Vmcb && vmsave(seen));
        if shown && !(self.synced && self.asked == Asked::ExitHandler) {
            self.notes.remark(RemarkKind::VmsaveStateMaybeStale, place);
        }
    }

    /// The values, each field once, without those that something else contradicts.
    fn merge(&mut self) -> Vec<Seen> {
        let mut fields: Vec<(Seen, bool)> = Vec::new();
        let values = std::mem::take(&mut self.values);
        // A copy of a doubtful number is no better.
        let doubtful: Vec<_> = values
            .iter()
            .filter(|value| !value.good)
            .map(|value| (value.page, value.slot.offset, value.value))
            .collect();
        for Value { slot, page, value, mask, place, .. } in values {
            if doubtful.contains(&(page, slot.offset, value)) {
                continue;
            }
            let name = slot.name;
            let known = fields.iter_mut().find(|(seen, _)| seen.page == page && seen.offset == slot.offset);
            match known {
                None => fields.push((
                    Seen { name, page, offset: slot.offset, size: slot.size, value, mask, place },
                    true,
                )),
                Some((first, good)) if (first.value ^ value) & first.mask & mask != 0 => {
                    *good = false;
                    let first = first.value;
                    self.notes.remark(RemarkKind::Contradiction { name, first, second: value }, place);
                }
                Some(_) => self.notes.remark(RemarkKind::Duplicate { name }, place),
            }
        }
        for check in &self.checks {
            let all = (1 << check.bits) - 1;
            let field = fields.iter_mut().find(|(seen, good)| {
                *good && seen.page == Page::Vmcb && seen.offset == check.offset && seen.size == 8
            });
            if let Some((seen, good)) = field
                && seen.value >> check.shift & all != check.value
            {
                *good = false;
                let second = seen.value & !(all << check.shift) | (check.value & all) << check.shift;
                let kind = RemarkKind::Contradiction { name: seen.name, first: seen.value, second };
                self.notes.remark(kind, seen.place.clone());
            }
        }
        fields.into_iter().filter_map(|(seen, good)| good.then_some(seen)).collect()
    }
}

/// A number, and what its digits say of the others.
struct Number {
    value: u64,
    padded: bool,
    short_of: Option<usize>,
}

fn read(word: &[u8], slot: Slot, maybe_cut: bool) -> Result<Number, RemarkKind> {
    let name = slot.name;
    let (width, bare) = match slot.form {
        Form::Fixed => {
            let value = number::hex(word, name, usize::from(slot.size) * 2)?;
            return Ok(Number { value, padded: false, short_of: None });
        }
        _ if maybe_cut => return Err(RemarkKind::MaybeCut { name }),
        Form::Decimal => {
            let (value, _) = number::read(word, name, slot.size, number::Form::Decimal, false)?;
            return Ok(Number { value, padded: false, short_of: None });
        }
        Form::Free(width) => (width, false),
        Form::Bare(width) => (width, true),
    };
    let digits = number::hex_digits(word);
    let prefixed = digits.len() < word.len();
    let value = number::hex(word, name, digits.len().min(16))?;
    // Without `0x` a number is zero, or one of the few that are printed so.
    if !prefixed && word != b"0" && !(bare && (digits.len() == width || digits.len() == 1)) {
        return Err(RemarkKind::NotANumber { name, text: number::shorten(word) });
    }
    let padded = digits.len() > 1 && digits.starts_with(b"0");
    if padded && digits.len() < width {
        return Err(RemarkKind::NumberTooShort { name, digits: digits.len(), expected: width });
    }
    if value & !number::mask(slot.size) != 0 {
        return Err(RemarkKind::OutOfRange { name, size: slot.size });
    }
    Ok(Number { value, padded, short_of: (digits.len() < width).then_some(width) })
}

fn np_word(word: &[u8]) -> Option<u32> {
    NP_WORDS.iter().find(|(text, _)| text.as_bytes() == word).map(|&(_, bit)| bit)
}

/// `=`, also as a mail in quoted-printable writes it or breaks a line.
fn is_separator(word: &[u8]) -> bool {
    matches!(word, b"=" | b"=3D" | b"=3D=")
}

fn is_hex(word: &[u8]) -> bool {
    let digits = number::hex_digits(word);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit)
}

/// Whether a line begins as the rest of a number does that was broken in its middle.
fn is_rest(message: &[u8]) -> bool {
    let word = message.split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
    let digits = number::hex_digits(word.strip_prefix(b"x").unwrap_or(word));
    let part = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b',' | b':' | b'=');
    !word.is_empty() && (is_separator(word) || digits.iter().all(part))
}
