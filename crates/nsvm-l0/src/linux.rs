//! L1's image: a Linux kernel for x86 (bzImage), taken apart by its setup header.
//!
//! # Source
//! Linux's Documentation/arch/x86/boot.rst: the header, and the 32-bit boot protocol, which every such kernel has.

use crate::image::{Bytes, L1, L1Error, Linux, Segment};

/// What is in the header of a kernel, by its place in the file, which is its place in the zero page.
mod at {
    pub(super) const SETUP_SECTORS: u64 = 0x1F1;
    pub(super) const PARAGRAPHS: u64 = 0x1F4;
    pub(super) const BOOT_FLAG: u64 = 0x1FE;
    pub(super) const JUMP: u64 = 0x201;
    pub(super) const MAGIC: u64 = 0x202;
    pub(super) const VERSION: u64 = 0x206;
    pub(super) const LOAD_FLAGS: u64 = 0x211;
    pub(super) const INITRD_MAX: u64 = 0x22C;
    pub(super) const COMMAND_LINE: u64 = 0x238;
    pub(super) const PREFERRED: u64 = 0x258;
    pub(super) const INIT_SIZE: u64 = 0x260;
    /// Behind the longest header, there is another field of the zero page.
    pub(super) const LAST: u64 = 0x290;
}

/// The header has what is read here since 2.10; older kernels than those of 2.12 (Linux 3.8) were never tried.
const LEAST_VERSION: u16 = 0x020C;
const LOADED_HIGH: u64 = 1;
const SECTOR: u64 = 512;
const HIGH: u64 = 0x10_0000;

/// Whether it is meant to be a Linux kernel.
pub(crate) fn is_linux(bytes: &Bytes<'_>) -> bool {
    bytes.word(at::MAGIC) == Ok(u32::from_le_bytes(*b"HdrS"))
        && bytes.number::<2>(at::BOOT_FLAG) == Ok(0xAA55)
}

/// Takes a kernel apart. It goes where it says that it likes to be, so it need not be relocatable.
pub(crate) fn parse(bytes: &Bytes<'_>) -> Result<L1, L1Error> {
    let version = bytes.number::<2>(at::VERSION)? as u16;
    if version < LEAST_VERSION {
        return Err(L1Error::Protocol(version));
    }
    if bytes.number::<1>(at::LOAD_FLAGS)? & LOADED_HIGH == 0 {
        return Err(L1Error::Damaged("a Linux kernel of this age is loaded high, and its header says low"));
    }
    let end = at::MAGIC + bytes.number::<1>(at::JUMP)?;
    if !(at::INIT_SIZE + 4..=at::LAST).contains(&end) {
        return Err(L1Error::Damaged("the setup header of a Linux kernel does not end where one can"));
    }
    // No sectors are four, for the sake of old boot loaders.
    let sectors = match bytes.number::<1>(at::SETUP_SECTORS)? {
        0 => 4,
        sectors => sectors,
    };
    let start = (sectors + 1) * SECTOR;
    let size = bytes.number::<4>(at::PARAGRAPHS)? * 16;
    let (address, taken) = (bytes.number::<8>(at::PREFERRED)?, bytes.word(at::INIT_SIZE)?);
    let given = start as usize..(start + size) as usize;
    if end > start || bytes.get(given.clone()).is_none() {
        return Err(L1Error::Damaged("the Linux kernel is shorter than its header says"));
    }
    let fits = address >= HIGH && address.checked_add(taken.into()).is_some_and(|end| end <= 1 << 32);
    if !fits || size == 0 || size > u64::from(taken) {
        return Err(L1Error::Damaged("the Linux kernel's header names no place for it below 4 GiB"));
    }
    let address = address as u32;
    let linux = Linux {
        header: at::SETUP_SECTORS as usize..end as usize,
        command_line: bytes.word(at::COMMAND_LINE)?,
        initrd_max: bytes.word(at::INITRD_MAX)?,
    };
    Ok(L1 { entry: address, segments: vec![Segment { address, size: taken, given }], linux: Some(linux) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 0x30;

    /// Two sectors of setup and some code.
    fn kernel() -> Vec<u8> {
        let mut image = vec![0; 1024];
        image.extend([0x90; SIZE]);
        let mut put = |at: u64, bytes: &[u8]| image[at as usize..][..bytes.len()].copy_from_slice(bytes);
        put(at::SETUP_SECTORS, &[1]);
        put(at::PARAGRAPHS, &(SIZE as u32 / 16).to_le_bytes());
        put(at::BOOT_FLAG, &[0x55, 0xAA, 0xEB, 0x6A]);
        put(at::MAGIC, b"HdrS\x0F\x02");
        put(at::LOAD_FLAGS, &[1]);
        put(at::INITRD_MAX, &0x7FFF_FFFF_u32.to_le_bytes());
        put(at::COMMAND_LINE, &2047_u32.to_le_bytes());
        put(at::PREFERRED, &0x100_0000_u64.to_le_bytes());
        put(at::INIT_SIZE, &0x20_0000_u32.to_le_bytes());
        image
    }

    #[test]
    fn a_kernel_goes_where_it_likes_to_be() {
        let l1 = L1::parse(&kernel()).expect("a kernel");
        let segment = Segment { address: 0x100_0000, size: 0x20_0000, given: 1024..1024 + SIZE };
        let linux = Linux { header: 0x1F1..0x26C, command_line: 2047, initrd_max: 0x7FFF_FFFF };
        assert_eq!(l1, L1 { entry: 0x100_0000, segments: vec![segment], linux: Some(linux) });
        // What a signature adds behind it is not loaded.
        assert_eq!(L1::parse(&[kernel(), vec![1; 100]].concat()), Ok(l1));
    }

    #[test]
    fn damage_is_told() {
        let refused = |at: u64, bytes: &[u8]| {
            let mut image = kernel();
            image[at as usize..][..bytes.len()].copy_from_slice(bytes);
            L1::parse(&image).expect_err("damage")
        };
        assert_eq!(refused(at::VERSION, &[0x0B, 2]), L1Error::Protocol(0x020B));
        assert_eq!(refused(at::MAGIC, b"Hdrs"), L1Error::NoHeader);
        assert_eq!(refused(at::BOOT_FLAG, &[0]), L1Error::NoHeader);
        for (place, bytes) in [
            (at::LOAD_FLAGS, &[0][..]),
            (at::JUMP, &[0x5F]),
            (at::JUMP, &[0xFF]),
            (at::SETUP_SECTORS, &[2]),
            (at::SETUP_SECTORS, &[0]),
            (at::PARAGRAPHS, &[4]),
            (at::PARAGRAPHS, &[0]),
            (at::PARAGRAPHS, &[0xFF; 4]),
            (at::PREFERRED, &[0; 4]),
            (at::PREFERRED, &[0xFF; 8]),
            (at::PREFERRED, &[0, 0, 0xF0, 0xFF]),
            (at::INIT_SIZE, &[0x2F, 0, 0]),
        ] {
            let error = refused(place, bytes);
            assert!(matches!(error, L1Error::Damaged(_)), "{place:#x} {bytes:x?}: {error}");
        }
        for length in 0..kernel().len() {
            assert!(L1::parse(&kernel()[..length]).is_err(), "cut to {length}");
        }
        for place in 0x1F0..0x270 {
            for value in [0, 1, 0x7F, 0x80, 0xFF] {
                let mut image = kernel();
                image[place] = value;
                let _ = L1::parse(&image);
            }
        }
    }
}
