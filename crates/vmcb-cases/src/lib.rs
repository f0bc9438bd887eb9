#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod page;
mod reader;

pub use page::{Item, items, number};
pub use reader::{BadRow, Base, Case, Expected, Reader, Rows, fact, read, read_all};

macro_rules! files {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../cases/", $name))),)*]
    };
}

/// The files of rows as they were when this crate was built, in the order in which they are read: name and text.
///
/// # Examples
/// ```
/// let rows = vmcb_cases::read(vmcb_cases::embedded()).unwrap();
/// assert!(rows.cases.iter().any(|case| case.id == "legal.long64" && case.base == "long64"));
/// ```
#[must_use]
pub fn embedded() -> &'static [(&'static str, &'static str)] {
    files!("bases.txt" "control.txt" "event.txt" "host.txt" "legal.txt" "save.txt" "sev.txt" "undecided.txt")
}
