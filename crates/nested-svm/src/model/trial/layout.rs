//! The memory layout of a trial's L1: page numbers of its VMCBs, of page tables and of the memory of its L2s.

/// Pages of the VMCB12s.
pub(super) const VMCBS: [u64; 3] = [5, 6, 7];

/// Address spaces of L2: two with nested paging, and one on shadow page tables of L1 without it.
pub(super) const SPACES: usize = 3;
/// The address space without nested paging.
pub(super) const SHADOW_SPACE: usize = 2;

/// First page of the nested tables, [`NESTED_PAGES`] for each space.
pub(super) const NESTED_TABLES: u64 = 32;
/// Pages of the nested tables of a space.
pub(super) const NESTED_PAGES: u64 = 10;
/// First page of the page tables of the space without nested paging.
pub(super) const SHADOW_TABLES: u64 = 56;
/// Pages that hold the page tables of L2s with nested paging.
pub(super) const GUEST_TABLES: core::ops::Range<u64> = 64..84;
/// Pages of data.
pub(super) const DATA: core::ops::Range<u64> = 84..116;
/// First page of the second block of 2 MiB. Large pages map this block or the first one.
pub(super) const LARGE_BLOCK: u64 = 512;

/// Number of sets of L2's own page tables. Each set has a root and one table each for levels 3, 2 and 1.
pub(super) const SETS: u64 = 2;
/// Pages of a set.
pub(super) const SET_PAGES: u64 = 4;

/// The guest physical pages of L2 are in four regions, so that walks use different tables at each level.
pub(super) const REGIONS: [(u64, u64); 4] = [(0, 16), (2 << 20, 4), (1 << 30, 4), (1 << 39, 4)];
/// Guest physical pages of L2. The first `SETS * SET_PAGES` hold its own page tables.
pub(super) const GUEST_PAGES: u64 = 28;
/// Number of linear pages of L2 that have 4 KiB.
pub(super) const LINEAR_PAGES: u64 = 16;
/// Linear address of the first page.
pub(super) const LINEAR: u64 = 4 << 20;
/// Linear address of the page of 2 MiB.
pub(super) const LINEAR_LARGE: u64 = 6 << 20;

/// Index of the region of a guest physical page, and its address.
pub(super) fn guest_page(index: u64) -> (usize, u64) {
    let mut first = 0;
    for (region, (start, pages)) in REGIONS.into_iter().enumerate() {
        if index < first + pages {
            return (region, start + (index - first) * 4096);
        }
        first += pages;
    }
    unreachable!("there are {GUEST_PAGES} guest physical pages")
}
