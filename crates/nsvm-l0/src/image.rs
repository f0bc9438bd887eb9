//! L1's image as a set of segments, and bounds-checked reads of its bytes.

use std::ops::Range;

/// A kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct L1 {
    /// Physical address of its entry, in 32-bit protected mode.
    pub entry: u32,
    /// What is loaded.
    pub segments: Vec<Segment>,
    /// It is a Linux kernel; else a multiboot one.
    pub linux: Option<Linux>,
}

/// Bytes of the image and where they go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Physical address.
    pub address: u32,
    /// Bytes in memory: what is not given is zero.
    pub size: u32,
    /// Bytes of the image.
    pub given: Range<usize>,
}

/// Why an image is no L1.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum L1Error {
    /// No header in the first 8 KiB.
    #[error(
        "it is no multiboot (version 1) kernel: its first 8 KiB have no header (1BADB002h, flags, checksum); and it is \
         no Linux kernel (bzImage): no `HdrS` at 202h"
    )]
    NoHeader,
    /// The header asks for what L0 does not do.
    #[error("its multiboot header asks for what L0 does not give: flags {0:#x}, of which 10003h are known")]
    Flags(u32),
    /// The header has no addresses, and the file is not ELF.
    #[error("its multiboot header has no addresses (flag 16), and it is no ELF file for x86")]
    NotElf,
    /// A Linux kernel that is too old.
    #[error("this Linux kernel has version {}.{:02} of the boot protocol: 2.12 is needed (Linux 3.8)", .0 >> 8, .0 & 0xFF)]
    Protocol(u16),
    /// A table or a segment lies outside of the file.
    #[error("it is cut off or damaged: {0}")]
    Damaged(&'static str),
}

/// What is to be known of a Linux kernel beside what goes where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Linux {
    /// Its setup header: the bytes of the image from 1F1h on.
    pub header: Range<usize>,
    /// The longest command line.
    pub command_line: u32,
    /// The highest address that its initrd may have a byte at.
    pub initrd_max: u32,
}

/// A number of the image, little endian.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl Bytes<'_> {
    pub(crate) fn get(&self, range: Range<usize>) -> Option<&[u8]> {
        self.0.get(range)
    }

    pub(crate) fn number<const N: usize>(&self, at: u64) -> Result<u64, L1Error> {
        let at = usize::try_from(at).ok();
        let bytes = at.and_then(|at| self.0.get(at..)?.first_chunk::<N>());
        let bytes = bytes.ok_or(L1Error::Damaged("a header lies outside of the file"))?;
        Ok(bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    pub(crate) fn word(&self, at: u64) -> Result<u32, L1Error> {
        self.number::<4>(at).map(|word| word as u32)
    }
}
