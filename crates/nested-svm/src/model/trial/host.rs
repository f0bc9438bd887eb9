//! The host of a trial: physical memory, its frames, and L0's map of each VM's memory.

use super::choices::Choices;
use crate::l0::memory::{Memory, NoMemory};
use crate::model::paging::{A, ADDRESS, D, HostMemory, P, RW, US};
use crate::shadow::tables::{HostBlock, MIN_PAGES, Tables};
use core::cell::{Cell, RefCell};
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

/// Host physical address of the first frame.
pub(super) const BASE: u64 = 0x1_0000_0000;
/// Frames in a block of 2 MiB.
const BLOCK: u64 = 512;
/// Blocks of guest memory.
const BLOCKS: u64 = 8;
/// Frames outside of blocks, for pages that L0 moves.
const SPARE: u64 = 48;
/// VMs that exist at the same time.
pub(super) const SLOTS: usize = 3;
/// Largest number of pages for shadow tables of a VM.
pub(super) const SHADOW_PAGES: u64 = 40;
/// Pages of L0's own tables for a VM: two roots, and one table each for levels 3 and 2, and two for level 1.
const L0_TABLES: u64 = 6;
const PER_SLOT: u64 = SHADOW_PAGES + L0_TABLES;
const FRAMES: u64 = BLOCKS * BLOCK + SPARE + SLOTS as u64 * PER_SLOT;
/// Blocks of guest memory of a VM.
const VM_BLOCKS: u64 = 2;
/// Pages of guest memory of a VM.
pub(super) const VM_PAGES: u64 = VM_BLOCKS * BLOCK;

/// All physical memory of the host.
#[derive(Debug)]
pub(super) struct Physical(RefCell<Vec<u64>>);

impl Physical {
    fn new() -> Self {
        Self(RefCell::new(vec![0; (FRAMES * 512) as usize]))
    }

    fn index(address: u64) -> Option<usize> {
        address.checked_sub(BASE).map(|offset| (offset >> 3) as usize)
    }

    fn copy_frame(&self, from: u64, to: u64) {
        let (from, to) = ((from * 512) as usize, (to * 512) as usize);
        self.0.borrow_mut().copy_within(from..from + 512, to);
    }

    fn clear_frame(&self, frame: u64) {
        let first = (frame * 512) as usize;
        self.0.borrow_mut()[first..first + 512].fill(0);
    }
}

/// An entry outside of this memory reads as zero, and a write to it is ignored.
impl HostMemory for Physical {
    fn entry(&self, address: u64) -> u64 {
        Self::index(address).and_then(|index| self.0.borrow().get(index).copied()).unwrap_or(0)
    }

    fn set_entry(&self, address: u64, entry: u64) {
        let mut words = self.0.borrow_mut();
        if let Some(word) = Self::index(address).and_then(|index| words.get_mut(index)) {
            *word = entry;
        }
    }
}

/// Host physical address of a frame.
pub(super) const fn frame_address(frame: u64) -> u64 {
    BASE + frame * 4096
}

/// L0's mapping of a page of L1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mapping {
    /// The frame.
    pub(super) frame: u64,
    /// L1 can access the page.
    pub(super) present: bool,
    /// L1 can write the page.
    pub(super) writable: bool,
}

/// L1's memory as L0 maps it.
#[derive(Clone, Debug)]
pub(super) struct VmMemory {
    pub(super) physical: Rc<Physical>,
    map: Rc<Vec<Cell<Mapping>>>,
    /// First frame of L0's own tables for this VM.
    tables: u64,
    /// Which of the two roots L0 uses.
    root: Rc<Cell<u64>>,
}

impl VmMemory {
    /// Returns the mapping of a page. Pages outside of L1's memory have none.
    pub(super) fn mapping(&self, page: u64) -> Option<Mapping> {
        self.map.get(page as usize).map(Cell::get)
    }

    /// Changes the mapping of a page, in L0's own tables too. The caller must flush.
    pub(super) fn set_mapping(&self, page: u64, mapping: Mapping) {
        self.map[page as usize].set(mapping);
        let flags = if mapping.present { P | US | A | D } else { 0 } | if mapping.writable { RW } else { 0 };
        let table = self.tables + 4 + (page >> 9);
        let at = frame_address(table) + (page & 0x1FF) * 8;
        self.physical.set_entry(at, frame_address(mapping.frame) | flags);
    }

    /// N_CR3 of L1.
    pub(super) fn n_cr3(&self) -> u64 {
        frame_address(self.tables + self.root.get())
    }

    /// Builds L0's tables again under the other root. The caller must flush.
    pub(super) fn switch_root(&self) {
        let old = self.tables + self.root.get();
        self.root.set(1 - self.root.get());
        self.build_upper_tables();
        self.physical.clear_frame(old);
    }

    fn build_upper_tables(&self) {
        let root = self.tables + self.root.get();
        let (level_3, level_2, level_1) = (self.tables + 2, self.tables + 3, self.tables + 4);
        let link = |table: u64, index: u64, next: u64| {
            self.physical.set_entry(frame_address(table) + index * 8, frame_address(next) | P | RW | US | A);
        };
        self.physical.clear_frame(root);
        link(root, 0, level_3);
        link(level_3, 0, level_2);
        for block in 0..VM_BLOCKS {
            link(level_2, block, level_1 + block);
        }
    }

    /// Calls `on_part` for each page of a range, with the host address and the matching range of the caller's
    /// bytes.
    fn parts(
        &self,
        address: u64,
        length: usize,
        write: bool,
        mut on_part: impl FnMut(u64, core::ops::Range<usize>),
    ) -> Result<(), NoMemory> {
        let mut done = 0;
        while done < length {
            let at = address.checked_add(done as u64).ok_or(NoMemory)?;
            let mapping = self.mapping(at >> 12).filter(|mapping| mapping.present).ok_or(NoMemory)?;
            if write && !mapping.writable {
                return Err(NoMemory);
            }
            let part = (length - done).min(4096 - (at & 0xFFF) as usize);
            on_part(frame_address(mapping.frame) | at & 0xFFF, done..done + part);
            done += part;
        }
        Ok(())
    }
}

impl Memory for VmMemory {
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), NoMemory> {
        let words = self.physical.0.borrow();
        self.parts(address, bytes.len(), false, |host, part| {
            let (mut index, mut offset) = ((host - BASE) as usize >> 3, (host & 7) as usize);
            let mut rest = &mut bytes[part];
            while !rest.is_empty() {
                let count = rest.len().min(8 - offset);
                let (now, later) = rest.split_at_mut(count);
                now.copy_from_slice(&words[index].to_le_bytes()[offset..offset + count]);
                (rest, index, offset) = (later, index + 1, 0);
            }
        })
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), NoMemory> {
        let mut words = self.physical.0.borrow_mut();
        self.parts(address, bytes.len(), true, |host, part| {
            let (mut index, mut offset) = ((host - BASE) as usize >> 3, (host & 7) as usize);
            let mut rest = &bytes[part];
            while !rest.is_empty() {
                let count = rest.len().min(8 - offset);
                let mut word = words[index].to_le_bytes();
                word[offset..offset + count].copy_from_slice(&rest[..count]);
                words[index] = u64::from_le_bytes(word);
                (rest, index, offset) = (&rest[count..], index + 1, 0);
            }
        })
    }
}

/// The pages of a VM for shadow tables, and L0's map for the engine.
#[derive(Debug)]
pub(super) struct VmTables {
    pub(super) memory: VmMemory,
    first: u64,
    count: u64,
}

impl Tables for VmTables {
    fn count(&self) -> u16 {
        self.count as u16
    }

    fn base(&self) -> u64 {
        frame_address(self.first)
    }

    fn entry(&self, page: u16, index: u16) -> u64 {
        self.memory.physical.entry(self.base() + u64::from(page) * 4096 + u64::from(index) * 8)
    }

    fn set_entry(&mut self, page: u16, index: u16, entry: u64) {
        let at = self.base() + u64::from(page) * 4096 + u64::from(index) * 8;
        self.memory.physical.set_entry(at, entry);
    }

    fn clear(&mut self, page: u16) {
        self.memory.physical.clear_frame(self.first + u64::from(page));
    }

    fn host(&self, address: u64, bits: u8) -> Option<HostBlock> {
        let present = |mapping: &Mapping| mapping.present;
        let first = self.memory.mapping(address >> 12).filter(present)?;
        if bits > 12 {
            let pages = 1 << (bits - 12);
            let whole = first.frame % pages == 0
                && (0..pages).all(|page| {
                    let mapping = self.memory.mapping((address >> 12) + page).filter(present);
                    mapping.is_some_and(|mapping| {
                        mapping.frame == first.frame + page && mapping.writable == first.writable
                    })
                });
            if !whole {
                return None;
            }
        }
        let all = HostBlock::with_all_rights(frame_address(first.frame));
        Some(HostBlock { writable: first.writable, ..all })
    }
}

/// The frames of the host: which are free.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) physical: Rc<Physical>,
    free_blocks: Vec<u64>,
    spare: Vec<u64>,
}

/// The blocks that a VM got.
pub(super) type Blocks = [u64; VM_BLOCKS as usize];

impl Host {
    pub(super) fn new() -> Self {
        Self {
            physical: Rc::new(Physical::new()),
            free_blocks: (0..BLOCKS).collect(),
            spare: (BLOCKS * BLOCK..BLOCKS * BLOCK + SPARE).collect(),
        }
    }

    /// Allocates the memory of a new VM. The pages of a scattered VM are not contiguous.
    pub(super) fn create(
        &mut self,
        slot: usize,
        scattered: bool,
        choices: &mut Choices,
    ) -> (VmMemory, VmTables, Blocks) {
        let blocks = core::array::from_fn(|_| {
            let chosen = choices.below(self.free_blocks.len() as u64) as usize;
            self.free_blocks.swap_remove(chosen)
        });
        let first = BLOCKS * BLOCK + SPARE + slot as u64 * PER_SLOT;
        let unmapped = Cell::new(Mapping { frame: 0, present: false, writable: false });
        let memory = VmMemory {
            physical: Rc::clone(&self.physical),
            map: Rc::new(vec![unmapped; VM_PAGES as usize]),
            tables: first + SHADOW_PAGES,
            root: Rc::new(Cell::new(0)),
        };
        for page in 0..VM_PAGES {
            let order = if scattered { page * 5 } else { page };
            let frame = blocks[(page / BLOCK) as usize] * BLOCK + order % BLOCK;
            memory.set_mapping(page, Mapping { frame, present: true, writable: true });
        }
        memory.build_upper_tables();
        let count = if choices.one_in(2) { SHADOW_PAGES } else { u64::from(MIN_PAGES) + choices.below(12) };
        let tables = VmTables { memory: memory.clone(), first, count };
        (memory, tables, blocks)
    }

    /// Frees the memory of a VM.
    pub(super) fn destroy(&mut self, memory: &VmMemory, blocks: Blocks) {
        for mapping in memory.map.iter().map(Cell::get) {
            if mapping.frame >= BLOCKS * BLOCK {
                self.spare.push(mapping.frame);
            }
        }
        self.free_blocks.extend(blocks);
    }

    /// Moves a page of a VM to another frame. Returns whether a frame was free. The caller must flush.
    pub(super) fn move_page(
        &mut self,
        memory: &VmMemory,
        blocks: Blocks,
        page: u64,
        choices: &mut Choices,
    ) -> bool {
        let Some(old) = memory.mapping(page) else { return false };
        let home = blocks[(page / BLOCK) as usize] * BLOCK;
        let is_spare = old.frame >= BLOCKS * BLOCK;
        let frame = if is_spare && choices.one_in(2) {
            // The page returns to its block, into a frame that no page of the block uses.
            match free_in_block(memory, home, page) {
                Some(frame) => frame,
                None => return false,
            }
        } else if self.spare.is_empty() {
            return false;
        } else {
            let chosen = choices.below(self.spare.len() as u64) as usize;
            self.spare.swap_remove(chosen)
        };
        self.physical.copy_frame(old.frame, frame);
        memory.set_mapping(page, Mapping { frame, ..old });
        if is_spare {
            self.spare.push(old.frame);
        }
        true
    }
}

/// A frame of the block that no page of the block uses.
fn free_in_block(memory: &VmMemory, home: u64, page: u64) -> Option<u64> {
    let first = page / BLOCK * BLOCK;
    let mut used = [false; BLOCK as usize];
    for other in first..first + BLOCK {
        let frame = memory.mapping(other)?.frame;
        if let Some(used) = frame.checked_sub(home).and_then(|offset| used.get_mut(offset as usize)) {
            *used = true;
        }
    }
    used.iter().position(|used| !used).map(|offset| home + offset as u64)
}

/// Reads an entry of a table in L1's memory.
pub(super) fn l1_entry(memory: &VmMemory, address: u64) -> Option<u64> {
    let mapping = memory.mapping(address >> 12).filter(|mapping| mapping.present)?;
    Some(memory.physical.entry(frame_address(mapping.frame) | address & 0xFF8))
}

/// Address bits of an entry.
pub(super) const fn entry_target(entry: u64) -> u64 {
    entry & ADDRESS
}

impl VmMemory {
    /// Reads an entry at a host physical address.
    pub(super) fn physical_entry(&self, host: u64) -> u64 {
        self.physical.entry(host)
    }
}
