//! KVM's trace lines of a nested VMRUN, in the layouts of all kernels and tools.

use crate::found::{Found, Kind, Notes, Place, Refusal, Refuser, RemarkKind, Seen};
use crate::kvm_labels::Form;
use crate::lines::{Text, skip_spaces};
use crate::number;
use crate::refusal;
use crate::{Format, Out, Taken};
use memchr::memmem;
use vmcb::Phase;
use vmcb::layout::{Field, Page, vmcb_field as f};

/// Lines after which no `kvm_nested_intercepts` is expected any more.
const MAX_IDLE: u64 = 16;
/// Lines over which a mail program may spread one event.
const MAX_WRAPS: u64 = 6;

pub(crate) struct KvmTrace {
    event: memmem::Finder<'static>,
    open: Option<Entry>,
    /// First line that shows VMX, and what it is.
    vmx: Option<(u64, &'static str)>,
}

/// A VMRUN whose event, or the intercepts that belong to it, may still go on.
struct Entry {
    found: Found,
    notes: Notes,
    /// What stands before the event's name and tells the CPU.
    cpu: Vec<u8>,
    pending: Option<Arg>,
    /// The event's own lines have not ended.
    unfinished: bool,
    last_line: u64,
    wraps: u64,
    vmx: bool,
    /// `guest` of a `guest cr3:` that some versions printed.
    guest: bool,
    /// Offsets of fields shown with different values.
    forgotten: Vec<u16>,
}

/// An argument of an event.
#[derive(Clone, Copy)]
enum Arg {
    /// Of no use here.
    Skip,
    Address,
    Number(&'static str, u16, u16),
    NestedPaging,
    Intercepts(u8),
}

const fn number_arg(name: &'static str, field: Field, size: u16) -> Arg {
    Arg::Number(name, field.offset, size)
}

/// The arguments, each with the character that ends its name.
const ARGS: &[(&[u8], Arg)] = &[
    (b"rip:", Arg::Skip),
    (b"vmcb:", Arg::Address),
    (b"nrip:", number_arg("nrip", f::rip, 8)),
    (b"nested_rip:", number_arg("nested_rip", f::rip, 8)),
    (b"int_ctl:", number_arg("int_ctl", f::int_ctl, 4)),
    (b"event_inj:", number_arg("event_inj", f::eventinj, 4)),
    (b"npt:", Arg::NestedPaging),
    (b"nested_npt:", Arg::NestedPaging),
    (b"nested_npt=", Arg::NestedPaging),
    (b"nested_cr3:", number_arg("nested_cr3", f::n_cr3, 8)),
    (b"guest_cr3:", number_arg("guest_cr3", f::cr3, 8)),
    (b"cr_read:", Arg::Number("cr_read", f::intercept_cr.offset, 2)),
    (b"cr_write:", Arg::Number("cr_write", f::intercept_cr.offset + 2, 2)),
    (b"excp:", number_arg("excp", f::intercept_exceptions, 4)),
    (b"intercept:", Arg::Intercepts(0)),
    (b"intercepts:", Arg::Intercepts(0)),
    (b"intercept1:", Arg::Intercepts(0)),
    (b"intercept2:", Arg::Intercepts(1)),
    (b"intercept3:", Arg::Intercepts(2)),
];

/// Arguments that only a VMX host prints.
const VMX_ARGS: [&[u8]; 4] = [b"vmcs:", b"nested_ept=", b"nested_ept:", b"nested_eptp:"];

const INTERCEPTS: [(&str, Field); 3] = [
    ("intercepts", f::intercept_misc1),
    ("intercepts (2nd word)", f::intercept_misc2),
    ("intercepts (3rd word)", f::intercept_misc3),
];

/// Conditions that only VMX's part of KVM checks.
const VMX_CONDITIONS: [&str; 5] = ["vmcs12", "nested_cpu_has", "VMENTRY_", "VMLAUNCH_", "VMRESUME_"];

/// The events of interest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Event {
    Enter,
    Intercepts,
    Failed,
    Other,
}

impl KvmTrace {
    pub(crate) fn new() -> Self {
        Self { event: memmem::Finder::new("kvm_nested_"), open: None, vmx: None }
    }

    /// The event that a line shows, where its name begins and where its arguments begin.
    fn event(&self, text: &[u8]) -> Option<(Event, usize, usize)> {
        let at = self.event.find(text)?;
        let rest = text.get(at..)?;
        let end = rest.iter().position(|&byte| !(byte.is_ascii_lowercase() || byte == b'_'))?;
        if rest.get(end) != Some(&b':') {
            return None;
        }
        let event = match rest.get(..end)? {
            b"kvm_nested_vmrun" | b"kvm_nested_vmenter" => Event::Enter,
            b"kvm_nested_intercepts" => Event::Intercepts,
            b"kvm_nested_vmenter_failed" => Event::Failed,
            _ => Event::Other,
        };
        Some((event, at, at + end + 1))
    }
}

impl Format for KvmTrace {
    fn offer(&mut self, line: &Text<'_>, out: &mut Out) -> Taken {
        let text = line.text.as_bytes();
        let Some((event, name, args)) = self.event(text) else {
            if let Some(entry) = &mut self.open {
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
        let cpu = cpu_of(text.get(..name).unwrap_or_default());
        match event {
            Event::Enter => {
                self.finish(out);
                let mut entry = Entry::new(cpu, line.number);
                entry.scan(line, args);
                self.open = Some(entry);
                Taken::Began
            }
            Event::Intercepts => {
                if let Some(entry) = self.open.as_mut().filter(|entry| entry.cpu == cpu) {
                    entry.settle();
                    entry.unfinished = true;
                    entry.wraps = 0;
                    entry.scan(line, args);
                }
                Taken::Yes
            }
            Event::Failed => {
                self.failed(line, name, args, cpu, out);
                Taken::Began
            }
            Event::Other => {
                if self.open.as_ref().is_some_and(|entry| entry.cpu == cpu) {
                    self.finish(out);
                }
                Taken::Yes
            }
        }
    }

    fn finish(&mut self, out: &mut Out) {
        if let Some(mut entry) = self.open.take() {
            entry.settle();
            if entry.vmx {
                self.vmx.get_or_insert((first_line(&entry.notes), "a trace line"));
                return;
            }
            if entry.found.fields.is_empty() && entry.found.vmcb_address.is_none() {
                return;
            }
            entry.found.place = entry.notes.first_line();
            entry.notes.hand_over(&mut entry.found);
            out.push_back(entry.found);
        }
    }

    fn vmx(&self) -> Option<(u64, &'static str)> {
        self.vmx
    }
}

impl KvmTrace {
    fn failed(&mut self, line: &Text<'_>, name: usize, args: usize, cpu: Vec<u8>, out: &mut Out) {
        let at = skip_spaces(line.text.as_bytes(), args);
        let condition = line.text.get(at..).unwrap_or_default().trim_end();
        if condition.is_empty() {
            return;
        }
        if VMX_CONDITIONS.iter().any(|word| condition.contains(word)) {
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
            && self.open.as_ref().is_some_and(|entry| entry.cpu == cpu && !entry.vmx);
        if belongs && let Some(entry) = &mut self.open {
            entry.settle();
            entry.notes.keep(line.number, line.text);
            entry.found.refusals.push(refusal);
            self.finish(out);
            return;
        }
        self.finish(out);
        let mut notes = Notes::default();
        notes.keep(line.number, line.text);
        let whole = Place::Text { line: line.number, columns: name..line.text.trim_end().len() };
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
        Some(end) => before.get(..end).unwrap_or_default().trim_ascii_start().to_vec(),
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
    fn new(cpu: Vec<u8>, line: u64) -> Self {
        Self {
            found: Found::new(Kind::KvmTraceEnter, Phase::Before, Place::Text { line, columns: 0..0 }),
            notes: Notes::default(),
            cpu,
            pending: None,
            unfinished: true,
            last_line: line,
            wraps: 0,
            vmx: false,
            guest: false,
            forgotten: Vec::new(),
        }
    }

    /// Whether a line without an event goes on with this one's arguments.
    fn goes_on(&self, line: &Text<'_>) -> bool {
        if !self.unfinished || self.wraps >= MAX_WRAPS || line.number != self.last_line + 1 {
            return false;
        }
        let message = line.message();
        let word = message.split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
        argument(word).is_some()
            || is_vmx(word)
            || self.guest && word == b"cr3:"
            || self.pending.is_some() && word.starts_with(b"0x")
            || matches!(self.pending, Some(Arg::NestedPaging)) && matches!(word, b"y" | b"n" | b"on" | b"off")
            || matches!(self.pending, Some(Arg::Intercepts(_)))
                && !word.is_empty()
                && word.iter().all(u8::is_ascii_hexdigit)
    }

    /// No value comes any more for the argument that waits for one.
    fn settle(&mut self) {
        self.pending = None;
        self.unfinished = false;
    }

    fn scan(&mut self, line: &Text<'_>, start: usize) {
        self.notes.keep(line.number, line.text);
        self.last_line = line.number;
        let text = line.text.as_bytes();
        let mut at = start;
        loop {
            at = skip_spaces(text, at);
            let rest = text.get(at..).unwrap_or_default();
            let length = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
            let mut word = rest.get(..length).unwrap_or_default();
            if word.is_empty() {
                return;
            }
            let end = at + length;
            if is_vmx(word) {
                self.vmx = true;
                self.pending = Some(Arg::Skip);
            } else if word == b"guest" {
                self.guest = true;
            } else if word == b"cr3:" && self.guest {
                self.pending = Some(number_arg("guest_cr3", f::cr3, 8));
            } else if let Some((arg, used)) = argument(word) {
                self.pending = Some(arg);
                word = word.get(used..).unwrap_or_default();
                at += used;
                if !word.is_empty() {
                    self.take(word, at, line);
                }
            } else if self.pending.is_some() {
                self.take(word, at, line);
            }
            at = end;
        }
    }

    fn take(&mut self, word: &[u8], at: usize, line: &Text<'_>) {
        let end = at + word.len();
        let place = Place::Text { line: line.number, columns: at..end };
        let maybe_cut = end == line.text.len() && (!line.terminated || line.truncated);
        match self.pending.take() {
            None | Some(Arg::Skip) => {}
            Some(Arg::Address) => match number::hex(word, "vmcb", 16) {
                Ok(address) => self.found.vmcb_address = Some(address),
                Err(kind) => self.notes.remark(kind, place),
            },
            Some(Arg::Number(name, offset, size)) => {
                match number::read(word, name, size, Form::Hex, maybe_cut) {
                    Ok((value, mask)) => self.learn(name, offset, size, value, mask, place),
                    Err(kind) => self.notes.remark(kind, place),
                }
            }
            Some(Arg::NestedPaging) => {
                let value = match word {
                    b"y" | b"on" => 1,
                    b"n" | b"off" => 0,
                    _ => {
                        let text = number::shorten(word);
                        self.notes.remark(RemarkKind::NotANumber { name: "nested_npt", text }, place);
                        return;
                    }
                };
                self.learn("nested_npt", f::nested_ctl.offset, 8, value, 1, place);
            }
            Some(Arg::Intercepts(index)) => self.intercepts(index, word, place, maybe_cut),
        }
    }

    fn intercepts(&mut self, index: u8, word: &[u8], place: Place, maybe_cut: bool) {
        let Some(&(name, field)) = INTERCEPTS.get(usize::from(index)) else {
            return;
        };
        if index == 0 && word.len() > 8 {
            // One word of 16 digits on old kernels.
            match number::hex(word, name, 16) {
                Ok(value) => {
                    for ((name, field), value) in INTERCEPTS.into_iter().zip([value, value >> 32]) {
                        let value = value & u64::from(u32::MAX);
                        self.learn(name, field.offset, 4, value, u64::from(u32::MAX), place.clone());
                    }
                }
                Err(kind) => self.notes.remark(kind, place),
            }
            return;
        }
        match number::read(word, name, 4, Form::Hex, false) {
            // Half of a word of 16 digits would be the wrong half.
            Ok(_) if maybe_cut && index == 0 => {
                self.notes.remark(RemarkKind::MaybeCut { name }, place);
            }
            Ok((value, mask)) => {
                self.learn(name, field.offset, 4, value, mask, place);
                self.pending = Some(Arg::Intercepts(index + 1));
            }
            Err(kind) => self.notes.remark(kind, place),
        }
    }

    fn learn(&mut self, name: &'static str, offset: u16, size: u16, value: u64, mask: u64, place: Place) {
        let seen = Seen { name, page: Page::Vmcb, offset, size, value, mask, place };
        let before = self.found.fields.iter().position(|field| field.offset == offset);
        match before.and_then(|index| self.found.fields.get(index).map(|field| (index, field.value))) {
            None if self.forgotten.contains(&offset) => {}
            None => self.found.learn(seen),
            Some((_, first)) if first == value => {
                self.notes.remark(RemarkKind::Duplicate { name }, seen.place);
            }
            Some((index, first)) => {
                self.found.fields.remove(index);
                self.found.vmcb.forget(offset, size);
                self.forgotten.push(offset);
                let kind = RemarkKind::Contradiction { name, first, second: value };
                self.notes.remark(kind, seen.place);
            }
        }
    }
}

fn argument(word: &[u8]) -> Option<(Arg, usize)> {
    ARGS.iter().find(|(name, _)| word.starts_with(name)).map(|&(name, arg)| (arg, name.len()))
}

fn is_vmx(word: &[u8]) -> bool {
    VMX_ARGS.iter().any(|name| word.starts_with(name))
}
