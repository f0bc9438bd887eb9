//! What mails, web pages and consoles do to the characters of a line, undone.

use memchr::{memchr, memchr2, memchr3};

/// Whether the lines are those of a mail in quoted-printable (RFC 2045, 6.7).
#[derive(Clone, Copy, Default)]
pub(crate) struct Transfer {
    /// A header says so.
    declared: bool,
    /// A `=` stood within a line that is no escape, so that it is not.
    plain: bool,
}

const HEADER: &[u8] = b"content-transfer-encoding:";
/// An encoder fills a line up to 76 characters, as far as words allow; quoting it adds some.
const SOFT_BREAK: std::ops::RangeInclusive<usize> = 50..=84;

impl Transfer {
    /// Looks whether a line declares the encoding, shows that there is none, or begins another mail.
    pub(crate) fn look(&mut self, line: &[u8]) {
        let line = line.trim_ascii_end();
        self.plain |= !escapes(line.strip_suffix(b"=").unwrap_or(line));
        match line.first() {
            Some(b'C' | b'c') => {
                let head = line.get(..HEADER.len()).unwrap_or_default();
                if head.eq_ignore_ascii_case(HEADER) {
                    let value = line.get(HEADER.len()..).unwrap_or_default().trim_ascii();
                    self.declared = value.eq_ignore_ascii_case(b"quoted-printable");
                }
            }
            Some(b'F') if line.starts_with(b"From ") => *self = Self::default(),
            _ => {}
        }
    }

    /// Whether a physical line ends with a soft line break. Without a header the text itself must show it: in
    /// such text every other `=` is an escape. `broken` says that such a break came before it.
    pub(crate) fn goes_on(self, line: &[u8], broken: bool) -> bool {
        let line = line.trim_ascii_end();
        let Some(before) = line.strip_suffix(b"=") else {
            return false;
        };
        let evident = || {
            SOFT_BREAK.contains(&line.len())
                && (broken || !has_characters(before))
                && !self.plain
                && escapes(before)
        };
        self.declared || evident()
    }
}

/// Whether every `=` of a text is an escape.
fn escapes(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some(at) = memchr(b'=', rest) {
        if escape(rest.get(at..).unwrap_or_default()).is_none() {
            return false;
        }
        rest = rest.get(at + 3..).unwrap_or_default();
    }
    true
}

/// Whether a line is a row of `xxd` up to its column of characters, which may end with anything.
fn has_characters(line: &[u8]) -> bool {
    // A non-breaking space is one too.
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t' | 0xA0 | 0xC2));
    let offset = words.by_ref().take(8).any(|word| {
        let word = word.strip_suffix(b":").unwrap_or_default();
        let digits = word.iter().rev().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let before = word.len().checked_sub(digits + 1).and_then(|at| word.get(at));
        (4..=16).contains(&digits) && before.is_none_or(|before| matches!(before, b'>' | b']' | b'|' | b')'))
    });
    offset && !words.all(|word| word.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'='))
}

/// The byte that `=XX` stands for. Encoders write upper case, and numbers in dumps are mostly lower case.
fn escape(text: &[u8]) -> Option<u8> {
    let &[b'=', high, low, ..] = text else {
        return None;
    };
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    Some(digit(high)? << 4 | digit(low)?)
}

/// Whether there is anything to undo.
pub(crate) fn needed(line: &[u8], transfer: Transfer) -> bool {
    !line.is_ascii()
        || memchr3(0x1B, b'&', b'<', line).is_some()
        || memchr2(b'\r', b'\t', line).is_some()
        || memchr(b'=', line).is_some_and(|at| next_escape(line, at, transfer).is_some())
}

/// The text of a line. Logical lines have `\n` between them, and none of those is empty.
pub(crate) fn text(line: &mut Vec<u8>, transfer: Transfer) -> String {
    unescape(line, transfer);
    let mut out = Out { text: String::with_capacity(line.len()) };
    for chunk in line.utf8_chunks() {
        out.valid(chunk.valid());
        match chunk.invalid() {
            [] => {}
            // A non-breaking space in Latin 1.
            [0xA0] => out.text.push(' '),
            _ => out.text.push(char::REPLACEMENT_CHARACTER),
        }
    }
    while out.text.ends_with('\n') {
        out.text.pop();
    }
    out.text
}

/// The first escape from `at` on: where it is, how long, and the byte.
///
/// Without a header only what stands in no dump is one: `=3D`, carriage returns, colours, non-breaking spaces,
/// and spaces at the end of the line.
fn next_escape(line: &[u8], mut at: usize, transfer: Transfer) -> Option<(usize, usize, u8)> {
    loop {
        at += memchr(b'=', line.get(at..)?)?;
        let rest = line.get(at..)?;
        if let Some(byte) = escape(rest) {
            let after = rest.get(3..).unwrap_or_default();
            let evident = match byte {
                b'=' | b'\r' => true,
                b' ' | b'\t' => after.trim_ascii().is_empty(),
                0x1B => after.first() == Some(&b'['),
                _ => false,
            };
            if evident || transfer.declared && byte != 0 {
                return Some((at, 3, byte));
            }
            if (byte, escape(after)) == (0xC2, Some(0xA0)) {
                return Some((at, 6, b' '));
            }
        }
        at += 1;
    }
}

fn unescape(line: &mut Vec<u8>, transfer: Transfer) {
    let mut at = 0;
    let mut to = 0;
    while let Some((escape, length, byte)) = next_escape(line, at, transfer) {
        line.copy_within(at..escape, to);
        to += escape - at;
        if let Some(place) = line.get_mut(to) {
            *place = byte;
        }
        to += 1;
        at = escape + length;
    }
    let end = line.len();
    line.copy_within(at..end, to);
    line.truncate(to + end - at);
}

struct Out {
    text: String,
}

/// What entities stand for.
const ENTITIES: [(&str, char); 7] =
    [("lt", '<'), ("gt", '>'), ("amp", '&'), ("quot", '"'), ("apos", '\''), ("nbsp", ' '), ("hellip", '…')];

/// Tags that dumps come with, and whether a line ends there.
const TAGS: [(&str, bool); 9] = [
    ("br", true),
    ("p", true),
    ("div", true),
    ("pre", true),
    ("li", true),
    ("span", false),
    ("code", false),
    ("tt", false),
    ("font", false),
];

impl Out {
    fn valid(&mut self, text: &str) {
        let mut rest = text;
        while let Some(special) =
            rest.find(|c: char| matches!(c, '\x1B' | '&' | '<' | '\r' | '\t') || !c.is_ascii())
        {
            let (plain, tail) = rest.split_at(special);
            self.text.push_str(plain);
            let used = match tail.as_bytes().first() {
                Some(0x1B) => control_sequence(tail),
                Some(b'\r') => {
                    self.end_line();
                    1
                }
                Some(b'\t') => {
                    self.text.push(' ');
                    1
                }
                Some(b'&') => self.entity(tail),
                Some(b'<') => self.tag(tail),
                _ => {
                    let c = tail.chars().next().unwrap_or_default();
                    self.character(c);
                    c.len_utf8()
                }
            };
            rest = tail.get(used..).unwrap_or_default();
        }
        self.text.push_str(rest);
    }

    fn end_line(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
    }

    fn character(&mut self, c: char) {
        match c {
            '\u{A0}' | '\u{2000}'..='\u{200A}' | '\u{202F}' | '\u{205F}' | '\u{3000}' => self.text.push(' '),
            '\u{AD}' | '\u{200B}'..='\u{200F}' | '\u{2060}' | '\u{FEFF}' => {}
            _ => self.text.push(c),
        }
    }

    /// Takes an entity, or the `&` alone; the bytes used.
    fn entity(&mut self, text: &str) -> usize {
        let name = text.get(1..).unwrap_or_default();
        let name =
            name.as_bytes().iter().take(10).position(|&byte| byte == b';').and_then(|end| name.get(..end));
        let c = name.and_then(|name| match name.strip_prefix('#') {
            Some(number) => {
                let code = match number.strip_prefix(['x', 'X']) {
                    Some(digits) => u32::from_str_radix(digits, 16),
                    None => number.parse(),
                };
                code.ok().and_then(char::from_u32).filter(|c| !c.is_control())
            }
            None => ENTITIES.iter().find(|(known, _)| *known == name).map(|&(_, c)| c),
        });
        match (c, name) {
            (Some(c), Some(name)) => {
                self.character(c);
                name.len() + 2
            }
            _ => {
                self.text.push('&');
                1
            }
        }
    }

    /// Takes a tag, or the `<` alone; the bytes used.
    fn tag(&mut self, text: &str) -> usize {
        let inner =
            text.as_bytes().iter().take(256).position(|&byte| byte == b'>').and_then(|end| text.get(1..end));
        let known = inner.and_then(|inner| {
            let name = inner.trim_start_matches('/');
            let name = name.split([' ', '/']).next()?;
            TAGS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))
        });
        match (known, inner) {
            (Some(&(_, ends)), Some(inner)) => {
                if ends {
                    self.end_line();
                }
                inner.len() + 2
            }
            _ => {
                self.text.push('<');
                1
            }
        }
    }
}

/// The bytes of a colour or another sequence for a terminal (ECMA-48), with which `text` begins.
fn control_sequence(text: &str) -> usize {
    let bytes = text.as_bytes();
    let at = |end: Option<usize>| end.map_or(1, |end| end + 3);
    match bytes.get(1) {
        Some(b'[') => {
            let tail = bytes.get(2..).unwrap_or_default();
            let end = tail.iter().take(32).position(|byte| !(0x20..0x40).contains(byte));
            at(end.filter(|&end| tail.get(end).is_some_and(|byte| (0x40..0x7F).contains(byte))))
        }
        // A title, ended by BEL.
        Some(b']') => at(bytes.get(2..).unwrap_or_default().iter().take(256).position(|&byte| byte == 0x07)),
        Some(b'(' | b')') if bytes.get(2).is_some_and(u8::is_ascii) => 3,
        Some(0x20..0x7F) => 2,
        _ => 1,
    }
}
