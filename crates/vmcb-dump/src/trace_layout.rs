//! The values of a trace line: by the layout of one of the last lines of the same event, else word by word.
//!
//! A kernel and a tool print each event in one way, so that the text between the values is nearly always that of
//! a line before. [`Layouts`] remembers that text. Where a line has it too, and values of the same form stand
//! between, [`Line::walk`] would take the same way over the line, and only the values are read, and of those only
//! what is wanted; everything else is left to it, and teaches a layout anew. A line that has a layout ends where its
//! text does, so that its end is not searched.

use crate::trace_line::{
    Arguments, Event, Form, Line, Reason, Scanner, Slot, decimal, hex, number, reason, switch, value_of,
    word_end,
};
use memchr::{memchr, memmem, memrchr};

/// Beginnings of lines that are remembered, by a few bits of a hash.
const HEADS: usize = 64;
/// Bytes of one.
const MOST_HEAD: usize = 64;
/// Names of exit codes that are remembered, by a few bits of a hash.
const REASONS: usize = 32;
/// Bytes of one, with the number that may stand behind it.
const MOST_REASON: usize = 64;
/// Bytes that are compared at once.
const WIDE: usize = 16;
/// Windows of so many bytes between the CPU and the event's name.
const MOST_WINDOWS: usize = 3;
/// A line that is longer is left to the caller.
const MOST_LINE: usize = 4096;

/// Reads the lines of one trace, each the faster the more it is like one before. What it reads is what
/// [`Line::arguments`] and [`Line::ids`] read.
///
/// # Examples
/// ```
/// use vmcb_dump::trace::{Arguments, Layouts, Slot};
/// let text = b" CPU 0/KVM-1234  [003] 1.0: kvm_exit: vcpu 0 reason npf rip 0x1\n \
///     CPU 0/KVM-1234  [003] 1.2: kvm_exit: vcpu 0 reason hlt rip 0x2\n";
/// let mut layouts = Layouts::new(&[Slot::ExitCode]);
/// let mut found = Arguments::none();
/// // Of the first line somebody has to say where its event's name stands.
/// let first = layouts.read(text, 0, 28, &mut found).expect("an event");
/// assert_eq!(found.get(Slot::ExitCode), Some(0x400));
/// layouts.learn(&first);
/// let second = first.text().len() + 1;
/// let (name, (thread, cpu)) = layouts.name(text, second).expect("it begins like the first");
/// assert_eq!((thread, cpu), (Some(1234), Some(3)));
/// layouts.read(text, second, name, &mut found).expect("an event");
/// assert_eq!(found.get(Slot::ExitCode), Some(0x78));
/// assert_eq!(found.get(Slot::Rip), None, "it was not asked for");
/// ```
#[derive(Clone, Debug)]
pub struct Layouts {
    /// Those of each event: the one that fitted last, and the one before.
    events: [[Layout; 2]; Event::Other as usize + 1],
    begin: Begin,
    heads: Box<[Head; HEADS]>,
    reasons: Reasons,
    wanted: Slots,
}

/// A set of slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Slots(u32);

impl Slots {
    const fn has(self, slot: Slot) -> bool {
        self.0 & 1 << slot as u8 != 0
    }

    const fn with(self, slot: Slot) -> Self {
        Self(self.0 | 1 << slot as u8)
    }

    pub(crate) const fn bits(self) -> u32 {
        self.0
    }
}

/// How an event's lines look: stretches of which each byte is a certain one or a hexadecimal digit, and after each
/// but the last a value of which the length is not always the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    stretches: Vec<Stretch>,
    /// Those of all stretches.
    pieces: Vec<Piece>,
    /// Those of all stretches.
    numbers: Vec<Number>,
    /// The bytes of the stretch that is being learned.
    length: usize,
    shown: Slots,
    wanted: Slots,
    known: bool,
}

/// A stretch, and what follows it.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    length: usize,
    pieces: usize,
    numbers: usize,
    then: Option<(Form, Slot)>,
}

/// A number of which each digit is printed, and where in its stretch it stands.
#[derive(Clone, Copy, Debug)]
struct Number {
    at: usize,
    digits: u8,
    slot: Slot,
}

/// A few bytes of a stretch, which are compared at once: each has to be in one of two ranges, of which the second
/// is the first but for hexadecimal digits.
#[derive(Clone, Copy, Debug)]
struct Piece {
    first: Ranges,
    second: Ranges,
}

/// A range of values for each byte.
#[derive(Clone, Copy, Debug)]
struct Ranges {
    lowest: [u8; WIDE],
    /// How much more than the lowest a byte may be.
    more: [u8; WIDE],
}

/// Where a line's parts stood.
#[derive(Clone, Copy, Debug, Default)]
struct Begin {
    /// The `]` after the CPU, if there is one.
    bracket: Option<usize>,
    /// The event's name.
    name: usize,
    windows: usize,
    /// Ones for the bytes of the window that is farthest from the name which stand behind the bracket.
    last: [u8; WIDE],
    known: bool,
}

/// What a line begins with, up to the `]` after its CPU.
#[derive(Clone, Copy, Debug)]
struct Head {
    text: [u8; MOST_HEAD],
    length: usize,
    ids: Ids,
}

type Ids = (Option<u32>, Option<u32>);

impl Piece {
    /// Any bytes.
    const ANY: Self = {
        let any = Ranges { lowest: [0; WIDE], more: [0xFF; WIDE] };
        Self { first: any, second: any }
    };

    /// Of the byte at `place` this text, or a digit.
    fn set(&mut self, place: usize, text: Option<u8>) {
        let [first, second] = match text {
            Some(byte) => [(byte, 0); 2],
            None => DIGITS,
        };
        for (ranges, (lowest, more)) in [(&mut self.first, first), (&mut self.second, second)] {
            if let (Some(place), Some(size)) = (ranges.lowest.get_mut(place), ranges.more.get_mut(place)) {
                (*place, *size) = (lowest, more);
            }
        }
    }

    /// Sets bits in `wrong` where `bytes` are not what they have to be.
    // The compiler makes of this a few instructions for all bytes at once.
    #[inline(always)]
    fn compare(&self, bytes: &[u8; WIDE], wrong: &mut [u8; WIDE]) {
        let first = self.first.lowest.iter().zip(&self.first.more);
        let second = self.second.lowest.iter().zip(&self.second.more);
        for ((wrong, &byte), (first, second)) in wrong.iter_mut().zip(bytes).zip(first.zip(second)) {
            *wrong |= beyond(byte, first).min(beyond(byte, second));
        }
    }
}

/// The first byte and how many follow: hexadecimal digits as tools print them.
const DIGITS: [(u8, u8); 2] = [(b'0', 9), (b'a', 5)];

/// 0 if the byte is in the range.
#[inline(always)]
const fn beyond(byte: u8, (lowest, more): (&u8, &u8)) -> u8 {
    byte.wrapping_sub(*lowest).saturating_sub(*more)
}

/// Whether a bit is set.
#[inline(always)]
fn any(bytes: &[u8; WIDE]) -> bool {
    bytes.iter().fold(0, |all, byte| all | byte) != 0
}

/// How many hexadecimal digits `bytes` begin with.
#[inline(always)]
fn digits_before(bytes: &[u8; WIDE]) -> usize {
    let mut others = [0; WIDE];
    let [(zero, numbers), (a, letters)] = &DIGITS;
    for (other, &byte) in others.iter_mut().zip(bytes) {
        *other = beyond(byte, (zero, numbers)).min(beyond(byte, (a, letters)));
    }
    u128::from_le_bytes(others).trailing_zeros() as usize / 8
}

/// Exit codes by the names that were read before: of at most seven letters, with a space behind.
#[derive(Clone, Copy, Debug)]
struct Reasons([(u64, u32); REASONS]);

impl Reasons {
    /// The code, and the length of its name.
    #[inline(always)]
    fn read(&mut self, rest: &[u8]) -> Option<(u32, usize)> {
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

impl Layout {
    /// Forgets what was known, to learn anew.
    fn begin(&mut self, wanted: Slots) {
        self.stretches.clear();
        self.pieces.clear();
        self.numbers.clear();
        (self.length, self.shown, self.wanted, self.known) = (0, Slots::default(), wanted, true);
    }

    /// Notes the next byte of the stretch: this one, or a digit.
    fn byte(&mut self, text: Option<u8>) {
        let place = self.length % WIDE;
        if place == 0 {
            self.pieces.push(Piece::ANY);
        }
        self.length += 1;
        if let Some(piece) = self.pieces.last_mut() {
            piece.set(place, text);
        }
    }

    fn text(&mut self, text: &[u8]) {
        text.iter().for_each(|&byte| self.byte(Some(byte)));
    }

    /// Notes a value behind `before`.
    fn value(&mut self, before: Option<&[u8]>, form: Form, slot: Slot) {
        self.text(before.unwrap_or_default());
        // A value that is shown twice may be a doubtful one.
        self.known &= before.is_some() && (slot == Slot::Ignored || !self.shown.has(slot));
        self.shown = self.shown.with(slot);
        let wanted = self.wanted.has(slot);
        if let Form::Hex(digits) = form {
            if wanted {
                self.numbers.push(Number { at: self.length, digits, slot });
            }
            (0..digits).for_each(|_| self.byte(None));
        } else {
            self.end(Some((form, if wanted { slot } else { Slot::Ignored })));
        }
    }

    /// Notes the end of a stretch.
    fn end(&mut self, then: Option<(Form, Slot)>) {
        let before = self
            .stretches
            .iter()
            .fold((0, 0), |(pieces, numbers), stretch| (pieces + stretch.pieces, numbers + stretch.numbers));
        self.stretches.push(Stretch {
            length: self.length,
            pieces: self.pieces.len() - before.0,
            numbers: self.numbers.len() - before.1,
            then,
        });
        self.length = 0;
    }

    /// Reads the line that goes on at `start` into `found`, if it has this layout, and gives where its end is.
    /// Otherwise `found` is of no use.
    #[inline]
    fn follow(
        &self,
        text: &[u8],
        start: usize,
        reasons: &mut Reasons,
        found: &mut Arguments,
    ) -> Option<usize> {
        if !self.known {
            return None;
        }
        found.clear();
        let mut rest = text.get(start..)?;
        let mut wrong = [0; WIDE];
        let (mut pieces, mut numbers) = (&self.pieces[..], &self.numbers[..]);
        for stretch in &self.stretches {
            let own;
            (own, pieces) = pieces.split_at_checked(stretch.pieces)?;
            let (bytes, _) = rest.get(..stretch.pieces * WIDE)?.as_chunks();
            for (piece, bytes) in own.iter().zip(bytes) {
                piece.compare(bytes, &mut wrong);
            }
            let own;
            (own, numbers) = numbers.split_at_checked(stretch.numbers)?;
            for number in own {
                // The digits are looked at above.
                let digits = rest.get(number.at..)?;
                let value = match number.digits {
                    16 => {
                        u64::from(value_of(*digits.first_chunk()?)) << 32
                            | u64::from(value_of(*digits.get(8..)?.first_chunk()?))
                    }
                    8 => value_of(*digits.first_chunk()?).into(),
                    4 => (value_of(*digits.first_chunk()?) >> 16).into(),
                    _ => return None,
                };
                found.set(number.slot, value);
            }
            rest = rest.get(stretch.length..)?;
            let Some((form, slot)) = stretch.then else { break };
            // What ends a number is the first byte of the text that follows it, or the end.
            let (value, used) = match form {
                Form::Free(most) if slot == Slot::Ignored => {
                    let used = digits_before(rest.first_chunk()?);
                    ((1..=usize::from(most)).contains(&used)).then_some((0, used))?
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
                Form::Reason => {
                    let (code, used) = reasons.read(rest)?;
                    (code.into(), used)
                }
                Form::Hex(_) | Form::HexOrFree(_) | Form::Words | Form::Vmx | Form::Prefix => return None,
            };
            found.set(slot, value);
            rest = rest.get(used..)?;
        }
        let ends = matches!(rest, [b'\n', ..] | [b'\r', b'\n', ..]) && !any(&wrong);
        found.keep(self.wanted);
        ends.then_some(text.len() - rest.len())
    }
}

impl Line<'_> {
    /// Reads the arguments word by word. What they look like goes to `layout`.
    #[inline(never)]
    pub(crate) fn walk(&self, found: &mut Arguments, layout: &mut Layout, wanted: Slots) {
        found.clear();
        let text = self.text();
        let mut scanner = Scanner::new(self.event());
        let (mut at, mut end) = (self.start(), self.start());
        layout.begin(wanted);
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
            layout.value(before, form, arg.slot);
            at += used;
            end = at;
            if arg.form != Form::Reason {
                scanner.pending = arg.then;
            }
        }
        found.vmx |= scanner.vmx;
        layout.text(text.get(end..).unwrap_or_default());
        layout.end(None);
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

impl Layouts {
    /// None is known yet. Of the arguments only those in `wanted` are read.
    #[must_use]
    pub fn new(wanted: &[Slot]) -> Self {
        let head = Head { text: [0; MOST_HEAD], length: 0, ids: (None, None) };
        Self {
            events: Default::default(),
            begin: Begin::default(),
            heads: Box::new([head; HEADS]),
            reasons: Reasons([(0, 0); REASONS]),
            wanted: wanted.iter().fold(Slots::default(), |slots, &slot| slots.with(slot)),
        }
    }

    /// Where the name of the event stands in the line that begins at `start` of `text`, if the line begins like those
    /// before, and what [`Line::ids`] gives.
    #[must_use]
    #[inline]
    pub fn name(&self, text: &[u8], start: usize) -> Option<(usize, Ids)> {
        let begin = &self.begin;
        let line = text.get(start..)?;
        if !begin.known || !line.get(begin.name..)?.starts_with(b"kvm_") {
            return None;
        }
        // Between the CPU and the name are no other bracket, no other name, and no line's end.
        let mut found = [0_u8; WIDE];
        let mut end = begin.name;
        for window in 1..=begin.windows {
            let bytes: &[u8; WIDE] = line.get(end.checked_sub(WIDE)?..end)?.first_chunk()?;
            let mask = if window == begin.windows { &begin.last } else { &[0xFF; WIDE] };
            for ((found, &byte), mask) in found.iter_mut().zip(bytes).zip(mask) {
                let here = (byte == b']') | (byte == b'_') | (byte == b'\n');
                *found |= (here as u8).wrapping_neg() & mask;
            }
            end -= WIDE;
        }
        if any(&found) {
            return None;
        }
        let Some(bracket) = begin.bracket else { return Some((start + begin.name, (None, None))) };
        let head = line.get(..bracket).filter(|_| line.get(bracket) == Some(&b']'))?;
        let known = self.heads.get(place(head)?)?;
        let same = known.text.get(..known.length).is_some_and(|text| equal(text, head));
        same.then_some((start + begin.name, known.ids))
    }

    /// Learns what a line begins with: what [`Line::ids`] gives.
    pub fn learn(&mut self, line: &Line<'_>) -> Ids {
        let ids = line.ids();
        let name = line.name().start;
        let head = line.text().get(..name).unwrap_or_default();
        let bracket = memrchr(b']', head);
        let between = name - bracket.map_or(0, |bracket| bracket + 1);
        let mut begin = Begin { bracket, name, windows: between.div_ceil(WIDE), ..Begin::default() };
        let within = begin.last.iter_mut().rev().take(between - begin.windows.saturating_sub(1) * WIDE);
        within.for_each(|byte| *byte = 0xFF);
        begin.known = begin.windows <= MOST_WINDOWS && memmem::find(head, b"kvm_").is_none();
        if let Some(head) = bracket.and_then(|bracket| head.get(..bracket)) {
            let place = place(head).and_then(|place| self.heads.get_mut(place));
            match place.and_then(|known| {
                Some((known.text.get_mut(..head.len())?, &mut known.length, &mut known.ids))
            }) {
                Some((text, length, known)) => {
                    text.copy_from_slice(head);
                    (*length, *known) = (head.len(), ids);
                }
                None => begin.known = false,
            }
        }
        self.begin = begin;
        ids
    }

    /// Reads the line that begins at `start` of `text`, of which an event's name may stand at `name`; what
    /// [`Line::arguments`] gives goes into `found`, which a caller makes once for many lines. `None` where no event's
    /// name stands there, or where the line does not end in this text, or is very long.
    #[inline]
    pub fn read<'a>(
        &mut self,
        text: &'a [u8],
        start: usize,
        name: usize,
        found: &mut Arguments,
    ) -> Option<Line<'a>> {
        let line = Line::parse_at(text, name)
            .filter(|_| text.get(name..).is_some_and(|at| at.starts_with(b"kvm_")))?;
        let layouts = self.events.get_mut(line.event() as usize)?;
        let [last, before] = layouts;
        let mut end = last.follow(text, line.start(), &mut self.reasons, found);
        if end.is_none() && before.known {
            end = before.follow(text, line.start(), &mut self.reasons, found);
            if end.is_some() {
                std::mem::swap(last, before);
            }
        }
        if let Some(end) = end {
            return line.within(start..end);
        }
        let rest = text.get(name..)?;
        let end = name + memchr(b'\n', rest.get(..rest.len().min(MOST_LINE))?)?;
        let end = if text.get(end - 1) == Some(&b'\r') { end - 1 } else { end };
        let line = line.within(start..end)?;
        self.walk(&line, found);
        Some(line)
    }

    /// What [`Self::read`] does with a line of which no layout is known.
    pub fn walk(&mut self, line: &Line<'_>, found: &mut Arguments) {
        found.clear();
        match self.events.get_mut(line.event() as usize) {
            Some([last, before]) if !line.event().arguments().is_empty() => {
                if last.known {
                    std::mem::swap(last, before);
                }
                line.walk(found, last, self.wanted);
            }
            _ => line.read(found),
        }
        found.keep(self.wanted);
    }
}

/// Where a beginning of this end is remembered.
#[inline]
fn place(head: &[u8]) -> Option<usize> {
    let bits = u128::from_le_bytes(*head.last_chunk()?);
    Some((((bits >> 64) as u64 ^ bits as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Slots = Slots(u32::MAX);

    /// Whether `second` is read by the layout of `first`, and then as word by word.
    fn follows(first: &str, second: &str) -> bool {
        let first = Line::parse(first.as_bytes()).expect("a trace line");
        let (mut layout, mut found) = (Layout::default(), Arguments::NONE);
        first.walk(&mut found, &mut layout, ALL);
        // As many bytes are looked at together.
        let text = format!("{second}\n{}", "x".repeat(WIDE));
        let line = Line::parse(text.as_bytes()).expect("a trace line");
        let mut reasons = Reasons([(0, 0); REASONS]);
        found.clear();
        let end = layout.follow(text.as_bytes(), line.start(), &mut reasons, &mut found);
        let second = Line::parse(second.as_bytes()).expect("a trace line");
        assert!(
            end.is_none_or(|end| end == second.text().len() && found == second.arguments()),
            "{second:?}"
        );
        end.is_some()
    }

    #[test]
    fn other_values_of_the_same_form_follow() {
        for (first, second) in [
            (
                "kvm_exit: vcpu 0 reason npf rip 0x1 info1 0x0000000000000001 error_code 0x00000000",
                "kvm_exit: vcpu 12 reason GP excp rip 0x7f00123 info1 0x00000000ffffabcd error_code 0x00000010",
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
            ("80000b0e", "80000B0E"),
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
