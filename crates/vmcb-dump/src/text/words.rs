//! Words of a line.

/// Returns the position of the first byte from `at` on that is not a space or a tab.
pub(crate) fn skip_spaces(line: &[u8], mut at: usize) -> usize {
    while line.get(at).is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
        at += 1;
    }
    at
}
