#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod image;
mod kernel;
mod l1;
mod linux;
mod multiboot;

#[doc(inline)]
pub use bare_interface::l0 as bundle;
pub use image::{L1, L1Error, Linux, Segment};
pub use kernel::{Error, HYPERVISORS, MEMORY, Setup, kernel, machine};
