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
pub use shadow::{HostBlock, MIN_PAGES, Shadow, Tables, TooFewPages};
pub use state::LoadError;
pub use trace::{Refusal, Trace, Traced};
#[cfg(feature = "vm-memory")]
pub use vm_memory::GuestRam;

/// The compiler miscompiles some functions that keep values of a large alignment on the stack (`docs/findings/`).
const _: () = {
    const MAX_ALIGN: usize = 64;
    assert!(align_of::<Nested>() <= MAX_ALIGN);
    assert!(align_of::<Page>() <= MAX_ALIGN);
    assert!(align_of::<Shadow<()>>() <= MAX_ALIGN);
};
