//! The TLB of the software CPU, with nested translations and page-walk caches, tagged by ASID.
//!
//! The capacity is unlimited. An entry disappears only by an architected flush, when an access cannot use it,
//! or when the caller calls [`Tlb::evict`]. A missing flush therefore shows at the next access that uses the
//! entry.
//!
//! # Source
//! Manual volume 2, 5.5 (TLB), 15.16 (TLB control), 15.25.10 (nested TLB entries).

use std::collections::BTreeMap;

/// TLB_CONTROL: flush the TLB entries of all ASIDs.
pub const FLUSH_ALL: u64 = 1;
/// TLB_CONTROL: flush the TLB entries of this ASID.
pub const FLUSH_ASID: u64 = 3;
/// TLB_CONTROL: flush the non-global TLB entries of this ASID.
pub const FLUSH_NON_GLOBAL: u64 = 7;

/// Number of address bits inside a page of 4 KiB.
pub(super) const SMALL: u8 = 12;
/// Number of address bits inside a page of 2 MiB.
pub(super) const LARGE: u8 = 21;

/// Access rights of a translation, over all levels of the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rights {
    /// Writes are allowed.
    pub writable: bool,
    /// User accesses are allowed.
    pub user: bool,
    /// Instruction fetches are allowed.
    pub executable: bool,
}

impl Rights {
    /// All accesses are allowed.
    pub const ALL: Self = Self { writable: true, user: true, executable: true };

    /// Returns the rights that both sets contain.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            writable: self.writable && other.writable,
            user: self.user && other.user,
            executable: self.executable && other.executable,
        }
    }
}

/// A cached translation of one page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Host physical address of the page, for linear and for nested translations.
    pub page: u64,
    /// Size of the page: `1 << bits` bytes.
    pub bits: u8,
    /// Size of the guest's own page: `1 << guest_bits` bytes. The entry may cover only a part of it.
    pub guest_bits: u8,
    /// Access rights.
    pub rights: Rights,
    /// The dirty bits of the tables are set, so a write needs no walk.
    pub dirty: bool,
    /// The entry survives writes of CR3.
    pub global: bool,
}

impl Entry {
    /// Returns the physical address for an address inside the page.
    #[must_use]
    pub const fn address(&self, address: u64) -> u64 {
        self.page | address & ((1 << self.bits) - 1)
    }
}

/// A cached page-table pointer: the table of one level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Table {
    /// Physical address of the table.
    pub(super) address: u64,
    /// Rights of the levels above.
    pub(super) rights: Rights,
}

/// The page-walk cache of one kind of tables.
#[derive(Clone, Debug, Default)]
pub(super) struct WalkCache(BTreeMap<(u8, u64), Table>);

impl WalkCache {
    /// Returns the lowest table that is cached for an address, and its level.
    pub(super) fn lowest(&self, address: u64) -> Option<(u8, Table)> {
        (1..=3)
            .find_map(|level| self.0.get(&(level, Self::prefix(level, address))).map(|&table| (level, table)))
    }

    /// Caches the table of a level.
    pub(super) fn insert(&mut self, level: u8, address: u64, table: Table) {
        self.0.insert((level, Self::prefix(level, address)), table);
    }

    /// The address bits above those that a table of this level translates.
    const fn prefix(level: u8, address: u64) -> u64 {
        address >> (12 + 9 * level)
    }
}

/// Translations of one kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Translations(BTreeMap<(u64, u8), Entry>);

impl Translations {
    /// Returns the entry for an address.
    pub(super) fn get(&self, address: u64) -> Option<Entry> {
        [SMALL, LARGE].into_iter().find_map(|bits| self.0.get(&(address >> bits, bits)).copied())
    }

    /// Adds an entry, in place of an older one for the same page.
    pub(super) fn insert(&mut self, address: u64, entry: Entry) {
        self.0.insert((address >> entry.bits, entry.bits), entry);
    }

    /// Drops the entries for an address.
    pub(super) fn drop_page(&mut self, address: u64) {
        for bits in [SMALL, LARGE] {
            self.0.remove(&(address >> bits, bits));
        }
    }
}

/// Everything that is cached for one ASID.
#[derive(Clone, Debug, Default)]
pub(super) struct Tagged {
    /// Linear to host physical.
    pub(super) linear: Translations,
    /// Guest physical to host physical.
    pub(super) nested: Translations,
    /// The guest's own tables: guest physical addresses.
    pub(super) guest_tables: WalkCache,
    /// The nested tables: host physical addresses.
    pub(super) nested_tables: WalkCache,
}

impl Tagged {
    /// Flushes the non-global linear translations and the page-walk cache of the guest's own tables, as a
    /// write to CR3 does.
    pub(super) fn write_cr3(&mut self) {
        self.linear.0.retain(|_, entry| entry.global);
        self.guest_tables.0.clear();
    }

    /// Flushes all parts of one page of the guest and the page-walk cache of the guest's own tables, as
    /// INVLPG does.
    pub(super) fn invalidate(&mut self, linear: u64) {
        self.linear.0.retain(|&(page, bits), entry| (page << bits ^ linear) >> entry.guest_bits != 0);
        self.guest_tables.0.clear();
    }

    fn flush_non_global(&mut self) {
        self.write_cr3();
        self.nested.0.clear();
        self.nested_tables.0.clear();
    }
}

/// The TLB of one physical CPU. It persists from VMRUN to VMRUN.
#[derive(Clone, Debug, Default)]
pub struct Tlb {
    tagged: BTreeMap<u32, Tagged>,
    /// Number of lookups, also by page walks, that an entry served without a walk.
    pub hits: u64,
    /// Walks of the nested tables or of the guest's own tables.
    pub walks: u64,
    /// Walks that began at a cached table instead of the root.
    pub short_walks: u64,
}

impl Tlb {
    /// Executes TLB_CONTROL of a VMCB that VMRUN accepted.
    pub fn control(&mut self, asid: u32, tlb_control: u64) {
        match tlb_control {
            FLUSH_ALL => self.tagged.clear(),
            FLUSH_ASID => {
                self.tagged.remove(&asid);
            }
            FLUSH_NON_GLOBAL => self.tagged(asid).flush_non_global(),
            _ => {}
        }
    }

    /// Evicts everything of one ASID, as a CPU may do at any time.
    pub fn evict(&mut self, asid: u32) {
        self.tagged.remove(&asid);
    }

    /// Everything that is cached for one ASID.
    pub(super) fn tagged(&mut self, asid: u32) -> &mut Tagged {
        self.tagged.entry(asid).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(page: u64, global: bool) -> Entry {
        Entry { page, bits: SMALL, guest_bits: SMALL, rights: Rights::ALL, dirty: true, global }
    }

    #[test]
    fn tlb_control_flushes_what_the_manual_lists() {
        for (control, own, own_global, other) in [
            (0, true, true, true),
            (FLUSH_ALL, false, false, false),
            (FLUSH_ASID, false, false, true),
            (FLUSH_NON_GLOBAL, false, true, true),
        ] {
            let mut tlb = Tlb::default();
            tlb.tagged(1).linear.insert(0x1000, entry(0xA000, false));
            tlb.tagged(1).linear.insert(0x2000, entry(0xB000, true));
            tlb.tagged(2).linear.insert(0x1000, entry(0xC000, true));
            tlb.control(1, control);
            let mut cached = |asid, address| tlb.tagged(asid).linear.get(address).is_some();
            let found = (cached(1, 0x1000), cached(1, 0x2000), cached(2, 0x1000));
            assert_eq!(found, (own, own_global, other), "TLB_CONTROL {control}");
        }
    }

    #[test]
    fn cr3_write_keeps_global_and_nested_entries() {
        let mut tagged = Tagged::default();
        tagged.linear.insert(0x1000, entry(0xA000, false));
        tagged.linear.insert(0x2000, entry(0xB000, true));
        tagged.nested.insert(0x3000, entry(0xC000, false));
        tagged.guest_tables.insert(1, 0x1000, Table { address: 0x5000, rights: Rights::ALL });
        tagged.write_cr3();
        assert!(tagged.linear.get(0x1000).is_none() && tagged.linear.get(0x2000).is_some());
        assert!(tagged.nested.get(0x3000).is_some());
        assert!(tagged.guest_tables.lowest(0x1000).is_none());
        tagged.invalidate(0x2FFF);
        assert!(tagged.linear.get(0x2000).is_none(), "INVLPG drops global entries");
        tagged.linear.insert(0x20_1000, Entry { guest_bits: LARGE, ..entry(0xA000, false) });
        tagged.invalidate(0x20_0000);
        assert!(tagged.linear.get(0x20_1000).is_none(), "INVLPG drops all parts of a large page");
    }
}
