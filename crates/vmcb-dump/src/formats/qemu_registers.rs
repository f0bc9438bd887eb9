//! Register dumps of QEMU: `info registers`, what it prints when KVM fails, `-d cpu` and `-d cpu_reset`.
//!
//! They show what the guest sees. What of it must stand in the VMCB too is decided in `guest_view`.

mod dump;
mod guest_view;
mod head;
mod part;
mod registers;

use self::dump::Dump;
use self::head::{Failure, Head, number_at};
use self::registers::{Pair, Word, digits, pairs, words};
use crate::format::{Format, Out, Taken};
use crate::found::{Place, RemarkKind, Seen};
use crate::text::Text;
use memchr::{memchr, memmem};
use vmcb::layout::{Page, vmcb_field as f};

/// Lines of other matters after which a dump counts as ended.
const MAX_IDLE: u64 = 200;
/// Lines between a message of KVM and the dump that it announces.
const MAX_HEAD: u64 = 16;

pub(crate) struct QemuRegisters {
    failure: memmem::Finder<'static>,
    head: Option<Head>,
    open: Option<Dump>,
    /// The dump before ended before its end: its lines may still come, among those of another.
    broke_off: bool,
    last_line: u64,
    /// First line that shows VMX, and what it is.
    vmx: Option<(u64, &'static str)>,
}

impl QemuRegisters {
    pub(crate) fn new() -> Self {
        Self {
            failure: memmem::Finder::new("KVM: entry failed, hardware error "),
            head: None,
            open: None,
            broke_off: false,
            last_line: 0,
            vmx: None,
        }
    }

    /// The line is of another matter.
    fn pass(&mut self, line: &Text<'_>, out: &mut Out) -> Taken {
        if self.open.is_some() && line.number > self.last_line + MAX_IDLE {
            self.close(out);
            self.broke_off = false;
        }
        if self.head.as_ref().is_some_and(|head| line.number > head.line + MAX_HEAD) {
            self.drop_head(out);
        }
        Taken::No
    }

    /// Hands out the open dump.
    fn close(&mut self, out: &mut Out) {
        if let Some(dump) = self.open.take() {
            self.broke_off = !dump.complete;
            out.extend(dump.into_found());
        }
    }

    /// No dump came after what was said.
    fn drop_head(&mut self, out: &mut Out) {
        if let Some(head) = self.head.take()
            && head.failure.is_some()
            && !head.vmx
        {
            out.push_back(head.into_found());
        }
    }

    /// A line that comes before a dump.
    fn head(&mut self, line: &Text<'_>, out: &mut Out) -> bool {
        let message = line.message();
        let text = line.text.as_bytes();
        let whole = Place::Text { line: line.number, columns: line.start..line.text.len() };
        if let Some(at) = self.failure.find(text) {
            self.close(out);
            self.drop_head(out);
            let at = at + self.failure.needle().len();
            let code = text.get(at..).unwrap_or_default();
            let length = code.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
            let cut = line.maybe_cut(at + length);
            let head = self.touch_head(line);
            match Failure::read(code.get(..length).unwrap_or_default()) {
                Some(Failure::Svm(code)) if !cut => {
                    let low = u64::from(u32::MAX);
                    head.failure = Some(Seen {
                        name: "hardware error",
                        page: Page::Vmcb,
                        offset: f::exitcode.offset,
                        size: f::exitcode.size,
                        value: code.bits() & low,
                        mask: low,
                        place: Place::Text { line: line.number, columns: at..at + length },
                    });
                    head.notes.remark(RemarkKind::EntryFailed { code: code.bits().cast_signed() }, whole);
                }
                Some(Failure::Vmx) => self.set_vmx(line),
                _ => {}
            }
            return true;
        }
        if let Some(rest) = message.strip_prefix(b"KVM internal error. Suberror: ") {
            self.close(out);
            let suberror = number_at(rest);
            let head = self.touch_head(line);
            if let Some(suberror) = suberror {
                head.notes.remark(RemarkKind::KvmInternalError { suberror }, whole);
            }
            return true;
        }
        if message.starts_with(b"If you're running a guest on an Intel machine") {
            self.close(out);
            self.set_vmx(line);
            return true;
        }
        let cpu = message.strip_prefix(b"CPU#").or_else(|| message.strip_prefix(b"CPU Reset (CPU "));
        if let Some(number) =
            cpu.map(|rest| rest.trim_ascii_end()).map(|rest| rest.strip_suffix(b")").unwrap_or(rest))
            && let Some(vcpu) = number_at(number)
            && number.iter().all(u8::is_ascii_digit)
        {
            self.close(out);
            self.touch_head(line).vcpu = Some(vcpu);
            return true;
        }
        false
    }

    fn touch_head(&mut self, line: &Text<'_>) -> &mut Head {
        let head = self.head.get_or_insert_default();
        head.line = line.number;
        head.notes.keep(line.number, line.text);
        head
    }

    fn set_vmx(&mut self, line: &Text<'_>) {
        self.vmx.get_or_insert((line.number, "a message"));
        self.touch_head(line).vmx = true;
    }

    /// Whether a dump begins with these registers, and whether it is its proper beginning.
    fn begins(&self, line: &Text<'_>, pairs: &[Pair<'_, '_>], words: &[Word<'_>]) -> bool {
        let (Some(first), Some(&(at, _))) = (pairs.first(), words.first()) else {
            return false;
        };
        let name = first.name();
        let second = match name {
            "RAX" => "RBX",
            "EAX" => "EBX",
            "RIP" => "RFL",
            "EIP" => "EFL",
            _ => return false,
        };
        let width = if name.starts_with('R') { 16 } else { 8 };
        let is_number = first.first.is_some_and(|(_, word)| digits(word, name, width).is_ok());
        let alone = match pairs.get(1) {
            Some(next) => next.name() == second,
            None => words.len() == 1,
        };
        if at != line.start || !is_number || !alone {
            return false;
        }
        match &self.open {
            None => true,
            Some(dump) if name.ends_with("AX") => !dump.repeats(first, line),
            Some(dump) => dump.complete,
        }
    }
}

impl Format for QemuRegisters {
    fn offer(&mut self, line: &Text<'_>, out: &mut Out) -> Taken {
        if self.head(line, out) {
            return Taken::Began;
        }
        let text = line.text.as_bytes();
        if memchr(b'=', line.message()).is_none() {
            return self.pass(line, out);
        }
        let words = words(text, line.start);
        let pairs = pairs(&words);
        if pairs.is_empty() {
            return self.pass(line, out);
        }
        if self.begins(line, &pairs, &words) {
            self.close(out);
            let near = line.number <= self.last_line + MAX_IDLE;
            self.pass(line, out);
            let start = Place::Text { line: line.number, columns: line.start..line.text.trim_end().len() };
            let mut dump = Dump::new(self.head.take().unwrap_or_default(), start.clone());
            dump.mingled = (self.broke_off && near).then_some(start);
            self.last_line = line.number;
            dump.take(line, &pairs);
            self.open = Some(dump);
            return Taken::Began;
        }
        if self.open.is_none() || line.number > self.last_line + MAX_IDLE {
            return self.pass(line, out);
        }
        self.last_line = line.number;
        if let Some(dump) = &mut self.open {
            dump.take(line, &pairs);
        }
        Taken::Yes
    }

    fn finish(&mut self, out: &mut Out) {
        self.close(out);
        self.drop_head(out);
    }

    fn vmx(&self) -> Option<(u64, &'static str)> {
        self.vmx
    }
}
