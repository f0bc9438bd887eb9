//! Exit codes by name or number, as trace lines print them.

use super::exit_reason;
use super::value::{decimal, hex, word_end};
use memchr::memchr;
use vmcb::ExitCode;

/// Names of exit codes that are remembered, by a few bits of a hash.
const REASONS: usize = 32;
/// Bytes of one, with the number that may stand behind it.
const MOST_REASON: usize = 64;

/// An exit code as trace lines print it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reason {
    /// The low half of EXITCODE.
    Code(u32),
    /// A name that only VMX has.
    Vmx,
    Unknown,
}

/// What the plugin of trace-cmd and perf prints before the number of a reason without a name: `UNKNOWN (1027)`.
pub(crate) const UNKNOWN: &[u8] = b"UNKNOWN";

/// Reads a reason, and where it ends.
#[inline]
pub(crate) fn reason(text: &[u8], at: usize) -> (Reason, usize) {
    let end = word_end(text, at);
    let word = text.get(at..end).unwrap_or_default();
    if word.len() == 2 && text.get(end..).is_some_and(|rest| rest.starts_with(b" excp")) {
        let end = end + " excp".len();
        let code = text.get(at..end).and_then(exit_reason::by_name);
        return (code.map_or(Reason::Unknown, Reason::Code), end);
    }
    if let Some(code) = exit_reason::by_name(word) {
        return (Reason::Code(code), end);
    }
    if let Some(digits) = word.strip_prefix(b"0x") {
        let (value, used) = hex(digits);
        // The kernel prints what its field holds: 32 bits, in newer ones 64.
        let whole = used == digits.len() && (1..=16).contains(&used);
        let code = (value >> 32 == 0 || ExitCode::from_bits(value).is_failure()).then_some(value as u32);
        return (code.filter(|_| whole).map_or(Reason::Unknown, Reason::Code), end);
    }
    if word == UNKNOWN || word.starts_with(b"(") {
        // A mail program may have put the number on the next line.
        let open = if word == UNKNOWN { end + 1 } else { at };
        let number = text.get(open..).and_then(|rest| rest.strip_prefix(b"(")).unwrap_or_default();
        let close = memchr(b')', number.get(..number.len().min(11)).unwrap_or_default());
        if let Some(digits) = close.and_then(|close| number.get(..close)) {
            let code = decimal(digits).filter(|_| !digits.is_empty());
            return (code.map_or(Reason::Unknown, Reason::Code), open + digits.len() + 2);
        }
        return (Reason::Unknown, end);
    }
    let vmx = word.first().is_some_and(u8::is_ascii_uppercase)
        && word.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_')
        && !word.starts_with(b"EXIT_");
    (if vmx { Reason::Vmx } else { Reason::Unknown }, end)
}

/// Exit codes by the names that were read before: of at most seven letters, with a space behind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reasons([(u64, u32); REASONS]);

impl Reasons {
    pub(super) const fn new() -> Self {
        Self([(0, 0); REASONS])
    }

    /// The code, and the length of its name.
    #[inline(always)]
    pub(super) fn read(&mut self, rest: &[u8]) -> Option<(u32, usize)> {
        const EACH: u64 = 0x0101_0101_0101_0101;
        let Some(first) = rest.first_chunk() else { return Self::search(rest) };
        let first = u64::from_le_bytes(*first);
        // The lowest bit that is set is that of the first byte up to the space.
        let ends = first.wrapping_sub(EACH * 0x21) & !first & (EACH * 0x80);
        let length = ends.trailing_zeros() / 8;
        // Of two letters are those of exceptions, behind which another word stands.
        if ends == 0 || length <= 2 {
            return Self::search(rest);
        }
        let name = first & ((1 << (length * 8)) - 1);
        let place = name.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 59;
        let known = self.0.get_mut(place as usize)?;
        if known.0 != name {
            let (code, used) = Self::search(rest)?;
            if used != length as usize {
                return Some((code, used));
            }
            *known = (name, code);
        }
        Some((known.1, length as usize))
    }

    #[inline(never)]
    fn search(rest: &[u8]) -> Option<(u32, usize)> {
        // Two words at most, and none of the next line.
        let words = rest.get(..rest.len().min(MOST_REASON))?;
        let line = words.get(..memchr(b'\n', words).unwrap_or(words.len()))?;
        match reason(line, 0) {
            (Reason::Code(code), used) => Some((code, used)),
            _ => None,
        }
    }
}
