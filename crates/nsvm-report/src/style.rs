//! Styles of the text reports, as ANSI sequences. The caller strips them if its output is not a terminal.

use anstyle::{AnsiColor, Reset, Style};

/// Begins an error.
pub const RED: Style = AnsiColor::BrightRed.on_default().bold();
/// Begins what is accepted.
pub const GREEN: Style = AnsiColor::BrightGreen.on_default().bold();
/// Begins a warning.
pub const YELLOW: Style = AnsiColor::BrightYellow.on_default().bold();
/// Begins a headline.
pub const BOLD: Style = Style::new().bold();
/// Ends each of the others.
pub const PLAIN: Reset = Reset;
