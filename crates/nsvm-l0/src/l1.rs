//! Reads an image of L1: a [Linux kernel](crate::linux) or a [multiboot one](crate::multiboot).

use crate::image::{Bytes, L1, L1Error};
use crate::{linux, multiboot};

impl L1 {
    /// Splits an image into its segments.
    ///
    /// # Errors
    /// What is wrong with the image.
    pub fn parse(image: &[u8]) -> Result<Self, L1Error> {
        let bytes = Bytes(image);
        if linux::is_linux(&bytes) { linux::parse(&bytes) } else { multiboot::parse(&bytes) }
    }
}
