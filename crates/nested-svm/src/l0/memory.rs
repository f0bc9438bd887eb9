//! L1's physical memory, as L0 lends it to the engine.

use super::page::Page;
use core::ops::Range;

/// There is no memory at this address that L1 may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoMemory;

impl core::fmt::Display for NoMemory {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("there is no memory at this address that L1 may use")
    }
}

impl core::error::Error for NoMemory {}

/// L1's physical memory.
///
/// Other CPUs of L1 may write it at any time: the engine reads what it judges once, into copies of its own. An
/// implementation gives access to what L1 owns and to nothing else, whatever the address.
pub trait Memory {
    /// Reads `bytes.len()` bytes from a physical address of L1.
    ///
    /// # Errors
    /// [`NoMemory`] where not all of them are memory of L1; `bytes` may be partly filled.
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), NoMemory>;

    /// Writes bytes to a physical address of L1.
    ///
    /// # Errors
    /// [`NoMemory`] where not all of them are memory that L1 can write; some may be written.
    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), NoMemory>;

    /// Reads parts of the page at `address` into the same parts of `page`; each byte is read once.
    ///
    /// # Errors
    /// [`NoMemory`] as for [`Self::read`].
    #[inline(always)]
    fn load(&self, address: u64, page: &mut Page, parts: &[Range<usize>]) -> Result<(), NoMemory> {
        for part in parts {
            if let Some(bytes) = page.bytes_mut().get_mut(part.clone()) {
                self.read(address.checked_add(part.start as u64).ok_or(NoMemory)?, bytes)?;
            }
        }
        Ok(())
    }

    /// Writes parts of `page` to the same parts of the page at `address`.
    ///
    /// # Errors
    /// [`NoMemory`] as for [`Self::write`].
    #[inline(always)]
    fn store(&mut self, address: u64, page: &Page, parts: &[Range<usize>]) -> Result<(), NoMemory> {
        for part in parts {
            if let Some(bytes) = page.bytes().get(part.clone()) {
                self.write(address.checked_add(part.start as u64).ok_or(NoMemory)?, bytes)?;
            }
        }
        Ok(())
    }

    /// Writes `new` to 8 aligned bytes if they still read as `old`, atomically where L1 has other CPUs; tells whether
    /// they did. For the accessed and dirty bits of L1's nested page tables.
    ///
    /// # Errors
    /// [`NoMemory`] as for [`Self::write`].
    fn exchange(&mut self, address: u64, old: u64, new: u64) -> Result<bool, NoMemory> {
        if self.read_u64(address)? != old {
            return Ok(false);
        }
        self.write(address, &new.to_le_bytes())?;
        Ok(true)
    }

    /// A little-endian number.
    ///
    /// # Errors
    /// [`NoMemory`] as for [`Self::read`].
    fn read_u64(&self, address: u64) -> Result<u64, NoMemory> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}
