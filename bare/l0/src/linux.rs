//! L1 as a Linux kernel, by its 32-bit boot protocol: the zero page.
//!
//! # Source
//! Linux's Documentation/arch/x86/boot.rst and zero-page.rst.

use crate::bundle_reader::Bundle;
use crate::firmware::Map;
use crate::memory::Ram;
use crate::multiboot::load_segments;
use crate::vcpu::Registers;
use nested_svm::{Memory as _, NoMemory, Page};
use vmcb::layout::{Field, vmcb_field as f};

const PAGE: u64 = 4096;
/// Places in the zero page.
mod at {
    pub(super) const RSDP: u64 = 0x070;
    pub(super) const RANGES: u64 = 0x1E8;
    pub(super) const SETUP_HEADER: u64 = 0x1F1;
    pub(super) const LOADER: u64 = 0x210;
    pub(super) const INITRD: u64 = 0x218;
    pub(super) const COMMAND_LINE: u64 = 0x228;
    pub(super) const MAP: u64 = 0x2D0;
}
/// Follows the zero page: two null descriptors, 32-bit code, data. The boot protocol fixes the selectors, and kernels load
/// them.
const GDT: [u64; 4] = [0, 0, 0x00CF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF];
/// A boot loader without an assigned number.
const UNKNOWN_LOADER: u8 = 0xFF;

/// Copies the kernel to its place and writes the zero page below the bundle, which stands at this address. Returns the
/// registers with which L1 begins.
///
/// # Errors
/// What does not fit.
pub(crate) fn load(ram: &mut Ram, bundle: &Bundle, at: u64, map: &Map) -> Result<Registers, &'static str> {
    let page = load_segments(ram, bundle, at, 2 * PAGE)?;
    fill(ram, bundle, at, map, page).map_err(|NoMemory| "there is no memory for the zero page of Linux")?;
    Ok(Registers { rsi: page, ..Registers::new() })
}

/// The table that [`load`] left beside the zero page.
pub(crate) fn set_gdt(vmcb01: &mut Page, zero_page: u64) {
    const LIMIT: u64 = GDT.len() as u64 * 8 - 1;
    let base = Field { offset: f::gdtr.offset + 8, size: 8, ..f::gdtr };
    vmcb01.set(f::gdtr, LIMIT << 32);
    vmcb01.set(base, zero_page + PAGE);
}

fn fill(ram: &mut Ram, bundle: &Bundle, at: u64, map: &Map, page: u64) -> Result<(), NoMemory> {
    ram.write(page + at::SETUP_HEADER, bundle.bytes(bundle.setup_header()))?;
    ram.write(page + at::LOADER, &[UNKNOWN_LOADER])?;
    ram.write(page + at::RSDP, &map.rsdp().to_le_bytes())?;
    let mut word = |place: u64, value: u64| ram.write(page + place, &(value as u32).to_le_bytes());
    word(at::COMMAND_LINE, at + u64::from(bundle.command_line().offset))?;
    if let Some([offset, size, ..]) = bundle.modules().next() {
        word(at::INITRD, at + u64::from(offset))?;
        word(at::INITRD + 4, size.into())?;
    }
    // The map's kinds are ACPI's, in multiboot's map and in this one.
    ram.write(page + at::RANGES, &[map.ranges().len() as u8])?;
    for (range, place) in map.ranges().iter().zip((page + at::MAP..).step_by(20)) {
        ram.write(place, &range.base.to_le_bytes())?;
        ram.write(place + 8, &range.size.to_le_bytes())?;
        ram.write(place + 16, &range.kind.to_le_bytes())?;
    }
    for (entry, place) in GDT.iter().zip((page + PAGE..).step_by(8)) {
        ram.write(place, &entry.to_le_bytes())?;
    }
    Ok(())
}
