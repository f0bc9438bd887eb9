//! Places in the input.

use std::fmt;
use std::ops::Range;

/// Where in the input something stands.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum Place {
    /// In a text.
    Text {
        /// Line, counted from 1.
        line: u64,
        /// Bytes of that line, as in [`Line::text`]; both ends are character boundaries of it.
        columns: Range<usize>,
    },
    /// In a binary input.
    Byte {
        /// Bytes from the start of the input.
        offset: u64,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text { line, columns } => write!(f, "{line}:{}", columns.start + 1),
            Self::Byte { offset } => write!(f, "{offset:#x}"),
        }
    }
}

/// A line of the input that a VMCB was read from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// Counted from 1.
    pub number: u64,
    /// The line without its end; bytes that are not UTF-8 became U+FFFD.
    pub text: String,
}
