//! What L0 provides for shadow tables.

use super::entry::{NX, RW};

/// The pages that L0 provides for shadow tables, and the map from L1's physical addresses to the host's.
///
/// Pages are numbered from 0 and contiguous in physical memory.
pub trait Tables {
    /// Number of pages: [`MIN_PAGES`] or more. It is read once, by [`Shadow::new`](crate::Shadow::new).
    fn count(&self) -> u16;

    /// Physical address of page 0.
    fn base(&self) -> u64;

    /// An entry of a page; `index` is below 512.
    fn entry(&self, page: u16, index: u16) -> u64;

    /// Writes an entry.
    fn set_entry(&mut self, page: u16, index: u16, entry: u64);

    /// Zeroes a page.
    fn clear(&mut self, page: u16);

    /// Where a block of `1 << bits` bytes of L1 is on the host, and how L1 may access it. The block is aligned to its
    /// size; `bits` is 12 or 21.
    ///
    /// Returns `None` if not all of the block is L1's memory, or if its parts have different access rights. After L0 took
    /// memory or access rights away, it calls [`Nested::forget`](crate::Nested::forget). More memory or more rights need
    /// no call.
    fn host(&self, address: u64, bits: u8) -> Option<HostBlock>;
}

/// A block of L1's memory on the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostBlock {
    /// Host physical address.
    pub address: u64,
    /// L1 may write it. False for ROM, for pages that are copied on write, and while L0 logs writes.
    pub writable: bool,
    /// L1 may execute it.
    pub executable: bool,
}

impl HostBlock {
    /// A block that L1 may read, write and execute.
    #[must_use]
    pub const fn with_all_rights(address: u64) -> Self {
        Self { address, writable: true, executable: true }
    }

    /// Returns the bits that a shadow entry must clear and the bits that it must set to grant only these
    /// rights.
    pub(super) const fn denied(self) -> (u64, u64) {
        (if self.writable { 0 } else { RW }, if self.executable { 0 } else { NX })
    }
}

/// Minimum number of pages for shadow tables that [`Shadow::new`](crate::Shadow::new) accepts: one table for each of the four levels, and a
/// reserve.
///
/// An instruction of L2 needs up to three tables for each guest physical page that it accesses. The pages of L2's own page
/// tables count too. If the pool is too small for one instruction, that instruction never completes: L2 exits to L0 with
/// nested page faults without end. 256 pages (1 MiB) are enough for 85 guest physical pages.
pub const MIN_PAGES: u16 = 8;

/// There are fewer than [`MIN_PAGES`] pages for shadow tables: this many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooFewPages(pub u16);

impl core::fmt::Display for TooFewPages {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} pages for shadow tables are too few; provide {MIN_PAGES} or more", self.0)
    }
}

impl core::error::Error for TooFewPages {}
