//! Which features make the bits of CR4 and EFER legal.

use super::feature::Feature;
use super::reserved::Reserved;
use super::virtual_cpu::Cpu;
use crate::defs::known::Bits;
use crate::defs::register::{Cr4, Efer};

/// What makes a bit of CR4 or EFER legal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Gate {
    /// Every CPU has it.
    Always,
    /// CPUs with this feature have it.
    With(Feature),
    /// CPUs have it but those with this feature.
    Without(Feature),
}

impl Gate {
    /// Whether a CPU has the bit; `None` where that is not known.
    #[must_use]
    pub fn is_open(self, cpu: &Cpu) -> Option<bool> {
        match self {
            Self::Always => Some(true),
            Self::With(feature) => cpu.has(feature),
            Self::Without(feature) => cpu.has(feature).map(|has| !has),
        }
    }
}

/// CR4, one row a bit that is ever legal; the rest must be zero on every CPU.
///
/// # Source
/// Manual volume 2, 3.1.3.
pub const CR4_GATES: &[(Cr4, Gate)] = {
    use Gate::{Always, With};
    &[
        (Cr4::VME, With(Feature::Vme)),
        (Cr4::PVI, With(Feature::Vme)),
        (Cr4::TSD, With(Feature::Tsc)),
        (Cr4::DE, With(Feature::De)),
        (Cr4::PSE, With(Feature::Pse)),
        (Cr4::PAE, With(Feature::Pae)),
        (Cr4::MCE, With(Feature::Mce)),
        (Cr4::PGE, With(Feature::Pge)),
        (Cr4::PCE, Always),
        (Cr4::OSFXSR, With(Feature::Fxsr)),
        (Cr4::OSXMMEXCPT, With(Feature::Sse)),
        (Cr4::UMIP, With(Feature::Umip)),
        (Cr4::LA57, With(Feature::La57)),
        (Cr4::FSGSBASE, With(Feature::Fsgsbase)),
        (Cr4::PCIDE, With(Feature::Pcid)),
        (Cr4::OSXSAVE, With(Feature::Xsave)),
        (Cr4::SMEP, With(Feature::Smep)),
        (Cr4::SMAP, With(Feature::Smap)),
        (Cr4::PKE, With(Feature::Pku)),
        (Cr4::CET, With(Feature::Shstk)),
    ]
};

/// EFER, likewise. A separate rule covers LME and LMA: `sav-efer-long-mode-unsupported`.
///
/// # Source
/// Manual volume 2, 3.1.7.
pub const EFER_GATES: &[(Efer, Gate)] = {
    use Gate::{Always, With, Without};
    &[
        (Efer::SCE, With(Feature::Syscall)),
        (Efer::from_bits(0xFE), Always),
        (Efer::LME, With(Feature::Lm)),
        (Efer::LMA, With(Feature::Lm)),
        (Efer::NXE, With(Feature::Nx)),
        (Efer::SVME, With(Feature::Svm)),
        (Efer::LMSLE, Without(Feature::LmsleUnsupported)),
        (Efer::FFXSR, With(Feature::Ffxsr)),
        (Efer::TCE, With(Feature::Tce)),
        (Efer::MCOMMIT, With(Feature::Mcommit)),
        (Efer::INTWB, With(Feature::IntWbinvd)),
        (Efer::UAIE, With(Feature::Uai)),
        (Efer::AIBRSE, With(Feature::AutoIbrs)),
    ]
};

/// The EFER bits that have a separate rule.
const OF_LONG_MODE: u64 = Efer::LME.union(Efer::LMA).bits();

/// The CR4 bits that a CPU with these features does not define.
pub(super) fn reserved_in_cr4(features: Bits) -> Reserved {
    reserved(CR4_GATES.iter().map(|&(bits, gate)| (bits.bits(), gate)), features)
}

/// The EFER bits that a CPU with these features does not define, without LME and LMA.
pub(super) fn reserved_in_efer(features: Bits) -> Reserved {
    let mut efer = reserved(EFER_GATES.iter().map(|&(bits, gate)| (bits.bits(), gate)), features);
    efer.certain &= !OF_LONG_MODE;
    efer.possible &= !OF_LONG_MODE;
    efer
}

/// What a CPU with these features does not define, given the rows above.
fn reserved(gates: impl Iterator<Item = (u64, Gate)>, features: Bits) -> Reserved {
    let mut reserved = Reserved { certain: u64::MAX, possible: u64::MAX, exempt: 0 };
    for (bits, gate) in gates {
        let (may_be_legal, may_be_reserved) = match gate {
            Gate::Always => (true, false),
            Gate::With(feature) => {
                (features.may_set() & feature.mask() != 0, features.may_clear() & feature.mask() != 0)
            }
            Gate::Without(feature) => {
                (features.may_clear() & feature.mask() != 0, features.may_set() & feature.mask() != 0)
            }
        };
        if may_be_legal {
            reserved.certain &= !bits;
        }
        if !may_be_reserved {
            reserved.possible &= !bits;
        }
    }
    reserved
}

/// The features that decide which bits of `mask` are legal in CR4 (or EFER), as bits of `Word::Cpu`.
pub(crate) fn features_of_cr4(mask: u64) -> u64 {
    features_of(CR4_GATES.iter().map(|&(bits, gate)| (bits.bits(), gate)), mask)
}

pub(crate) fn features_of_efer(mask: u64) -> u64 {
    features_of(EFER_GATES.iter().map(|&(bits, gate)| (bits.bits(), gate)), mask & !OF_LONG_MODE)
}

fn features_of(gates: impl Iterator<Item = (u64, Gate)>, mask: u64) -> u64 {
    gates.filter(|(bits, _)| bits & mask != 0).fold(0, |set, (_, gate)| match gate {
        Gate::Always => set,
        Gate::With(feature) | Gate::Without(feature) => set | feature.mask(),
    })
}
