//! The lines of an answer.

/// A line of an answer; the first is its title.
pub(super) enum Line {
    Part(Part),
    Said(String),
}

impl From<&str> for Line {
    fn from(text: &str) -> Self {
        Self::Said(text.to_owned())
    }
}

/// Bits of a word, for people and for machines.
pub(super) struct Part {
    pub(super) bits: String,
    pub(super) name: String,
    pub(super) value: String,
    pub(super) meaning: String,
    pub(super) shown: String,
}

impl Line {
    pub(super) fn into_shown(self) -> String {
        match self {
            Self::Part(part) => part.shown,
            Self::Said(text) => text,
        }
    }
}

pub(super) fn row(at: &str, name: &str, value: u64, meaning: &str) -> Line {
    let shown = format!("{at:>5}  {name:<11} {value:<#10x} {meaning}");
    part(at, name, value, meaning, shown)
}

pub(super) fn part(bits: &str, name: &str, value: u64, meaning: &str, shown: String) -> Line {
    let (name, meaning, value) = (name.to_owned(), meaning.to_owned(), format!("{value:#x}"));
    Line::Part(Part { bits: bits.to_owned(), name, value, meaning, shown })
}
