//! The bytes that KVM_GET_NESTED_STATE gives: a header of 128 bytes and, while a nested guest runs, a page.
//!
//! The page looks like the VMCB that the caller of VMRUN made (KVM calls it VMCB12) and is not: KVM fills it
//! from its own copy of the control area, of which it changes some fields while the guest runs and masks
//! others, and puts the caller's own registers where the save area is. So only some fields are VMCB12's.

use crate::found::{Found, Place, RemarkKind, Seen};
use crate::kind::Kind;
use vmcb::layout::{Field, PAGE_SIZE, Page, vmcb_field as f};
use vmcb::{EventInj, IntCtl, Phase};

/// Bytes of the header.
pub(crate) const HEADER: usize = 128;
/// Bytes with a page.
pub(crate) const WHOLE: usize = HEADER + PAGE_SIZE;

const GUEST_MODE: u16 = 1;
const RUN_PENDING: u16 = 2;
/// Every flag that KVM knows: besides these two EVMCS, MTF_PENDING and GIF_SET.
const FLAGS: u16 = 0x10F;
const FORMAT_VMX: u16 = 0;
const FORMAT_SVM: u16 = 1;

/// What the header tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Header {
    /// A nested guest runs: the VMCB's address, and whether VMRUN is yet to be executed for it.
    Guest { vmcb: u64, pending: bool },
    /// No nested guest runs: there is no page.
    NoGuest,
    /// The state of a vCPU with VMX.
    Vmx,
}

impl Header {
    /// The header, if these bytes look like one: no VMCB does, as ASID and the second intercept word would
    /// be zero.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<HEADER>()?;
        let (&flags, rest) = bytes.split_first_chunk::<2>()?;
        let (&format, rest) = rest.split_first_chunk::<2>()?;
        let (&size, rest) = rest.split_first_chunk::<4>()?;
        let (&address, rest) = rest.split_first_chunk::<8>()?;
        let (flags, format) = (u16::from_le_bytes(flags), u16::from_le_bytes(format));
        let (size, vmcb) = (u32::from_le_bytes(size) as usize, u64::from_le_bytes(address));
        if flags & !FLAGS != 0 {
            return None;
        }
        let pages = size.checked_sub(HEADER).filter(|rest| rest.is_multiple_of(PAGE_SIZE))? / PAGE_SIZE;
        let guest = flags & GUEST_MODE != 0;
        // Newer KVM may keep the guest's PAT and flags of its own behind the address.
        let padding = rest.iter().skip(16).all(|&byte| byte == 0);
        match (format, pages) {
            (FORMAT_VMX, 0..=2) => Some(Self::Vmx),
            (FORMAT_SVM, 1) if guest && padding && vmcb.is_multiple_of(PAGE_SIZE as u64) => {
                Some(Self::Guest { vmcb, pending: flags & RUN_PENDING != 0 })
            }
            (FORMAT_SVM, 0) if !guest && padding => Some(Self::NoGuest),
            _ => None,
        }
    }

    /// Whether an input that begins with `head` is such a state, `whole` if that is all of it: then its bytes
    /// are no whole pages, and otherwise another one comes behind.
    pub(crate) fn begins(head: &[u8], whole: bool) -> bool {
        let next = match Self::read(head) {
            None => return false,
            Some(_) if whole => return !head.len().is_multiple_of(PAGE_SIZE),
            Some(Self::NoGuest) => HEADER,
            Some(_) => WHOLE,
        };
        head.get(next..).and_then(Self::read).is_some()
    }
}

/// A field that is VMCB12's.
struct Row {
    field: Field,
    /// Known as they are.
    same: u64,
    /// Known where they are ones: newer KVM clears what the vCPU has not.
    ones: u64,
    /// Only while the guest has not been entered: #VMEXIT changes it.
    pending: bool,
}

const fn row(field: Field, same: u64, ones: u64) -> Row {
    Row { field, same, ones, pending: false }
}

const ALL: u64 = u64::MAX;
/// KVM clears bits 11:0 of the permission maps' addresses.
const MAP: u64 = !0xFFF;
/// Vector, TYPE, EV, V and ERRORCODE: what lies between is masked by newer KVM.
const EVENT: u64 = 0xFFF | EventInj::V.bits() | 0xFFFF_FFFF << 32;
/// What neither KVM nor the processor changes while the guest runs.
const INT_CTL: u64 = IntCtl::V_INTR_MASKING.bits() | IntCtl::VGIF_ENABLE.bits() | IntCtl::V_NMI_ENABLE.bits();

const ROWS: &[Row] = &[
    row(f::intercept_cr, ALL, ALL),
    row(f::intercept_dr, ALL, ALL),
    row(f::intercept_exceptions, ALL, ALL),
    row(f::intercept_misc1, 0, ALL),
    row(f::intercept_misc2, 0, ALL),
    row(f::intercept_misc3, 0, ALL),
    row(f::iopm_base_pa, MAP, 0),
    row(f::msrpm_base_pa, MAP, 0),
    row(f::tsc_offset, ALL, ALL),
    row(f::guest_asid, ALL, ALL),
    row(f::int_ctl, 0, INT_CTL),
    row(f::nested_ctl, 0, ALL),
    Row { field: f::eventinj, same: EVENT, ones: ALL, pending: true },
    row(f::n_cr3, ALL, ALL),
    row(f::virt_ext, 0, ALL),
];

/// The VMCB that a state with a nested guest shows; `place` tells where a byte of the page stands.
pub(crate) fn found(
    (vmcb, pending): (u64, bool),
    page: &[u8],
    start: Place,
    place: impl Fn(Field) -> Option<Place>,
) -> Found {
    let mut found = Found::new(Kind::KvmNestedState, Phase::Before, start.clone());
    found.vmcb_address = Some(vmcb);
    for row in ROWS.iter().filter(|row| pending || !row.pending) {
        let Field { name, offset, size, .. } = row.field;
        let bytes = page.iter().skip(usize::from(offset)).take(usize::from(size));
        let value = bytes.rev().fold(0, |value, &byte| value << 8 | u64::from(byte));
        let mask = (row.same | row.ones & value) & crate::number::mask(size);
        if mask != 0
            && let Some(place) = place(row.field)
        {
            found.learn(Seen { name, page: Page::Vmcb, offset, size, value: value & mask, mask, place });
        }
    }
    found.remarks.push(crate::found::Remark { kind: RemarkKind::NestedState { pending }, place: start });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(flags: u16, format: u16, size: u32, vmcb: u64) -> Vec<u8> {
        let mut bytes =
            [&flags.to_le_bytes()[..], &format.to_le_bytes(), &size.to_le_bytes(), &vmcb.to_le_bytes()]
                .concat();
        bytes.resize(HEADER, 0);
        bytes
    }

    #[test]
    fn headers() {
        let read = |flags, format, size, vmcb| Header::read(&header(flags, format, size, vmcb));
        let guest = |pending| Some(Header::Guest { vmcb: 0x12000, pending });
        assert_eq!(read(0x101, 1, 4224, 0x12000), guest(false));
        assert_eq!(read(0x003, 1, 4224, 0x12000), guest(true));
        assert_eq!(read(0x100, 1, 128, 0), Some(Header::NoGuest));
        assert_eq!(read(0, 0, 128, u64::MAX), Some(Header::Vmx));
        assert_eq!(read(1, 0, 128 + 8192, 0x1000), Some(Header::Vmx));
        assert_eq!(read(0x101, 1, 4224, 0x12001), None, "not aligned");
        assert_eq!(read(0x100, 1, 4224, 0x12000), None, "a page without a guest");
        assert_eq!(read(0x201, 1, 4224, 0x12000), None, "a flag that does not exist");
        assert_eq!(read(0x101, 2, 4224, 0x12000), None);
        assert_eq!(read(0x101, 1, 0, 0x12000), None);
        let mut padded = header(1, 1, 4224, 0x12000);
        padded[127] = 1;
        assert_eq!(Header::read(&padded), None);
        assert_eq!(Header::read(&padded[..127]), None);
    }
}
