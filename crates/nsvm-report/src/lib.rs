#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod bits;
mod check;
mod compare;
mod cpu;
mod cpu_report;
mod decode;
mod error;
mod explain;
mod format;
mod host;
mod list;
mod printer;
mod record;
mod sarif;
mod status;
pub mod style;
pub mod suggest;

pub use check::{Check, Options, Outcome, Output, Question};
pub use compare::{Comparison, WitnessPages, print as print_comparison};
pub use cpu::{Described, parse_model};
pub use cpu_report::cpu_report;
pub use decode::{Field, Options as DecodeOptions, decode};
pub use error::Error;
pub use explain::{HABITS, Habit, index_page, page as explain, rule_page};
pub use format::{CheckFormat, Emit, Format};
pub use list::{RuleFilter, cpus, rules, vectors};
pub use record::{Decision, print_failure};
pub use status::Status;
