//! What the firmware's PVH entry hands over: the memory map, and where ACPI's tables begin.

use crate::memory::STUB;
use bare_interface::l0::REGION;

/// A range of the memory map; kind 1 is memory, all others are not.
#[derive(Clone, Copy, Default)]
pub(crate) struct Range {
    pub(crate) base: u64,
    pub(crate) size: u64,
    pub(crate) kind: u32,
}

const RAM: u32 = 1;
const RESERVED: u32 = 2;
const MOST: usize = 30;

/// The memory map, for L1.
pub(crate) struct Map {
    ranges: [Range; MOST + 3],
    count: usize,
    rsdp: u64,
}

impl Map {
    /// Reads it from the start info at this address, and takes L0's parts out of it: its region begins at `home`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(start_info: u64, home: u64) -> Result<Self, &'static str> {
        const MAGIC: u32 = 0x336E_C578;
        // SAFETY: all addresses are of the firmware's tables, below 4 GiB, where memory is mapped to itself.
        let word = |at: u64| unsafe { (at as *const u32).read_unaligned() };
        let quad = |at: u64| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        if word(start_info) != MAGIC || word(start_info + 4) < 1 {
            return Err("this is no PVH start info of version 1 or later: QEMU 7.2 or later is needed");
        }
        let (table, entries) = (quad(start_info + 40), word(start_info + 48));
        if table >> 32 != 0 || entries as usize > MOST {
            return Err("the firmware's memory map cannot be read");
        }
        let mut map = Self { ranges: [Range::default(); MOST + 3], count: 0, rsdp: quad(start_info + 32) };
        let mut found = false;
        for at in (0..u64::from(entries)).map(|index| table + 24 * index) {
            let range = Range { base: quad(at), size: quad(at + 8), kind: word(at + 16) };
            let end = range.base.saturating_add(range.size);
            if range.kind != RAM {
                map.push(range);
            } else if range.base < home && home < end {
                found = true;
                map.push(Range { size: home - range.base, ..range });
                map.push(Range { base: home, size: end - home, kind: RESERVED });
            } else if range.base < STUB && STUB < end {
                map.push(Range { size: STUB - range.base, ..range });
                map.push(Range { base: STUB, size: end - STUB, kind: RESERVED });
            } else if end <= home {
                map.push(range);
            } else {
                // Memory behind L0's region would be behind 4 GiB: the host side gives less.
                map.push(Range { kind: RESERVED, ..range });
            }
        }
        if found { Ok(map) } else { Err("there is no memory where L0 is to live") }
    }

    fn push(&mut self, range: Range) {
        if let Some(slot) = self.ranges.get_mut(self.count) {
            *slot = range;
            self.count += 1;
        }
    }

    /// What L1 gets.
    pub(crate) fn ranges(&self) -> &[Range] {
        self.ranges.get(..self.count).unwrap_or(&[])
    }

    /// Physical address of ACPI's RSDP; 0 where the firmware names none.
    pub(crate) const fn rsdp(&self) -> u64 {
        self.rsdp
    }

    /// Where L0's region ends: what lies behind it are the firmware's tables, which L1 may read.
    pub(crate) fn region_end(&self, home: u64) -> u64 {
        let mine = self.ranges().iter().find(|range| range.base == home && range.kind == RESERVED);
        mine.map_or(home + REGION, |range| home + range.size)
    }
}
