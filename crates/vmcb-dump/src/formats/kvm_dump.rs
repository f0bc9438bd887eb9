//! What KVM's `dump_vmcb` writes to the kernel log, in the layouts of all kernels.
//!
//! A log is hostile ground: other messages stand between the lines, mail programs break them, the user
//! cuts them. So lines are recognised by their labels and never by their position, and a field whose
//! value cannot be trusted is left unknown.

mod labels;

use self::labels::{INTERCEPTS, Index, LABELS, Shows, Slot};
use crate::format::{Format, Out, Taken};
use crate::found::{Found, Notes, Place, RemarkKind, Seen, VmType};
use crate::kind::Kind;
use crate::number::{self, Form};
use crate::text::{Text, begins_with_cut, caller, has_cut, is_row, skip_spaces};
use std::collections::BTreeMap;
use std::ops::Range;
use vmcb::Phase;
use vmcb::layout::{Page, SAVE_AREA};

/// Lines of other matters after which a dump counts as ended.
const MAX_IDLE: u64 = 1000;
/// Values after which a dump counts as ended: real ones have about 130.
const MAX_VALUES: usize = 1024;
/// Dumps of different callers that are under way at once; the oldest counts as ended before another begins.
const MAX_OPEN: usize = 8;
/// Lines of other matters after which two dumps do not print at the same time.
const NEAR: u64 = 16;
/// Column at which the kernel prints a value of the control area, counted from its label.
const CONTROL_COLUMN: usize = 20;
/// The same for the save area.
const SAVE_COLUMN: usize = 16;
/// Bit of `nested_ctl` that says that the registers are in a VMSA (manual volume 2, 15.35.4).
const NESTED_CTL_SEV_ES: u64 = 1 << 2;

pub(crate) struct KvmDump {
    index: Index,
    /// One for each caller that the log names, in the order in which they began.
    open: Vec<Dump>,
}

/// A dump of which lines are still expected.
#[derive(Default)]
struct Dump {
    /// The thread or CPU that prints it, where the log says so.
    caller: Vec<u8>,
    /// What began before it and may still have been printing.
    others: Others,
    order: Order,
    notes: Notes,
    vm_type: Option<VmType>,
    vcpu: Option<u32>,
    last_cpu: Option<u32>,
    pointer: Option<String>,
    /// Its lines have the module's prefix.
    prefixed: bool,
    control_area: bool,
    save_area: bool,
    values: Vec<Value>,
    first: Option<usize>,
    last: Option<usize>,
    /// The label before the one at hand, if nothing was cut out since.
    before: Option<usize>,
    /// The line within which something was cut out, until a label comes.
    cut_in: Option<u64>,
    labels: usize,
    /// The label whose value comes next.
    pending: Pending,
    /// It is of KVM's list of general registers.
    copy: bool,
    /// The first row that shows what it shows, until a value of it came.
    place_in_order: Option<usize>,
    /// The segment whose parts come next.
    segment: Option<usize>,
    /// The first value that stood on the line after its label, and how many did.
    joined: Option<(Place, u64)>,
    /// The last value, if its line ended with it and nothing shows how many digits it should have.
    open_end: bool,
    /// Where the rest of its last line may stand.
    rest_line: u64,
    idle: u64,
}

/// Dumps that were not seen to have ended when this one began. Two CPUs may print at once, and what then
/// follows may be of either.
#[derive(Default)]
struct Others {
    count: usize,
    /// Rows below this one were printed by all of them already: shown again, they are of this dump.
    rows: usize,
}

/// What the rows of the labels say about whether all lines are of one dump: the kernel prints them in the order
/// of [`LABELS`].
#[derive(Default)]
struct Order {
    /// One more than the last row.
    rows: usize,
    seen: Vec<bool>,
    /// A row came again or too late.
    goes_back: bool,
    /// A row came too late that had not been seen, or with another value.
    mixed: bool,
}

impl Order {
    fn take(&mut self, row: usize) {
        self.seen.resize(LABELS.len(), false);
        let seen = self.seen.get_mut(row).is_some_and(|seen| std::mem::replace(seen, true));
        if row < self.rows {
            self.goes_back = true;
            self.mixed |= !seen;
        }
        self.rows = self.rows.max(row + 1);
    }

    /// One more than the last row of those before `end`.
    fn rows_before(&self, end: usize) -> usize {
        let seen = self.seen.get(..end.min(self.seen.len())).unwrap_or_default();
        seen.iter().rposition(|&seen| seen).map_or(0, |row| row + 1)
    }
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
        Self { index: Index::new(), open: Vec::new() }
    }

    /// The dump that a line may belong to.
    fn place_of(&self, line: &Text<'_>, caller: &[u8]) -> Option<usize> {
        let of = |caller: &[u8]| self.open.iter().position(|dump| dump.caller == caller);
        if !caller.is_empty() {
            return of(caller);
        }
        // The rest of a line that a mail program broke has no columns before it.
        let next = |dump: &Dump| line.is_rest() && line.number == dump.rest_line;
        self.open.iter().position(next).or_else(|| of(caller))
    }

    /// Whether a line may be of a dump whose caller the log names or of one whose caller it does not.
    fn is_of_either(&self, at: Option<usize>, caller: &[u8]) -> bool {
        let named = at.and_then(|at| self.open.get(at)).is_some_and(|dump| !dump.caller.is_empty());
        caller.is_empty() && named && self.open.iter().any(|dump| dump.caller.is_empty())
    }

    /// Begins a dump and says where it is; that of the same caller has ended.
    fn begin(&mut self, line: &Text<'_>, caller: &[u8], out: &mut Out) -> usize {
        let mut others = Others::default();
        if let Some(at) = self.open.iter().position(|dump| dump.caller == caller) {
            let dump = self.open.remove(at);
            if dump.idle <= NEAR {
                let end = if dump.others.count == 0 { LABELS.len() } else { dump.others.rows };
                others = Others { count: dump.others.count + 1, rows: dump.order.rows_before(end) };
            }
            out.extend(dump.into_found());
        }
        if self.open.len() >= MAX_OPEN {
            out.extend(self.open.remove(0).into_found());
        }
        let (prefixed, caller) = (line.prefixed, caller.to_vec());
        self.open.push(Dump { prefixed, caller, others, ..Dump::default() });
        self.open.len() - 1
    }
}

impl Format for KvmDump {
    fn offer(&mut self, line: &Text<'_>, out: &mut Out) -> Taken {
        let message = line.message();
        let caller = caller(line.text.as_bytes().get(..line.start).unwrap_or_default());
        if let Some(header) = Header::read(message, line.prefixed) {
            let at = self.begin(line, caller, out);
            if let Some(dump) = self.open.get_mut(at) {
                dump.vm_type = header.vm_type;
                dump.vcpu = header.vcpu;
                dump.last_cpu = header.last_cpu;
                dump.pointer = header.pointer;
                dump.touch(line);
            }
            return Taken::Began;
        }
        let place = self.place_of(line, caller);
        if self.is_of_either(place, caller) {
            return self.pass(out);
        }
        let open = place.and_then(|place| self.open.get(place));
        let control = message.starts_with(b"VMCB Control Area:");
        let save = message.starts_with(b"VMCB State Save Area:");
        if control || save {
            // The header, which comes before the first of these lines, has no values.
            let ended =
                |dump: &Dump| if control { dump.control_area || dump.labels > 0 } else { dump.save_area };
            let at = match place {
                Some(at) if open.is_some_and(|dump| !ended(dump)) => at,
                _ => self.begin(line, caller, out),
            };
            let Some(dump) = self.open.get_mut(at) else {
                return Taken::No;
            };
            dump.settle();
            dump.control_area |= control;
            dump.save_area |= save;
            dump.touch(line);
            return if dump.labels == 0 { Taken::Began } else { Taken::Yes };
        }
        if let Some((row, length)) = self.index.find(message) {
            let strict = is_as_printed(row, message, length);
            let (expected, ends) = match open {
                None => (false, true),
                Some(dump) => {
                    let next = line.number == dump.rest_line;
                    (line.prefixed || !dump.prefixed || next, dump.ends_before(row))
                }
            };
            if !(strict || line.prefixed || expected && may_show(row, message, length)) {
                return self.pass(out);
            }
            let (at, taken) = match place {
                Some(at) if !ends => (at, Taken::Yes),
                _ => (self.begin(line, caller, out), Taken::Began),
            };
            if let Some(dump) = self.open.get_mut(at) {
                dump.touch(line);
                dump.scan(&self.index, line);
            }
            return taken;
        }
        if let Some(dump) = place.and_then(|at| self.open.get_mut(at)) {
            if message.is_empty() {
                // A blank line between a label and its value is no other matter, nor is a prefix that a mail program
                // put on a line of its own.
                if line.number == dump.rest_line || line.prefixed {
                    dump.rest_line = line.last + 1;
                }
                return Taken::No;
            }
            let goes_on = line.is_rest() && line.number == dump.rest_line && !is_row(message);
            if goes_on && dump.open_end && (first_number(message) || begins_with_cut(message)) {
                dump.forget_last();
            }
            if goes_on && dump.continues_with(message)
                || is_unknown_field(message, line.prefixed, dump.prefixed)
            {
                dump.touch(line);
                dump.scan(&self.index, line);
                return Taken::Yes;
            }
        }
        self.pass(out)
    }

    fn finish(&mut self, out: &mut Out) {
        out.extend(self.open.drain(..).filter_map(Dump::into_found));
    }

    fn cut(&mut self) {
        for dump in &mut self.open {
            // The mark may have stood behind the last number, before a mail program broke the line.
            if dump.open_end {
                dump.forget_last();
            }
            dump.cut();
        }
    }
}

impl KvmDump {
    /// The line is of another matter.
    fn pass(&mut self, out: &mut Out) -> Taken {
        for dump in &mut self.open {
            dump.idle += 1;
        }
        out.extend(self.open.extract_if(.., |dump| dump.idle > MAX_IDLE).filter_map(Dump::into_found));
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
        self.rest_line = line.last + 1;
        self.prefixed |= line.prefixed;
        self.idle = 0;
        self.open_end = false;
    }

    /// Whether a label shows that another dump begins here.
    fn ends_before(&self, row: usize) -> bool {
        let text = LABELS.get(row).map_or("", |label| label.text);
        self.values.len() >= MAX_VALUES
            || row == 0 && (self.save_area || self.first == Some(0))
            || self.first == Some(row) && self.labels > 3 && !matches!(text, "rax" | "rsp" | "rbp")
    }

    /// Something was cut out here: what follows is of another label.
    fn cut(&mut self) {
        self.settle();
        self.segment = None;
        self.before = None;
        self.open_end = false;
    }

    /// A number on the next line shows that the last one was broken in two.
    fn forget_last(&mut self) {
        if let Some(Value { slot, place, .. }) = self.values.pop() {
            self.notes.remark(RemarkKind::MaybeCut { name: slot.name }, place);
        }
        self.open_end = false;
    }

    /// Whether a line without a label goes on where the last one ended.
    fn continues_with(&self, message: &[u8]) -> bool {
        match &self.pending {
            Pending::Nothing => self.segment.is_some() && part_of(message).is_some(),
            _ => first_number(message),
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
            let length = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
            let word = rest.get(..length).unwrap_or_default();
            let end = at + length;
            let place = |columns: Range<usize>| Place::Text { line: line.number, columns };
            if has_cut(word) {
                // What follows may be the rest of any label.
                self.cut();
                self.cut_in = Some(line.last);
                return;
            }
            if let Some((row, length)) = index.find(rest) {
                let behind_cut =
                    self.cut_in.take().is_some_and(|cut| line.number == cut + 1 && line.is_rest());
                if behind_cut && ends_another(row) {
                    // Its beginning may have been cut off: `star:` is what is left of `lstar:`.
                    self.settle();
                    self.pending = Pending::Skip;
                    at += length;
                    continue;
                }
                self.label(row, index.first(row), place(at..at + length));
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
            let maybe_cut = line.maybe_cut(end);
            match std::mem::take(&mut self.pending) {
                Pending::Nothing => {
                    let Some(name) = unknown_label(rest) else {
                        self.segment = None;
                        // A label may have ended in these dots.
                        if word.ends_with(b"...") {
                            self.before = None;
                        }
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
                    let behind = text.get(end..).unwrap_or_default().trim_ascii();
                    let blank = behind.is_empty();
                    // Anything but a label or a remark may be what is left of a cut, or of the characters of a hex dump.
                    let closed = blank
                        || matches!(behind, [b'#' | b'<' | b'(', ..])
                        || index.find(behind).is_some()
                        || unknown_label(behind).is_some();
                    self.take(row, slot, word, place(at..end), maybe_cut || !closed, &label);
                    self.open_end = blank
                        && match slot.form {
                            Form::Hex => false,
                            Form::HexHalfOrWhole => number::hex_digits(word).len() != 16,
                            Form::Decimal => true,
                        };
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
        // Some labels have several values.
        if let Some(place) = self.place_in_order.take()
            && !self.copy
        {
            self.order.take(place);
        }
        // The kernel shows a field once: two values before the end are of two dumps, however their rows follow each other.
        let again = self.order.goes_back && !self.copy && !self.saw("excp_to");
        self.order.mixed |= again && self.contradicts(slot, value, mask);
        self.values.push(Value { row, slot, value, mask, place, copy: self.copy });
    }

    fn contradicts(&self, slot: Slot, value: u64, mask: u64) -> bool {
        self.values.iter().any(|known| {
            !known.copy
                && (known.slot.page, known.slot.offset) == (slot.page, slot.offset)
                && (known.value ^ value) & known.mask & mask != 0
        })
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
        let newer = self.vm_type.map_or_else(|| self.saw("sev_features"), VmType::has_vmsa);
        // Of dumps that were mixed, what tells whether it is a VMSA may be another's, but for the heading.
        let mixed = self.vm_type.is_none() && self.own_rows() != usize::MAX;
        let shows_vmsa = newer && save_shown && !mixed;
        let drop_save = !newer && sev_es || mixed;
        if let Some(name) = self.first.filter(|&row| row > 0).and_then(label_text) {
            self.notes.remark(RemarkKind::BeginsAt { name }, place.clone());
        }
        if let Some((place, count)) = self.joined.take() {
            self.notes.remark(RemarkKind::WrapJoined { count }, place);
        }
        if shows_vmsa {
            self.notes.remark(RemarkKind::VmsaShown, place.clone());
        } else if mixed && save_shown {
            let count = self.values.iter().filter(|value| in_save_area(&value.slot)).count() as u64;
            self.notes.remark(RemarkKind::DumpsMixed { count }, place.clone());
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

    /// Rows below this one are this dump's own for certain; what the others show must come twice.
    fn own_rows(&self) -> usize {
        let order = &self.order;
        let Others { count, rows } = self.others;
        let own = match count {
            0 if order.mixed => 0,
            0 => usize::MAX,
            _ => rows,
        };
        // A dump in the kernel's order up to its end, in which the row is not missing that the one before it
        // ended with: that one was cut, and nothing of it came later.
        let follows = rows > 0 && order.seen.get(rows - 1) == Some(&true) && self.saw("excp_to");
        if count > 0 && follows && !order.goes_back { usize::MAX } else { own }
    }

    /// The values, each field once, without those that contradict each other.
    fn merge(&mut self, shows_vmsa: bool, drop_save: bool) -> Vec<Seen> {
        let own = self.own_rows();
        // Of two dumps that were mixed, a value that both show is the value of either.
        let twice = self.others.count < 2;
        let mut fields: Vec<Merged> = Vec::new();
        let mut known: BTreeMap<(Page, u16), usize> = BTreeMap::new();
        for Value { row, slot, value, mask, place, copy } in std::mem::take(&mut self.values) {
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
                    let seen = Seen { name, page, offset, size: slot.size, value, mask, place };
                    fields.push(Merged { seen, good: true, sure: row < own });
                }
                Some(Merged { seen, good, sure }) => {
                    let same = (seen.value ^ value) & seen.mask & mask == 0;
                    let first = seen.value;
                    if copy && !shows_vmsa {
                        if !same {
                            let kind = RemarkKind::CopyDiffers { name, saved: first, copy: value };
                            self.notes.remark(kind, place);
                        }
                    } else if !same {
                        *good = false;
                        self.notes.remark(RemarkKind::Contradiction { name, first, second: value }, place);
                    } else if !copy {
                        if !*sure && twice {
                            // Of two dumps, only the bits that both show.
                            *sure = true;
                            seen.mask &= mask;
                            seen.value &= seen.mask;
                        }
                        self.notes.remark(RemarkKind::Duplicate { name }, place);
                    }
                }
            }
        }
        let doubtful = fields.iter().filter(|field| field.good && !field.sure);
        if let Some(Merged { seen, .. }) = doubtful.clone().next() {
            let (count, place) = (doubtful.count() as u64, seen.place.clone());
            self.notes.remark(RemarkKind::DumpsMixed { count }, place);
        }
        fields.into_iter().filter(|field| field.good && field.sure).map(|field| field.seen).collect()
    }
}

/// A field as one dump or several show it.
struct Merged {
    seen: Seen,
    /// It is shown with one value.
    good: bool,
    /// The value is of this dump.
    sure: bool,
}

/// Whether a message begins with a number.
fn first_number(message: &[u8]) -> bool {
    let word = message.split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
    let digits = word.strip_prefix(b"-").unwrap_or(word);
    !digits.is_empty() && number::hex_digits(digits).iter().all(u8::is_ascii_hexdigit)
}

fn in_save_area(slot: &Slot) -> bool {
    slot.page == Page::Vmcb && slot.offset >= SAVE_AREA
}

fn label_text(row: usize) -> Option<&'static str> {
    LABELS.get(row).map(|label| label.text)
}

/// Whether a label is the end of another one.
fn ends_another(row: usize) -> bool {
    let text = label_text(row).unwrap_or_default();
    LABELS.iter().any(|label| label.text.len() > text.len() && label.text.ends_with(text))
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

/// Whether what follows a label may be its value, or nothing follows: people write `cs: 5` too.
fn may_show(row: usize, message: &[u8], label: usize) -> bool {
    let rest = message.get(skip_spaces(message, label)..).unwrap_or_default();
    match LABELS.get(row).map(|label| label.shows) {
        Some(Shows::Segment(_)) => rest.is_empty() || part_of(rest).is_some(),
        _ => rest.first().is_none_or(|byte| byte.is_ascii_hexdigit() || *byte == b'-') || has_cut(rest),
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
        let Some(pointer) = words.next() else {
            // A mail program put the rest on another line.
            return (prefixed && header.vm_type.is_some()).then_some(header);
        };
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
