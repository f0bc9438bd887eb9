#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "model"))]
extern crate std;

mod delivery;
mod events;
mod exit;
mod instructions;
mod intercept;
mod maps;
mod memory;
#[cfg(any(test, feature = "model"))]
pub mod model;
mod msr;
mod nested;
mod page;
mod shadow;
mod state;
mod trace;
#[cfg(feature = "vm-memory")]
mod vm_memory;
mod vmcb02;
mod vmrun;

pub use delivery::{Combined, combine};
pub use exit::Exit;
pub use intercept::Cause;
pub use memory::{Memory, NoMemory};
pub use msr::Msr;
pub use nested::{Fault, Guest, Host, Nested, Unsupported, World};
pub use page::Page;
pub use shadow::{Shadow, Tables};
pub use state::{LoadError, Loaded};
pub use trace::{Refusal, Trace, Traced};
#[cfg(feature = "vm-memory")]
pub use vm_memory::GuestRam;
