//! L1's nested page tables as shadow tables.

mod entry;
mod paging;
pub(crate) mod pool;
pub(crate) mod tables;
pub(crate) mod walk;
