//! L1's image: a multiboot (version 1) kernel, by the addresses in its header or as an ELF file.

use crate::image::{Bytes, L1, L1Error, Segment};
use object::elf::{FileHeader32, FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader as _};
use object::{FileKind, LittleEndian};

const MAGIC: u32 = 0x1BAD_B002;
const SEARCHED: usize = 8192;
/// Modules on pages, memory sizes; the second is always given.
const KNOWN_FLAGS: u32 = 3 | ADDRESSES;
/// Of the lower 16 flags the loader must know all.
const MANDATORY: u32 = 0xFFFF;
const ADDRESSES: u32 = 1 << 16;
/// More program headers than this are damage.
const MOST_SEGMENTS: u16 = 64;

/// Splits a multiboot kernel into its segments.
pub(crate) fn parse(bytes: &Bytes<'_>) -> Result<L1, L1Error> {
    let header = (0..SEARCHED as u64).step_by(4).find(|&at| {
        let words = [at, at + 4, at + 8].map(|at| bytes.word(at).unwrap_or(0));
        words[0] == MAGIC && words.iter().fold(0, |sum: u32, &word| sum.wrapping_add(word)) == 0
    });
    let header = header.ok_or(L1Error::NoHeader)?;
    let flags = bytes.word(header + 4)?;
    if flags & MANDATORY & !KNOWN_FLAGS != 0 {
        return Err(L1Error::Flags(flags));
    }
    let l1 = if flags & ADDRESSES != 0 { by_addresses(bytes, header)? } else { elf(bytes.0)? };
    if l1.segments.is_empty() { Err(L1Error::Damaged("nothing of it is loaded")) } else { Ok(l1) }
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
fn elf(image: &[u8]) -> Result<L1, L1Error> {
    match FileKind::parse(image) {
        Ok(FileKind::Elf32) => segments::<FileHeader32<LittleEndian>>(image),
        Ok(FileKind::Elf64) => segments::<FileHeader64<LittleEndian>>(image),
        _ => Err(L1Error::NotElf),
    }
}

fn segments<E: FileHeader<Endian = LittleEndian>>(image: &[u8]) -> Result<L1, L1Error> {
    const OUTSIDE: L1Error = L1Error::Damaged("a header lies outside of the file");
    const DAMAGED: L1Error = L1Error::Damaged("a segment lies outside of the file, or beyond 4 GiB");
    let header = E::parse(image).map_err(|_| OUTSIDE)?;
    header.endian().map_err(|_| L1Error::NotElf)?;
    if header.e_phnum(LittleEndian) > MOST_SEGMENTS {
        return Err(L1Error::Damaged("it has too many segments"));
    }
    let rows = header.program_headers(LittleEndian, image).map_err(|_| OUTSIDE)?;
    let entry: u64 = header.e_entry(LittleEndian).into();
    let mut segments = Vec::new();
    let mut physical_entry = None;
    for row in rows.iter().filter(|row| row.p_type(LittleEndian) == PT_LOAD) {
        let size: u64 = row.p_memsz(LittleEndian).into();
        if size == 0 {
            continue;
        }
        let (offset, given) = row.file_range(LittleEndian);
        let end = offset.checked_add(given).and_then(|end| usize::try_from(end).ok()).ok_or(DAMAGED)?;
        let range = offset as usize..end;
        let address: u64 = row.p_paddr(LittleEndian).into();
        let narrow = |value: u64| u32::try_from(value).map_err(|_| DAMAGED);
        narrow(address.checked_add(size).ok_or(DAMAGED)?)?;
        if given > size || image.get(range.clone()).is_none() {
            return Err(DAMAGED);
        }
        let start: u64 = row.p_vaddr(LittleEndian).into();
        if let Some(inside) = entry.checked_sub(start).filter(|&inside| inside < size) {
            physical_entry = Some(narrow(address + inside)?);
        }
        segments.push(Segment { address: narrow(address)?, size: narrow(size)?, given: range });
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
