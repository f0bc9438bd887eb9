//! Numbers in the bytes of a page.

use super::layout::PAGE_SIZE;

/// The field's first 8 bytes as a number.
#[inline(always)]
pub(crate) fn read_le(page: &[u8; PAGE_SIZE], offset: u16, size: u16) -> u64 {
    let start = offset as usize;
    match size {
        1 => page.get(start).map_or(0, |&byte| byte.into()),
        2 => chunk(page, start).map_or(0, |bytes| u16::from_le_bytes(*bytes).into()),
        4 => chunk(page, start).map_or(0, |bytes| u32::from_le_bytes(*bytes).into()),
        _ => chunk(page, start).map_or(0, |bytes| u64::from_le_bytes(*bytes)),
    }
}

/// Writes a number to the field's first 8 bytes. Higher bits than the field has are dropped.
#[inline(always)]
pub(crate) fn write_le(page: &mut [u8; PAGE_SIZE], offset: u16, size: u16, value: u64) {
    let start = offset as usize;
    match size {
        1 => put(page, start, [value as u8]),
        2 => put(page, start, (value as u16).to_le_bytes()),
        4 => put(page, start, (value as u32).to_le_bytes()),
        _ => put(page, start, value.to_le_bytes()),
    }
}

#[inline(always)]
fn put<const N: usize>(page: &mut [u8; PAGE_SIZE], start: usize, bytes: [u8; N]) {
    // Offsets are constants of the layout, so nothing of this test is left in the code.
    if let Some(slot) = page.get_mut(start..).and_then(|rest| rest.first_chunk_mut()) {
        *slot = bytes;
    }
}

#[inline(always)]
fn chunk<const N: usize>(page: &[u8; PAGE_SIZE], start: usize) -> Option<&[u8; N]> {
    page.get(start..).and_then(|rest| rest.first_chunk())
}
