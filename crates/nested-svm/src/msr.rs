//! The MSRs that belong to SVM: EFER.SVME, VM_CR, VM_HSAVE_PA.

use crate::nested::{Fault, Nested};
use crate::page::Page;
use vmcb::layout::vmcb_field as f;
use vmcb::{Cr0, Efer, Feature};

/// An MSR that the engine answers for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Msr {
    /// C000_0080h.
    Efer,
    /// C001_0114h.
    VmCr,
    /// C001_0117h.
    VmHsavePa,
}

impl Msr {
    /// The MSR with this number, if the engine answers for it.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            0xC000_0080 => Some(Self::Efer),
            0xC001_0114 => Some(Self::VmCr),
            0xC001_0117 => Some(Self::VmHsavePa),
            _ => None,
        }
    }
}

/// VM_CR: DPD, R_INIT, DIS_A20M, LOCK and SVMDIS (manual volume 2, 15.30.1).
const VM_CR_WRITABLE: u64 = 0x1F;
const LOCK: u64 = 1 << 3;
const SVMDIS: u64 = 1 << 4;

impl Nested {
    /// RDMSR of L1.
    ///
    /// # Errors
    /// #GP(0), where the virtual CPU has no SVM.
    pub fn read_msr(&self, vmcb01: &Page, msr: Msr) -> Result<u64, Fault> {
        match msr {
            Msr::Efer => {
                let svme = if self.svme { Efer::SVME.bits() } else { 0 };
                Ok(vmcb01.get(f::efer) & !Efer::SVME.bits() | svme)
            }
            _ if !self.offers.has(Feature::Svm) => Err(Fault::GeneralProtection),
            Msr::VmCr => Ok(self.vm_cr),
            Msr::VmHsavePa => Ok(self.hsave_pa),
        }
    }

    /// WRMSR of L1.
    ///
    /// # Errors
    /// #GP(0), where the value is none that the virtual CPU takes.
    pub fn write_msr(&mut self, vmcb01: &mut Page, msr: Msr, value: u64) -> Result<(), Fault> {
        match msr {
            Msr::Efer => self.write_efer(vmcb01, value),
            _ if !self.offers.has(Feature::Svm) => Err(Fault::GeneralProtection),
            Msr::VmCr => {
                // LOCK keeps itself and SVMDIS as they are; SVMDIS cannot be set while SVM is on.
                let kept = if self.vm_cr & LOCK != 0 { LOCK | SVMDIS } else { 0 };
                let new = value & !kept | self.vm_cr & kept;
                if value & !VM_CR_WRITABLE != 0 || new & SVMDIS != 0 && self.svme {
                    return Err(Fault::GeneralProtection);
                }
                self.vm_cr = new;
                Ok(())
            }
            Msr::VmHsavePa => {
                if !self.limits.accepts_page_address(value) {
                    return Err(Fault::GeneralProtection);
                }
                self.hsave_pa = value;
                Ok(())
            }
        }
    }

    fn write_efer(&mut self, vmcb01: &mut Page, value: u64) -> Result<(), Fault> {
        let value = value & !Efer::LMA.bits();
        let before = vmcb01.get(f::efer);
        let allowed = self.limits.efer_always().bits() | self.limits.efer_maybe().bits();
        let svme = value & Efer::SVME.bits() != 0;
        let paging = vmcb01.vmcb().cr0().contains(Cr0::PG);
        let long_changes = (value ^ before) & Efer::LME.bits() != 0 && paging;
        let svm_disabled = svme && (self.vm_cr & SVMDIS != 0 || !self.offers.has(Feature::Svm));
        if value & !allowed != 0 || long_changes || svm_disabled {
            return Err(Fault::GeneralProtection);
        }
        self.svme = svme;
        // The hardware's SVME stays on: L1 is a guest.
        let lma = before & Efer::LMA.bits();
        vmcb01.set(f::efer, value | lma | Efer::SVME.bits());
        Ok(())
    }
}
