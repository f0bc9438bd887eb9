//! The bytes of KVM_GET_NESTED_STATE.

use crate::common::{all, error, one, remarks, value};
use vmcb::Phase;
use vmcb::layout::vmcb_field as f;
use vmcb_dump::{Error, Kind, RemarkKind, read_all};

const GUEST: u16 = 1;
const PENDING: u16 = 2;
const GIF: u16 = 0x100;

/// A state as KVM's header lays it out, with a page of ones.
fn state(flags: u16, format: u16, size: u32, fill: u8) -> Vec<u8> {
    let mut bytes =
        [&flags.to_le_bytes()[..], &format.to_le_bytes(), &size.to_le_bytes(), &0x12_3000u64.to_le_bytes()]
            .concat();
    bytes.resize(128, 0);
    bytes.resize(size as usize, fill);
    bytes
}

#[test]
fn only_what_is_the_vmcbs_own() {
    let mut bytes = state(GUEST | GIF, 1, 4224, 0);
    bytes[128 + 0x058] = 7;
    bytes[128 + 0x010] = 1;
    bytes[128 + 0x0A8..128 + 0x0B0].copy_from_slice(&0x8000_0306u64.to_le_bytes());
    bytes[128 + 0x0B0..128 + 0x0B8].copy_from_slice(&0x1234_5000u64.to_le_bytes());
    bytes[128 + 0x4D0..128 + 0x4D8].copy_from_slice(&0xD01u64.to_le_bytes());
    let found = one(&bytes);
    assert_eq!((found.kind, found.phase), (Kind::KvmNestedState, Phase::Before));
    assert_eq!(found.vmcb_address, Some(0x12_3000));
    assert_eq!(remarks(&found), [&RemarkKind::NestedState { pending: false }]);
    assert_eq!(value(&found, f::guest_asid), (7, 0xFFFF_FFFF));
    assert_eq!(value(&found, f::intercept_misc2), (1, 1), "a zero may be KVM's");
    assert_eq!(value(&found, f::n_cr3), (0x1234_5000, u64::MAX));
    assert_eq!(value(&found, f::iopm_base_pa), (0, !0xFFF), "KVM clears the low bits");
    assert_eq!(value(&found, f::eventinj).1, 0, "#VMEXIT has cleared it");
    assert_eq!(value(&found, f::efer).1, 0, "the owner's");
    assert_eq!(value(&found, f::rip).1, 0);
    let asid = found.fields.iter().find(|seen| seen.offset == 0x58).unwrap();
    assert_eq!(asid.place.to_string(), "0xd8");

    bytes[0] |= 2;
    let found = one(&bytes);
    assert_eq!(value(&found, f::eventinj), (0x8000_0306, 0xFFFF_FFFF_8000_0FFF));
    assert_eq!(remarks(&found), [&RemarkKind::NestedState { pending: true }]);
}

#[test]
fn several_vcpus() {
    let one = state(GUEST | PENDING, 1, 4224, 0xFF);
    let idle = state(GIF, 1, 128, 0);
    for (bytes, count) in [
        ([&one[..], &one].concat(), 2),
        ([&one[..], &idle, &one].concat(), 2),
        ([&idle[..], &one].concat(), 1),
        ([&one[..], &one, &one, &one].concat(), 4),
    ] {
        let found = all(&bytes);
        assert_eq!(found.len(), count);
        assert!(found.iter().all(|found| found.kind == Kind::KvmNestedState));
        assert_eq!(value(&found[0], f::guest_asid), (0xFFFF_FFFF, 0xFFFF_FFFF));
    }
}

#[test]
fn states_without_a_vmcb() {
    assert!(matches!(error(state(GIF, 1, 128, 0)), Error::NestedStateWithoutGuest { offset: 0 }));
    // The buffer may be larger than what KVM wrote.
    let buffer = [state(GIF, 1, 128, 0), vec![0; 4096]].concat();
    assert!(matches!(error(buffer), Error::NestedStateWithoutGuest { offset: 0 }));
    for size in [128, 4224, 8320] {
        assert!(matches!(error(state(0, 0, size, 1)), Error::VmxNestedState { offset: 0 }), "{size}");
    }
    let both = [state(GUEST, 1, 4224, 0), state(0, 0, 4224, 1)].concat();
    let (found, error) = read_all(&both);
    assert_eq!(found.len(), 1);
    assert!(matches!(error, Some(Error::VmxNestedState { offset: 4224 })));
}

#[test]
fn a_state_that_breaks_off_is_no_page() {
    let bytes = state(GUEST, 1, 4224, 1);
    for end in [128, 129, 4095, 4097, 4223] {
        let (found, error) = read_all(&bytes[..end]);
        assert!(found.is_empty(), "{end}");
        match error {
            Some(Error::BadNestedState { offset: 0, have }) => assert_eq!(have, end),
            other => panic!("{end}: {other:?}"),
        }
    }
}

#[test]
fn pages_stay_pages() {
    // A page that begins as such a state does, and pages that do not.
    let whole = state(GUEST, 1, 4224, 0);
    assert_eq!(one(&whole[..4096]).kind, Kind::RawPage);
    let mut ones = state(GUEST, 1, 4224, 0);
    ones[100] = 1;
    let (found, error) = read_all(&ones);
    assert_eq!(found[0].kind, Kind::RawPage);
    assert!(matches!(error, Some(Error::BadSize { bytes: 4224, .. })));
    assert_eq!(all([&whole[..4096], &[0; 8192]].concat()).len(), 3);
}
