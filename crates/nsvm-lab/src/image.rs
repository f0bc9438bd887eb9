//! The payload with its cases, in each form that something boots.

use crate::case::Set;
use crate::protocol::{BASE, BLOB_HEAD, BLOB_MAGIC, HEADER, HEADER_MAGIC, IMAGE_LIMIT};

/// The payload as it was compiled; nothing where this build has none.
#[cfg(has_payload)]
const PAYLOAD: Option<&[u8]> = Some(include_bytes!(concat!(env!("OUT_DIR"), "/payload.bin")));
#[cfg(not(has_payload))]
const PAYLOAD: Option<&[u8]> = None;
#[cfg(has_payload)]
const BOOT_SECTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/boot-sector.bin"));
#[cfg(not(has_payload))]
const BOOT_SECTOR: &[u8] = &[];

/// Why there is no image.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ImageError {
    /// The payload is compiled if the toolchain has the target of the bare-metal programs.
    #[error(
        "this build of nsvm has no payload: run `rustup target add x86_64-unknown-none` and build it again"
    )]
    NoPayload,
    /// Payload and cases do not fit.
    #[error("the cases need {0} bytes, more than fit: run them in shards (--shard 1/2)")]
    TooLarge(usize),
}

/// The payload and a set of cases as one flat image, to be loaded at [`BASE`] and entered there.
///
/// It is a multiboot (version 1) kernel as it is: its header has the addresses.
#[derive(Clone)]
pub struct Image {
    bytes: Vec<u8>,
}

impl Image {
    /// The payload with these cases, writing its lines to these [consoles](crate::protocol::console).
    ///
    /// # Errors
    /// Where this build has no payload, or the cases are too many for one image.
    pub fn new(set: &Set, console: u32) -> Result<Self, ImageError> {
        let payload = PAYLOAD.ok_or(ImageError::NoPayload)?;
        let mut bytes = payload.to_vec();
        let word = |at: usize| {
            payload.get(at..at + 8).and_then(|word| Some(u64::from_le_bytes(word.try_into().ok()?)))
        };
        assert_eq!(word(HEADER), Some(HEADER_MAGIC), "the payload begins with its header");
        let end = word(HEADER + 8).expect("the header is whole");
        let blob = (end - BASE) as usize;
        assert!(bytes.len() <= blob, "the payload ends where it says");
        bytes.resize(blob, 0);
        append_blob(&mut bytes, set, console);
        if BASE + bytes.len() as u64 > IMAGE_LIMIT {
            return Err(ImageError::TooLarge(bytes.len()));
        }
        Ok(Self { bytes })
    }

    /// The flat image.
    #[must_use]
    pub fn flat(&self) -> &[u8] {
        &self.bytes
    }

    /// An ELF64 file with a PVH entry: what QEMU's `-kernel` takes.
    #[must_use]
    pub fn elf(&self) -> Vec<u8> {
        const NOTE: u64 = 0x1000;
        // The multiboot header must not stand in the first 8 KiB: QEMU would look at it first, and refuse an ELF64.
        const LOAD: u64 = 0x4000;
        let mut file = Vec::with_capacity(LOAD as usize + self.bytes.len());
        file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        half(&mut file, &[2, 62]);
        word(&mut file, &[1]);
        quad(&mut file, &[BASE, 64, 0]);
        word(&mut file, &[0]);
        half(&mut file, &[64, 56, 2, 64, 0, 0]);
        let size = self.bytes.len() as u64;
        // PT_LOAD, readable, writable, executable; then PT_NOTE.
        word(&mut file, &[1, 7]);
        quad(&mut file, &[LOAD, BASE, BASE, size, size, 4096]);
        word(&mut file, &[4, 4]);
        quad(&mut file, &[NOTE, 0, 0, 24, 24, 4]);
        file.resize(NOTE as usize, 0);
        // XEN_ELFNOTE_PHYS32_ENTRY: the 32-bit entry of PVH.
        word(&mut file, &[4, 8, 18]);
        file.extend(b"Xen\0");
        quad(&mut file, &[BASE]);
        file.resize(LOAD as usize, 0);
        file.extend(&self.bytes);
        file
    }

    /// A disk image that boots by its own boot sector: whole cylinders of 16 heads and 63 sectors.
    #[must_use]
    pub fn disk(&self) -> Vec<u8> {
        const SECTOR: usize = 512;
        /// Sectors that the boot sector reads in one go.
        const PIECE: usize = 64;
        /// Where it wants their number.
        const SECTORS: usize = 0x1B0;
        let sectors = self.bytes.len().div_ceil(SECTOR).next_multiple_of(PIECE);
        let mut disk = BOOT_SECTOR.to_vec();
        disk.resize(SECTOR, 0);
        disk[SECTORS..SECTORS + 4].copy_from_slice(&(sectors as u32).to_le_bytes());
        disk.extend(&self.bytes);
        disk.resize(((1 + sectors) * SECTOR).next_multiple_of(16 * 63 * SECTOR), 0);
        disk
    }
}

fn half(to: &mut Vec<u8>, values: &[u16]) {
    to.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn word(to: &mut Vec<u8>, values: &[u32]) {
    to.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn quad(to: &mut Vec<u8>, values: &[u64]) {
    to.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

/// The blob of cases, as `protocol` has it.
fn append_blob(to: &mut Vec<u8>, set: &Set, console: u32) {
    let start = to.len();
    quad(to, &[BLOB_MAGIC]);
    word(to, &[set.bases.len() as u32, set.cases.len() as u32, 0, console, 0, 0]);
    debug_assert_eq!(to.len() - start, BLOB_HEAD);
    for base in &set.bases {
        to.extend(&base.page[..]);
    }
    for case in &set.cases {
        half(to, &[case.base as u16, set.flags(case), case.differences.len() as u16, 4]);
        quad(to, &[case.rax]);
        for (offset, bytes) in &case.differences {
            half(to, &[*offset, bytes.len() as u16]);
            to.extend(bytes);
        }
        for (index, value) in (0..).zip(set.tables(case)) {
            quad(to, &[crate::protocol::memory::CR3 + 8 * index, value]);
        }
    }
    let size = (to.len() - start) as u32;
    to[start + 24..start + 28].copy_from_slice(&size.to_le_bytes());
}
