//! Reads the bundle, bounds-checked: it stands in memory of L1's, so L0 reads it before L1 runs and never again.

use bare_interface::l0::{HEAD, MAGIC, ROW};

/// The bundle.
#[derive(Clone, Copy)]
pub(crate) struct Bundle {
    bytes: &'static [u8],
}

/// A part of the bundle.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    pub(crate) offset: u32,
    pub(crate) size: u32,
}

/// Four words of a table.
pub(crate) type Row = [u32; 4];

impl Bundle {
    /// Nothing where it is no bundle, or cut off.
    pub(crate) fn new(bytes: &'static [u8]) -> Option<Self> {
        let bundle = Self { bytes };
        let magic = bytes.first_chunk().map(|magic| u64::from_le_bytes(*magic));
        let whole = bytes.len() >= HEAD && bundle.word(8) as usize == bytes.len();
        (magic == Some(MAGIC) && whole).then_some(bundle)
    }

    /// 4 bytes; 0 beyond the end.
    fn word(&self, at: usize) -> u32 {
        let bytes = self.bytes.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map_or(0, |word| u32::from_le_bytes(*word))
    }

    pub(crate) fn flags(&self) -> u32 {
        self.word(12)
    }

    pub(crate) fn dumps(&self) -> u32 {
        self.word(16)
    }

    pub(crate) fn reload(&self) -> u32 {
        self.word(64)
    }

    pub(crate) fn entry(&self) -> u32 {
        self.word(20)
    }

    fn part(&self, at: usize) -> Part {
        Part { offset: self.word(at), size: self.word(at + 4) }
    }

    /// The virtual CPU, as `Limits` encode it.
    pub(crate) fn limits(&self) -> &'static [u8] {
        self.bytes(self.part(24))
    }

    pub(crate) fn command_line(&self) -> Part {
        self.part(32)
    }

    /// Physical address, size in memory, offset, size of what is given.
    pub(crate) fn segments(&self) -> impl Iterator<Item = Row> {
        self.rows(40)
    }

    /// Offset, size, offset and size of the command line.
    pub(crate) fn modules(&self) -> impl Iterator<Item = Row> {
        self.rows(48)
    }

    /// The setup header of a Linux kernel; of size 0 where L1 is a multiboot kernel.
    pub(crate) fn setup_header(&self) -> Part {
        self.part(56)
    }

    fn rows(&self, at: usize) -> impl Iterator<Item = Row> {
        let (this, table) = (*self, self.part(at));
        (0..table.size as usize).map(move |index| {
            let row = table.offset as usize + ROW * index;
            [0, 4, 8, 12].map(|word| this.word(row + word))
        })
    }

    /// Empty where it is not all there.
    pub(crate) fn bytes(&self, part: Part) -> &'static [u8] {
        let (start, size) = (part.offset as usize, part.size as usize);
        start.checked_add(size).and_then(|end| self.bytes.get(start..end)).unwrap_or(&[])
    }
}
