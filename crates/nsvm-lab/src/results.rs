//! What a run leaves behind: text that is kept in the repository, merged and compared.
//!
//! # The text
//! ```text
//! nsvm-results 1
//!
//! subject: qemu-tcg
//! version: 7.2.22
//! cpu: max
//! date: 2026-11-22
//! set: commit
//! cases: 9631
//! cpuid: 8000000a 0 1 10 0 10010001
//! msr: c0010114 8
//!
//! invalid<tab>eventinj.long64#604-605,63e-7ff
//! ran<tab>legal.long64,legal.pae
//! end 1-9631
//! ```
//!
//! `below:`, `shard:` and `note:` lines are there where they say something; `cpuid:` (leaf, subleaf, EAX, EBX, ECX,
//! EDX), `msr:` (number, value) and `note:` may be there many times. A `subject:` line begins a section. Below the
//! head stands a line for each [outcome](crate::outcome::Outcome) and stem: the token, a tab, and ids parted by
//! commas; members of a numbered family are written as ranges of hexadecimal numbers. The last line counts
//! sections and cases, so that a truncated file is noticed.

mod diff;
mod error;
mod ids;
mod merge;
mod numbers;
mod section;
mod text;

pub use diff::{Diff, SectionDiff, answer_name, compare, diff};
pub use error::{Contradiction, Error};
pub use ids::{EventCase, compress, event_of, events, split_id};
pub use merge::merge;
pub use section::{Head, Results, Section, Shards};
pub use text::{MAX_CASES, VERSION};
