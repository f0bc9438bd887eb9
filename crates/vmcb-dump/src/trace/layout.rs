//! The layout of an event's lines: the text between the values, which a kernel and a tool print in one way.

use super::arguments::{Arguments, Slots};
use super::reason::Reasons;
use super::table::{Form, Slot};
use super::value::{decimal, hex, switch, value_of, word_end};
use super::wide::{Piece, WIDE, any, digits_before};

/// How an event's lines look: stretches of which each byte is a certain one or a hexadecimal digit, and after each
/// but the last a value of which the length is not always the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    stretches: Vec<Stretch>,
    /// Those of all stretches.
    pieces: Vec<Piece>,
    /// Those of all stretches.
    numbers: Vec<Number>,
    /// The bytes of the stretch that is being learned.
    length: usize,
    shown: Slots,
    wanted: Slots,
    pub(super) known: bool,
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

impl Layout {
    /// Forgets what was known, to learn anew.
    pub(super) fn begin(&mut self, wanted: Slots) {
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

    pub(super) fn text(&mut self, text: &[u8]) {
        text.iter().for_each(|&byte| self.byte(Some(byte)));
    }

    /// Notes a value behind `before`.
    pub(super) fn value(&mut self, before: Option<&[u8]>, form: Form, slot: Slot) {
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
    pub(super) fn end(&mut self, then: Option<(Form, Slot)>) {
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
    pub(super) fn follow(
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
