#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "model"))]
extern crate std;

mod engine;
mod events;
mod intercepts;
mod l0;
#[cfg(any(test, feature = "model"))]
pub mod model;
mod shadow;
mod state;
mod types;
mod vmcb02;

pub use engine::msr::Msr;
pub use engine::saved::LoadError;
pub use events::delivery::{Combined, combine};
pub use intercepts::cause::Cause;
pub use l0::memory::{Memory, NoMemory};
pub use l0::page::Page;
pub use l0::trace::{Refusal, Trace, Traced};
#[cfg(feature = "vm-memory")]
pub use l0::vm_memory::GuestRam;
pub use shadow::pool::Shadow;
pub use shadow::tables::{HostBlock, MIN_PAGES, Tables, TooFewPages};
pub use state::nested::Nested;
pub use state::world::World;
pub use types::{Exit, Fault, Guest, Host, Unsupported};

/// The compiler miscompiles some functions that keep values of a large alignment on the stack (`docs/findings/`).
const _: () = {
    const MAX_ALIGN: usize = 64;
    assert!(align_of::<Nested>() <= MAX_ALIGN);
    assert!(align_of::<Page>() <= MAX_ALIGN);
    assert!(align_of::<Shadow<()>>() <= MAX_ALIGN);
};
