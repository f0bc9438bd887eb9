//! The values of a trace line: by the layout of the last line of the same event, else word by word.
//!
//! A kernel and a tool print each event in one way, so that the text between the values is nearly always that of
//! the line before. [`Layouts`] remembers that text. Where a line has it too, and values of the same form stand
//! between, [`Line::walk`] would take the same way over the line, and only the values are read; everything else is
//! left to it, and teaches the layout anew.

use crate::trace_line::{
    Arguments, Event, Form, Line, Packed, Reason, Scanner, Slot, decimal, digits, hex, number, reason,
    switch, word_end,
};
use memchr::memrchr;

/// Values that a layout may have; no event has more.
const MOST_STEPS: usize = 12;
/// Beginnings of lines that are remembered, by a few bits of a hash.
const HEADS: usize = 64;
/// Bytes of one.
const MOST_HEAD: usize = 64;

/// Reads the lines of one trace, each the faster the more it is like one before. What it reads is what
/// [`Line::arguments`] and [`Line::ids`] read.
#[derive(Clone, Debug)]
pub struct Layouts {
    events: [Layout; Event::Other as usize + 1],
    heads: Box<[Head; HEADS]>,
}

/// How an event's lines look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    steps: [Step; MOST_STEPS],
    length: usize,
    /// What stands after the last value.
    tail: Text,
    known: bool,
}

/// A value, and what stands before it.
#[derive(Clone, Copy, Debug)]
struct Step {
    before: Text,
    form: Form,
    slot: Slot,
}

/// A few bytes that are compared at once.
#[derive(Clone, Copy, Debug)]
struct Text {
    start: Packed,
    length: usize,
}

/// What a line begins with, up to the `]` after its CPU.
#[derive(Clone, Copy, Debug)]
struct Head {
    text: [u8; MOST_HEAD],
    length: usize,
    ids: (Option<u32>, Option<u32>),
}

impl Text {
    const NONE: Self = Self { start: Packed::NONE, length: 0 };

    fn new(text: &[u8]) -> Option<Self> {
        (text.len() <= 16).then(|| Self { start: Packed::new(text), length: text.len() })
    }

    /// What follows this text in `rest`, if that begins with it.
    #[inline]
    fn skip<'a>(&self, rest: &'a [u8]) -> Option<&'a [u8]> {
        let same = match rest.first_chunk() {
            Some(head) => self.start.is_in(u128::from_le_bytes(*head)),
            None => self.start.bytes().get(..self.length).is_some_and(|text| rest.starts_with(text)),
        };
        if same { rest.get(self.length..) } else { None }
    }
}

impl Layout {
    pub(crate) const NONE: Self = Self {
        steps: [Step { before: Text::NONE, form: Form::Decimal, slot: Slot::Ignored }; MOST_STEPS],
        length: 0,
        tail: Text::NONE,
        known: false,
    };

    /// Notes a value, unless the layout is none any more: `before` stood before it.
    fn push(&mut self, before: Option<&[u8]>, form: Form, slot: Slot) {
        let before = before.and_then(Text::new);
        match (before, self.steps.get_mut(self.length)) {
            (Some(before), Some(step)) => {
                *step = Step { before, form, slot };
                self.length += 1;
            }
            _ => self.known = false,
        }
    }

    /// Reads a line that has this layout into `found`. `None` if it has another, and `found` is then of no use.
    #[inline]
    fn follow(&self, line: &Line<'_>, found: &mut Arguments) -> Option<()> {
        if !self.known {
            return None;
        }
        let mut rest = line.text().get(line.start()..)?;
        for step in self.steps.get(..self.length)? {
            rest = step.before.skip(rest)?;
            let (value, used) = match step.form {
                // What ends a number is the first byte of the text that follows it, or the end.
                Form::Hex(16) => {
                    let (high, low) = rest.first_chunk::<16>()?.split_at(8);
                    let (high, low) = (digits(high.try_into().ok()?)?, digits(low.try_into().ok()?)?);
                    (u64::from(high) << 32 | u64::from(low), 16)
                }
                Form::Hex(8) => (digits(*rest.first_chunk()?)?.into(), 8),
                Form::Hex(4) => {
                    let [a, b, c, d] = *rest.first_chunk()?;
                    (digits([b'0', b'0', b'0', b'0', a, b, c, d])?.into(), 4)
                }
                Form::Free(most) => {
                    let (value, used) = hex(rest);
                    ((1..=usize::from(most)).contains(&used)).then_some((value, used))?
                }
                Form::Decimal => {
                    let used = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                    let digits = rest.get(..used).filter(|digits| !digits.is_empty())?;
                    (decimal(digits)?.into(), used)
                }
                Form::Switch => {
                    let word = rest.get(..word_end(rest, 0))?;
                    (switch(word)?, word.len())
                }
                Form::Reason => match reason(rest, 0) {
                    (Reason::Code(code), used) => (code.into(), used),
                    _ => return None,
                },
                Form::Hex(_) | Form::HexOrFree(_) | Form::Words | Form::Vmx | Form::Prefix => return None,
            };
            found.learn(step.slot, value);
            rest = rest.get(used..)?;
        }
        (rest.is_empty() && self.tail.length == 0 || self.tail.skip(rest)?.is_empty()).then_some(())
    }
}

impl Line<'_> {
    /// Reads the arguments word by word. What they look like goes to `layout`.
    #[inline(never)]
    pub(crate) fn walk(&self, found: &mut Arguments, layout: &mut Layout) {
        found.clear();
        let text = self.text();
        let mut scanner = Scanner::new(self.event());
        let (mut at, mut end) = (self.start(), self.start());
        *layout = Layout { known: true, ..Layout::NONE };
        while let Some(arg) = scanner.next(text, &mut at) {
            let rest = text.get(at..).unwrap_or_default();
            let value = match arg.form {
                Form::Hex(digits) => number(rest, |used, _| used == usize::from(digits)),
                Form::Free(digits) => number(rest, |used, _| (1..=usize::from(digits)).contains(&used)),
                Form::HexOrFree(digits) => number(rest, |used, marked| {
                    used == usize::from(digits) || !marked && (1..usize::from(digits)).contains(&used)
                }),
                Form::Words => {
                    let (value, used) = hex(rest);
                    let whole = rest.get(used).is_none_or(|&byte| byte <= b' ');
                    match used {
                        16 if whole => {
                            found.learn(Slot::Misc2, value >> 32);
                            found.learn(Slot::Misc1, value & u64::from(u32::MAX));
                            layout.known = false;
                            at += used;
                            continue;
                        }
                        // Half of 16 digits would be the wrong half.
                        8 if whole && used < rest.len() => Some((value, used)),
                        _ => None,
                    }
                }
                Form::Decimal => {
                    let used = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                    let ends = rest.get(used).is_none_or(|&byte| byte <= b' ' || byte == b',');
                    let digits = rest.get(..used).filter(|digits| ends && !digits.is_empty());
                    digits.and_then(decimal).map(|value| (value.into(), used))
                }
                Form::Switch => {
                    let end = word_end(rest, 0);
                    switch(rest.get(..end).unwrap_or_default()).map(|value| (value, end))
                }
                Form::Reason => {
                    let (reason, used) = reason(rest, 0);
                    match reason {
                        Reason::Code(code) => Some((code.into(), used)),
                        Reason::Vmx | Reason::Unknown => {
                            found.vmx |= reason == Reason::Vmx;
                            layout.known = false;
                            at += used;
                            continue;
                        }
                    }
                }
                Form::Vmx | Form::Prefix => None,
            };
            let Some((value, used)) = value else {
                layout.known = false;
                at = word_end(text, at);
                continue;
            };
            found.learn(arg.slot, value);
            // Of numbers `0x` is text too; as many digits as the form says, or some.
            let marked =
                !matches!(arg.form, Form::Decimal | Form::Switch | Form::Reason) && rest.starts_with(b"0x");
            let before = text.get(end..if marked { at + 2 } else { at });
            let form = match arg.form {
                Form::HexOrFree(digits) if marked => Form::Hex(digits),
                Form::HexOrFree(digits) => Form::Free(digits),
                Form::Words => Form::Hex(8),
                form => form,
            };
            layout.push(before, form, arg.slot);
            at += used;
            end = at;
            if arg.form != Form::Reason {
                scanner.pending = arg.then;
            }
        }
        found.vmx |= scanner.vmx;
        match text.get(end..).and_then(Text::new) {
            Some(tail) => layout.tail = tail,
            None => layout.known = false,
        }
        layout.known &= !found.vmx;
    }
}

/// Whether both are the same: at once where they are as short as most beginnings of lines.
#[inline]
fn equal(one: &[u8], other: &[u8]) -> bool {
    let ends = |text: &[u8]| {
        let (first, last) = (text.first_chunk()?, text.last_chunk()?);
        (text.len() <= 32).then(|| (u128::from_le_bytes(*first), u128::from_le_bytes(*last)))
    };
    one.len() == other.len()
        && match (ends(one), ends(other)) {
            (Some(one), Some(other)) => one == other,
            _ => one == other,
        }
}

impl Default for Layouts {
    fn default() -> Self {
        Self::new()
    }
}

impl Layouts {
    /// None is known yet.
    #[must_use]
    pub fn new() -> Self {
        let head = Head { text: [0; MOST_HEAD], length: 0, ids: (None, None) };
        Self { events: [Layout::NONE; Event::Other as usize + 1], heads: Box::new([head; HEADS]) }
    }

    /// What [`Line::arguments`] gives, into `found`, which a caller makes once for many lines.
    #[inline]
    pub fn read(&mut self, line: &Line<'_>, found: &mut Arguments) {
        found.clear();
        let event = line.event();
        match self.events.get_mut(event as usize) {
            Some(layout) if !event.arguments().is_empty() => {
                if layout.follow(line, found).is_none() {
                    line.walk(found, layout);
                }
            }
            _ => line.read(found),
        }
    }

    /// What [`Line::ids`] gives.
    #[inline]
    pub fn ids(&mut self, line: &Line<'_>) -> (Option<u32>, Option<u32>) {
        let head = line.text().get(..line.name().start).unwrap_or_default();
        // All that counts stands before the last bracket.
        let Some(head) = memrchr(b']', head).and_then(|close| head.get(..close)) else { return line.ids() };
        let Some(last) = head.last_chunk::<16>() else { return line.ids() };
        let bits = u128::from_le_bytes(*last);
        let hash = ((bits >> 64) as u64 ^ bits as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58;
        let Some(known) = self.heads.get_mut(hash as usize) else { return line.ids() };
        if known.text.get(..known.length).is_some_and(|text| equal(text, head)) {
            return known.ids;
        }
        let ids = line.ids();
        if let Some(text) = known.text.get_mut(..head.len()) {
            text.copy_from_slice(head);
            (known.length, known.ids) = (head.len(), ids);
        }
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `second` is read by the layout of `first`, and then as word by word.
    fn follows(first: &str, second: &str) -> bool {
        let [first, second] = [first, second].map(|text| Line::parse(text.as_bytes()).expect("a trace line"));
        let (mut layout, mut found) = (Layout::NONE, Arguments::NONE);
        first.walk(&mut found, &mut layout);
        found.clear();
        let follows = layout.follow(&second, &mut found).is_some();
        assert!(!follows || found == second.arguments());
        follows
    }

    #[test]
    fn other_values_of_the_same_form_follow() {
        for (first, second) in [
            (
                "kvm_exit: vcpu 0 reason npf rip 0x1 info1 0x0000000000000001 error_code 0x00000000",
                "kvm_exit: vcpu 12 reason GP excp rip 0x7f00123 info1 0x00000000FFFFabcd error_code 0x00000010",
            ),
            (
                "kvm_exit: reason read_rt rip 0x1 info 1f 0",
                "kvm_exit: reason 0xffffffff rip 0x1000 info 0 abc",
            ),
            (
                "kvm_nested_vmenter: event_inj: 0x80000b0e nested_npt=y nested_cr3: 0x0000000000000000",
                "kvm_nested_vmenter: event_inj: 0x00000000 nested_npt=n nested_cr3: 0x0000000000001000",
            ),
            (
                "kvm_nested_intercepts: cr_read: 0010 excp: 00060042 intercepts: bc4c8027 00006e7f 00000000",
                "kvm_nested_intercepts: cr_read: ffff excp: 00000000 intercepts: 00000000 00000000 00000001",
            ),
            ("kvm_entry: vcpu 1, rip 0x1[immediate exit]", "kvm_entry: vcpu 1, rip 0x2[immediate exit]"),
        ] {
            assert!(follows(first, second) && follows(second, first), "{second}");
        }
    }

    #[test]
    fn what_looks_different_does_not() {
        let line = "kvm_entry: vcpu 1, rip 0xfff0 intr_info 0x80000b0e error_code 0x00000002";
        assert!(follows(line, line));
        for (from, to) in [
            ("intr_info", "intr_inf0"),
            ("0x80000b0e", "0x80000b0"),
            ("0x80000b0e", "0x80000b0e0"),
            ("0x80000b0e", "80000b0e"),
            ("0xfff0", "0xfff0fff0fff0fff0f"),
            ("0xfff0", "0x"),
            ("0xfff0", "0xfffg"),
            ("vcpu 1,", "vcpu ,"),
            ("vcpu 1,", "vcpu 1"),
            ("00000002", "00000002 "),
            ("00000002", "0000000"),
            (" error_code 0x00000002", ""),
        ] {
            assert!(!follows(line, &line.replace(from, to)), "{from} {to}");
            // Nothing is learned of a line of which something is unknown.
            let unknown = line.replace("0x80000b0e", "0x80000b0");
            assert!(!follows(&unknown, &unknown));
        }
    }
}
