//! What L0 implements or provides: memory, pages, tracing.

pub(crate) mod memory;
pub(crate) mod page;
pub(crate) mod trace;
#[cfg(feature = "vm-memory")]
pub(crate) mod vm_memory;
