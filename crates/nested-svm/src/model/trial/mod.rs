//! A random trial of the engine: several VMs on one physical CPU, with an exact oracle.
//!
//! Each step is an action of L0, an L1 or an L2. Every access of a guest is compared with a reference walk of
//! the current tables. This is exact because each L1 of the trial makes the flushes that the architecture
//! requires, and because L0 calls [`crate::Nested::forget`] or migrates the VM after it moves, unmaps or
//! write-protects a page. A ledger keeps every event until it has a legal outcome.

mod choices;
mod compare;
mod events;
mod exits;
mod host;
mod l1;
mod l1_steps;
mod l2_steps;
mod layout;
mod ledger;
mod pages;
mod reference;
mod report;
mod run;
mod script;
mod state;
mod steps;
mod vm;

pub use report::{Counters, Finding, Oracle};
pub use state::Trial;
