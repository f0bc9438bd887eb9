//! What Xen's `svm_vmcb_dump` prints, by the debug key `v` and after VMEXIT_INVALID, in the layouts of all versions.
//!
//! Most numbers have no fixed width, so that nothing in a number shows that digits of it are missing. What shows it
//! is the line: each has its labels, and a number is taken where its label's successor follows it or where the line
//! may end. All other numbers that may be cut are unknown.

mod dump;
mod labels;
mod merge;
mod printed;
mod scan;

use self::dump::{Asked, Dump};
use self::labels::Index;
use self::printed::is_rest;
use crate::format::{Format, Out, Taken};
use crate::text::{Text, begins_with_cut, has_cut, skip_spaces, without_remark};

/// Lines of other matters after which a dump counts as ended.
const MAX_IDLE: u64 = 1000;
/// Lines that may stand between the line that names a virtual CPU and its dump.
const MAX_BEFORE: u64 = 8;

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

impl XenDump {
    pub(crate) fn new() -> Self {
        Self { index: Index::new(), open: None, before: None, line: 0, end: End::Whole, cut: false }
    }

    fn begin(&mut self, line: &Text<'_>, asked: Asked, out: &mut Out) -> &mut Dump {
        self.finish(out);
        let before = self.before.take().filter(|before| line.number - before.line <= MAX_BEFORE);
        let invalid = before.as_ref().is_some_and(|before| before.invalid) && asked == Asked::Unknown;
        let asked = if invalid { Asked::ExitHandler } else { asked };
        let vcpu = before.and_then(|before| before.vcpu);
        self.open.insert(Dump::new(line, vcpu, asked))
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
