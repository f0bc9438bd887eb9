//! Bits of page-table entries and of EXITINFO1.

pub(super) const P: u64 = 1;
pub(super) const RW: u64 = 1 << 1;
pub(super) const US: u64 = 1 << 2;
pub(super) const A: u64 = 1 << 5;
pub(super) const D: u64 = 1 << 6;
pub(super) const PS: u64 = 1 << 7;
pub(super) const NX: u64 = 1 << 63;
pub(super) const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

/// EXITINFO1 of a nested page fault: page-fault error code bits.
pub(super) const FAULT_PRESENT: u64 = 1;
pub(super) const FAULT_WRITE: u64 = 1 << 1;
pub(super) const FAULT_RESERVED: u64 = 1 << 3;
pub(super) const FAULT_FETCH: u64 = 1 << 4;
