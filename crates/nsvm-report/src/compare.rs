//! Compares virtual CPUs. Each difference comes with the smallest VMCB that one CPU accepts and another refuses.

mod comparison;
mod difference;
mod json;
mod migration;
mod named;
mod pages;
mod safe;
mod text;

pub use comparison::Comparison;
pub use pages::WitnessPages;

use crate::format::Format;
use std::io::Write;

/// Prints the comparison. `pages` are the files that were written, if any.
///
/// # Errors
/// If the output cannot be written.
pub fn print(
    comparison: &Comparison,
    pages: Option<&WitnessPages>,
    format: Format,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let files = pages.map_or(&[][..], |pages| &pages.written);
    match format {
        Format::Human => text::show(comparison, files, out),
        Format::Json => json::show(comparison, files, out),
    }
}
