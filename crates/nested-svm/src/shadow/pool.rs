//! L1's nested page tables, as the hardware may use them: a shadow that is filled at each nested page fault and
//! forgotten when L1 flushes.
//!
//! L1's tables map guest physical addresses of L2 to physical addresses of L1. L1 may write anything into them, so the
//! hardware never sees them: it sees tables of L0 in which every address went through [`Tables::host`]. What the shadow
//! holds is what a TLB may hold, so L1 must flush as on hardware, and a shadow that is dropped early costs time only.
//!
//! # Source
//! Manual volume 2, 15.25 (nested paging), 5.3 and 5.4 (the entries).

use super::entry::{A, ADDRESS, FAULT_FETCH, FAULT_WRITE, P, PS, RW, US};
use super::paging::{Mode, Paging, Root};
use super::tables::{HostBlock, MIN_PAGES, Tables, TooFewPages};
use super::walk::{Cpu, NestedFault, Resolved, Translation, Walk};
use crate::l0::memory::Memory;
use crate::l0::page::Page;
use crate::types::Flush;

/// What an entry into L2 needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entered {
    /// N_CR3 for the hardware.
    pub(crate) root: u64,
    /// The hardware must forget what it cached.
    pub(crate) flush: bool,
}

const ROOTS: usize = 8;

/// The shadow of the nested tables of one virtual CPU's L1.
#[derive(Debug)]
pub struct Shadow<T> {
    tables: T,
    /// Number of pages.
    count: u16,
    /// Pages below are in use.
    used: u16,
    roots: [Option<Root>; ROOTS],
    /// The root that the hardware saw last.
    current: Option<Root>,
}

impl<T: Tables> Shadow<T> {
    /// An empty shadow.
    ///
    /// # Errors
    /// [`TooFewPages`] if there are fewer than [`MIN_PAGES`].
    pub fn new(tables: T) -> Result<Self, TooFewPages> {
        let count = tables.count();
        if count < MIN_PAGES {
            return Err(TooFewPages(count));
        }
        Ok(Self { tables, count, used: 0, roots: [None; ROOTS], current: None })
    }

    /// The pages and the map.
    #[must_use]
    pub const fn tables(&self) -> &T {
        &self.tables
    }

    /// VMRUN with nested paging.
    #[inline(always)]
    pub(crate) fn enter(&mut self, l1: &Page, n_cr3: u64, asid: u32, flush: Flush) -> Entered {
        let wanted = Root { n_cr3, asid, paging: Paging::of(l1), page: 0 };
        match &self.current {
            Some(root) if root.is(&wanted) && flush == Flush::Nothing => {
                Entered { root: self.address(root.page), flush: false }
            }
            _ => self.switch(wanted, flush),
        }
    }

    /// VMRUN without nested paging: L2 runs on L0's tables for L1. Returns whether the hardware must flush because L2 ran
    /// on a root before. A flush that L1 requests also drops roots here, because L1 may use the same address space
    /// later.
    #[inline(always)]
    pub(crate) fn leave(&mut self, asid: u32, flush: Flush) -> bool {
        let left = self.current.take().is_some();
        self.drop_roots(asid, flush);
        left
    }

    fn drop_roots(&mut self, asid: u32, flush: Flush) {
        match flush {
            Flush::Nothing => {}
            Flush::Asid => self.forget(asid),
            Flush::All => self.forget_all(),
        }
    }

    #[inline(never)]
    fn switch(&mut self, wanted: Root, flush: Flush) -> Entered {
        self.drop_roots(wanted.asid, flush);
        let known = self.roots.iter().flatten().find(|root| root.is(&wanted)).copied();
        let root = known.unwrap_or_else(|| self.add(wanted));
        self.current = Some(root);
        Entered { root: self.address(root.page), flush: true }
    }

    fn add(&mut self, wanted: Root) -> Root {
        // A root, and up to three tables for the first mapping.
        const NEEDED: u16 = 4;
        let free = self.count.saturating_sub(self.used);
        if self.roots.iter().all(Option::is_some) || free < NEEDED {
            self.forget_all();
        }
        // There is a page: `new` saw enough of them, and all are free if few were left.
        let root = Root { page: self.take_page().unwrap_or(0), ..wanted };
        if let Some(slot) = self.roots.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(root);
        }
        root
    }

    /// Drops the roots of all address spaces with this ASID.
    pub(crate) fn forget(&mut self, asid: u32) {
        for slot in &mut self.roots {
            if slot.is_some_and(|root| root.asid == asid) {
                *slot = None;
            }
        }
        if self.current.is_some_and(|root| root.asid == asid) {
            self.current = None;
        }
    }

    /// Forgets everything; the hardware must, too.
    pub(crate) fn forget_all(&mut self) {
        self.roots = [None; ROOTS];
        self.current = None;
        self.used = 0;
    }

    /// Forgets everything; the address space that L2 runs in goes on, on a new root.
    pub(crate) fn renew(&mut self) {
        let current = self.current;
        self.forget_all();
        if let Some(root) = current {
            self.current = Some(self.add(root));
        }
    }

    fn take_page(&mut self) -> Option<u16> {
        let page = self.used;
        if page >= self.count {
            return None;
        }
        self.used = page + 1;
        self.tables.clear(page);
        Some(page)
    }

    #[inline(always)]
    fn address(&self, page: u16) -> u64 {
        self.tables.base() + u64::from(page) * 4096
    }

    /// A nested page fault on the current root: asks L1's tables.
    pub(crate) fn resolve<M: Memory>(
        &mut self,
        memory: &mut M,
        cpu: Cpu<'_>,
        fault: NestedFault,
    ) -> Resolved {
        let Some(root) = self.current else {
            // L2 has a root whenever it runs; without one nothing can be said of its address.
            return Resolved::NotAllowed(fault.address);
        };
        let (mode, nx) = (root.paging.mode(), root.paging.nx());
        let walk = Walk { memory, root, mode, nx, cpu, reserved: cpu.reserved_address(), fault, marks: true };
        match walk.translate() {
            Ok(found) => self.map(root, fault, found),
            Err(stop) => stop,
        }
    }

    /// Adds a translation to the shadow tables. They have four levels, because the host uses four-level paging.
    fn map(&mut self, root: Root, fault: NestedFault, found: Translation) -> Resolved {
        const BLOCK: u8 = 21;
        let address = fault.address;
        let large =
            if found.bits >= BLOCK { self.tables.host(found.base_of(address, BLOCK), BLOCK) } else { None };
        let bits = if large.is_some() { BLOCK } else { 12 };
        let host = large.or_else(|| self.tables.host(found.base_of(address, bits), bits));
        let allowed = |host: &HostBlock| {
            (host.writable || fault.info & FAULT_WRITE == 0)
                && (host.executable || fault.info & FAULT_FETCH == 0)
                // No host with four levels translates more than 48 bits, whatever L1's five levels contain.
                && address >> Mode::Long.width() == 0
        };
        let Some(host) = host.filter(allowed) else {
            return Resolved::NotAllowed(found.base_of(address, 12) | address & 0xFFF);
        };
        let (taken, forbidden) = host.denied();
        let leaf = found.flags & !taken | forbidden | P | US | A;
        let mut page = root.page;
        for level in [4, 3, 2_u8] {
            let index = (address >> Mode::Long.shift(level) & 0x1FF) as u16;
            let entry = self.tables.entry(page, index);
            let next = if entry & P != 0 && entry & PS == 0 {
                // The CPU may have cached this pointer, so it stays. A large page is then shadowed by small ones.
                u16::try_from((entry & ADDRESS).wrapping_sub(self.tables.base()) >> 12).ok()
            } else if level == 2 && bits == BLOCK {
                self.tables.set_entry(page, index, host.address & ADDRESS | leaf | PS);
                return Resolved::Mapped;
            } else {
                let fresh = self.take_page();
                if let Some(fresh) = fresh {
                    self.tables.set_entry(page, index, self.address(fresh) | P | RW | US | A);
                }
                fresh
            };
            match next {
                Some(next) => page = next,
                None => {
                    // No pages are left: everything is dropped, and the fault comes again on a new root.
                    self.renew();
                    return Resolved::Restart;
                }
            }
        }
        let within = address & ((1 << bits) - 1) & ADDRESS;
        let index = (address >> Mode::Long.shift(1) & 0x1FF) as u16;
        self.tables.set_entry(page, index, (host.address & ADDRESS | within) | leaf);
        Resolved::Mapped
    }

    /// Where L1's tables lead for an address of L2 that is read, with no trace in them: no entry is marked as accessed.
    pub(crate) fn look<M: Memory>(&self, memory: &mut M, cpu: Cpu<'_>, address: u64) -> Option<u64> {
        let root = self.current?;
        let (mode, nx) = (root.paging.mode(), root.paging.nx());
        let fault = NestedFault { info: 0, address };
        let walk =
            Walk { memory, root, mode, nx, cpu, reserved: cpu.reserved_address(), fault, marks: false };
        let found = walk.translate().ok()?;
        Some(found.base_of(address, 12) | address & 0xFFF)
    }

    /// Physical address of the root that L2 runs on.
    pub(crate) fn root(&self) -> Option<u64> {
        self.current.map(|root| self.address(root.page))
    }
}
