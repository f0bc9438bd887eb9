//! A legal guest, its host, and the layers that run it.

use vmcb::layout::{Field, vmcb_field as field};
use vmcb::{Environment, Host, Limits};
use vmcb_implementations::{Implementation, Layer};

pub(crate) fn layer<'a>(of: Implementation, version: &str, limits: &'a Limits) -> Layer<'a> {
    Layer::new(of, version.parse().expect("a version"), limits)
}

/// The host on which the payload executes VMRUN, with these PDPTEs in the guest.
pub(crate) fn environment(pdptes: [u64; 4]) -> Environment<'static> {
    Environment::real_host()
        .with(Host::HSAVE_PA_ZERO.union(Host::MEM_ENCRYPTION).union(Host::SNP_ENABLED), vmcb::Answer::No)
        .with_vmcb_address(0x7000)
        .with_pdptes(pdptes)
        .with_u_cet(0)
}

/// A legal guest in 64-bit mode.
pub(crate) const LONG64: [(Field, u64); 11] = [
    (field::intercept_misc2, 1),
    (field::guest_asid, 1),
    (field::iopm_base_pa, 0x1_0000),
    (field::msrpm_base_pa, 0x2_0000),
    (field::efer, 0x1500),
    (field::cr0, 0x8000_0011),
    (field::cr4, 0x20),
    (field::cr3, 0x3000),
    (field::cs, 0x029b_0000),
    (field::dr6, 0xffff_0ff0),
    (field::g_pat, 0x0007_0406_0007_0406),
];

/// Returns the page of this guest with some fields changed.
pub(crate) fn page(changes: &[(Field, u64)]) -> [u8; 4096] {
    let mut page = [0; 4096];
    for &(field, value) in LONG64.iter().chain(changes) {
        let (start, size) = (usize::from(field.offset), usize::from(field.size).min(8));
        page[start..start + size].copy_from_slice(&value.to_le_bytes()[..size]);
    }
    page
}
