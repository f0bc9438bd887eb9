//! rust-vmm's guest memory as L1's.

use super::memory::{Memory, NoMemory};
use core::sync::atomic::{AtomicU64, Ordering};
use vm_memory::{Bytes, GuestAddress, GuestMemory, VolatileMemory};

/// A [`GuestMemory`] as the [`Memory`] of L1: what its regions hold, and nothing else.
///
/// # Examples
/// ```
/// use nested_svm::{GuestRam, Memory, NoMemory};
/// use vm_memory::{GuestAddress, GuestMemoryMmap};
/// let ram = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0x1000), 0x2000)])?;
/// let mut memory = GuestRam(&ram);
/// memory.write(0x1000, &[1, 2, 3])?;
/// assert_eq!(memory.read_u64(0x1000), Ok(0x03_0201));
/// assert_eq!(memory.read_u64(0x2FFC), Err(NoMemory));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct GuestRam<'a, M: ?Sized>(pub &'a M);

impl<M: GuestMemory + ?Sized> Memory for GuestRam<'_, M> {
    fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), NoMemory> {
        self.0.read_slice(bytes, GuestAddress(address)).map_err(|_| NoMemory)
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), NoMemory> {
        self.0.write_slice(bytes, GuestAddress(address)).map_err(|_| NoMemory)
    }

    fn exchange(&mut self, address: u64, old: u64, new: u64) -> Result<bool, NoMemory> {
        let slice = self.0.get_slice(GuestAddress(address), 8).map_err(|_| NoMemory)?;
        let entry = slice.get_atomic_ref::<AtomicU64>(0).map_err(|_| NoMemory)?;
        let (old, new) = (old.to_le(), new.to_le());
        Ok(entry.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Page;
    use vm_memory::GuestMemoryMmap;

    #[test]
    fn regions_and_the_hole_between_them() {
        let ranges = [(GuestAddress(0), 0x2000), (GuestAddress(0x4000), 0x1000)];
        let ram = GuestMemoryMmap::<()>::from_ranges(&ranges).unwrap();
        let mut memory = GuestRam(&ram);
        for (address, there) in [
            (0, true),
            (0x1FF8, true),
            (0x1FFC, false),
            (0x2000, false),
            (0x3FFC, false),
            (0x4000, true),
            (0x4FF8, true),
            (0x4FF9, false),
            (u64::MAX - 3, false),
        ] {
            assert_eq!(memory.read_u64(address).is_ok(), there, "{address:#x}");
            assert_eq!(memory.write(address, &[7; 8]).is_ok(), there, "{address:#x}");
        }
        let mut page = Page::zeroed();
        memory.load(0x4000, &mut page, &[0..8, 0xFF8..0x1000]).unwrap();
        assert_eq!((page.bytes()[7], page.bytes()[8], page.bytes()[0xFFF]), (7, 0, 7));
        assert_eq!(memory.load(0x3000, &mut page, &[0..8, 8..16]), Err(NoMemory));
        page.bytes_mut().fill(9);
        memory.store(0x4000, &page, &[8..16, 24..32]).unwrap();
        assert_eq!(memory.read_u64(0x4008), Ok(0x0909_0909_0909_0909));
    }

    #[test]
    fn exchanges_are_atomic_or_not_at_all() {
        let ram = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x1000)]).unwrap();
        let mut memory = GuestRam(&ram);
        assert_eq!(memory.exchange(8, 0, 0x1122_3344_5566_7788), Ok(true));
        assert_eq!(memory.exchange(8, 0, 5), Ok(false));
        let mut bytes = [0; 8];
        memory.read(8, &mut bytes).unwrap();
        assert_eq!(bytes, [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
        assert_eq!(memory.exchange(0xFFC, 0, 5), Err(NoMemory));
    }
}
