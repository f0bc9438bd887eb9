//! L1's image: a multiboot (version 1) kernel, or a [Linux one](crate::linux), taken apart into what goes where in memory.

use crate::linux::{self, Linux};
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

const MAGIC: u32 = 0x1BAD_B002;
const SEARCHED: usize = 8192;
/// Modules on pages, memory sizes; the second is always given.
const KNOWN_FLAGS: u32 = 3 | ADDRESSES;
/// Of the lower 16 flags the loader must know all.
const MANDATORY: u32 = 0xFFFF;
const ADDRESSES: u32 = 1 << 16;
/// More program headers than this are damage.
const MOST_SEGMENTS: u64 = 64;

/// A number of the image, little endian.
pub(crate) struct Bytes<'a>(&'a [u8]);

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

impl L1 {
    /// Takes an image apart.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(image: &[u8]) -> Result<Self, L1Error> {
        let bytes = Bytes(image);
        if linux::is_linux(&bytes) {
            return linux::parse(&bytes);
        }
        let header = (0..SEARCHED as u64).step_by(4).find(|&at| {
            let words = [at, at + 4, at + 8].map(|at| bytes.word(at).unwrap_or(0));
            words[0] == MAGIC && words.iter().fold(0, |sum: u32, &word| sum.wrapping_add(word)) == 0
        });
        let header = header.ok_or(L1Error::NoHeader)?;
        let flags = bytes.word(header + 4)?;
        if flags & MANDATORY & !KNOWN_FLAGS != 0 {
            return Err(L1Error::Flags(flags));
        }
        let l1 = if flags & ADDRESSES != 0 { by_addresses(&bytes, header)? } else { elf(&bytes)? };
        if l1.segments.is_empty() { Err(L1Error::Damaged("nothing of it is loaded")) } else { Ok(l1) }
    }
}

/// By the addresses of the header: header, first and last byte loaded, end of what is zero, entry.
fn by_addresses(bytes: &Bytes<'_>, header: u64) -> Result<L1, L1Error> {
    let mut words = [0; 5];
    for (word, at) in words.iter_mut().zip((header + 12..).step_by(4)) {
        *word = bytes.word(at)?;
    }
    let [own, load, load_end, bss_end, entry] = words;
    const ORDER: L1Error = L1Error::Damaged("the addresses of its multiboot header are out of order");
    let before = u64::from(own.checked_sub(load).ok_or(ORDER)?);
    let start = header.checked_sub(before).ok_or(ORDER)? as usize;
    let end = match load_end {
        0 => bytes.0.len(),
        end => start + end.checked_sub(load).ok_or(ORDER)? as usize,
    };
    let given = start..end;
    let length =
        bytes.0.get(given.clone()).ok_or(L1Error::Damaged("it is shorter than its header says"))?.len();
    let length = u32::try_from(length).map_err(|_| ORDER)?;
    let size = match bss_end {
        0 => length,
        end => end.checked_sub(load).ok_or(ORDER)?.max(length),
    };
    load.checked_add(size).ok_or(ORDER)?;
    Ok(L1 { entry, segments: vec![Segment { address: load, size, given }], linux: None })
}

/// By the program headers of an ELF file of either class; the entry is entered in 32-bit mode all the same.
fn elf(bytes: &Bytes<'_>) -> Result<L1, L1Error> {
    const PT_LOAD: u32 = 1;
    const DAMAGED: L1Error = L1Error::Damaged("a segment lies outside of the file, or beyond 4 GiB");
    if bytes.0.get(..4) != Some(b"\x7fELF") {
        return Err(L1Error::NotElf);
    }
    let wide = match bytes.0.get(4..6) {
        Some([1, 1]) => false,
        Some([2, 1]) => true,
        _ => return Err(L1Error::NotElf),
    };
    let number = |at: u64| if wide { bytes.number::<8>(at) } else { bytes.number::<4>(at) };
    let half = |at: u64| bytes.number::<2>(at);
    let entry = number(24)?;
    let (table, sizes) = if wide { (number(32)?, 54) } else { (number(28)?, 42) };
    let (row, count) = (half(sizes)?, half(sizes + 2)?);
    if count > MOST_SEGMENTS {
        return Err(L1Error::Damaged("it has too many segments"));
    }
    // Places of: offset, virtual and physical address, size in the file and in memory.
    let places = if wide { [8, 16, 24, 32, 40] } else { [4, 8, 12, 16, 20] };
    let mut segments = Vec::new();
    let mut physical_entry = None;
    for index in 0..count {
        let header = table.checked_add(row * index).ok_or(DAMAGED)?;
        if bytes.word(header)? != PT_LOAD {
            continue;
        }
        let mut values = [0; 5];
        for (value, place) in values.iter_mut().zip(places) {
            *value = number(header.checked_add(place).ok_or(DAMAGED)?)?;
        }
        let [offset, virtual_address, address, given, size] = values;
        if size == 0 {
            continue;
        }
        let end = offset.checked_add(given).and_then(|end| usize::try_from(end).ok()).ok_or(DAMAGED)?;
        let given = offset as usize..end;
        let fits = bytes.0.get(given.clone()).is_some_and(|given| given.len() as u64 <= size);
        let narrow = |value: u64| u32::try_from(value).map_err(|_| DAMAGED);
        narrow(address.checked_add(size).ok_or(DAMAGED)?)?;
        if !fits {
            return Err(DAMAGED);
        }
        if let Some(inside) = entry.checked_sub(virtual_address).filter(|&inside| inside < size) {
            physical_entry = Some(narrow(address + inside)?);
        }
        segments.push(Segment { address: narrow(address)?, size: narrow(size)?, given });
    }
    let entry = physical_entry.ok_or(L1Error::Damaged("its entry lies in none of its segments"))?;
    Ok(L1 { entry, segments, linux: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// A flat kernel of 4 words of code behind its header, loaded at 1 MiB.
    fn flat(load: u32, load_end: u32, bss_end: u32) -> Vec<u8> {
        let mut image = vec![0x90; 16];
        let flags = ADDRESSES;
        image.extend(words(&[
            MAGIC,
            flags,
            0_u32.wrapping_sub(MAGIC + flags),
            load.wrapping_add(16),
            load,
            load_end,
            bss_end,
            load.wrapping_add(48),
        ]));
        image.extend([0xF4; 16]);
        image
    }

    #[test]
    fn a_flat_kernel() {
        let l1 = L1::parse(&flat(0x10_0000, 0, 0x10_1000)).expect("a kernel");
        assert_eq!(l1.entry, 0x10_0030);
        assert_eq!(l1.segments, [Segment { address: 0x10_0000, size: 0x1000, given: 0..64 }]);
        let l1 = L1::parse(&flat(0x10_0000, 0x10_0038, 0)).expect("a kernel");
        assert_eq!(l1.segments, [Segment { address: 0x10_0000, size: 56, given: 0..56 }]);
        let cut = L1::parse(&flat(0x10_0000, 0x10_1000, 0));
        assert_eq!(cut, Err(L1Error::Damaged("it is shorter than its header says")));
        assert!(L1::parse(&flat(0xFFFF_FFF0, 0, 0)).is_err(), "beyond 4 GiB");
        assert!(L1::parse(&flat(0x10_0000, 0xF_0000, 0)).is_err(), "it ends before it begins");
    }

    fn elf32(entry: u32, physical: u32) -> Vec<u8> {
        let mut image = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        image.extend(words(&[3 << 16 | 2, 1, entry, 52, 0, 0, 32 << 16 | 52, 1, 0]));
        image.extend(words(&[1, 84, 0xC010_0000, physical, 16, 0x2000, 7, 4096]));
        image.extend(words(&[MAGIC, 3, 0_u32.wrapping_sub(MAGIC + 3), 0]));
        image
    }

    #[test]
    fn an_elf_kernel_whose_entry_is_virtual() {
        let image = elf32(0xC010_000C, 0x10_0000);
        let l1 = L1::parse(&image).expect("a kernel");
        assert_eq!(
            l1,
            L1 {
                entry: 0x10_000C,
                segments: vec![Segment { address: 0x10_0000, size: 0x2000, given: 84..100 }],
                linux: None,
            }
        );
        assert!(L1::parse(&elf32(0x10_0000, 0x10_0000)).is_err(), "an entry outside");
        assert!(L1::parse(&elf32(0xC010_0000, 0xFFFF_F000)).is_err(), "beyond 4 GiB");
    }

    #[test]
    fn damage_is_an_error_and_no_panic() {
        let image = elf32(0xC010_000C, 0x10_0000);
        for length in 0..image.len() {
            let _ = L1::parse(&image[..length]);
        }
        for place in 0..image.len() {
            for value in [0, 1, 0x7F, 0xFF] {
                let mut damaged = image.clone();
                damaged[place] = value;
                let _ = L1::parse(&damaged);
            }
        }
        assert_eq!(L1::parse(b"\x7fELF"), Err(L1Error::NoHeader));
        let mut video = image.clone();
        video[88] = 7;
        video[92] = video[92].wrapping_sub(4);
        assert_eq!(L1::parse(&video), Err(L1Error::Flags(7)));
    }
}
