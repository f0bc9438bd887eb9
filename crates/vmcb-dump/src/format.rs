//! What every text format implements.

use crate::found::Found;
use crate::text::Text;
use std::collections::VecDeque;

/// The VMCBs that formats have completed.
pub(crate) type Out = VecDeque<Found>;

/// What a format did with a line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The format does not use the line.
    No,
    /// The line continues an open dump, or no other format can use it.
    Yes,
    /// A dump begins with the line, so open dumps of other formats have ended.
    Began,
}

/// A text format. To read another one, add a module for it in `formats` and its reader to `formats::all`.
pub(crate) trait Format {
    /// Offers a line to the format. VMCBs that it completes are added to `out`.
    fn offer(&mut self, line: &Text<'_>, out: &mut Out) -> Taken;

    /// Takes a line that is the rest of an open dump, even if it resembles another format. Returns `false` if the line is
    /// not such a rest.
    fn claims(&mut self, _line: &Text<'_>) -> bool {
        false
    }

    /// Ends the open dump: no further line belongs to it.
    fn finish(&mut self, out: &mut Out);

    /// Notes that lines were cut out here: a label that waits for its value does not get one.
    fn cut(&mut self) {}

    /// Returns the first line that shows VMX in this format, and what that line is.
    fn vmx(&self) -> Option<(u64, &'static str)> {
        None
    }
}
