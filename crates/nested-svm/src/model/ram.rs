//! L1's memory.

use crate::l0::memory::{Memory, NoMemory};
use crate::l0::page::Page;
use core::cell::{Cell, RefCell};
use std::vec;
use std::vec::Vec;

/// L1's memory, from 0 on. Holes can be made, reads are counted, and another CPU of L1 can be played.
#[derive(Debug)]
pub struct Ram {
    bytes: RefCell<Vec<u8>>,
    /// How often each byte of the page that is watched was read.
    reads: RefCell<Vec<u32>>,
    /// The page whose reads are counted.
    pub watched: Option<u64>,
    /// Each byte of the watched page turns into its complement as soon as it was read.
    pub turns: bool,
    /// Pages that are no memory.
    pub holes: Vec<u64>,
    /// Pages that L1 cannot write.
    pub read_only: Vec<u64>,
    /// The next exchanges find another value than the one that was read.
    pub races: Cell<u32>,
}

impl Ram {
    /// So many bytes of zeros.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self {
            bytes: RefCell::new(vec![0; size]),
            reads: RefCell::new(vec![0; 4096]),
            watched: None,
            turns: false,
            holes: Vec::new(),
            read_only: Vec::new(),
            races: Cell::new(0),
        }
    }

    /// How often each byte of the watched page was read.
    #[must_use]
    pub fn reads(&self) -> Vec<u32> {
        self.reads.borrow().clone()
    }

    /// A copy of the page at an address.
    ///
    /// # Panics
    /// Where there is none.
    #[must_use]
    pub fn page(&self, address: u64) -> Page {
        let mut page = Page::zeroed();
        let bytes = self.bytes.borrow();
        page.bytes_mut().copy_from_slice(&bytes[address as usize..address as usize + 4096]);
        page
    }

    /// Writes a page.
    ///
    /// # Panics
    /// Where there is none.
    pub fn put(&mut self, address: u64, page: &Page) {
        self.write(address, page.bytes()).expect("there is memory");
    }

    /// Writes a little-endian number.
    ///
    /// # Panics
    /// Where there is no memory.
    pub fn put_u64(&mut self, address: u64, value: u64) {
        self.write(address, &value.to_le_bytes()).expect("there is memory");
    }

    fn range(&self, address: u64, length: usize) -> Result<core::ops::Range<usize>, NoMemory> {
        let start = usize::try_from(address).map_err(|_| NoMemory)?;
        let end =
            start.checked_add(length).filter(|&end| end <= self.bytes.borrow().len()).ok_or(NoMemory)?;
        let pages = start >> 12..=(end.max(start + 1) - 1) >> 12;
        let hole = self.holes.iter().any(|&hole| pages.contains(&(hole as usize >> 12)));
        if hole { Err(NoMemory) } else { Ok(start..end) }
    }
}

impl Memory for Ram {
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), NoMemory> {
        let range = self.range(address, bytes.len())?;
        let mut memory = self.bytes.borrow_mut();
        bytes.copy_from_slice(&memory[range.clone()]);
        if self.watched == Some(address & !0xFFF) {
            for at in range {
                self.reads.borrow_mut()[at & 0xFFF] += 1;
                if self.turns {
                    memory[at] = !memory[at];
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), NoMemory> {
        let range = self.range(address, bytes.len())?;
        if self.read_only.iter().any(|&page| page >> 12 == address >> 12) {
            return Err(NoMemory);
        }
        self.bytes.get_mut()[range].copy_from_slice(bytes);
        Ok(())
    }

    fn exchange(&mut self, address: u64, old: u64, new: u64) -> Result<bool, NoMemory> {
        if self.races.get() > 0 {
            self.races.set(self.races.get() - 1);
            return Ok(false);
        }
        if self.read_u64(address)? != old {
            return Ok(false);
        }
        self.write(address, &new.to_le_bytes())?;
        Ok(true)
    }
}
