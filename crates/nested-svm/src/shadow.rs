//! L1's nested page tables, as the hardware may use them: a shadow that is filled at each nested page fault and
//! forgotten when L1 flushes.
//!
//! L1's tables map guest physical addresses of L2 to physical addresses of L1. L1 may write anything into them, so the
//! hardware never sees them: it sees tables of L0 in which every address went through [`Tables::host`]. What the shadow
//! holds is what a TLB may hold, so L1 must flush as on hardware, and a shadow that is dropped early costs time only.
//!
//! # Source
//! Manual volume 2, 15.25 (nested paging), 5.3 and 5.4 (the entries).

use crate::memory::Memory;
use crate::nested::Flush;
use crate::page::Page;
use vmcb::layout::vmcb_field as f;
use vmcb::{Cr4, Efer, Limits};

/// The pages that L0 provides for shadow tables, and the map from L1's physical addresses to the host's.
///
/// Pages are numbered from 0 and contiguous in physical memory.
pub trait Tables {
    /// Number of pages: [`MIN_PAGES`] or more. It is read once, by [`Shadow::new`].
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
    const fn denied(self) -> (u64, u64) {
        (if self.writable { 0 } else { RW }, if self.executable { 0 } else { NX })
    }
}

/// Minimum number of pages for shadow tables that [`Shadow::new`] accepts: one table for each of the four levels, and a
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

/// How the CPU that executed VMRUN pages, and with it its nested tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    /// Two levels of 32-bit entries.
    Legacy,
    /// Three levels.
    Pae,
    /// Four levels.
    Long,
    /// Five levels.
    Long5,
}

impl Mode {
    const fn levels(self) -> u8 {
        match self {
            Self::Legacy => 2,
            Self::Pae => 3,
            Self::Long => 4,
            Self::Long5 => 5,
        }
    }

    /// Width of the addresses that the tables translate.
    const fn width(self) -> u8 {
        match self {
            Self::Legacy | Self::Pae => 32,
            Self::Long => 48,
            Self::Long5 => 57,
        }
    }

    /// The lowest bit of the index at a level, 1 being the last.
    const fn shift(self, level: u8) -> u8 {
        let per_level = if matches!(self, Self::Legacy) { 10 } else { 9 };
        12 + per_level * (level - 1)
    }
}

/// A nested page fault as the hardware reports it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NestedFault {
    /// EXITINFO1.
    pub(crate) info: u64,
    /// EXITINFO2: guest physical address of L2.
    pub(crate) address: u64,
}

/// What a nested page fault came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Resolved {
    /// L1's tables map it: the shadow does now, too.
    Mapped,
    /// They do not: EXITINFO1 for L1.
    Fault(u64),
    /// They map it to this physical address of L1, where L1 has no memory or may not access it this way.
    NotAllowed(u64),
    /// L2 is to be entered anew, on the root that [`Shadow::root`] now gives.
    Restart,
}

/// What an entry into L2 needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entered {
    /// N_CR3 for the hardware.
    pub(crate) root: u64,
    /// The hardware must forget what it cached.
    pub(crate) flush: bool,
}

const P: u64 = 1;
const RW: u64 = 1 << 1;
const US: u64 = 1 << 2;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const PS: u64 = 1 << 7;
const NX: u64 = 1 << 63;
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

/// EXITINFO1 of a nested page fault: page-fault error code bits.
const FAULT_PRESENT: u64 = 1;
const FAULT_WRITE: u64 = 1 << 1;
const FAULT_RESERVED: u64 = 1 << 3;
const FAULT_FETCH: u64 = 1 << 4;

const ROOTS: usize = 8;

/// One address space of L2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Root {
    n_cr3: u64,
    asid: u32,
    paging: Paging,
    page: u16,
}

impl Root {
    /// Whether it is the same address space; where its shadow stands is another matter.
    #[inline(always)]
    fn is(&self, other: &Self) -> bool {
        (self.n_cr3 ^ other.n_cr3)
            | u64::from(self.asid ^ other.asid)
            | u64::from(self.paging.0 ^ other.paging.0)
            == 0
    }
}

/// What of L1's registers decides about its nested tables, at its VMRUN: the bits of CR4 and EFER.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Paging(u32);

impl Paging {
    const CR4: u64 = Cr4::PSE.union(Cr4::PAE).union(Cr4::LA57).union(Cr4::SMEP).bits();
    const EFER: u64 = Efer::LMA.union(Efer::NXE).bits();

    #[inline(always)]
    fn of(l1: &Page) -> Self {
        // Bits of CR4 and of EFER that do not meet.
        const _: () = assert!(Paging::CR4 & Paging::EFER == 0);
        Self((l1.get(f::cr4) & Self::CR4 | l1.get(f::efer) & Self::EFER) as u32)
    }

    const fn has(self, bit: u64) -> bool {
        self.0 as u64 & bit != 0
    }

    fn mode(self) -> Mode {
        match (self.has(Efer::LMA.bits()), self.has(Cr4::PAE.bits())) {
            (true, _) if self.has(Cr4::LA57.bits()) => Mode::Long5,
            (true, _) => Mode::Long,
            (false, true) => Mode::Pae,
            (false, false) => Mode::Legacy,
        }
    }

    /// EFER.NXE: bit 63 means no-execute.
    fn nx(self) -> bool {
        self.mode() != Mode::Legacy && self.has(Efer::NXE.bits())
    }

    /// CR4.PSE: large pages without PAE.
    const fn pse(self) -> bool {
        self.has(Cr4::PSE.bits())
    }

    /// CR4.SMEP: fetches are told apart even without NXE.
    const fn smep(self) -> bool {
        self.has(Cr4::SMEP.bits())
    }
}

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

    /// Enters a translation into the shadow, which always has four levels: the host's.
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

/// What of the virtual CPU decides about its nested tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) gib_pages: bool,
}

impl Cpu<'_> {
    fn reserved_address(self) -> u64 {
        let width = self.limits.cpu().phys_bits().unwrap_or(52);
        ADDRESS & !((1 << width) - 1)
    }
}

/// What L1's tables say of an address.
#[derive(Clone, Copy, Debug)]
struct Translation {
    /// Physical address of L1, of the page that maps it.
    base: u64,
    /// Size of that page: `1 << bits` bytes.
    bits: u8,
    /// RW, NX and D of the shadow's entry. L1's memory types are not among them: its entries name them by its own PAT.
    flags: u64,
}

impl Translation {
    /// Physical address of L1 of the aligned block of `1 << bits` bytes that holds `address`.
    const fn base_of(&self, address: u64, bits: u8) -> u64 {
        let inside = (1 << self.bits) - 1;
        (self.base & !inside | address & inside) & !((1 << bits) - 1)
    }
}

/// The entry that maps an address.
#[derive(Clone, Copy)]
struct Leaf {
    entry: u64,
    shift: u8,
    level: u8,
    /// At all levels.
    writable: bool,
    /// NX of any level.
    forbidden: u64,
}

/// A walk through L1's tables for one access.
struct Walk<'a, M> {
    memory: &'a mut M,
    root: Root,
    mode: Mode,
    nx: bool,
    cpu: Cpu<'a>,
    /// Address bits that the virtual CPU does not have.
    reserved: u64,
    fault: NestedFault,
    /// Accessed and dirty bits are set.
    marks: bool,
}

impl<M: Memory> Walk<'_, M> {
    /// The translation, with accessed and dirty bits set in L1's tables; else what the fault comes to.
    fn translate(self) -> Result<Translation, Resolved> {
        let (mode, address) = (self.mode, self.fault.address);
        let write = self.fault.info & FAULT_WRITE != 0;
        let fetch = self.fault.info & FAULT_FETCH != 0 && self.nx;
        if address >> mode.width() != 0 {
            return Err(self.fails(0));
        }
        let mut allowed = RW | US;
        let mut forbidden = 0;
        let mut table = match mode {
            Mode::Pae => self.root.n_cr3 & 0xFFFF_FFE0,
            Mode::Legacy => self.root.n_cr3 & 0xFFFF_F000,
            Mode::Long | Mode::Long5 => self.root.n_cr3 & ADDRESS,
        };
        let mut steps = [(0, 0); 5];
        let mut count = 0;
        for level in (1..=mode.levels()).rev() {
            let shift = mode.shift(level);
            let (at, entry) = self.read(table, level, shift, address)?;
            if entry & P == 0 {
                return Err(self.fails(0));
            }
            let pointer = mode == Mode::Pae && level == 3;
            let leaf = level == 1 || entry & PS != 0 && self.may_be_large(level);
            if self.is_reserved(entry, level, leaf, pointer) {
                return Err(self.fails(FAULT_PRESENT | FAULT_RESERVED));
            }
            if !pointer {
                allowed &= entry;
                forbidden |= entry & NX;
                if let Some(step) = steps.get_mut(count) {
                    *step = (at, entry);
                    count += 1;
                }
            }
            if leaf {
                // Every access of a guest is a user access to the nested tables.
                let denied = allowed & US == 0 || write && allowed & RW == 0 || fetch && forbidden != 0;
                if denied {
                    return Err(self.fails(FAULT_PRESENT));
                }
                let leaf = Leaf { entry, shift, level, writable: allowed & RW != 0, forbidden };
                return self.found(leaf, write, steps.get(..count).unwrap_or_default());
            }
            table = entry & ADDRESS;
        }
        Err(self.fails(0))
    }

    /// Whether PS makes an entry of this level map a page.
    fn may_be_large(&self, level: u8) -> bool {
        match self.mode {
            Mode::Legacy => level == 2 && self.root.paging.pse(),
            Mode::Pae => level == 2,
            Mode::Long | Mode::Long5 => level == 2 || level == 3 && self.cpu.gib_pages,
        }
    }

    /// The entry that maps it was reached: marks the entries, and says what the shadow holds.
    fn found(self, leaf: Leaf, write: bool, steps: &[(u64, u64)]) -> Result<Translation, Resolved> {
        let Leaf { entry, shift, level, writable, forbidden } = leaf;
        let legacy = self.mode == Mode::Legacy;
        let last = steps.len().saturating_sub(1);
        for (index, &(at, entry)) in steps.iter().enumerate() {
            let wanted = entry | A | if write && index == last { D } else { 0 };
            if self.marks && wanted != entry && !mark(self.memory, at, legacy, entry, wanted) {
                // L1 changed it meanwhile: what it says now is asked when the fault comes again.
                return Err(Resolved::Mapped);
            }
        }
        let dirty = write || entry & D != 0;
        // A page becomes writable at the first write, so that L1 sees D.
        let rw = if writable && dirty { RW | D } else { 0 };
        let base = if legacy && level == 2 {
            // PSE: bits 20:13 are the address's bits 39:32.
            entry & 0xFFC0_0000 | (entry & 0x001F_E000) << 19
        } else {
            entry & ADDRESS
        };
        Ok(Translation { base, bits: shift, flags: rw | if self.nx { forbidden } else { 0 } })
    }

    fn read(&self, table: u64, level: u8, shift: u8, address: u64) -> Result<(u64, u64), Resolved> {
        let indices = match (self.mode, level) {
            (Mode::Legacy, _) => 0x3FF,
            (Mode::Pae, 3) => 3,
            _ => 0x1FF,
        };
        let index = address >> shift & indices;
        let legacy = self.mode == Mode::Legacy;
        let at = table + index * if legacy { 4 } else { 8 };
        let mut bytes = [0; 8];
        let read = if legacy {
            self.memory.read(at, bytes.first_chunk_mut::<4>().map_or(&mut [][..], |low| &mut low[..]))
        } else {
            self.memory.read(at, &mut bytes)
        };
        // Where there is no memory a bus reads as ones, reserved bits included.
        read.map_err(|_| self.fails(FAULT_PRESENT | FAULT_RESERVED))?;
        Ok((at, u64::from_le_bytes(bytes)))
    }

    /// Whether a reserved bit is set in a present entry.
    ///
    /// # Source
    /// Manual volume 2, 5.2 (32-bit, PAE), 5.3 (long mode): what is marked MBZ.
    fn is_reserved(&self, entry: u64, level: u8, leaf: bool, pointer: bool) -> bool {
        if self.mode == Mode::Legacy {
            const BIT_21: u64 = 1 << 21;
            let high = (entry & 0x001F_E000) << 19 & self.reserved;
            return leaf && level == 2 && (entry & BIT_21 != 0 || high != 0);
        }
        let mut reserved = self.reserved;
        if self.mode == Mode::Pae {
            reserved |= 0x7FF0_0000_0000_0000;
        }
        if !self.nx || pointer {
            reserved |= NX;
        }
        if pointer {
            return entry & (reserved | 0x1E6) != 0;
        }
        if !leaf && level >= 3 {
            // Bit 8 is G, which only a leaf has; PS of the levels that map nothing.
            let has_leaf = level == 3 && self.cpu.gib_pages;
            reserved |= 1 << 8 | if has_leaf { 0 } else { PS };
        }
        if leaf && level > 1 {
            // Address bits below the page's size; bit 12 is PAT.
            reserved |= ((1 << self.mode.shift(level)) - 1) & ADDRESS & !(1 << 12);
        }
        entry & reserved != 0
    }

    /// EXITINFO1: the access as the hardware reported it, with what the walk found.
    fn fails(&self, found: u64) -> Resolved {
        let told_apart = self.nx || self.root.paging.smep();
        let hidden = FAULT_PRESENT | FAULT_RESERVED | if told_apart { 0 } else { FAULT_FETCH };
        Resolved::Fault(self.fault.info & !hidden | found)
    }
}

/// Writes an entry with its accessed and dirty bits, if it still is what the walk read. In memory that L1 cannot write
/// the bits are lost, as on a bus.
fn mark<M: Memory>(memory: &mut M, at: u64, legacy: bool, before: u64, after: u64) -> bool {
    if !legacy {
        return memory.exchange(at, before, after) != Ok(false);
    }
    // Two entries share what is exchanged at once.
    let (pair, shift) = (at & !7, (at & 4) * 8);
    let Ok(both) = memory.read_u64(pair) else {
        return true;
    };
    both >> shift & 0xFFFF_FFFF == before && memory.exchange(pair, both, both | after << shift) != Ok(false)
}
