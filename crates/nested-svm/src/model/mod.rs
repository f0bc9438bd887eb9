//! A software CPU for tests and examples: it runs VMCB01 and VMCB02 by scripts, as hardware would by instructions.
//!
//! It judges the VMCB as VMRUN does, delivers EVENTINJ or is interrupted in that, makes the steps that the script gives
//! (with accesses that walk the nested tables), and comes back with what #VMEXIT writes. L1's memory, the pages for
//! shadow tables and an L0 around all of it come with it.

mod cpu;
mod machine;
mod pages;
mod paging;
mod ram;
mod script;
pub mod tlb;
pub mod trial;

pub use cpu::{Hardware, Pins, Source};
pub use machine::{AFTER_VMRUN, CPU, HOST, Log, Machine, RAM, VMCB12, limits, nested};
pub use pages::{L1_TABLES, Pages, RAM_ON_HOST, SHADOW_ON_HOST};
pub use paging::HostMemory;
pub use ram::Ram;
pub use script::{Access, Seen, Step};
