//! The CPUs of a comparison and how the text calls them.

use vmcb::{Cpu, Limits};

/// A CPU of the comparison.
pub(super) struct Named {
    /// As given.
    pub(super) text: String,
    pub(super) cpu: Cpu,
    pub(super) limits: Limits,
}

/// `A`, `B`: how the CPUs are called in the text.
pub(super) fn letter(index: usize) -> char {
    u8::try_from(index).ok().and_then(|index| b'A'.checked_add(index)).map_or('?', char::from)
}

/// `a, b and c`.
pub(super) fn list<T: AsRef<str>>(words: &[T]) -> String {
    match words.split_last() {
        None => String::new(),
        Some((last, [])) => last.as_ref().to_owned(),
        Some((last, rest)) => {
            let rest: Vec<_> = rest.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", rest.join(", "), last.as_ref())
        }
    }
}
