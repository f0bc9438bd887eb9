//! The checks that VMRUN and the instructions around it share.

use crate::l0::page::Page;
use crate::state::nested::Nested;
use crate::types::Fault;
use vmcb::layout::vmcb_field as f;
use vmcb::{Cr0, Efer, Rflags};

impl Nested {
    /// The checks that these instructions share: SVM on, protected mode, CPL 0.
    #[inline(always)]
    pub(crate) fn may_execute(&self, page: &Page) -> Result<(), Fault> {
        let view = page.vmcb();
        let protected = view.cr0().contains(Cr0::PE) & !view.rflags().contains(Rflags::VM);
        if !(self.state.svme & protected) {
            return Err(Fault::InvalidOpcode);
        }
        if page.get(f::cpl) != 0 { Err(Fault::GeneralProtection) } else { Ok(()) }
    }
}

/// rAX, cut to the address size: of 64-bit code, or else of 32-bit code, since nobody executes VMRUN in 16-bit code and
/// the intercept tells no prefix.
#[inline(always)]
pub(crate) fn vmcb_address(vmcb01: &Page) -> u64 {
    let rax = vmcb01.get(f::rax);
    if in_64_bit_mode(vmcb01) { rax } else { rax & 0xFFFF_FFFF }
}

#[inline(always)]
pub(super) fn in_64_bit_mode(vmcb01: &Page) -> bool {
    let view = vmcb01.vmcb();
    view.efer().contains(Efer::LMA) & view.segment(f::cs).attributes.long()
}
