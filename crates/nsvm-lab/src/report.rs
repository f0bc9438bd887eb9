//! The table of who differs from the rulebook: for a terminal, as Markdown, as a page.
//!
//! What each case should do, and whether it did, is decided elsewhere. Here it is counted and shown: rules by
//! subjects, and below each cell the cases that it counts. A case that breaks several rules counts for each.

mod agreement;
mod markdown;
mod page;
mod table;
mod terminal;
mod words;

pub use agreement::{Agreement, Counts, Expected};
pub use table::{CaseReport, Report, Row, Unmeasured};
