#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod bundle;
mod kernel;
mod l1;
mod linux;

pub use kernel::{Error, MEMORY, Setup, kernel, machine};
pub use l1::{L1, L1Error, Segment};
pub use linux::Linux;
