//! A VMCB page that the engine reads and writes.

use vmcb::layout::{Field, PAGE_SIZE};
use vmcb::{Vmcb, VmcbMut};

/// The bytes of a VMCB.
///
/// VMRUN needs a VMCB at an address that is a multiple of 4096. This type does not guarantee that, because the compiler
/// miscompiles some functions that keep values with such an alignment on the stack (`docs/findings/`). An L0 aligns the
/// pages that it gives to the hardware: VMCB01 and VMCB02.
#[derive(Clone)]
#[repr(C, align(64))]
pub struct Page([u8; PAGE_SIZE]);

impl Page {
    /// A page of zeros, which is no legal VMCB.
    #[must_use]
    pub const fn zeroed() -> Self {
        Self([0; PAGE_SIZE])
    }

    /// Its bytes.
    #[must_use]
    #[inline(always)]
    pub const fn bytes(&self) -> &[u8; PAGE_SIZE] {
        &self.0
    }

    /// Its bytes.
    #[inline(always)]
    pub const fn bytes_mut(&mut self) -> &mut [u8; PAGE_SIZE] {
        &mut self.0
    }

    /// By field.
    #[must_use]
    #[inline(always)]
    pub const fn vmcb(&self) -> Vmcb<'_> {
        Vmcb::new(&self.0)
    }

    /// The same to write.
    #[inline(always)]
    pub const fn vmcb_mut(&mut self) -> VmcbMut<'_> {
        VmcbMut::new(&mut self.0)
    }

    /// A field of 1, 2, 4 or 8 bytes; of a larger one the first 8 bytes.
    // By its own slices: with the accessors of `vmcb`, VMRUN takes 42 instructions more (rustc 1.95).
    #[must_use]
    #[inline(always)]
    pub fn get(&self, field: Field) -> u64 {
        let at = usize::from(field.offset);
        match field.size {
            1 => u8::from_le_bytes(self.take(at)).into(),
            2 => u16::from_le_bytes(self.take(at)).into(),
            4 => u32::from_le_bytes(self.take(at)).into(),
            _ => u64::from_le_bytes(self.take(at)),
        }
    }

    /// Writes a field of 1, 2, 4 or 8 bytes; of a larger one the first 8 bytes. Higher bits of `value` are dropped.
    #[inline(always)]
    pub fn set(&mut self, field: Field, value: u64) {
        let at = usize::from(field.offset);
        match field.size {
            1 => self.put(at, [value as u8]),
            2 => self.put(at, (value as u16).to_le_bytes()),
            4 => self.put(at, (value as u32).to_le_bytes()),
            _ => self.put(at, value.to_le_bytes()),
        }
    }

    /// Writes the bits of `mask` and leaves the others.
    #[inline(always)]
    pub fn set_bits(&mut self, field: Field, mask: u64, value: u64) {
        let before = self.get(field);
        self.set(field, before & !mask | value & mask);
    }

    /// Takes a field of 1, 2, 4 or 8 to 16 bytes over from another page.
    #[inline(always)]
    pub fn copy(&mut self, from: &Self, field: Field) {
        self.set(field, from.get(field));
        if field.size > 8 {
            let rest = Field { offset: field.offset + field.size - 8, size: 8, ..field };
            self.set(rest, from.get(rest));
        }
    }

    #[inline(always)]
    fn take<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }

    #[inline(always)]
    fn put<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        // Offsets are constants of the layout, so nothing of this test is left in the code.
        if let Some(slot) = self.0.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
            *slot = bytes;
        }
    }
}

impl core::fmt::Debug for Page {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.vmcb().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmcb::layout::vmcb_field as f;

    #[test]
    fn fields_of_every_size() {
        let mut page = Page::zeroed();
        for (field, value) in [
            (f::cpl, 0x13),
            (f::pause_filter_count, 0x12345),
            (f::guest_asid, 0x1_2345_6789),
            (f::rip, u64::MAX),
        ] {
            page.set(field, value);
            let mask = if field.size == 8 { u64::MAX } else { (1 << (field.size * 8)) - 1 };
            assert_eq!(page.get(field), value & mask);
            page.set_bits(field, 0xF0, 0xABC);
            assert_eq!(page.get(field), value & mask & !0xF0 | 0xB0);
        }
        assert_eq!(page.get(f::efer), 0, "the neighbour of CPL");
        let mut other = Page::zeroed();
        page.bytes_mut()[0x410..0x420].copy_from_slice(&[7; 16]);
        other.copy(&page, f::cs);
        assert_eq!(other.bytes()[0x410..0x420], [7; 16]);
        assert_eq!(other.bytes()[0x420], 0);
    }
}
