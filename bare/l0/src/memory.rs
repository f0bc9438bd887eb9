//! L1's physical memory, and the nested tables that it runs on.
//!
//! An address of L1 is the same address of the machine, but for L0's own region: there L1 finds one page, which holds
//! whatever was written to any of them, and so it does above 4 GiB.

use core::ops::Range;
use nested_svm::{HostBlock, Memory, NoMemory, Page, Tables};

const PAGE: u64 = 4096;
const LARGE: u64 = 2 << 20;
const TOP: u64 = 1 << 32;
/// Between them are the text screen, option ROMs and firmware.
const HOLE: (u64, u64) = (0xA_0000, 0x10_0000);

/// The last KiB below the BIOS's own data, which holds L0's handler of INT 15h and which L1 does not get.
pub(crate) const STUB: u64 = 0x9_F800;

/// L1's memory: from 0 to L0's home, without the hole below 1 MiB.
#[derive(Debug)]
pub(crate) struct Ram {
    end: u64,
}

impl Ram {
    /// `end` is where L0 begins.
    pub(crate) const fn new(end: u64) -> Self {
        Self { end }
    }

    /// 4 bytes, little endian.
    #[inline(always)]
    pub(crate) fn read_u32(&self, address: u64) -> Result<u32, NoMemory> {
        let mut bytes = [0; 4];
        self.read(address, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// A pointer to so many bytes, all of which are L1's.
    #[inline(always)]
    fn at(&self, address: u64, size: usize) -> Result<*mut u8, NoMemory> {
        let size = size as u64;
        let high = address >= HOLE.1 && address <= self.end && size <= self.end - address;
        let low = address < HOLE.0 && size <= HOLE.0 - address;
        if high || low { Ok(address as *mut u8) } else { Err(NoMemory) }
    }
}

impl Memory for Ram {
    #[inline(always)]
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), NoMemory> {
        let from = self.at(address, bytes.len())?;
        // SAFETY: the range is memory of L1, where nothing of L0 stands; memory is mapped to itself.
        unsafe { core::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len()) }
        Ok(())
    }

    #[inline(always)]
    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), NoMemory> {
        let to = self.at(address, bytes.len())?;
        // SAFETY: as above.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) }
        Ok(())
    }

    #[inline(always)]
    fn load(&self, address: u64, page: &mut Page, parts: &[Range<usize>]) -> Result<(), NoMemory> {
        // One test for all parts, which are constants: what is left are plain moves.
        let from = self.at(address, page.bytes().len())?;
        for part in parts {
            if let Some(bytes) = page.bytes_mut().get_mut(part.clone()) {
                // SAFETY: the page is memory of L1, where nothing of L0 stands, and the part lies within.
                unsafe { copy(from.add(part.start), bytes.as_mut_ptr(), bytes.len()) }
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn store(&mut self, address: u64, page: &Page, parts: &[Range<usize>]) -> Result<(), NoMemory> {
        let to = self.at(address, page.bytes().len())?;
        for part in parts {
            if let Some(bytes) = page.bytes().get(part.clone()) {
                // SAFETY: as above.
                unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to.add(part.start), bytes.len()) }
            }
        }
        Ok(())
    }
}

/// Copies bytes in straight-line code where their number is a constant: a call costs more for what a VMCB has.
///
/// # Safety
/// As of `copy_nonoverlapping`.
#[inline(always)]
unsafe fn copy(from: *const u8, to: *mut u8, size: usize) {
    const PIECE: usize = 64;
    let whole = size / PIECE * PIECE;
    let mut at = 0;
    while at < whole {
        // SAFETY: the caller's. The fence keeps the pieces from being put together into a call again.
        unsafe {
            to.add(at).cast::<[u64; 8]>().write_unaligned(from.add(at).cast::<[u64; 8]>().read_unaligned())
        }
        core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
        at += PIECE;
    }
    // SAFETY: the caller's.
    unsafe { core::ptr::copy_nonoverlapping(from.add(whole), to.add(whole), size - whole) }
}

/// A page of entries.
pub(crate) type Table = [u64; 512];

/// Present, writable, user.
const LINK: u64 = 7;
/// The same, accessed, dirty, and a 2 MiB page.
const BLOCK: u64 = 0xE7;
const LEAF: u64 = 0x67;
const PRESENT: u64 = 1;
const MIXED: usize = 4;

/// Nested tables of L1: to itself below 4 GiB, with L0's region and all above on one page.
#[repr(C, align(4096))]
pub(crate) struct Identity {
    top: Table,
    low: Table,
    high: Table,
    directories: [Table; 4],
    /// All of whose entries lead to the sink, by way of `sink_table`.
    sink_directory: Table,
    sink_table: Table,
    /// Of blocks that L0's region shares with others.
    mixed: [Table; MIXED],
    sink: [u64; 512],
}

/// Where a part of L0 is: it is mapped to itself.
fn address<T>(part: &T) -> u64 {
    core::ptr::from_ref(part) as u64
}

impl Identity {
    pub(crate) const fn new() -> Self {
        const EMPTY: Table = [0; 512];
        Self {
            top: EMPTY,
            low: EMPTY,
            high: EMPTY,
            directories: [EMPTY; 4],
            sink_directory: EMPTY,
            sink_table: EMPTY,
            mixed: [EMPTY; MIXED],
            sink: EMPTY,
        }
    }

    /// Fills them in. The region, of whole pages, is the host's.
    pub(crate) fn lay_out(&mut self, region: (u64, u64)) {
        let sink = address(&self.sink) | LEAF;
        self.sink_table = [sink; 512];
        self.sink_directory = [address(&self.sink_table) | LINK; 512];
        self.high = [address(&self.sink_directory) | LINK; 512];
        self.low = self.high;
        self.top = [address(&self.high) | LINK; 512];
        self.top[0] = address(&self.low) | LINK;
        let mut mixed = self.mixed.iter_mut();
        for (number, directory) in self.directories.iter_mut().enumerate() {
            self.low[number] = address(directory) | LINK;
            for (index, entry) in directory.iter_mut().enumerate() {
                let block = (512 * number + index) as u64 * LARGE;
                if block + LARGE <= region.0 || block >= region.1 {
                    *entry = block | BLOCK;
                    continue;
                }
                let Some(table) = mixed.next() else {
                    crate::log::fail(format_args!("L0's region takes more than {MIXED} blocks of 2 MiB"));
                };
                for (index, entry) in table.iter_mut().enumerate() {
                    let page = block + index as u64 * PAGE;
                    *entry = if (region.0..region.1).contains(&page) { sink } else { page | LEAF };
                }
                *entry = address(table) | LINK;
            }
        }
    }

    /// Physical address of the top level.
    pub(crate) fn root(&self) -> u64 {
        address(&self.top)
    }

    /// Physical address of the page where writes to what is not L1's land.
    pub(crate) fn sink(&self) -> u64 {
        address(&self.sink)
    }
}

/// Pages for the shadow of L1's nested tables.
#[derive(Debug)]
pub(crate) struct Pool {
    pages: &'static mut [Table],
    region: (u64, u64),
    sink: u64,
}

impl Pool {
    pub(crate) fn new(pages: &'static mut [Table], region: (u64, u64), sink: u64) -> Self {
        Self { pages, region, sink }
    }
}

impl Tables for Pool {
    fn count(&self) -> u16 {
        self.pages.len() as u16
    }

    fn base(&self) -> u64 {
        self.pages.as_ptr() as u64
    }

    fn entry(&self, page: u16, index: u16) -> u64 {
        let entry = self.pages.get(usize::from(page)).and_then(|page| page.get(usize::from(index)));
        entry.copied().unwrap_or(0)
    }

    fn set_entry(&mut self, page: u16, index: u16, entry: u64) {
        let slot = self.pages.get_mut(usize::from(page)).and_then(|page| page.get_mut(usize::from(index)));
        if let Some(slot) = slot {
            *slot = entry;
        }
    }

    fn clear(&mut self, page: u16) {
        if let Some(page) = self.pages.get_mut(usize::from(page)) {
            *page = [0; 512];
        }
    }

    fn host(&self, address: u64, bits: u8) -> Option<HostBlock> {
        let size = 1 << bits;
        let last = address.checked_add(size)?;
        if last <= TOP && (last <= self.region.0 || address >= self.region.1) {
            return Some(HostBlock::with_all_rights(address));
        }
        // Devices are reached as L1 reaches them; what L1 does not have is the page that it sees there.
        (size == PAGE).then_some(HostBlock::with_all_rights(self.sink))
    }
}

/// A walk of a guest's own page tables, which stand in its `memory`, for the bytes of an instruction.
pub(crate) fn translate<M: Memory>(memory: &M, vmcb: vmcb::Vmcb<'_>, linear: u64) -> Option<u64> {
    use vmcb::{Cr0, Cr4, Efer};
    const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;
    if !vmcb.cr0().contains(Cr0::PG) {
        return Some(linear & 0xFFFF_FFFF);
    }
    let (cr4, cr3) = (vmcb.cr4(), vmcb.read(vmcb::layout::vmcb_field::cr3));
    let long = vmcb.efer().contains(Efer::LMA);
    if !long && !cr4.contains(Cr4::PAE) {
        let entry = |table: u64, shift: u32| {
            let mut bytes = [0; 4];
            memory.read((table & 0xFFFF_F000) + (linear >> shift & 0x3FF) * 4, &mut bytes).ok()?;
            Some(u64::from(u32::from_le_bytes(bytes))).filter(|entry| entry & PRESENT != 0)
        };
        let directory = entry(cr3, 22)?;
        if directory & 0x80 != 0 && cr4.contains(Cr4::PSE) {
            let high = (directory >> 13 & 0xFF) << 32;
            return Some(high | directory & 0xFFC0_0000 | linear & 0x3F_FFFF);
        }
        return Some(entry(directory, 12)? & 0xFFFF_F000 | linear & 0xFFF);
    }
    let levels = if !long {
        3
    } else if cr4.contains(Cr4::LA57) {
        5
    } else {
        4
    };
    let mut table = if long { cr3 & ADDRESS } else { cr3 & 0xFFFF_FFE0 };
    for level in (1..=levels).rev() {
        let shift = 12 + 9 * (level - 1);
        let indices = if !long && level == 3 { 3 } else { 0x1FF };
        let entry = memory.read_u64(table + (linear >> shift & indices) * 8).ok()?;
        if entry & PRESENT == 0 {
            return None;
        }
        let pointer = !long && level == 3;
        if level == 1 || (level <= 3 && !pointer && entry & 0x80 != 0) {
            let inside = (1 << shift) - 1;
            return Some(entry & ADDRESS & !inside | linear & inside);
        }
        table = entry & ADDRESS;
    }
    None
}
