//! Finds the arguments of an event in the text of its line.

use super::event::Event;
use super::exit_reason;
use super::reason::UNKNOWN;
use super::table::{Arg, Form, Slot};
use super::value::{switch, word_end};

/// Walks over the arguments of one event, which may go on in further lines.
#[derive(Debug)]
pub(crate) struct Scanner {
    table: &'static [Arg],
    /// Position in the table of the argument that should come next.
    expected: usize,
    /// The argument whose value is awaited.
    pub(crate) pending: Option<&'static Arg>,
    /// `guest` of a `guest cr3:` that some versions printed.
    guest: bool,
    /// An argument of VMX stood there.
    pub(crate) vmx: bool,
}

impl Scanner {
    #[inline]
    pub(crate) fn new(event: Event) -> Self {
        Self { table: event.arguments(), expected: 0, pending: None, guest: false, vmx: false }
    }

    /// No value comes any more for the argument that waits for one, and another event's arguments may come.
    pub(crate) fn change(&mut self, event: Event) {
        *self = Self { vmx: self.vmx, ..Self::new(event) };
    }

    /// The argument whose name stands at the start of `rest`.
    #[inline]
    fn argument(&mut self, rest: &[u8]) -> Option<&'static Arg> {
        if !rest.first()?.is_ascii_lowercase() {
            return None;
        }
        let head = rest.first_chunk().map(|bytes| u128::from_le_bytes(*bytes));
        let guest = self.guest;
        let fits = |arg: &&Arg| arg.begins(rest, head) && (guest || arg.name != b"cr3:");
        if let Some(arg) = self.table.get(self.expected).filter(fits) {
            self.expected += 1;
            return Some(arg);
        }
        let index = self.table.iter().position(|arg| fits(&arg))?;
        self.expected = index + 1;
        self.table.get(index)
    }

    /// The next argument that has a value; `at` is then where the value begins. `None` at the end of the line.
    #[inline]
    pub(crate) fn next(&mut self, text: &[u8], at: &mut usize) -> Option<&'static Arg> {
        loop {
            // Whatever ends a word separates words, so that each round goes on.
            while text.get(*at).is_some_and(|&byte| byte <= b' ') {
                *at += 1;
            }
            let rest = text.get(*at..).filter(|rest| !rest.is_empty())?;
            if let Some(arg) = self.pending.take_if(|arg| arg.form == Form::Reason) {
                return Some(arg);
            }
            if let Some(arg) = self.argument(rest) {
                *at += arg.name.len();
                match arg.form {
                    Form::Prefix => self.guest = true,
                    Form::Vmx => {
                        self.vmx = true;
                        self.pending = None;
                    }
                    _ => self.pending = Some(arg),
                }
                continue;
            }
            if let Some(arg) = self.pending.take() {
                return Some(arg);
            }
            *at = word_end(text, *at);
        }
    }

    /// Whether a line that begins with `message` goes on with the arguments.
    pub(crate) fn goes_on(&mut self, message: &[u8]) -> bool {
        let expected = self.expected;
        let named = self.argument(message).is_some();
        self.expected = expected;
        let word = message.split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
        let hex = !word.is_empty() && word.iter().all(u8::is_ascii_hexdigit);
        named
            || self.pending.is_some_and(|arg| match arg.form {
                Form::Switch => switch(word).is_some(),
                Form::Decimal => hex,
                Form::Reason => {
                    word.starts_with(b"0x")
                        || word.starts_with(b"(")
                        || word == UNKNOWN
                        || exit_reason::by_name(word).is_some()
                }
                _ if arg.slot as u8 >= Slot::CrRead as u8 => hex || word.starts_with(b"0x"),
                _ => word.starts_with(b"0x"),
            })
    }
}
