//! Lines of an input of any size, in bounded memory, and where in a line the message begins.

use memchr::{memchr, memmem};
use std::io::{self, BufRead};

/// Bytes of a line that are read; the rest of it is skipped.
pub(crate) const MAX_LINE: usize = 64 * 1024;

/// Reads lines into one buffer that is used again and again.
pub(crate) struct Lines {
    buffer: Vec<u8>,
    /// Lines read so far, which is the number of the last one.
    pub(crate) number: u64,
    /// Bytes read so far.
    pub(crate) bytes: u64,
    terminated: bool,
    truncated: bool,
}

/// One line of the input.
pub(crate) struct Text<'a> {
    /// Counted from 1.
    pub(crate) number: u64,
    /// Without its end.
    pub(crate) text: &'a str,
    /// An end of line came after it. Without one, the input may have been cut within the line.
    pub(crate) terminated: bool,
    /// It was longer than [`MAX_LINE`].
    pub(crate) truncated: bool,
    /// Where the message begins, after time stamps and the like.
    pub(crate) start: usize,
    /// The message had the prefix of KVM's module.
    pub(crate) prefixed: bool,
}

impl<'a> Text<'a> {
    /// The message.
    pub(crate) fn message(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.start..).unwrap_or_default()
    }

    /// Whether Xen's name stands before the message.
    pub(crate) fn has_xen_prefix(&self) -> bool {
        self.text.get(..self.start).is_some_and(|prefix| prefix.contains(XEN))
    }
}

impl Lines {
    pub(crate) fn new() -> Self {
        Self { buffer: Vec::new(), number: 0, bytes: 0, terminated: true, truncated: false }
    }

    /// Reads one line; `false` at the end of the input.
    pub(crate) fn next(&mut self, input: &mut impl BufRead) -> io::Result<bool> {
        self.buffer.clear();
        self.terminated = false;
        self.truncated = false;
        let mut any = false;
        loop {
            let chunk = match input.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if chunk.is_empty() {
                break;
            }
            any = true;
            let (line, used) = match memchr(b'\n', chunk) {
                Some(end) => {
                    self.terminated = true;
                    (chunk.get(..end).unwrap_or_default(), end + 1)
                }
                None => (chunk, chunk.len()),
            };
            let room = MAX_LINE - self.buffer.len();
            self.truncated |= line.len() > room;
            self.buffer.extend_from_slice(line.get(..room.min(line.len())).unwrap_or_default());
            input.consume(used);
            self.bytes += used as u64;
            if self.terminated {
                break;
            }
        }
        if any {
            self.number += 1;
            while self.buffer.last() == Some(&b'\r') {
                self.buffer.pop();
            }
        }
        Ok(any)
    }

    /// The bytes of the line last read.
    pub(crate) fn raw(&self) -> &[u8] {
        &self.buffer
    }

    /// The line last read, its text being the lossy form of [`Self::raw`].
    pub(crate) fn line<'a>(&self, text: &'a str, prefix: &Prefix) -> Text<'a> {
        let (start, prefixed) = prefix.skip(text.as_bytes());
        let (number, terminated, truncated) = (self.number, self.terminated, self.truncated);
        Text { number, text, terminated, truncated, start, prefixed }
    }
}

/// Finds where a message begins in a line of a log.
///
/// A log reaches us through dmesg, journalctl, a serial console, a mail: each puts something before the
/// message, so everything that may stand there is skipped rather than one grammar expected.
pub(crate) struct Prefix {
    kernel: memmem::Finder<'static>,
    svm: memmem::Finder<'static>,
    kvm_amd: memmem::Finder<'static>,
    xen: memmem::Finder<'static>,
}

/// What Xen puts before each line of its log.
const XEN: &str = "(XEN)";

/// Prefixes of the module that prints the dump, old and new.
const MODULES: [&[u8]; 2] = [b"kvm_amd:", b"SVM:"];
/// Nothing that is put before a message is longer.
const MAX_PREFIX: usize = 256;

impl Prefix {
    pub(crate) fn new() -> Self {
        Self {
            kernel: memmem::Finder::new("kernel: "),
            svm: memmem::Finder::new(" SVM: "),
            kvm_amd: memmem::Finder::new(" kvm_amd: "),
            xen: memmem::Finder::new(XEN),
        }
    }

    /// Where the message begins, and whether the module's prefix stood before it.
    fn skip(&self, line: &[u8]) -> (usize, bool) {
        let mut at = 0;
        for _ in 0..2 {
            at = skip_marks(line, at);
            if let Some(after) = skip_module(line, at) {
                return (after, true);
            }
            let head = head(line, at);
            // Without a colon there is no `kernel:` and no module's name either.
            if memchr(b':', head).is_none() {
                return (at, false);
            }
            match self.kernel.find(head) {
                Some(found) => at += found + "kernel: ".len(),
                None => break,
            }
        }
        let head = head(line, at);
        let module = self.svm.find(head).map(|found| found + " SVM: ".len());
        let module = module.or_else(|| self.kvm_amd.find(head).map(|found| found + " kvm_amd: ".len()));
        match module {
            Some(after) => (skip_marks(line, at + after), true),
            // A serial console or a journal puts its own words before it.
            None => match self.xen.find(head) {
                Some(found) => (skip_marks(line, at + found), false),
                None => (at, false),
            },
        }
    }
}

/// Whether a word says that something is left out here.
pub(crate) fn is_cut_mark(text: &[u8]) -> bool {
    ["...", "\u{2026}", "snip"].iter().any(|mark| memmem::find(text, mark.as_bytes()).is_some())
}

fn head(line: &[u8], at: usize) -> &[u8] {
    let end = line.len().min(at.saturating_add(MAX_PREFIX));
    line.get(at..end).unwrap_or_default()
}

fn skip_module(line: &[u8], at: usize) -> Option<usize> {
    let rest = line.get(at..)?;
    let module = MODULES.iter().find(|module| rest.starts_with(module))?;
    Some(skip_marks(line, at + module.len()))
}

pub(crate) fn skip_spaces(line: &[u8], mut at: usize) -> usize {
    while line.get(at).is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
        at += 1;
    }
    at
}

/// Skips spaces, quote marks of mails, `[time]` and `[caller]`, `<level>`, colours, Xen's name and that of a
/// domain.
fn skip_marks(line: &[u8], mut at: usize) -> usize {
    loop {
        at = skip_spaces(line, at);
        let rest = line.get(at..).unwrap_or_default();
        at += match rest {
            [b'>' | b'|', ..] => 1,
            [0xEF, 0xBB, 0xBF, ..] => 3,
            [0x1B, b'[', tail @ ..] => match tail.iter().take(16).position(|&byte| byte == b'm') {
                Some(end) => end + 3,
                None => return at,
            },
            [b'[', tail @ ..] => match memchr(b']', tail.get(..64.min(tail.len())).unwrap_or_default()) {
                Some(end) => end + 2,
                None => return at,
            },
            [b'<', tail @ ..] => match tail.iter().take(4).position(|&byte| byte == b'>') {
                Some(end) if end > 0 && tail.iter().take(end).all(u8::is_ascii_digit) => end + 2,
                _ => return at,
            },
            [b'(', b'X', b'E', b'N', b')', ..] => 5,
            [b'(', b'd', b'0'..=b'9', tail @ ..] => match tail.iter().take(10).position(|&byte| byte == b')')
            {
                Some(end) => end + 4,
                None => return at,
            },
            _ => return at,
        };
    }
}
