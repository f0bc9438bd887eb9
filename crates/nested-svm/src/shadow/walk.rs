//! The walk of L1's nested page tables.
//!
//! # Source
//! Manual volume 2, 15.25 (nested paging), 5.3 and 5.4 (the entries).

use super::entry::{
    A, ADDRESS, D, FAULT_FETCH, FAULT_PRESENT, FAULT_RESERVED, FAULT_WRITE, NX, P, PS, RW, US,
};
use super::paging::{Mode, Root};
use crate::l0::memory::Memory;
use vmcb::Limits;

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
    /// L2 is to be entered anew, on the root that `Shadow::root` now gives.
    Restart,
}

/// What of the virtual CPU decides about its nested tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) gib_pages: bool,
}

impl Cpu<'_> {
    pub(super) fn reserved_address(self) -> u64 {
        let width = self.limits.cpu().phys_bits().unwrap_or(52);
        ADDRESS & !((1 << width) - 1)
    }
}

/// What L1's tables say of an address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Translation {
    /// Physical address of L1, of the page that maps it.
    pub(super) base: u64,
    /// Size of that page: `1 << bits` bytes.
    pub(super) bits: u8,
    /// RW, NX and D of the shadow's entry. L1's memory types are not among them: its entries name them by its own PAT.
    pub(super) flags: u64,
}

impl Translation {
    /// Physical address of L1 of the aligned block of `1 << bits` bytes that holds `address`.
    pub(super) const fn base_of(&self, address: u64, bits: u8) -> u64 {
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
pub(super) struct Walk<'a, M> {
    pub(super) memory: &'a mut M,
    pub(super) root: Root,
    pub(super) mode: Mode,
    pub(super) nx: bool,
    pub(super) cpu: Cpu<'a>,
    /// Address bits that the virtual CPU does not have.
    pub(super) reserved: u64,
    pub(super) fault: NestedFault,
    /// Accessed and dirty bits are set.
    pub(super) marks: bool,
}

impl<M: Memory> Walk<'_, M> {
    /// The translation, with accessed and dirty bits set in L1's tables; else what the fault comes to.
    pub(super) fn translate(self) -> Result<Translation, Resolved> {
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
