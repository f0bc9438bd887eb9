//! What several bits together turn on: the bits of [`Mode`], derived from other words.

use super::state::State;
use crate::cpu::feature::Feature;
use crate::defs::known::Bits;
use crate::defs::register::{Efer, Host, IntCtl, Mode, NestedCtl, SevFeatures};
use crate::defs::word::Word;

/// What each bit of [`Mode`] that a rule reads is derived from; [`mode`] derives it.
pub(crate) const MODE_SOURCES: &[(Mode, &[(Word, u64)])] = {
    const SEV_ES: [(Word, u64); 2] =
        [(Word::NestedCtl, NestedCtl::SEV_ES.bits()), (Word::Cpu, Feature::SevEs.mask())];
    const SNP: [(Word, u64); 2] =
        [(Word::SevFeatures, SevFeatures::SNP_ACTIVE.bits()), (Word::Cpu, Feature::SevSnp.mask())];
    &[
        (
            Mode::NESTED_PAGING,
            &[(Word::NestedCtl, NestedCtl::NP_ENABLE.bits()), (Word::Cpu, Feature::Npt.mask())],
        ),
        (Mode::LONG, &[(Word::Efer, Efer::LME.bits()), (Word::Cpu, Feature::Lm.mask())]),
        (
            Mode::SEV,
            &[
                (Word::NestedCtl, NestedCtl::SEV.bits()),
                (Word::Cpu, Feature::Sev.mask()),
                (Word::Host, Host::MEM_ENCRYPTION.bits()),
            ],
        ),
        (Mode::SEV_ES, &SEV_ES),
        (Mode::SNP, &[SEV_ES[0], SEV_ES[1], SNP[0], SNP[1]]),
        (
            Mode::RESTRICTED,
            &[
                SEV_ES[0],
                SEV_ES[1],
                SNP[0],
                SNP[1],
                (Word::SevFeatures, SevFeatures::RESTRICTED_INJECTION.bits()),
                (Word::Cpu, Feature::RestrictedInjection.mask()),
            ],
        ),
        (
            Mode::ALTERNATE,
            &[
                SEV_ES[0],
                SEV_ES[1],
                SNP[0],
                SNP[1],
                (Word::SevFeatures, SevFeatures::ALTERNATE_INJECTION.bits()),
                (Word::Cpu, Feature::AlternateInjection.mask()),
            ],
        ),
        (Mode::AVIC, &[(Word::IntCtl, IntCtl::AVIC_ENABLE.bits()), (Word::Cpu, Feature::Avic.mask())]),
        (Mode::X2AVIC, &[(Word::IntCtl, IntCtl::X2AVIC_ENABLE.bits()), (Word::Cpu, Feature::X2avic.mask())]),
        (
            Mode::BUSY_CHECKED,
            &[
                SEV_ES[0],
                SEV_ES[1],
                SNP[0],
                SNP[1],
                (Word::SevFeatures, SevFeatures::ALTERNATE_INJECTION.bits()),
                (Word::Cpu, Feature::AlternateInjection.mask() | Feature::SecureAvic.mask()),
            ],
        ),
    ]
};

/// What is turned on, from the bits that turn it on.
#[inline(always)]
pub(crate) fn mode<S: State>(state: &S) -> Bits {
    // A function each, not closures: these are always inlined.
    #[inline(always)]
    fn bit<S: State>(state: &S, word: Word, mask: u64) -> Bits {
        state.bits(word).only(mask)
    }
    #[inline(always)]
    fn cpu<S: State>(state: &S, feature: Feature) -> Bits {
        bit(state, Word::Cpu, feature.mask())
    }
    #[inline(always)]
    fn sev_feature<S: State>(state: &S, feature: SevFeatures) -> Bits {
        bit(state, Word::SevFeatures, feature.bits())
    }
    #[inline(always)]
    fn nested<S: State>(state: &S, control: NestedCtl) -> Bits {
        bit(state, Word::NestedCtl, control.bits())
    }
    #[inline(always)]
    fn int_ctl<S: State>(state: &S, control: IntCtl) -> Bits {
        bit(state, Word::IntCtl, control.bits())
    }
    let sev_es = nested(state, NestedCtl::SEV_ES).and(cpu(state, Feature::SevEs));
    let snp = sev_es.and(sev_feature(state, SevFeatures::SNP_ACTIVE)).and(cpu(state, Feature::SevSnp));
    let alternate = snp
        .and(sev_feature(state, SevFeatures::ALTERNATE_INJECTION))
        .and(cpu(state, Feature::AlternateInjection));
    let restricted = snp
        .and(sev_feature(state, SevFeatures::RESTRICTED_INJECTION))
        .and(cpu(state, Feature::RestrictedInjection));
    Bits::TAKEN_OVER
        .put(Mode::NESTED_PAGING.bits(), nested(state, NestedCtl::NP_ENABLE).and(cpu(state, Feature::Npt)))
        .put(Mode::LONG.bits(), bit(state, Word::Efer, Efer::LME.bits()).and(cpu(state, Feature::Lm)))
        .put(
            Mode::SEV.bits(),
            nested(state, NestedCtl::SEV).and(cpu(state, Feature::Sev)).and(bit(
                state,
                Word::Host,
                Host::MEM_ENCRYPTION.bits(),
            )),
        )
        .put(Mode::SEV_ES.bits(), sev_es)
        .put(Mode::SNP.bits(), snp)
        .put(Mode::RESTRICTED.bits(), restricted)
        .put(Mode::ALTERNATE.bits(), alternate)
        .put(Mode::AVIC.bits(), int_ctl(state, IntCtl::AVIC_ENABLE).and(cpu(state, Feature::Avic)))
        .put(Mode::X2AVIC.bits(), int_ctl(state, IntCtl::X2AVIC_ENABLE).and(cpu(state, Feature::X2avic)))
        .put(Mode::BUSY_CHECKED.bits(), alternate.or(sev_es.and(cpu(state, Feature::SecureAvic))))
        .put(
            Mode::VMSA_EVENTS.bits(),
            alternate.or(sev_es
                .and(sev_feature(state, SevFeatures::SECURE_AVIC))
                .and(cpu(state, Feature::SecureAvic))),
        )
}
