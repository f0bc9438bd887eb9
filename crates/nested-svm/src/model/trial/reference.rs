//! The reference translation: what an access of a guest must reach, from the tables as they are now.
//!
//! This is written independently of the shadow tables and of the CPU's page walker. It caches nothing.

use super::host::{VmMemory, entry_target, frame_address, l1_entry};
use crate::model::script::Access;

/// The expected result of an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Expected {
    /// It reaches this host physical address, by this guest physical address.
    Reaches { host: u64, guest: u64 },
    /// It raises #PF in L2.
    GuestFault,
    /// It causes a nested page fault that L1 receives, with this EXITINFO1 and EXITINFO2.
    L1Fault(u64, u64),
    /// L0 does not map the page of this address of L1, or does not allow this access.
    L0Fault(u64),
}

/// The tables that apply to a guest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Translation<'a> {
    pub(super) memory: &'a VmMemory,
    /// N_CR3 of L1's nested tables. L1 itself and an L2 without nested paging have none.
    pub(super) n_cr3: Option<u64>,
    /// CR3 of the guest's own tables.
    pub(super) cr3: u64,
}

/// A page of a table walk: address of the mapped byte, and what the levels allow.
struct Found {
    address: u64,
    writable: bool,
    executable: bool,
}

const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;

impl Translation<'_> {
    /// Returns the expected result of an access by linear address.
    pub(super) fn linear(&self, access: Access) -> Expected {
        let mut stop = None;
        let read = |at| match self.guest_physical(Access::walk(at)) {
            Expected::Reaches { host, .. } => Some(self.memory.physical_entry(host)),
            other => {
                stop = Some(other);
                None
            }
        };
        let found = walk(self.cr3, access.address, read);
        match (found, stop) {
            (_, Some(stop)) => stop,
            (Some(found), None) if allows(&found, access) => {
                self.guest_physical(Access { address: found.address, ..access })
            }
            _ => Expected::GuestFault,
        }
    }

    /// Returns the expected result of an access by guest physical address.
    pub(super) fn guest_physical(&self, access: Access) -> Expected {
        let Some(n_cr3) = self.n_cr3 else { return self.l1_physical(access) };
        match walk(n_cr3, access.address, |at| l1_entry(self.memory, at)) {
            None => Expected::L1Fault(access.info(), access.address),
            Some(found) if !allows(&found, access) => {
                Expected::L1Fault(access.info() | PRESENT, access.address)
            }
            Some(found) => match self.l1_physical(Access { address: found.address, ..access }) {
                Expected::Reaches { host, .. } => Expected::Reaches { host, guest: access.address },
                other => other,
            },
        }
    }

    fn l1_physical(&self, access: Access) -> Expected {
        match self.memory.mapping(access.address >> 12) {
            Some(mapping) if mapping.present && (mapping.writable || !access.write) => {
                let host = frame_address(mapping.frame) | access.address & 0xFFF;
                Expected::Reaches { host, guest: access.address }
            }
            _ => Expected::L0Fault(access.address),
        }
    }
}

fn allows(found: &Found, access: Access) -> bool {
    (found.writable || !access.write) && (found.executable || !access.fetch)
}

/// Walks four levels. Returns nothing if an entry is not present or not readable.
fn walk(root: u64, address: u64, mut read: impl FnMut(u64) -> Option<u64>) -> Option<Found> {
    let (mut table, mut writable, mut executable) = (entry_target(root), true, true);
    for shift in [39, 30, 21, 12] {
        let entry = read(table + (address >> shift & 0x1FF) * 8)?;
        if entry & PRESENT == 0 {
            return None;
        }
        writable &= entry & WRITABLE != 0;
        executable &= entry & NO_EXECUTE == 0;
        if shift == 12 || shift == 21 && entry & LARGE != 0 {
            let inside = (1 << shift) - 1;
            let address = entry_target(entry) & !inside | address & inside;
            return Some(Found { address, writable, executable });
        }
        table = entry_target(entry);
    }
    None
}

/// The entries of L1's nested tables that map a guest physical address, from the root to the leaf.
pub(super) fn nested_path(memory: &VmMemory, n_cr3: u64, address: u64) -> ([u64; 4], usize) {
    let mut entries = [0; 4];
    let mut count = 0;
    walk(n_cr3, address, |at| {
        let entry = l1_entry(memory, at)?;
        entries[count] = entry;
        count += 1;
        Some(entry)
    });
    (entries, count)
}
