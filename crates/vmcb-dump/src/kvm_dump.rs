//! What KVM's `dump_vmcb` writes to the kernel log, in the layouts of all kernels.
//!
//! A log is hostile ground: other messages stand between the lines, mail programs break them, the user
//! cuts them. So lines are recognised by their labels and never by their position, and a field whose
//! value cannot be trusted is left unknown.

use crate::found::{Found, Notes, Place, RemarkKind, Seen, VmType};
use crate::kind::Kind;
use crate::kvm_labels::{INTERCEPTS, Index, LABELS, Shows, Slot};
use crate::lines::{Text, skip_spaces};
use crate::number;
use crate::{Format, Out, Taken};
use std::collections::BTreeMap;
use std::ops::Range;
use vmcb::Phase;
use vmcb::layout::{Page, SAVE_AREA};

/// Lines of other matters after which a dump counts as ended.
const MAX_IDLE: u64 = 1000;
/// Values after which a dump counts as ended: real ones have about 130.
const MAX_VALUES: usize = 1024;
/// Column at which the kernel prints a value of the control area, counted from its label.
const CONTROL_COLUMN: usize = 20;
/// The same for the save area.
const SAVE_COLUMN: usize = 16;
/// Bit of `nested_ctl` that says that the registers are in a VMSA (manual volume 2, 15.35.4).
const NESTED_CTL_SEV_ES: u64 = 1 << 2;

pub(crate) struct KvmDump {
    index: Index,
    open: Option<Dump>,
}

/// A dump of which lines are still expected.
#[derive(Default)]
struct Dump {
    notes: Notes,
    vm_type: Option<VmType>,
    vcpu: Option<u32>,
    last_cpu: Option<u32>,
    pointer: Option<String>,
    /// Its lines have the module's prefix.
    prefixed: bool,
    save_area: bool,
    values: Vec<Value>,
    first: Option<usize>,
    last: Option<usize>,
    labels: usize,
    /// The label whose value comes next.
    pending: Pending,
    /// The segment whose parts come next.
    segment: Option<usize>,
    /// The first value that stood on the line after its label, and how many did.
    joined: Option<(Place, u64)>,
    last_line: u64,
    idle: u64,
}

struct Value {
    row: usize,
    slot: Slot,
    value: u64,
    mask: u64,
    place: Place,
    /// KVM's list of general registers repeats rax and rsp.
    copy: bool,
}

#[derive(Default)]
enum Pending {
    #[default]
    Nothing,
    One {
        row: usize,
        slot: Slot,
        label: Place,
    },
    Intercepts {
        row: usize,
        label: Place,
        words: Vec<(u64, Place)>,
    },
    /// The value of a label that is not known.
    Skip,
}

impl KvmDump {
    pub(crate) fn new() -> Self {
        Self { index: Index::new(), open: None }
    }

    fn begin(&mut self, line: &Text<'_>, out: &mut Out) -> &mut Dump {
        self.finish(out);
        self.open.insert(Dump { prefixed: line.prefixed, last_line: line.number, ..Dump::default() })
    }
}

impl Format for KvmDump {
    fn offer(&mut self, line: &Text<'_>, out: &mut Out) -> Taken {
        let message = line.message();
        if let Some(header) = Header::read(message, line.prefixed) {
            let dump = self.begin(line, out);
            dump.vm_type = header.vm_type;
            dump.vcpu = header.vcpu;
            dump.last_cpu = header.last_cpu;
            dump.pointer = header.pointer;
            dump.touch(line);
            return Taken::Began;
        }
        if message.starts_with(b"VMCB Control Area:") {
            // The header, which comes before this line, has no values.
            if self.open.as_ref().is_none_or(|dump| dump.labels > 0) {
                self.begin(line, out);
            }
            return self.touch(line);
        }
        if message.starts_with(b"VMCB State Save Area:") {
            if self.open.as_ref().is_none_or(|dump| dump.save_area) {
                self.begin(line, out);
            }
            if let Some(dump) = &mut self.open {
                dump.save_area = true;
            }
            return self.touch(line);
        }
        if let Some((row, length)) = self.index.find(message) {
            let strict = is_as_printed(row, message, length);
            let (expected, splits) = match &self.open {
                None => (false, true),
                Some(dump) => {
                    let next = line.number == dump.last_line + 1;
                    (line.prefixed || !dump.prefixed || next, dump.ends_before(row))
                }
            };
            if !(strict || line.prefixed || expected) {
                return self.pass(out);
            }
            let taken = if splits {
                self.begin(line, out);
                Taken::Began
            } else {
                Taken::Yes
            };
            if let Some(dump) = &mut self.open {
                dump.touch(line);
                dump.scan(&self.index, line);
            }
            return taken;
        }
        if let Some(dump) = &mut self.open {
            if message.is_empty() {
                return Taken::No;
            }
            let continues =
                !line.prefixed && line.number <= dump.last_line + 2 && dump.continues_with(message)
                    || is_unknown_field(message, line.prefixed, dump.prefixed);
            if continues {
                dump.touch(line);
                dump.scan(&self.index, line);
                return Taken::Yes;
            }
        }
        self.pass(out)
    }

    fn finish(&mut self, out: &mut Out) {
        if let Some(found) = self.open.take().and_then(Dump::into_found) {
            out.push_back(found);
        }
    }
}

impl KvmDump {
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

    fn touch(&mut self, line: &Text<'_>) -> Taken {
        match &mut self.open {
            Some(dump) => {
                dump.settle();
                dump.touch(line);
                if dump.labels == 0 { Taken::Began } else { Taken::Yes }
            }
            None => Taken::No,
        }
    }
}

impl Dump {
    fn touch(&mut self, line: &Text<'_>) {
        self.notes.keep(line.number, line.text);
        if line.truncated {
            let end = line.text.len();
            self.notes.remark(RemarkKind::LineTooLong, Place::Text { line: line.number, columns: end..end });
        }
        self.last_line = line.number;
        self.prefixed |= line.prefixed;
        self.idle = 0;
    }

    /// Whether a label shows that another dump begins here.
    fn ends_before(&self, row: usize) -> bool {
        let text = LABELS.get(row).map_or("", |label| label.text);
        self.values.len() >= MAX_VALUES
            || row == 0 && (self.save_area || self.first == Some(0))
            || self.first == Some(row) && self.labels > 3 && !matches!(text, "rax" | "rsp" | "rbp")
    }

    /// Whether a line without a label goes on where the last one ended.
    fn continues_with(&self, message: &[u8]) -> bool {
        let word = message.split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
        match &self.pending {
            Pending::Nothing => self.segment.is_some() && part_of(message).is_some(),
            _ => {
                let digits = word.strip_prefix(b"-").unwrap_or(word);
                !digits.is_empty() && number::hex_digits(digits).iter().all(u8::is_ascii_hexdigit)
            }
        }
    }

    fn scan(&mut self, index: &Index, line: &Text<'_>) {
        let text = line.text.as_bytes();
        let mut at = line.start;
        loop {
            at = skip_spaces(text, at);
            let rest = text.get(at..).unwrap_or_default();
            if rest.is_empty() || rest == b"=" {
                // A lone `=` is the soft line break of a quoted-printable mail.
                return;
            }
            let place = |columns: Range<usize>| Place::Text { line: line.number, columns };
            if let Some((row, length)) = index.find(rest) {
                self.label(row, place(at..at + length));
                at += length;
                continue;
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
                at += 2;
                continue;
            }
            let length = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
            let word = rest.get(..length).unwrap_or_default();
            let end = at + length;
            let maybe_cut = end == text.len() && (!line.terminated || line.truncated);
            match std::mem::take(&mut self.pending) {
                Pending::Nothing => {
                    let Some(name) = unknown_label(rest) else {
                        return;
                    };
                    self.segment = None;
                    self.notes.remark(
                        RemarkKind::UnknownLabel { label: number::shorten(name) },
                        place(at..at + name.len()),
                    );
                    self.pending = Pending::Skip;
                    at += name.len() + 1;
                    continue;
                }
                Pending::Skip => {}
                Pending::One { row, slot, label } => {
                    self.take(row, slot, word, place(at..end), maybe_cut, &label);
                }
                Pending::Intercepts { row, label, mut words } => {
                    if !self.take_intercepts(row, word, place(at..end), &label, &mut words) {
                        return;
                    }
                    if words.len() < INTERCEPTS.len() {
                        self.pending = Pending::Intercepts { row, label, words };
                    } else {
                        self.settle_intercepts(row, label, words);
                    }
                }
            }
            at = end;
        }
    }

    /// A label that the kernel is known to print.
    fn label(&mut self, row: usize, label: Place) {
        self.settle();
        self.labels += 1;
        self.first.get_or_insert(row);
        self.last = Some(row);
        self.segment = None;
        match LABELS.get(row).map(|label| label.shows) {
            Some(Shows::One(slot)) => self.pending = Pending::One { row, slot, label },
            Some(Shows::Intercepts) => {
                self.pending = Pending::Intercepts { row, label, words: Vec::new() };
            }
            Some(Shows::Segment(_)) => self.segment = Some(row),
            None => {}
        }
    }

    /// No value comes any more for the label that waits for one.
    fn settle(&mut self) {
        match std::mem::take(&mut self.pending) {
            Pending::One { slot, label, .. } => {
                self.notes.remark(RemarkKind::NoValue { name: slot.name }, label);
            }
            Pending::Intercepts { row, label, words } => self.settle_intercepts(row, label, words),
            Pending::Nothing | Pending::Skip => {}
        }
    }

    fn settle_intercepts(&mut self, row: usize, label: Place, words: Vec<(u64, Place)>) {
        let name = INTERCEPTS[0].name;
        match words.len() {
            0 => self.notes.remark(RemarkKind::NoValue { name }, label),
            // One word of 8 digits may be the first of two or the cut half of one of 16, and those two
            // begin with different words.
            1 => self.notes.remark(RemarkKind::NumberTooShort { name, digits: 8, expected: 16 }, label),
            _ => {
                for ((value, place), slot) in words.into_iter().zip(INTERCEPTS) {
                    self.push(row, slot, value, u64::from(u32::MAX), place);
                }
            }
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

    fn push(&mut self, row: usize, slot: Slot, value: u64, mask: u64, place: Place) {
        if self.values.len() >= MAX_VALUES {
            return;
        }
        self.values.push(Value { row, slot, value, mask, place, copy: false });
        // The pairs of KVM's list of general registers are rax with rbx and rbp with rsp.
        if let [.., before, last] = self.values.as_mut_slice() {
            match (before.slot.name, last.slot.name) {
                ("rax", "rbx") => before.copy = true,
                ("rbp", "rsp") => last.copy = true,
                _ => {}
            }
        }
    }

    fn saw(&self, text: &str) -> bool {
        self.values.iter().any(|value| LABELS.get(value.row).is_some_and(|label| label.text == text))
    }

    fn into_found(mut self) -> Option<Found> {
        self.settle();
        if self.labels == 0 {
            return None;
        }
        let place = self.notes.first_line();
        let mut found = Found::new(Kind::KvmDump, Phase::After, place.clone());
        found.vm_type = self.vm_type;
        found.vcpu = self.vcpu;
        found.last_cpu = self.last_cpu;
        found.label = self.pointer.take();

        let end = self.values.last().map_or(place.clone(), |value| value.place.clone());
        let save_shown = self.values.iter().any(|value| in_save_area(&value.slot) && !value.copy);
        let sev_es = self.values.iter().any(|value| {
            value.slot.page == Page::Vmcb
                && value.slot.offset == vmcb::layout::vmcb_field::nested_ctl.offset
                && value.value & NESTED_CTL_SEV_ES != 0
        });
        // Kernels that name the kind of guest print the VMSA or nothing; those before them print the
        // save area of the VMCB, which such a guest does not use.
        let newer = self.vm_type.is_some_and(VmType::has_vmsa) || self.saw("sev_features");
        let shows_vmsa = newer && save_shown;
        let drop_save = !newer && sev_es;
        if let Some(name) = self.first.filter(|&row| row > 0).and_then(label_text) {
            self.notes.remark(RemarkKind::BeginsAt { name }, place.clone());
        }
        if let Some((place, count)) = self.joined.take() {
            self.notes.remark(RemarkKind::WrapJoined { count }, place);
        }
        if shows_vmsa {
            self.notes.remark(RemarkKind::VmsaShown, place.clone());
        } else if drop_save && save_shown {
            self.notes.remark(RemarkKind::SaveAreaMeaningless, place.clone());
        }
        if (newer || sev_es) && !save_shown && self.saw("avic_physical_id") {
            self.notes.remark(RemarkKind::VmsaNotShown, place);
        } else if !self.saw("excp_to")
            && let Some(name) = self.last.and_then(label_text)
        {
            self.notes.remark(RemarkKind::EndsAfter { name }, end);
        }

        for seen in self.merge(shows_vmsa, drop_save) {
            found.learn(seen);
        }
        self.notes.hand_over(&mut found);
        Some(found)
    }

    /// The values, each field once, without those that contradict each other.
    fn merge(&mut self, shows_vmsa: bool, drop_save: bool) -> Vec<Seen> {
        let mut fields: Vec<(Seen, bool)> = Vec::new();
        let mut known: BTreeMap<(Page, u16), usize> = BTreeMap::new();
        for Value { slot, value, mask, place, copy, .. } in std::mem::take(&mut self.values) {
            let (page, offset) = match slot.page {
                // Without a VMSA this is KVM's own copy of a register: no part of the VMCB.
                Page::Vmsa if !shows_vmsa => continue,
                Page::Vmcb if in_save_area(&slot) && drop_save => continue,
                Page::Vmcb if in_save_area(&slot) && shows_vmsa => (Page::Vmsa, slot.offset - SAVE_AREA),
                page => (page, slot.offset),
            };
            let name = slot.name;
            match known.get(&(page, offset)).and_then(|&index| fields.get_mut(index)) {
                None if copy && !shows_vmsa => {}
                None => {
                    known.insert((page, offset), fields.len());
                    fields.push((Seen { name, page, offset, size: slot.size, value, mask, place }, true));
                }
                Some((first, good)) => {
                    let same = (first.value ^ value) & first.mask & mask == 0;
                    let first = first.value;
                    if copy && !shows_vmsa {
                        if !same {
                            let kind = RemarkKind::CopyDiffers { name, saved: first, copy: value };
                            self.notes.remark(kind, place);
                        }
                    } else if !same {
                        *good = false;
                        self.notes.remark(RemarkKind::Contradiction { name, first, second: value }, place);
                    } else if !copy {
                        self.notes.remark(RemarkKind::Duplicate { name }, place);
                    }
                }
            }
        }
        fields.into_iter().filter_map(|(seen, good)| good.then_some(seen)).collect()
    }
}

fn in_save_area(slot: &Slot) -> bool {
    slot.page == Page::Vmcb && slot.offset >= SAVE_AREA
}

fn label_text(row: usize) -> Option<&'static str> {
    LABELS.get(row).map(|label| label.text)
}

/// Which part of a segment begins here.
fn part_of(text: &[u8]) -> Option<usize> {
    let (&[letter, b':'], _) = text.split_first_chunk::<2>()? else {
        return None;
    };
    b"salb".iter().position(|&part| part == letter)
}

/// Whether a line that begins with a label looks exactly as the kernel prints it. Without the module's
/// prefix this is what tells a dump from other text with a colon in it.
fn is_as_printed(row: usize, message: &[u8], label: usize) -> bool {
    let at = skip_spaces(message, label);
    let word = message
        .get(at..)
        .and_then(|rest| rest.split(|byte| byte.is_ascii_whitespace()).next())
        .unwrap_or_default();
    let column = at == CONTROL_COLUMN || at == SAVE_COLUMN || at == label && label >= CONTROL_COLUMN;
    match LABELS.get(row).map(|label| label.shows) {
        Some(Shows::One(slot)) => {
            column && number::read(word, slot.name, slot.size, slot.form, false).is_ok()
        }
        Some(Shows::Intercepts) => {
            column && matches!(word.len(), 8 | 16) && word.iter().all(u8::is_ascii_hexdigit)
        }
        Some(Shows::Segment(_)) => {
            let selector = message.get(at + 2..).unwrap_or_default().trim_ascii_start();
            let digits = selector.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            word == b"s:" && at <= 6 && digits == 4
        }
        None => false,
    }
}

/// The name of a label as kernels write them, if `text` begins with one and its colon.
fn unknown_label(text: &[u8]) -> Option<&[u8]> {
    let head = text.get(..text.len().min(32))?;
    let name = head.get(..memchr::memchr(b':', head)?)?;
    let ident = |&byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (name.len() > 1 && name.first()?.is_ascii_lowercase() && name.iter().all(ident)).then_some(name)
}

/// Whether a line is a field of a dump under a label that is not known.
fn is_unknown_field(message: &[u8], line_prefixed: bool, dump_prefixed: bool) -> bool {
    let Some(name) = unknown_label(message) else {
        return false;
    };
    let at = skip_spaces(message, name.len() + 1);
    let word = message
        .get(at..)
        .and_then(|rest| rest.split(|byte| byte.is_ascii_whitespace()).next())
        .unwrap_or_default();
    let number = !word.is_empty() && word.iter().all(u8::is_ascii_hexdigit);
    let placed = at == CONTROL_COLUMN || at == SAVE_COLUMN || word.len() == 16;
    number && if dump_prefixed { line_prefixed } else { placed }
}

/// The line that comes before a dump.
#[derive(Default)]
struct Header {
    vm_type: Option<VmType>,
    vcpu: Option<u32>,
    last_cpu: Option<u32>,
    pointer: Option<String>,
}

impl Header {
    fn read(message: &[u8], prefixed: bool) -> Option<Self> {
        // What kernels before the label `VMCB ..., last attempted` printed.
        if message.starts_with(b"KVM: FAILED VMRUN WITH VMCB") {
            return Some(Self::default());
        }
        if !matches!(message.first()?, b'S' | b'V' | b'v') {
            return None;
        }
        let mut header = Self::default();
        let mut words = message.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
        let mut word = words.next()?;
        header.vm_type = match word {
            b"SVM" => Some(VmType::Svm),
            b"SEV" => Some(VmType::Sev),
            b"SEV-ES" => Some(VmType::SevEs),
            b"SEV-SNP" => Some(VmType::SevSnp),
            _ => None,
        };
        if header.vm_type.is_some() {
            word = words.next()?;
        }
        if let Some(number) = word.strip_prefix(b"vCPU") {
            header.vcpu = decimal(number);
            word = words.next()?;
        }
        if word != b"VMCB" {
            return None;
        }
        let pointer = words.next()?;
        let last = words.next().unwrap_or_default();
        let pointer = pointer.strip_suffix(b",").or_else(|| prefixed.then_some(pointer))?;
        let hashed = pointer.starts_with(b"(") && pointer.ends_with(b")");
        if pointer.len() > 32
            || !hashed && !number::hex_digits(pointer).iter().all(u8::is_ascii_hexdigit)
            || last != b"last" && !prefixed
        {
            return None;
        }
        header.pointer = Some(String::from_utf8_lossy(pointer).into_owned());
        header.last_cpu = words.skip_while(|&word| word != b"CPU").nth(1).and_then(decimal);
        Some(header)
    }
}

fn decimal(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.trim_end().parse().ok()
}
