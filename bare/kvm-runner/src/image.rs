//! The image that the lab made: the payload and its cases.

use bare_interface::payload::{
    BASE, BLOB_FIRST, BLOB_HEAD, BLOB_MAGIC, HEADER, HEADER_MAGIC, IMAGE_LIMIT, console,
};

/// The payload with its blob of cases.
pub(crate) struct Image {
    pub(crate) bytes: Vec<u8>,
    /// Offset of the blob, whose head lies within `bytes`.
    blob: usize,
}

impl Image {
    pub(crate) fn new(bytes: Vec<u8>) -> Result<Self, String> {
        let quad = |at: usize| {
            let bytes = bytes.get(at..at.checked_add(8)?)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        if bytes.len() as u64 > IMAGE_LIMIT - BASE {
            return Err(format!("the image has {} bytes: too many", bytes.len()));
        }
        if quad(HEADER) != Some(HEADER_MAGIC) {
            return Err("the image has no header of the lab".to_owned());
        }
        let blob = quad(HEADER + 8)
            .and_then(|end| usize::try_from(end.checked_sub(BASE)?).ok())
            .filter(|&blob| blob.checked_add(BLOB_HEAD).is_some_and(|end| end <= bytes.len()))
            .ok_or("the image ends before its cases")?;
        if quad(blob) != Some(BLOB_MAGIC) {
            return Err("the image contains no cases".to_owned());
        }
        Ok(Self { bytes, blob })
    }

    fn word(&self, offset: usize) -> u32 {
        let at = self.blob + offset;
        u32::from_le_bytes([self.bytes[at], self.bytes[at + 1], self.bytes[at + 2], self.bytes[at + 3]])
    }

    /// Lines by the bell, if the payload knows it.
    pub(crate) fn ring(&mut self) {
        let at = self.blob + BLOB_FIRST + 4;
        let flags = self.word(BLOB_FIRST + 4) | console::BELL;
        self.bytes[at..at + 4].copy_from_slice(&flags.to_le_bytes());
    }

    /// Number of cases.
    pub(crate) fn cases(&self) -> u32 {
        self.word(BLOB_FIRST - 4)
    }

    /// The first case that is not passed over.
    pub(crate) fn first(&self) -> u32 {
        self.word(BLOB_FIRST)
    }

    pub(crate) fn set_first(&mut self, first: u32) {
        let at = self.blob + BLOB_FIRST;
        self.bytes[at..at + 4].copy_from_slice(&first.to_le_bytes());
    }
}
