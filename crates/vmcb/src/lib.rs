//! The rules by which AMD-V's VMRUN refuses a VMCB, for any virtual CPU.
#![no_std]
#![forbid(unsafe_code)]

mod known;
pub mod layout;
mod phase;

pub use known::{Bits, KnownPage};
pub use phase::Phase;
