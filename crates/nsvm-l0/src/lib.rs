#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod kernel;
mod l1;
mod linux;

#[doc(inline)]
pub use bare_interface::l0 as bundle;
pub use kernel::{Error, HYPERVISORS, MEMORY, Setup, kernel, machine};
pub use l1::{L1, L1Error, Segment};
pub use linux::Linux;
