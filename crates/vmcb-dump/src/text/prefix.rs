//! Finds where the message begins in a line of a log.

use super::cut::begins_with_cut;
use super::words::skip_spaces;
use memchr::{memchr, memmem};

/// Finds where a message begins in a line of a log.
///
/// Logs pass through dmesg, journalctl, serial consoles and mails. Each adds its own prefix to a message, so all known
/// prefixes are skipped in any order.
pub(crate) struct Prefix {
    kernel: memmem::Finder<'static>,
    svm: memmem::Finder<'static>,
    kvm_amd: memmem::Finder<'static>,
    xen: memmem::Finder<'static>,
}

/// The prefix of each line of Xen's log.
pub(crate) const XEN: &str = "(XEN)";

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
    pub(crate) fn skip(&self, line: &[u8]) -> (usize, bool) {
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
        // The column of characters of a hex dump may hold anything.
        if is_hex_row(head) {
            return (at, false);
        }
        let module = self.svm.find(head).map(|found| (found, found + " SVM: ".len()));
        let module =
            module.or_else(|| self.kvm_amd.find(head).map(|found| (found, found + " kvm_amd: ".len())));
        let module = module.filter(|&(found, _)| names(head.get(..found).unwrap_or_default()));
        match module.map(|(_, after)| after) {
            Some(after) => (skip_marks(line, at + after), true),
            // A serial console or a journal puts its own words before it.
            None => match self.xen.find(head) {
                Some(found) => (skip_marks(line, at + found), false),
                None => (at, false),
            },
        }
    }
}

/// Whether a text names a host, a time or the like, as what stands before the module's name does; the characters
/// of a hex dump that a mail program put on a line of their own seldom do, and have dots.
fn names(text: &[u8]) -> bool {
    text.iter().any(u8::is_ascii_alphanumeric) && memmem::find(text, b"....").is_none() && !is_row(text)
}

/// Whether a message is a row of a hex dump: no value of more than three words is ever printed.
pub(crate) fn is_row(message: &[u8]) -> bool {
    let mut words = message.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    (0..4).all(|_| words.next().is_some_and(|word| word.iter().all(u8::is_ascii_hexdigit)))
}

/// The column in which newer kernels name the thread or the CPU that prints, such as `T123` or `C1`; empty
/// where there is none. `prefix` is what stands before the message.
pub(crate) fn caller(prefix: &[u8]) -> &[u8] {
    let mut rest = prefix;
    while let Some(open) = memchr(b'[', rest) {
        rest = rest.get(open + 1..).unwrap_or_default();
        let inner = rest.get(..memchr(b']', rest).unwrap_or(0)).unwrap_or_default().trim_ascii_start();
        if let [b'T' | b'C', digits @ ..] = inner
            && !digits.is_empty()
            && digits.iter().all(u8::is_ascii_digit)
        {
            return inner;
        }
    }
    &[]
}

/// Whether a line begins with an offset and a group of a hex dump.
pub(crate) fn is_hex_row(line: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take(17).take_while(|byte| byte.is_ascii_hexdigit()).count();
    let offset = digits(line);
    let rest = line.get(offset..).unwrap_or_default();
    let rest = rest.strip_prefix(b":").unwrap_or(rest);
    (4..=16).contains(&offset) && matches!(rest, [b' ' | b'\t', ..]) && digits(rest.trim_ascii_start()) >= 2
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

/// Skips spaces, quote marks of mails, `[time]` and `[caller]`, `<level>`, `##[level]`, dates, Xen's name and that of a
/// domain.
fn skip_marks(line: &[u8], mut at: usize) -> usize {
    loop {
        at = skip_spaces(line, at);
        let rest = line.get(at..).unwrap_or_default();
        at += match rest {
            [b'>' | b'|', ..] => 1,
            // What follows is the rest of something else.
            _ if begins_with_cut(rest) => return at,
            [b'[', tail @ ..] => match bracket(tail) {
                Some(end) => end + 2,
                None => return at,
            },
            [b'#', b'#', b'[', tail @ ..] => match bracket(tail) {
                Some(end) => end + 4,
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
            // Facility and level, as `dmesg -x` prints them.
            [b'k', b'e', b'r', b'n', b' ', ..] => match facility(rest) {
                Some(length) => length,
                None => return at,
            },
            [b'0'..=b'9', ..] => match date(rest) {
                Some(length) => length,
                None => return at,
            },
            _ => return at,
        };
    }
}

/// How many bytes `kern  :err   :` has.
fn facility(text: &[u8]) -> Option<usize> {
    let colon =
        |from: usize| Some(from + text.get(from..)?.iter().take(9).position(|&byte| byte == b':')? + 1);
    let first = colon(0)?;
    let second = colon(first)?;
    let word = |byte: &u8| byte.is_ascii_lowercase() || matches!(byte, b' ' | b':');
    text.get(..second)?.iter().all(word).then_some(second)
}

fn bracket(tail: &[u8]) -> Option<usize> {
    memchr(b']', tail.get(..64.min(tail.len())).unwrap_or_default())
}

/// How many bytes an ISO 8601 date with a time has, if `text` begins with one that ends a word.
fn date(text: &[u8]) -> Option<usize> {
    let form = b"0000-00-00T00:00:00";
    let fits = |(&byte, &form): (&u8, &u8)| match form {
        b'0' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b' '),
        _ => byte == form,
    };
    if !text.get(..form.len())?.iter().zip(form).all(fits) {
        return None;
    }
    let rest = text.get(form.len()..)?;
    // A fraction and a zone.
    let zone = |&byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b',' | b'Z' | b'+' | b'-' | b':');
    let length = rest.iter().take(20).take_while(|&byte| zone(byte)).count();
    matches!(rest.get(length), None | Some(b' ' | b'\t')).then_some(form.len() + length)
}
