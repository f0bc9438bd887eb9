//! The pages for shadow tables, and L0's tables for L1.

use super::paging::{HostMemory, NX, RW};
use crate::shadow::tables::{HostBlock, Tables};
use std::vec;
use std::vec::Vec;

/// N_CR3 of VMCB01: L0's tables for L1.
pub const L1_TABLES: u64 = 0x7_0001_0000;

/// Where L1's memory begins on the host.
pub const RAM_ON_HOST: u64 = 0x1_0000_0000;

/// Where the pages for shadow tables begin on the host.
pub const SHADOW_ON_HOST: u64 = 0x6_0000_0000;

/// Pages for shadow tables, and L1's memory from [`RAM_ON_HOST`] on.
#[derive(Debug)]
pub struct Pages {
    entries: Vec<[u64; 512]>,
    /// L1 has memory below.
    pub memory: u64,
    /// No block of 2 MiB lies in one piece on the host.
    pub scattered: bool,
    /// Pages of L1 that it may only read.
    pub read_only: Vec<u64>,
    /// Pages of L1 that it may not execute.
    pub no_execute: Vec<u64>,
}

impl Pages {
    /// So many pages, for so many bytes of L1.
    #[must_use]
    pub fn new(count: u16, memory: u64) -> Self {
        Self {
            entries: vec![[0x0BAD_0BAD_0BAD_0001; 512]; count.into()],
            memory,
            scattered: false,
            read_only: Vec::new(),
            no_execute: Vec::new(),
        }
    }
}

impl Tables for Pages {
    fn count(&self) -> u16 {
        self.entries.len() as u16
    }

    fn base(&self) -> u64 {
        SHADOW_ON_HOST
    }

    fn entry(&self, page: u16, index: u16) -> u64 {
        self.entries[usize::from(page)][usize::from(index)]
    }

    fn set_entry(&mut self, page: u16, index: u16, entry: u64) {
        self.entries[usize::from(page)][usize::from(index)] = entry;
    }

    fn clear(&mut self, page: u16) {
        self.entries[usize::from(page)] = [0; 512];
    }

    fn host(&self, address: u64, bits: u8) -> Option<HostBlock> {
        assert_eq!(address & ((1 << bits) - 1), 0, "aligned to its size");
        let end = address.checked_add(1 << bits)?;
        let within = |page: &&u64| (address..end).contains(page);
        let mixed = |pages: &Vec<u64>| bits > 12 && pages.iter().any(|page| within(&page));
        let scattered = bits > 12 && self.scattered || mixed(&self.read_only) || mixed(&self.no_execute);
        (end <= self.memory && !scattered).then(|| HostBlock {
            address: address + RAM_ON_HOST,
            writable: !self.read_only.iter().any(|page| within(&page)),
            executable: !self.no_execute.iter().any(|page| within(&page)),
        })
    }
}

/// Marks the address of a table below [`L1_TABLES`]. These tables map L1's memory and are computed, not
/// stored. The address of each table except the root encodes its level and the guest physical addresses that
/// it translates.
const L1_TABLE: u64 = 1 << 51;
/// Position of the level in the address of a table.
const L1_LEVEL: u32 = 44;

impl Pages {
    fn l1_entry(&self, address: u64) -> u64 {
        const FLAGS: u64 = 0x67;
        let (level, prefix) = match address & !0xFFF {
            L1_TABLES => (4, 0),
            table => (table >> L1_LEVEL & 7, table >> 12 & 0xFFFF_FFFF),
        };
        let mapped = prefix << 9 | address >> 3 & 0x1FF;
        if level > 1 {
            return L1_TABLE | (level - 1) << L1_LEVEL | mapped << 12 | FLAGS;
        }
        self.host(mapped << 12, 12).map_or(0, |host| {
            let writable = if host.writable { RW } else { 0 };
            let no_execute = if host.executable { 0 } else { NX };
            host.address | FLAGS & !RW | writable | no_execute
        })
    }
}

impl HostMemory for Pages {
    fn entry(&self, address: u64) -> u64 {
        if address & L1_TABLE != 0 || address & !0xFFF == L1_TABLES {
            return self.l1_entry(address);
        }
        let page = u16::try_from((address - SHADOW_ON_HOST) >> 12).expect("an address of a shadow page");
        Tables::entry(self, page, (address >> 3 & 0x1FF) as u16)
    }

    fn set_entry(&self, address: u64, entry: u64) {
        panic!("the engine must set accessed and dirty bits itself: {entry:#x} at {address:#x}");
    }

    fn assert_guest_owns(&self, address: u64) {
        let owned = RAM_ON_HOST..RAM_ON_HOST + self.memory;
        assert!(owned.contains(&address), "{address:#x} is not L1's");
    }
}
