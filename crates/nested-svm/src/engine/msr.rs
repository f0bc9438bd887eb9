//! MSRs: those that belong to SVM, and those that VMCB01 and VMCB02 hold.

use crate::l0::page::Page;
use crate::state::nested::Nested;
use crate::types::{Fault, Guest};
use crate::vmcb02::EFER;
use vmcb::layout::{Field, vmcb_field as f};
use vmcb::{Cr0, Cr4, Efer, Feature, VirtExt};

/// An MSR that the engine answers for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Msr {
    /// C000_0080h.
    Efer,
    /// C001_0114h.
    VmCr,
    /// C001_0117h.
    VmHsavePa,
    /// C000_0104h: what L2's TSC runs by. The hardware's is L0's to write, as [`Nested::tsc_ratio`] says.
    TscRatio,
}

impl Msr {
    /// The MSR with this number, if the engine answers for it.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            0xC000_0080 => Some(Self::Efer),
            0xC001_0114 => Some(Self::VmCr),
            0xC001_0117 => Some(Self::VmHsavePa),
            0xC000_0104 => Some(Self::TscRatio),
            _ => None,
        }
    }
}

/// VM_CR: DPD, R_INIT, DIS_A20M, LOCK and SVMDIS (manual volume 2, 15.30.1).
pub(crate) const VM_CR_WRITABLE: u64 = 0x1F;
const LOCK: u64 = 1 << 3;
pub(crate) const SVMDIS: u64 = 1 << 4;
/// TSC_RATIO has 8 bits before the point and 32 behind it (manual volume 2, 15.30.5).
const TSC_RATIO_BITS: u32 = 40;

/// Returns whether TSC_RATIO accepts this value. The engine rejects a ratio of 0. It would stop the TSC of
/// L2, and a scaled value could not be converted back. The manual does not describe such a ratio.
pub(crate) const fn is_tsc_ratio(value: u64) -> bool {
    value >> TSC_RATIO_BITS == 0 && value != 0
}

impl Nested {
    /// RDMSR of the guest that runs; `page` is its VMCB.
    ///
    /// # Errors
    /// #GP(0), where the virtual CPU does not have it.
    pub fn read_msr(&self, page: &Page, msr: Msr) -> Result<u64, Fault> {
        match msr {
            Msr::Efer => {
                let svme = self.state.svme | (self.state.guest == Guest::L2);
                Ok(page.get(f::efer) & !Efer::SVME.bits() | if svme { Efer::SVME.bits() } else { 0 })
            }
            _ if !self.offers.has(Feature::Svm) => Err(Fault::GeneralProtection),
            Msr::VmCr => Ok(self.state.vm_cr),
            Msr::VmHsavePa => Ok(self.state.hsave_pa),
            Msr::TscRatio => {
                if self.offers.has(Feature::TscScale) {
                    Ok(self.state.tsc_ratio)
                } else {
                    Err(Fault::GeneralProtection)
                }
            }
        }
    }

    /// WRMSR of the guest that runs; `page` is its VMCB.
    ///
    /// # Errors
    /// #GP(0), where the value is none that the virtual CPU takes.
    pub fn write_msr(&mut self, page: &mut Page, msr: Msr, value: u64) -> Result<(), Fault> {
        match msr {
            Msr::Efer => self.write_efer(page, value),
            _ if !self.offers.has(Feature::Svm) => Err(Fault::GeneralProtection),
            Msr::VmCr => {
                // LOCK keeps itself and SVMDIS as they are; SVMDIS cannot be set while SVM is on.
                let kept = if self.state.vm_cr & LOCK != 0 { LOCK | SVMDIS } else { 0 };
                let new = value & !kept | self.state.vm_cr & kept;
                if value & !VM_CR_WRITABLE != 0 || new & SVMDIS != 0 && self.state.svme {
                    return Err(Fault::GeneralProtection);
                }
                self.state.vm_cr = new;
                Ok(())
            }
            Msr::VmHsavePa => {
                if !self.limits.accepts_page_address(value) {
                    return Err(Fault::GeneralProtection);
                }
                self.state.hsave_pa = value;
                Ok(())
            }
            Msr::TscRatio => {
                if !is_tsc_ratio(value) || !self.offers.has(Feature::TscScale) {
                    return Err(Fault::GeneralProtection);
                }
                self.state.tsc_ratio = value;
                Ok(())
            }
        }
    }

    fn write_efer(&mut self, page: &mut Page, value: u64) -> Result<(), Fault> {
        // LMA is the CPU's, and bits 7:1 read as zero.
        let value = value & EFER & !Efer::LMA.bits();
        let before = page.get(f::efer);
        let svme = value & Efer::SVME.bits() != 0;
        let paging = page.vmcb().cr0().contains(Cr0::PG);
        let long_changes = (value ^ before) & Efer::LME.bits() != 0 && paging;
        let svm_disabled = svme && (self.state.vm_cr & SVMDIS != 0 || !self.offers.has(Feature::Svm));
        let long_mode = value & Efer::LME.bits() != 0 && !self.offers.has(Feature::Lm);
        if value & !self.limits.efer_always().bits() != 0 || long_changes || svm_disabled || long_mode {
            return Err(Fault::GeneralProtection);
        }
        if self.state.guest == Guest::L1 {
            self.state.svme = svme;
            if !svme {
                // Without SVM nothing could set GIF again. KVM does the same.
                self.set_gif_in_l1(page, true);
            }
        }
        // The hardware's SVME stays on: whoever writes is a guest. What L2 does without it, the manual leaves open.
        let lma = before & Efer::LMA.bits();
        page.set(f::efer, value | lma | Efer::SVME.bits());
        Ok(())
    }

    /// RDMSR of an MSR that the guest's VMCB holds, which is `page`: what VMLOAD loads, PAT, the MSRs of shadow stacks,
    /// SPEC_CTRL if the hardware virtualizes it, and the last branch records if that VMCB virtualizes them. `None` for any
    /// other: L0 must read it.
    ///
    /// If L1 enables MSR intercepts, VMCB02 intercepts every MSR. L0 then gets the exits for the MSRs that
    /// L1's map does not intercept. At that time the registers of the CPU hold L0's own values.
    ///
    /// # Errors
    /// #GP(0) if the virtual CPU does not have the MSR.
    #[must_use]
    pub fn read_saved_msr(&self, page: &Page, number: u32) -> Option<Result<u64, Fault>> {
        let row = self.saved(page, number)?;
        Some(if self.has(row) { Ok(page.get(row.field)) } else { Err(Fault::GeneralProtection) })
    }

    /// WRMSR of an MSR that the guest's VMCB holds, which is `page`; `None` for any other: L0 must write it.
    ///
    /// # Errors
    /// #GP(0) if the virtual CPU does not have the MSR, or the MSR does not take the value.
    pub fn write_saved_msr(&self, page: &mut Page, number: u32, value: u64) -> Option<Result<(), Fault>> {
        let row = self.saved(page, number)?;
        let taken = match row.takes {
            _ if !self.has(row) => None,
            Takes::Anything => Some(value),
            Takes::Low => Some(value & 0xFFFF_FFFF),
            Takes::Bits(bits) => (value & !bits == 0).then_some(value),
            Takes::Address => is_canonical(page, value).then_some(value),
            Takes::Types => self.limits.accepts_pat(value).then_some(value),
        };
        Some(match taken {
            Some(value) => {
                page.set(row.field, value);
                Ok(())
            }
            None => Err(Fault::GeneralProtection),
        })
    }

    /// The row of an MSR that this page holds.
    fn saved(&self, page: &Page, number: u32) -> Option<Saved> {
        let held = match number {
            DBGCTL..=LAST_EXCP_TO => page.vmcb().virt_ext().contains(VirtExt::LBR),
            SPEC_CTRL => self.host.virtual_spec_ctrl,
            _ => true,
        };
        SAVED.into_iter().find(|row| held && row.number == number)
    }

    fn has(&self, row: Saved) -> bool {
        !matches!(row.number, S_CET | ISST_ADDR) || self.offers.has(Feature::Shstk)
    }
}

/// Bits of SPEC_CTRL: IBRS, STIBP, SSBD and PSFD.
pub(crate) const SPEC_CTRL_BITS: u64 = 0x87;

/// An MSR that a VMCB holds.
#[derive(Clone, Copy)]
struct Saved {
    number: u32,
    field: Field,
    takes: Takes,
}

/// What values an MSR takes.
#[derive(Clone, Copy)]
enum Takes {
    Anything,
    /// The low half; the other one is dropped.
    Low,
    /// Values in which no other bit is set.
    Bits(u64),
    /// Canonical addresses.
    Address,
    /// Memory types.
    Types,
}

const SAVED: [Saved; 19] = {
    use Takes::{Address, Anything, Bits, Low, Types};
    const fn row(number: u32, field: Field, takes: Takes) -> Saved {
        Saved { number, field, takes }
    }
    /// The base of a segment, which VMLOAD loads with it.
    const fn base(segment: Field) -> Field {
        Field { offset: segment.offset + 8, size: 8, ..segment }
    }
    [
        row(0x174, f::sysenter_cs, Low),
        row(0x175, f::sysenter_esp, Low),
        row(0x176, f::sysenter_eip, Low),
        row(DBGCTL, f::dbgctl, Anything),
        row(0x1DB, f::br_from, Anything),
        row(0x1DC, f::br_to, Anything),
        row(0x1DD, f::last_excp_from, Anything),
        row(LAST_EXCP_TO, f::last_excp_to, Anything),
        row(0x277, f::g_pat, Types),
        row(SPEC_CTRL, f::spec_ctrl, Bits(SPEC_CTRL_BITS)),
        // SH_STK_EN and WR_SHSTK_EN (manual volume 2, 18).
        row(S_CET, f::s_cet, Bits(3)),
        row(ISST_ADDR, f::isst_addr, Address),
        row(0xC000_0081, f::star, Anything),
        row(0xC000_0082, f::lstar, Address),
        row(0xC000_0083, f::cstar, Address),
        row(0xC000_0084, f::sfmask, Low),
        row(0xC000_0100, base(f::fs), Address),
        row(0xC000_0101, base(f::gs), Address),
        row(0xC000_0102, f::kernel_gs_base, Address),
    ]
};
const SPEC_CTRL: u32 = 0x48;
const S_CET: u32 = 0x6A2;
const ISST_ADDR: u32 = 0x6A8;
const DBGCTL: u32 = 0x1D9;
const LAST_EXCP_TO: u32 = 0x1DE;

fn is_canonical(page: &Page, address: u64) -> bool {
    let unused = if page.vmcb().cr4().contains(Cr4::LA57) { 7 } else { 16 };
    ((address << unused) as i64 >> unused) as u64 == address
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CPU, limits, nested};

    #[test]
    fn efer_of_l1() {
        let mut nested = nested(limits(CPU));
        let mut page = Page::zeroed();
        page.set(f::efer, Efer::SVME.bits());
        assert_eq!(nested.read_msr(&page, Msr::Efer), Ok(0), "the hardware's SVME is not L1's");
        let mut write = |value, cr0: Cr0, expected: Result<u64, Fault>| {
            page.set(f::cr0, cr0.bits());
            let written = nested.write_msr(&mut page, Msr::Efer, value);
            assert_eq!(written.and_then(|()| nested.read_msr(&page, Msr::Efer)), expected, "{value:#x}");
            assert!(page.vmcb().efer().contains(Efer::SVME));
        };
        write(0x1D01, Cr0::PE, Ok(0x1901));
        write(0x19FF, Cr0::PE, Ok(0x1901));
        write(0x0901, Cr0::PE.union(Cr0::PG), Ok(0x0901));
        write(0x0801, Cr0::PE.union(Cr0::PG), Err(Fault::GeneralProtection));
        write(0x0801, Cr0::PE, Ok(0x0801));
        for bit in [9, 16, 19, 22, 63] {
            write(1 << bit, Cr0::PE, Err(Fault::GeneralProtection));
        }
        nested.write_msr(&mut page, Msr::VmCr, SVMDIS).unwrap();
        assert_eq!(nested.write_msr(&mut page, Msr::Efer, 0x1000), Err(Fault::GeneralProtection));
    }

    #[test]
    fn vm_cr_and_hsave_pa() {
        let mut nested = nested(limits(CPU));
        let mut page = Page::zeroed();
        let gp = Err(Fault::GeneralProtection);
        assert_eq!(nested.write_msr(&mut page, Msr::VmCr, 0x20), gp);
        nested.write_msr(&mut page, Msr::Efer, 0x1000).unwrap();
        assert_eq!(nested.write_msr(&mut page, Msr::VmCr, SVMDIS), gp, "SVM is on");
        nested.write_msr(&mut page, Msr::VmCr, LOCK | 2).unwrap();
        nested.write_msr(&mut page, Msr::VmCr, SVMDIS).unwrap();
        assert_eq!(nested.read_msr(&page, Msr::VmCr), Ok(LOCK), "locked");
        for (value, taken) in [(0x1000, true), (0, true), (0x1001, false), (1 << 48, false)] {
            assert_eq!(nested.write_msr(&mut page, Msr::VmHsavePa, value).is_ok(), taken);
        }
        let without = self::nested(limits("EPYC-Milan-v3,phys-bits=48,-v-vmsave-vmload,-svm"));
        for number in [0xC001_0114, 0xC001_0117] {
            assert_eq!(without.read_msr(&page, Msr::from_number(number).unwrap()), gp.map(|()| 0));
        }
        assert_eq!(Msr::from_number(0xC001_0015), None);
    }

    #[test]
    fn tsc_ratio() {
        let mut nested = nested(limits(CPU));
        let mut page = Page::zeroed();
        let msr = Msr::from_number(0xC000_0104).unwrap();
        assert_eq!(nested.read_msr(&page, msr), Ok(1 << 32));
        nested.write_msr(&mut page, msr, 3 << 31).unwrap();
        assert_eq!(nested.read_msr(&page, msr), Ok(3 << 31));
        for value in [0, 1 << 40, u64::MAX] {
            assert_eq!(nested.write_msr(&mut page, msr, value), Err(Fault::GeneralProtection));
        }
        let mut without = self::nested(limits("EPYC-Milan-v3,phys-bits=48,-v-vmsave-vmload,-tsc-scale"));
        assert!(without.read_msr(&page, msr).is_err() && without.write_msr(&mut page, msr, 1 << 32).is_err());
    }

    /// While L0 runs, the CPU's registers hold L0's own values of these MSRs. L0 must access the guest's
    /// values in VMCB02.
    #[test]
    fn msrs_that_only_some_hosts_or_cpus_have() {
        let host = crate::Host { virtual_spec_ctrl: true, ..crate::model::HOST };
        let shstk = limits("EPYC-Genoa-v2,phys-bits=48,-v-vmsave-vmload,+shstk");
        let nested = Nested::new(shstk, host, |feature| feature != Feature::LmsleUnsupported).unwrap();
        let mut page = Page::zeroed();
        for (number, offset, legal, illegal) in [
            (0x6A2, 0x5E0, 3, 4),
            (0x6A8, 0x5F0, 0xFFFF_8000_0000_0000, 0x8000_0000_0000),
            (0x48, 0x6E0, 0x87, 0x100),
        ] {
            assert_eq!(nested.write_saved_msr(&mut page, number, legal), Some(Ok(())), "{number:#x}");
            let refused = nested.write_saved_msr(&mut page, number, illegal);
            assert_eq!(refused, Some(Err(Fault::GeneralProtection)), "{number:#x}");
            assert_eq!(nested.read_saved_msr(&page, number), Some(Ok(legal)), "{number:#x}");
            assert_eq!(page.bytes()[offset..offset + 8], u64::to_le_bytes(legal), "{number:#x}");
        }
    }

    /// With SVM off no instruction could set GIF again.
    #[test]
    fn gif_is_set_when_svm_is_turned_off() {
        let mut nested = nested(limits(CPU));
        let mut page = Page::zeroed();
        nested.write_msr(&mut page, Msr::Efer, 0x1000).unwrap();
        nested.set_gif_of_l1(&mut page, false);
        nested.write_msr(&mut page, Msr::Efer, 0x1000).unwrap();
        assert!(!nested.gif());
        nested.write_msr(&mut page, Msr::Efer, 0).unwrap();
        assert!(nested.gif() && nested.interrupts());
        assert_eq!(page.get(f::int_ctl), 0);
    }

    #[test]
    fn msrs_of_the_page() {
        let nested = nested(limits(CPU));
        let mut page = Page::zeroed();
        let gp = Some(Err(Fault::GeneralProtection));
        for (number, offset, value, kept) in [
            (0x174, 0x628, u64::MAX, 0xFFFF_FFFF),
            (0x175, 0x630, 5, 5),
            (0x176, 0x638, 5, 5),
            (0x277, 0x668, 0x0007_0406_0007_0406, 0x0007_0406_0007_0406),
            (0xC000_0081, 0x600, u64::MAX, u64::MAX),
            (0xC000_0082, 0x608, 0xFFFF_8000_0000_0000, 0xFFFF_8000_0000_0000),
            (0xC000_0083, 0x610, 0x7FFF_FFFF_FFFF, 0x7FFF_FFFF_FFFF),
            (0xC000_0084, 0x618, 0x1_0000_0002, 2),
            (0xC000_0100, 0x448, 1, 1),
            (0xC000_0101, 0x458, 2, 2),
            (0xC000_0102, 0x620, 3, 3),
        ] {
            assert_eq!(nested.write_saved_msr(&mut page, number, value), Some(Ok(())));
            assert_eq!(nested.read_saved_msr(&page, number), Some(Ok(kept)), "{number:#x}");
            assert_eq!(page.bytes()[offset..offset + 8], kept.to_le_bytes(), "{number:#x}");
        }
        for number in [0xC000_0082, 0xC000_0083, 0xC000_0100, 0xC000_0101, 0xC000_0102] {
            for value in [0x8000_0000_0000, 0xFFFF_7FFF_FFFF_FFFF, 1 << 63] {
                assert_eq!(nested.write_saved_msr(&mut page, number, value), gp);
            }
        }
        page.set(f::cr4, Cr4::LA57.bits());
        assert_eq!(nested.write_saved_msr(&mut page, 0xC000_0100, 0x8000_0000_0000), Some(Ok(())));
        assert_eq!(nested.write_saved_msr(&mut page, 0x277, 2), gp);
        // The virtual CPU has no shadow stacks, and the hardware does not virtualize SPEC_CTRL.
        assert_eq!(nested.read_saved_msr(&page, 0x6A2), gp.map(|_| Err(Fault::GeneralProtection)));
        assert_eq!(nested.write_saved_msr(&mut page, 0x6A8, 0), gp);
        assert_eq!(nested.write_saved_msr(&mut page, 0x48, 0), None);
        assert_eq!(nested.read_saved_msr(&page, 0xC000_0080), None);
        assert_eq!(nested.read_saved_msr(&page, 0x1D9), None, "the CPU's own");
        page.set(f::virt_ext, 1);
        for (number, offset) in
            [(0x1D9, 0x670), (0x1DB, 0x678), (0x1DC, 0x680), (0x1DD, 0x688), (0x1DE, 0x690)]
        {
            assert_eq!(nested.write_saved_msr(&mut page, number, 0x77), Some(Ok(())));
            assert_eq!(page.bytes()[offset], 0x77);
        }
    }
}
