//! KVM's trace lines of nested VMRUN and of exits, in the layouts of all kernels and tools.
//!
//! A VMCB is handed out for each line that shows what VMRUN was given, for each refusal by KVM, and for each exit
//! of which the code says that VMRUN refused. Exits that ran are only read: a trace has millions of them, and all
//! that they show is that VMRUN accepted. A refusal is often told in several lines, `kvm_exit`,
//! `kvm_nested_vmexit` and `kvm_nested_vmexit_inject`: only the first of them is handed out.

use crate::format::{Format, Out, Taken};
use crate::found::{Found, Notes, Place, Refusal, Refuser, RemarkKind, Seen};
use crate::kind::Kind;
use crate::number::{self, Form as Printed};
use crate::refusal;
use crate::text::{Text, begins_with_cut, find_cut, skip_spaces};
use crate::trace::{Arg, Event, Form, Line, Reason, Scanner, Slot, UNKNOWN, reason, switch, word_end};
use memchr::memmem;
use vmcb::layout::{Page, vmcb_field as f};
use vmcb::{ExitCode, Phase};

/// Lines after which no `kvm_nested_intercepts` is expected any more.
const MAX_IDLE: u64 = 16;
/// Lines over which a mail program may spread one event.
const MAX_WRAPS: u64 = 6;

pub(crate) struct KvmTrace {
    event: memmem::Finder<'static>,
    open: Option<Entry>,
    /// The columns of an event that a mail program put on the next line, and that line.
    columns: Option<(Vec<u8>, u64)>,
    /// The CPU of the last event, if that event told of a refusal.
    told: Option<Vec<u8>>,
    /// First line that shows VMX, and what it is.
    vmx: Option<(u64, &'static str)>,
}

/// An event whose lines, or the intercepts that belong to it, may still go on.
struct Entry {
    found: Found,
    notes: Notes,
    /// What stands before the event's name and tells the CPU.
    cpu: Vec<u8>,
    scanner: Scanner,
    /// The event's own lines have not ended.
    unfinished: bool,
    last_line: u64,
    wraps: u64,
    /// Offsets of fields shown with different values.
    forgotten: Vec<u16>,
    /// The last value, if nothing shows how many digits it should have: offset, bytes, name, place.
    open_end: Option<(u16, u16, &'static str, Place)>,
}

/// The field that a value is: offset and bytes.
const fn field(slot: Slot) -> Option<(u16, u16)> {
    let (field, size) = match slot {
        Slot::NestedRip => (f::rip, 8),
        Slot::IntCtl => (f::int_ctl, 4),
        Slot::EventInj => (f::eventinj, 4),
        Slot::NCr3 => (f::n_cr3, 8),
        Slot::Cr3 => (f::cr3, 8),
        Slot::CrRead => (f::intercept_cr, 2),
        Slot::CrWrite => return Some((f::intercept_cr.offset + 2, 2)),
        Slot::Exceptions => (f::intercept_exceptions, 4),
        Slot::Misc1 => (f::intercept_misc1, 4),
        Slot::Misc2 => (f::intercept_misc2, 4),
        Slot::Misc3 => (f::intercept_misc3, 4),
        Slot::ExitInfo1 => (f::exitinfo1, 8),
        Slot::ExitInfo2 => (f::exitinfo2, 8),
        Slot::ExitIntInfo => (f::exitintinfo, 4),
        Slot::ExitIntInfoError => return Some((f::exitintinfo.offset + 4, 4)),
        _ => return None,
    };
    Some((field.offset, size))
}

/// The low 32 bits: what a trace line shows of EXITCODE.
const CODE: u64 = u32::MAX as u64;

impl KvmTrace {
    pub(crate) fn new() -> Self {
        Self { event: memmem::Finder::new("kvm_"), open: None, columns: None, told: None, vmx: None }
    }

    fn is_open_on(&self, cpu: &[u8]) -> bool {
        self.open.as_ref().is_some_and(|entry| entry.cpu == cpu)
    }
}

impl Format for KvmTrace {
    fn offer(&mut self, line: &Text<'_>, out: &mut Out) -> Taken {
        let text = line.text.as_bytes();
        let trace = self.event.find_iter(text).find_map(|at| Line::parse_at(text, at));
        let Some(trace) = trace else {
            let alone = text.trim_ascii_end().ends_with(b":");
            self.columns = alone.then(|| (cpu_of(text), line.last + 1));
            if let Some(entry) = &mut self.open {
                if begins_with_cut(line.message()) {
                    entry.cut();
                }
                if entry.goes_on(line) {
                    entry.wraps += 1;
                    entry.scan(line, line.start);
                    return Taken::Yes;
                }
                entry.unfinished = false;
                if line.number > entry.last_line + MAX_IDLE {
                    self.finish(out);
                }
            }
            return Taken::No;
        };
        let before = text.get(..trace.name().start).unwrap_or_default();
        let columns = self.columns.take().filter(|&(_, next)| next == line.number && !before.contains(&b']'));
        let cpu = columns.map_or_else(|| cpu_of(before), |(cpu, _)| cpu);
        let event = trace.event();
        match event {
            Event::Enter => {
                self.finish(out);
                self.forget_refusal(&cpu);
                self.begin(line, &trace, cpu, Kind::KvmTraceEnter, Phase::Before);
                return Taken::Began;
            }
            Event::Intercepts => {
                if let Some(entry) = self
                    .open
                    .as_mut()
                    .filter(|entry| entry.cpu == cpu && entry.found.kind == Kind::KvmTraceEnter)
                {
                    entry.settle();
                    entry.scanner.change(event);
                    entry.unfinished = true;
                    entry.wraps = 0;
                    entry.scan(line, trace.start());
                }
                return Taken::Yes;
            }
            Event::EnterFailed => {
                self.failed(line, &trace, cpu, out);
                return Taken::Began;
            }
            Event::Exit | Event::NestedExit | Event::NestedExitInject => {
                let arguments = trace.arguments();
                if arguments.is_vmx() {
                    self.vmx.get_or_insert((line.number, "a trace line"));
                } else if arguments.exit_code().is_none_or(ExitCode::is_failure) {
                    // Without a code it may be wrapped.
                    self.finish(out);
                    self.begin(line, &trace, cpu, Kind::KvmTraceExit, Phase::After);
                    return Taken::Began;
                }
            }
            _ => {}
        }
        if self.is_open_on(&cpu) && event != Event::Other {
            self.finish(out);
        }
        self.forget_refusal(&cpu);
        Taken::Yes
    }

    fn finish(&mut self, out: &mut Out) {
        let Some(mut entry) = self.open.take() else { return };
        entry.settle();
        if entry.scanner.vmx {
            self.vmx.get_or_insert((first_line(&entry.notes), "a trace line"));
            return;
        }
        if entry.found.kind == Kind::KvmTraceExit {
            let refused = entry.refused();
            let again = self.told.as_ref() == Some(&entry.cpu);
            if refused {
                self.told = Some(entry.cpu);
            } else {
                self.forget_refusal(&entry.cpu);
            }
            if !refused || again {
                return;
            }
        } else if entry.found.fields.is_empty() && entry.found.vmcb_address.is_none() {
            return;
        }
        entry.found.place = entry.notes.first_line();
        entry.notes.hand_over(&mut entry.found);
        out.push_back(entry.found);
    }

    fn cut(&mut self) {
        if let Some(entry) = &mut self.open {
            entry.cut();
        }
    }

    fn vmx(&self) -> Option<(u64, &'static str)> {
        self.vmx
    }
}

impl KvmTrace {
    fn begin(&mut self, line: &Text<'_>, trace: &Line<'_>, cpu: Vec<u8>, kind: Kind, phase: Phase) {
        let mut entry = Entry {
            found: Found::new(kind, phase, Place::Text { line: line.number, columns: 0..0 }),
            notes: Notes::default(),
            cpu,
            scanner: Scanner::new(trace.event()),
            unfinished: true,
            last_line: line.number,
            wraps: 0,
            forgotten: Vec::new(),
            open_end: None,
        };
        entry.scan(line, trace.start());
        self.open = Some(entry);
    }

    /// Something else happened on a CPU, so that its next refusal is another one.
    fn forget_refusal(&mut self, cpu: &[u8]) {
        self.told.take_if(|told| told == cpu);
    }

    fn failed(&mut self, line: &Text<'_>, trace: &Line<'_>, cpu: Vec<u8>, out: &mut Out) {
        let at = skip_spaces(line.text.as_bytes(), trace.start());
        let condition = line.text.get(at..).unwrap_or_default().trim_end();
        if condition.is_empty() {
            return;
        }
        if refusal::is_vmx(condition) {
            self.vmx.get_or_insert((line.number, "a trace line"));
            return;
        }
        let place = Place::Text { line: line.number, columns: at..at + condition.len() };
        let refusal = Refusal {
            by: Refuser::Kvm,
            condition: condition.to_owned(),
            rules: refusal::rules(condition),
            place,
        };
        // KVM prints kvm_nested_vmenter after most of its checks: only the condition of a later one
        // belongs to the VMCB of the line before.
        let belongs = refusal::after_enter(condition)
            && self.open.as_ref().is_some_and(|entry| {
                entry.cpu == cpu && entry.found.kind == Kind::KvmTraceEnter && !entry.scanner.vmx
            });
        if belongs && let Some(entry) = &mut self.open {
            entry.settle();
            entry.notes.keep(line.number, line.text);
            entry.found.refusals.push(refusal);
            self.finish(out);
            self.told = Some(cpu);
            return;
        }
        self.finish(out);
        self.told = Some(cpu);
        let mut notes = Notes::default();
        notes.keep(line.number, line.text);
        let columns = trace.name().start..line.text.trim_end().len();
        let whole = Place::Text { line: line.number, columns };
        if line.truncated {
            notes.remark(RemarkKind::LineTooLong, whole.clone());
        }
        let mut found = Found::new(Kind::KvmTraceFailed, Phase::Before, notes.first_line());
        found.refusals.push(refusal);
        notes.hand_over(&mut found);
        out.push_back(found);
    }
}

/// What tells the CPU of an event: the columns before the time stamp.
fn cpu_of(before: &[u8]) -> Vec<u8> {
    match memchr::memchr(b']', before) {
        Some(end) => {
            let before = before.get(..end).unwrap_or_default();
            // Quote marks of a mail stand before the first of the lines that a console overwrote.
            let marks = before.iter().take_while(|byte| matches!(byte, b'>' | b'|' | b' ' | b'\t')).count();
            let words = before.get(marks..).unwrap_or_default().split(u8::is_ascii_whitespace);
            // Spaces may have become fewer, or tabs.
            words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(&b' ')
        }
        None => Vec::new(),
    }
}

fn first_line(notes: &Notes) -> u64 {
    match notes.first_line() {
        Place::Text { line, .. } => line,
        Place::Byte { .. } => 0,
    }
}

impl Entry {
    /// Whether a line without an event goes on with this one's arguments.
    fn goes_on(&mut self, line: &Text<'_>) -> bool {
        if !self.unfinished || self.wraps >= MAX_WRAPS || line.number != self.last_line + 1 || !line.is_rest()
        {
            return false;
        }
        self.scanner.goes_on(line.message())
    }

    /// No value comes any more for the argument that waits for one.
    fn settle(&mut self) {
        self.scanner.pending = None;
        self.unfinished = false;
    }

    /// Something was cut out behind the last line, perhaps digits of its last number.
    fn cut(&mut self) {
        self.settle();
        if let Some((offset, size, name, place)) = self.open_end.take() {
            self.forget(offset, size);
            self.notes.remark(RemarkKind::MaybeCut { name }, place);
        }
    }

    fn forget(&mut self, offset: u16, size: u16) {
        self.found.fields.retain(|field| field.offset != offset);
        self.found.vmcb.forget(offset, size);
        self.forgotten.push(offset);
    }

    /// Whether the exit code says that VMRUN refused.
    fn refused(&self) -> bool {
        let code = self.found.vmcb.read(f::exitcode.offset, 4);
        code.known_mask() & CODE == CODE && ExitCode::from_low_half(code.value() as u32).is_failure()
    }

    fn scan(&mut self, line: &Text<'_>, start: usize) {
        self.notes.keep(line.number, line.text);
        self.last_line = line.last;
        self.open_end = None;
        let text = line.text.as_bytes();
        // What stands behind a cut may be the rest of any argument.
        let cut = find_cut(text.get(start..).unwrap_or_default());
        let text = text.get(..cut.map_or(text.len(), |cut| start + cut)).unwrap_or_default();
        let mut at = start;
        while let Some(arg) = self.scanner.next(text, &mut at) {
            if arg.form == Form::Reason {
                let word = text.get(at..).unwrap_or_default();
                at = self.reason(text, at, line);
                if word.trim_ascii_end() == UNKNOWN {
                    // Its number may stand on the next line.
                    self.scanner.pending = Some(arg);
                }
                continue;
            }
            let end = word_end(text, at);
            self.take(arg, text.get(at..end).unwrap_or_default(), at, line);
            at = end;
        }
        if cut.is_some() {
            self.cut();
        }
    }

    fn reason(&mut self, text: &[u8], at: usize, line: &Text<'_>) -> usize {
        let (reason, end) = reason(text, at);
        let place = Place::Text { line: line.number, columns: at..end };
        match reason {
            _ if line.maybe_cut(end) => self.notes.remark(RemarkKind::MaybeCut { name: "reason" }, place),
            Reason::Code(code) => {
                let last = text.get(end..).unwrap_or_default().trim_ascii().is_empty();
                self.open_end = last.then(|| (f::exitcode.offset, 4, "reason", place.clone()));
                self.learn("reason", (f::exitcode.offset, 4), code.into(), CODE, place);
            }
            Reason::Vmx => self.scanner.vmx = true,
            Reason::Unknown => {
                let text = number::shorten(text.get(at..end).unwrap_or_default());
                self.notes.remark(RemarkKind::NotANumber { name: "reason", text }, place);
            }
        }
        end
    }

    fn take(&mut self, arg: &'static Arg, word: &[u8], at: usize, line: &Text<'_>) {
        let end = at + word.len();
        let place = Place::Text { line: line.number, columns: at..end };
        let name = arg.label;
        if arg.slot == Slot::Vmcb {
            match number::hex(word, name, 16) {
                Ok(address) => self.found.vmcb_address = Some(address),
                Err(kind) => self.notes.remark(kind, place),
            }
            return;
        }
        if arg.slot == Slot::Vcpu {
            self.found.vcpu = std::str::from_utf8(word).ok().and_then(|word| word.parse().ok());
            return;
        }
        let Some((offset, size)) = field(arg.slot) else {
            if arg.slot == Slot::NestedPaging {
                match switch(word) {
                    Some(value) => self.learn(name, (f::nested_ctl.offset, 8), value, 1, place),
                    None => {
                        let text = number::shorten(word);
                        self.notes.remark(RemarkKind::NotANumber { name, text }, place);
                    }
                }
            }
            return;
        };
        let cut = line.maybe_cut(end);
        if arg.form == Form::Words && word.len() > 8 {
            // One word of 16 digits on old kernels.
            match number::hex(word, name, 16) {
                Ok(value) => {
                    let second = ("intercepts (2nd word)", f::intercept_misc2.offset);
                    for ((name, offset), value) in [((name, offset), value), (second, value >> 32)] {
                        self.learn(name, (offset, 4), value & CODE, CODE, place.clone());
                    }
                }
                Err(kind) => self.notes.remark(kind, place),
            }
            return;
        }
        let padded = match arg.form {
            Form::Free(_) => false,
            Form::HexOrFree(_) => word.starts_with(b"0x"),
            _ => true,
        };
        // Nothing shows whether digits are missing of a number that is not padded, and half of a word of 16
        // digits would be the wrong half.
        let read = match (cut, padded, arg.form) {
            (true, false, _) | (true, _, Form::Words) => Err(RemarkKind::MaybeCut { name }),
            (_, true, _) => number::read(word, name, size, Printed::Hex, cut),
            (_, false, _) => number::unpadded(word, name, size),
        };
        match read {
            // What newer kernels print without an error code is no field of the VMCB.
            Ok((code, _)) if name == "error_code" && !self.has_error_code(code) => {}
            Ok((value, mask)) => {
                self.open_end = (!padded).then(|| (offset, size, name, place.clone()));
                self.learn(name, (offset, size), value, mask, place);
                self.scanner.pending = arg.then;
            }
            Err(kind) => self.notes.remark(kind, place),
        }
    }

    /// Whether `error_code` is the field: the kernel prints 0 unless the event has an error code.
    fn has_error_code(&self, code: u64) -> bool {
        let event = self.found.vmcb.read(f::exitintinfo.offset, 4);
        let event = vmcb::Event::from_bits(event.value() & event.known_mask());
        code != 0 || event.valid() && event.pushes_error_code()
    }

    fn learn(&mut self, name: &'static str, (offset, size): (u16, u16), value: u64, mask: u64, place: Place) {
        let seen = Seen { name, page: Page::Vmcb, offset, size, value, mask, place };
        let before = self.found.fields.iter().find(|field| field.offset == offset);
        match before.map(|field| field.value) {
            None if self.forgotten.contains(&offset) => {}
            None => self.found.learn(seen),
            Some(first) if first == value => {
                self.notes.remark(RemarkKind::Duplicate { name }, seen.place);
            }
            Some(first) => {
                self.forget(offset, size);
                let kind = RemarkKind::Contradiction { name, first, second: value };
                self.notes.remark(kind, seen.place);
            }
        }
    }
}
