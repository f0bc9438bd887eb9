#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod error;
mod format;
mod formats;
mod found;
mod kind;
mod number;
mod page;
mod reader;
mod refusal;
mod text;
pub mod trace;

pub use error::Error;
pub use found::{Found, Line, Place, Refusal, Refuser, Remark, RemarkKind, Seen, VmType};
pub use kind::Kind;
pub use reader::{Reader, read_all};

/// Ids of the rules that a [`Refusal`] can name, each possibly more than once.
///
/// # Examples
/// ```
/// assert!(vmcb_dump::refusal_rules().any(|id| id == "ctl-asid-zero"));
/// ```
pub fn refusal_rules() -> impl Iterator<Item = &'static str> {
    refusal::all()
}
