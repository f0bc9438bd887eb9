#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod check;
pub mod cli;
mod compare;
mod cpu;
mod external;
mod input;
mod output;
mod scan;
mod start;

pub use cpu::parse as parse_cpu;
pub use nsvm_report::{Error, HABITS, Habit, Status, index_page, rule_page, suggest};
pub use output::Output;
pub use start::{command, output, run, run_with};
