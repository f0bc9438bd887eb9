//! Address translation of the software CPU: the guest's own tables, the nested tables, and the TLB in front of both.
//!
//! # Source
//! Manual volume 2, 5.3 (long mode paging), 5.5 (TLB), 15.25 (nested paging).

use super::script::Access;
use super::tlb::{Entry, LARGE, Rights, SMALL, Table, Tlb};
use crate::l0::page::Page;
use vmcb::layout::vmcb_field as f;
use vmcb::{Cr0, Cr4};

pub(super) const P: u64 = 1;
pub(super) const RW: u64 = 1 << 1;
pub(super) const US: u64 = 1 << 2;
pub(super) const A: u64 = 1 << 5;
pub(super) const D: u64 = 1 << 6;
pub(super) const PS: u64 = 1 << 7;
pub(super) const G: u64 = 1 << 8;
pub(super) const NX: u64 = 1 << 63;
pub(super) const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

/// Page-fault error code, and EXITINFO1 of a nested page fault.
const FAULT_PRESENT: u64 = 1;
const FAULT_WRITE: u64 = 1 << 1;
const FAULT_USER: u64 = 1 << 2;
const FAULT_FETCH: u64 = 1 << 4;

const ROOT_LEVEL: u8 = 4;

/// The host's physical memory, as the page walker of the CPU accesses it.
pub trait HostMemory {
    /// Reads a page-table entry at a host physical address.
    fn entry(&self, address: u64) -> u64;

    /// Writes a page-table entry at a host physical address, to set accessed and dirty bits.
    fn set_entry(&self, address: u64, entry: u64);

    /// Panics if no guest owns this host physical address, which a nested table maps. By default nothing is
    /// checked.
    fn assert_guest_owns(&self, _address: u64) {}
}

/// Why an access did not complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PagingFault {
    /// A page fault in the guest's own tables, with its error code.
    Guest(u64),
    /// A nested page fault, with EXITINFO1 and EXITINFO2.
    Nested(u64, u64),
}

/// The MMU while a guest runs.
pub(super) struct Mmu<'a, M> {
    pub(super) tlb: &'a mut Tlb,
    pub(super) page: &'a Page,
    pub(super) memory: &'a M,
}

impl<M: HostMemory> Mmu<'_, M> {
    fn asid(&self) -> u32 {
        self.page.get(f::guest_asid) as u32
    }

    /// Translates an access by guest physical address.
    pub(super) fn guest_physical(&mut self, access: Access) -> Result<u64, PagingFault> {
        self.nested(access).map(|entry| entry.address(access.address))
    }

    /// Translates an access by linear address.
    pub(super) fn linear(&mut self, access: Access) -> Result<u64, PagingFault> {
        if !self.page.vmcb().cr0().contains(Cr0::PG) {
            return self.guest_physical(access);
        }
        let asid = self.asid();
        if let Some(entry) = self.tlb.tagged(asid).linear.get(access.address) {
            if self.allows(entry.rights, access) && (!access.write || entry.dirty) {
                self.tlb.hits += 1;
                return Ok(entry.address(access.address));
            }
            // A walk decides whether the access faults, and in which of the two tables.
            self.tlb.tagged(asid).linear.drop_page(access.address);
        }
        let entry = self.walk_guest(access)?;
        self.tlb.tagged(asid).linear.insert(access.address, entry);
        Ok(entry.address(access.address))
    }

    fn allows(&self, rights: Rights, access: Access) -> bool {
        (!access.write || rights.writable)
            && (!access.fetch || rights.executable)
            && (rights.user || self.page.get(f::cpl) != 3)
    }

    /// Walks the guest's own four-level page tables.
    fn walk_guest(&mut self, access: Access) -> Result<Entry, PagingFault> {
        let asid = self.asid();
        self.tlb.walks += 1;
        let cached = self.tlb.tagged(asid).guest_tables.lowest(access.address);
        self.tlb.short_walks += u64::from(cached.is_some());
        let root = Table { address: self.page.get(f::cr3) & ADDRESS, rights: Rights::ALL };
        let (mut level, mut table) = cached.unwrap_or((ROOT_LEVEL, root));
        loop {
            let at = entry_address(table.address, level, access.address);
            let host = self.guest_physical(Access::walk(at))?;
            let entry = self.memory.entry(host);
            if entry & P == 0 {
                return Err(PagingFault::Guest(self.error_code(access)));
            }
            let rights = table.rights.and(rights_of(entry));
            if level == 1 || level == 2 && entry & PS != 0 {
                if !self.allows(self.for_privilege(rights), access) {
                    return Err(PagingFault::Guest(self.error_code(access) | FAULT_PRESENT));
                }
                let marked = entry | A | if access.write { D } else { 0 };
                self.mark(host, entry, marked);
                return self.combine(access, marked, level, rights);
            }
            self.mark(host, entry, entry | A);
            table = Table { address: entry & ADDRESS, rights };
            level -= 1;
            self.tlb.tagged(asid).guest_tables.insert(level, access.address, table);
        }
    }

    /// Combines a leaf of the guest's own tables with the nested translation of the page that it maps.
    fn combine(
        &mut self,
        access: Access,
        leaf: u64,
        level: u8,
        rights: Rights,
    ) -> Result<Entry, PagingFault> {
        let guest_bits = if level == 1 { SMALL } else { LARGE };
        let inside = (1 << guest_bits) - 1;
        let address = leaf & ADDRESS & !inside | access.address & inside;
        let nested = self.nested(Access { address, ..access })?;
        let bits = guest_bits.min(nested.bits);
        let global = leaf & G != 0 && self.page.vmcb().cr4().contains(Cr4::PGE);
        Ok(Entry {
            page: nested.address(address) & !((1 << bits) - 1),
            bits,
            guest_bits,
            rights: self.for_privilege(rights).and(nested.rights),
            dirty: leaf & D != 0 && nested.dirty,
            global,
        })
    }

    /// Returns the rights that apply at the guest's CPL. Without CR0.WP a supervisor may write to all pages.
    fn for_privilege(&self, rights: Rights) -> Rights {
        let ignores = self.page.get(f::cpl) != 3 && !self.page.vmcb().cr0().contains(Cr0::WP);
        Rights { writable: rights.writable || ignores, ..rights }
    }

    fn error_code(&self, access: Access) -> u64 {
        let user = if self.page.get(f::cpl) == 3 { FAULT_USER } else { 0 };
        user | if access.write { FAULT_WRITE } else { 0 } | if access.fetch { FAULT_FETCH } else { 0 }
    }

    /// Translates a guest physical address.
    fn nested(&mut self, access: Access) -> Result<Entry, PagingFault> {
        let asid = self.asid();
        let found = match self.tlb.tagged(asid).nested.get(access.address) {
            Some(entry) if !nested_allows(entry.rights, access) => Err(access.info() | FAULT_PRESENT),
            Some(entry) if !access.write || entry.dirty => {
                self.tlb.hits += 1;
                return Ok(entry);
            }
            _ => self.walk_nested(access),
        };
        match found {
            Ok(entry) => {
                self.tlb.tagged(asid).nested.insert(access.address, entry);
                Ok(entry)
            }
            Err(info) => {
                self.tlb.tagged(asid).nested.drop_page(access.address);
                Err(PagingFault::Nested(info, access.address))
            }
        }
    }

    /// Walks the four-level nested tables, whose root is in N_CR3.
    fn walk_nested(&mut self, access: Access) -> Result<Entry, u64> {
        let asid = self.asid();
        self.tlb.walks += 1;
        let cached = self.tlb.tagged(asid).nested_tables.lowest(access.address);
        self.tlb.short_walks += u64::from(cached.is_some());
        let root = Table { address: self.page.get(f::n_cr3) & ADDRESS, rights: Rights::ALL };
        let (mut level, mut table) = cached.unwrap_or((ROOT_LEVEL, root));
        loop {
            let at = entry_address(table.address, level, access.address);
            let entry = self.memory.entry(at);
            if entry & P == 0 {
                return Err(access.info());
            }
            let rights = table.rights.and(rights_of(entry));
            if level == 1 || level == 2 && entry & PS != 0 {
                if !nested_allows(rights, access) {
                    return Err(access.info() | FAULT_PRESENT);
                }
                let marked = entry | A | if access.write { D } else { 0 };
                self.mark(at, entry, marked);
                let bits = if level == 1 { SMALL } else { LARGE };
                let page = entry & ADDRESS & !((1 << bits) - 1);
                let found =
                    Entry { page, bits, guest_bits: bits, rights, dirty: marked & D != 0, global: false };
                self.memory.assert_guest_owns(found.address(access.address));
                return Ok(found);
            }
            self.mark(at, entry, entry | A);
            table = Table { address: entry & ADDRESS, rights };
            level -= 1;
            self.tlb.tagged(asid).nested_tables.insert(level, access.address, table);
        }
    }

    fn mark(&self, at: u64, entry: u64, marked: u64) {
        if marked != entry {
            self.memory.set_entry(at, marked);
        }
    }
}

/// Returns whether the nested tables allow an access. They treat every access of a guest as a user access.
const fn nested_allows(rights: Rights, access: Access) -> bool {
    rights.user && (!access.write || rights.writable) && (!access.fetch || rights.executable)
}

const fn rights_of(entry: u64) -> Rights {
    Rights { writable: entry & RW != 0, user: entry & US != 0, executable: entry & NX == 0 }
}

/// Address of the entry that translates `address` in a table of a level.
pub(super) const fn entry_address(table: u64, level: u8, address: u64) -> u64 {
    table + (address >> (12 + 9 * (level - 1)) & 0x1FF) * 8
}
