//! ANSI sequences of the text reports. The caller strips them if its output is not a terminal.

/// Begins an error.
pub const RED: &str = "\x1b[1m\x1b[91m";
/// Begins what is accepted.
pub const GREEN: &str = "\x1b[1m\x1b[92m";
/// Begins a warning.
pub const YELLOW: &str = "\x1b[1m\x1b[93m";
/// Begins a headline.
pub const BOLD: &str = "\x1b[1m";
/// Ends each of the others.
pub const PLAIN: &str = "\x1b[0m";
