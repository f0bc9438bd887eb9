//! What every text format implements.

use crate::found::Found;
use crate::text::Text;
use std::collections::VecDeque;

/// VMCBs that are complete.
pub(crate) type Out = VecDeque<Found>;

/// What a format made of a line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Nothing.
    No,
    /// It goes on with what is open, or is of no use to anyone else.
    Yes,
    /// A VMCB begins with it, so those of other formats have ended.
    Began,
}

/// A text format. To read another one, add a module with it and add it to `formats::all`.
pub(crate) trait Format {
    /// Offers a line; VMCBs that it completes go to `out`.
    fn offer(&mut self, line: &Text<'_>, out: &mut Out) -> Taken;

    /// Takes a line that is the rest of what is open, whatever else it looks like; `false` if it is not.
    fn claims(&mut self, _line: &Text<'_>) -> bool {
        false
    }

    /// No further line belongs to what is open.
    fn finish(&mut self, out: &mut Out);

    /// Someone cut lines out here: no label that waits for its value gets one any more.
    fn cut(&mut self) {}

    /// The first line that shows VMX in this format, and what it is.
    fn vmx(&self) -> Option<(u64, &'static str)> {
        None
    }
}
