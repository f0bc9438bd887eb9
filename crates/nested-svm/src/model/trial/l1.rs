//! The L1 of a trial: its page tables, and the flushes that it still has to make.
//!
//! This L1 is correct. After it removes, moves or restricts a mapping, it flushes each affected ASID before
//! it uses that ASID again.

use super::choices::Choices;
use super::host::{VmMemory, l1_entry};
use super::layout::{
    DATA, GUEST_PAGES, GUEST_TABLES, LARGE_BLOCK, LINEAR, LINEAR_LARGE, LINEAR_PAGES, NESTED_PAGES,
    NESTED_TABLES, SET_PAGES, SETS, SHADOW_SPACE, SHADOW_TABLES, SPACES, guest_page,
};
use crate::l0::memory::Memory;
use crate::model::paging::{A, ADDRESS, D, G, NX, P, PS, RW, US};
use std::vec::Vec;

/// ASIDs that this L1 uses, from 1 on.
pub(super) const ASIDS: u32 = 24;

/// Which stale entries the TLB may hold for an ASID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Stale {
    Nothing,
    NonGlobal,
    Everything,
}

/// L1's record of an ASID: the tables from which the TLB entries of the ASID come.
#[derive(Clone, Copy, Debug)]
struct Asid {
    /// Space and CR3. An ASID without TLB entries has none.
    cached: Option<(usize, u64)>,
    stale: Stale,
}

const FLUSHED: Asid = Asid { cached: None, stale: Stale::Nothing };

/// L1's tables and ASIDs.
#[derive(Debug)]
pub(super) struct L1 {
    asids: [Asid; ASIDS as usize],
    /// Copy of `asids` from before the last VMRUN.
    before_vmrun: [Asid; ASIDS as usize],
    /// Page of L1 that holds each page table of L2, for each space with nested paging.
    table_pages: [[u64; (SETS * SET_PAGES) as usize]; SHADOW_SPACE],
    free_table_pages: Vec<u64>,
}

/// Indices of the tables in the pages of a space: root; level 3 of regions 0-2 and 3; level 2 of regions 0-1, 2, 3; then
/// level 1 of each region.
const ROOT: u64 = 0;
const LEVEL_3: [u64; 4] = [1, 1, 1, 2];
const LEVEL_2: [u64; 4] = [3, 3, 4, 5];
const LEVEL_1: [u64; 4] = [6, 7, 8, 9];
const LINK: u64 = P | RW | US;

fn put(memory: &VmMemory, address: u64, entry: u64) {
    memory.clone().write(address, &entry.to_le_bytes()).expect("L1's tables are in memory");
}

fn get(memory: &VmMemory, address: u64) -> u64 {
    l1_entry(memory, address).expect("L1's tables are in memory")
}

fn index(address: u64, level: u64) -> u64 {
    address >> (12 + 9 * (level - 1)) & 0x1FF
}

/// Address of a nested table of a space.
fn nested_table(space: usize, table: u64) -> u64 {
    (NESTED_TABLES + space as u64 * NESTED_PAGES + table) << 12
}

/// N_CR3 of a space. The space without nested paging has none.
pub(super) fn n_cr3(space: usize) -> Option<u64> {
    (space != SHADOW_SPACE).then(|| nested_table(space, ROOT))
}

/// CR3 of a set of L2's page tables.
pub(super) const fn cr3(space: usize, set: u64) -> u64 {
    let first = if space == SHADOW_SPACE { SHADOW_TABLES } else { 0 };
    (first + set * SET_PAGES) << 12
}

/// Whether a change of an entry needs no flush: nothing was mapped, or only rights were added.
fn needs_no_flush(old: u64, new: u64) -> bool {
    const RIGHTS: u64 = RW | A | D;
    let relaxed = (old ^ new) & !(RIGHTS | NX) == 0 && old & RIGHTS & !new == 0 && new & NX & !old == 0;
    old & P == 0 || relaxed
}

impl L1 {
    /// Writes the first tables of all spaces.
    pub(super) fn new(memory: &VmMemory) -> Self {
        let mut free: Vec<u64> = GUEST_TABLES.collect();
        let mut l1 = Self {
            asids: [FLUSHED; ASIDS as usize],
            before_vmrun: [FLUSHED; ASIDS as usize],
            table_pages: core::array::from_fn(|_| {
                core::array::from_fn(|_| free.pop().expect("enough pages"))
            }),
            free_table_pages: free,
        };
        for page in (NESTED_TABLES..GUEST_TABLES.end).chain(DATA) {
            memory.clone().write(page << 12, &[0; 4096]).expect("L1's tables are in memory");
        }
        for space in 0..SHADOW_SPACE {
            l1.link_nested(memory, space);
        }
        for space in 0..SPACES {
            for set in 0..SETS {
                l1.link_guest(memory, space, set);
            }
        }
        l1
    }

    fn link_nested(&mut self, memory: &VmMemory, space: usize) {
        for (region, (start, _)) in super::layout::REGIONS.into_iter().enumerate() {
            let tables = [ROOT, LEVEL_3[region], LEVEL_2[region], LEVEL_1[region]];
            for (level, pair) in [4, 3, 2].into_iter().zip(tables.windows(2)) {
                let at = nested_table(space, pair[0]) + index(start, level) * 8;
                put(memory, at, nested_table(space, pair[1]) | LINK);
            }
        }
        for (page, own) in self.table_pages[space].into_iter().enumerate() {
            put(memory, nested_table(space, LEVEL_1[0]) + page as u64 * 8, own << 12 | LINK);
        }
    }

    fn link_guest(&mut self, memory: &VmMemory, space: usize, set: u64) {
        for (level, table) in [4, 3, 2].into_iter().zip(0..) {
            let at = self.guest_table(space, set, table) + index(LINEAR, level) * 8;
            let next = cr3(space, set) + (table + 1) * 4096;
            put(memory, at, next | LINK);
        }
    }

    /// Address in L1's memory of a page table of L2.
    fn guest_table(&self, space: usize, set: u64, table: u64) -> u64 {
        if space == SHADOW_SPACE {
            return cr3(space, set) + table * 4096;
        }
        self.table_pages[space][(set * SET_PAGES + table) as usize] << 12
    }

    /// Changes a mapping of the nested tables. Every ASID that uses them then needs a flush, unless the
    /// change only adds a mapping or rights.
    pub(super) fn change_nested(&mut self, memory: &VmMemory, space: usize, choices: &mut Choices) {
        let page = choices.below(GUEST_PAGES);
        if page < SETS * SET_PAGES {
            return self.move_table_page(memory, space, page, choices);
        }
        let (region, address) = guest_page(page);
        match choices.below(12) {
            0 => self.toggle(memory, space, nested_table(space, LEVEL_2[region]) + index(address, 2) * 8, P),
            1 => self.toggle(memory, space, nested_table(space, LEVEL_2[region]) + index(address, 2) * 8, RW),
            2 => self.toggle(memory, space, nested_table(space, LEVEL_3[region]) + index(address, 3) * 8, RW),
            3 if region == 1 => self.switch_size(memory, space, choices),
            4 if region != 0 => {
                self.toggle(memory, space, nested_table(space, ROOT) + index(address, 4) * 8, P);
            }
            _ => {
                let at = nested_table(space, LEVEL_1[region]) + index(address, 1) * 8;
                self.set_nested(memory, space, at, new_leaf(choices));
            }
        }
    }

    /// Maps the page at an address for which L1 received a nested page fault.
    pub(super) fn resolve_fault(
        &mut self,
        memory: &VmMemory,
        space: usize,
        address: u64,
        choices: &mut Choices,
    ) {
        let found = (0..GUEST_PAGES).map(guest_page).find(|&(_, page)| page == address & !0xFFF);
        let Some((region, _)) = found else { return };
        let tables = [ROOT, LEVEL_3[region], LEVEL_2[region]];
        for (level, table) in [4, 3, 2].into_iter().zip(tables) {
            let at = nested_table(space, table) + index(address, level) * 8;
            let entry = get(memory, at);
            self.set_nested(memory, space, at, entry | P | RW | US);
            if entry & PS != 0 {
                return;
            }
        }
        let at = nested_table(space, LEVEL_1[region]) + index(address, 1) * 8;
        let entry = get(memory, at);
        let page = if entry & P != 0 { entry } else { data_page(choices) << 12 };
        self.set_nested(memory, space, at, page & !NX | P | RW | US);
    }

    fn toggle(&mut self, memory: &VmMemory, space: usize, at: u64, bit: u64) {
        let entry = get(memory, at);
        self.set_nested(memory, space, at, (entry ^ bit) & !A);
    }

    fn set_nested(&mut self, memory: &VmMemory, space: usize, at: u64, entry: u64) {
        let old = get(memory, at);
        put(memory, at, entry);
        if !needs_no_flush(old, entry) {
            self.owe(space, Stale::Everything);
        }
    }

    /// Maps the second region by one large page, or by a table again.
    fn switch_size(&mut self, memory: &VmMemory, space: usize, choices: &mut Choices) {
        let at = nested_table(space, LEVEL_2[1]) + index(2 << 20, 2) * 8;
        let entry = if get(memory, at) & PS != 0 {
            nested_table(space, LEVEL_1[1]) | LINK
        } else {
            let block = choices.pick(&[LARGE_BLOCK, LARGE_BLOCK, 0]) << 12;
            block | P | US | PS | choices.pick(&[RW, RW, 0]) | choices.pick(&[0, D])
        };
        self.set_nested(memory, space, at, entry);
    }

    /// Moves a page that holds a page table of L2, with its content.
    fn move_table_page(&mut self, memory: &VmMemory, space: usize, page: u64, choices: &mut Choices) {
        let chosen = choices.below(self.free_table_pages.len() as u64) as usize;
        let new = self.free_table_pages[chosen];
        let slot = &mut self.table_pages[space][page as usize];
        self.free_table_pages[chosen] = core::mem::replace(slot, new);
        let mut bytes = [0; 4096];
        let old = self.free_table_pages[chosen] << 12;
        memory.read(old, &mut bytes).expect("L1's tables are in memory");
        memory.clone().write(new << 12, &bytes).expect("L1's tables are in memory");
        self.set_nested(memory, space, nested_table(space, LEVEL_1[0]) + page * 8, new << 12 | LINK);
    }

    fn owe(&mut self, space: usize, stale: Stale) {
        for asid in &mut self.asids {
            if asid.cached.is_some_and(|(cached, _)| cached == space) {
                asid.stale = asid.stale.max(stale);
            }
        }
    }

    /// Changes a mapping of L2's own page tables. Returns the linear address if the TLB may hold the old mapping.
    ///
    /// The guest with the ASID `running` executes the flush itself, so only the other ASIDs need one.
    pub(super) fn change_guest(
        &mut self,
        memory: &VmMemory,
        space: usize,
        running: Option<u32>,
        choices: &mut Choices,
    ) -> Option<u64> {
        let large = choices.one_in(6);
        let slot = choices.below(LINEAR_PAGES);
        let (linear, table) = if large { (LINEAR_LARGE, 2) } else { (LINEAR + slot * 4096, 3) };
        let entry = new_guest_leaf(space, large, choices);
        let at = index(linear, if large { 2 } else { 1 }) * 8;
        let first = choices.below(SETS);
        let old = get(memory, self.guest_table(space, first, table) + at);
        // A global page is the same in both sets.
        let global = (old | entry) & G != 0;
        let mut flush = false;
        for set in 0..SETS {
            if set == first || global {
                let at = self.guest_table(space, set, table) + at;
                flush |= !needs_no_flush(get(memory, at), entry);
                put(memory, at, entry);
            }
        }
        if !flush {
            return None;
        }
        let before = running.map(|asid| (asid, self.asid(asid).stale));
        self.owe(space, if global { Stale::Everything } else { Stale::NonGlobal });
        if let Some((asid, stale)) = before {
            self.asid_mut(asid).stale = stale;
        }
        Some(linear)
    }

    fn asid(&self, asid: u32) -> Asid {
        self.asids[asid as usize - 1]
    }

    fn asid_mut(&mut self, asid: u32) -> &mut Asid {
        &mut self.asids[asid as usize - 1]
    }

    /// Returns which TLB entries of an ASID would be stale for a VMRUN with this space and CR3.
    pub(super) fn stale(&self, asid: u32, space: usize, cr3: u64) -> Stale {
        let known = self.asid(asid);
        match known.cached {
            None => Stale::Nothing,
            Some((cached, _)) if cached != space => Stale::Everything,
            Some((_, cached)) if cached != cr3 => known.stale.max(Stale::NonGlobal),
            Some(_) => known.stale,
        }
    }

    /// L1 flushed an ASID.
    pub(super) fn flushed(&mut self, asid: u32) {
        *self.asid_mut(asid) = FLUSHED;
    }

    /// L1 flushed all ASIDs.
    pub(super) fn flushed_all(&mut self) {
        self.asids = [FLUSHED; ASIDS as usize];
    }

    /// VMRUN of a space, after the flushes that it needed.
    pub(super) fn entered(&mut self, asid: u32, space: usize, cr3: u64) {
        *self.asid_mut(asid) = Asid { cached: Some((space, cr3)), stale: Stale::Nothing };
    }

    /// L2 may have changed its page tables without a flush.
    pub(super) fn entered_stale(&mut self, asid: u32) {
        self.asid_mut(asid).stale = Stale::Everything;
    }

    /// Remembers what was cached before a VMRUN.
    pub(super) fn before_vmrun(&mut self) {
        self.before_vmrun = self.asids;
    }

    /// Records that the host refused VMRUN, so it flushed nothing. L1 then treats all entries from before as
    /// stale.
    pub(super) fn refused(&mut self, asid: u32) {
        for (now, before) in self.asids.iter_mut().zip(self.before_vmrun) {
            if before.cached.is_some() {
                *now = Asid { cached: now.cached.or(before.cached), stale: Stale::Everything };
            }
        }
        self.asid_mut(asid).stale = Stale::Everything;
    }

    /// Records the CR3 at L2's exit. If L2 wrote CR3, the write flushed the non-global entries of the old value.
    pub(super) fn left(&mut self, asid: u32, cr3: u64) {
        if let Some((_, cached)) = &mut self.asid_mut(asid).cached {
            *cached = cr3;
        }
    }

    /// Returns an ASID that has no TLB entries, if there is one.
    pub(super) fn fresh_asid(&self) -> Option<u32> {
        (1..=ASIDS).find(|&asid| self.asid(asid).cached.is_none())
    }
}

fn data_page(choices: &mut Choices) -> u64 {
    DATA.start + choices.below(DATA.end - DATA.start)
}

fn new_leaf(choices: &mut Choices) -> u64 {
    match choices.below(5) {
        0 => 0,
        _ => {
            let flags =
                choices.pick(&[RW, RW, RW, 0]) | choices.pick(&[0, 0, 0, NX]) | choices.pick(&[0, 0, D]);
            data_page(choices) << 12 | P | US | flags
        }
    }
}

fn new_guest_leaf(space: usize, large: bool, choices: &mut Choices) -> u64 {
    if choices.one_in(5) {
        return 0;
    }
    let target = match (space == SHADOW_SPACE, large) {
        (true, true) => LARGE_BLOCK << 12,
        (true, false) => data_page(choices) << 12,
        (false, true) => 2 << 20,
        (false, false) => guest_page(SETS * SET_PAGES + choices.below(GUEST_PAGES - SETS * SET_PAGES)).1,
    };
    let size = if large { PS } else { 0 };
    let flags = choices.pick(&[RW, RW, RW, 0]) | choices.pick(&[0, 0, 0, NX]) | choices.pick(&[0, 0, G]);
    target & ADDRESS | P | US | size | flags
}
