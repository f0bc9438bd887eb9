//! The engine. Each file implements one topic of [`Nested`](crate::Nested). No two files use each other.
//!
//! `checks`, `pdptes`, `queue` and `paging` use no other topic. `vmexit` uses `queue` and `pdptes`, and `inject` uses
//! `vmexit`. `exit` and `vmrun` use these. `saved` uses `vmrun`.

mod checks;
mod exit;
mod inject;
mod instructions;
pub(crate) mod msr;
mod paging;
mod pdptes;
mod queue;
pub(crate) mod saved;
mod vmexit;
mod vmrun;
