//! One condition of a rule, and whether it may hold of what is known.
//!
//! A rule is a conjunction of literals, each over bits of its own. So what is known decides a rule
//! exactly: it may be broken when each literal may hold, and it is broken for certain when moreover
//! none may fail. Both questions have one answer function here, [`Literal::may_be`]; nothing else
//! knows what a literal means.

use crate::event::Event;
use crate::exception::{BP, OF, Vector};
use crate::feature::Feature;
use crate::known::Bits;
use crate::limits::Limits;
use crate::register::{Mode, SevFeatures};
use crate::word::Word;

/// One condition of a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Literal {
    /// The bits of `mask` read as in `value`.
    Is {
        /// The word.
        word: Word,
        /// The bits that count.
        mask: u64,
        /// What they must be.
        value: u64,
    },
    /// Some bit of `mask` differs from `value`.
    IsNot {
        /// The word.
        word: Word,
        /// The bits that count.
        mask: u64,
        /// What they must not all be.
        value: u64,
    },
    /// A named test says so.
    Holds(Test),
}

/// A condition that is no comparison of bits: a range, a set, a limit of the CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Test {
    /// A physical address has a bit at or above MAXPHYADDR.
    AddressTooWide(Word),
    /// A physical address is not 4 KiB aligned, or has a bit at or above MAXPHYADDR.
    NotAPageAddress(Word),
    /// A pointer field, 51:12, has a bit at or above MAXPHYADDR.
    PointerTooWide(Word),
    /// A table of `size` bytes at this page does not end below 2^MAXPHYADDR. Bits 11:0 are ignored.
    TableTooHigh {
        /// The word that holds its address.
        word: Word,
        /// Its size in bytes.
        size: u64,
    },
    /// CR4 has a bit that this CPU does not define.
    Cr4Reserved,
    /// EFER has a bit that this CPU does not define.
    EferReserved,
    /// A byte of G_PAT is no memory type.
    PatInvalid,
    /// A present PDPTE has a reserved bit.
    PdpteReserved,
    /// TYPE is 1, 5, 6 or 7.
    EventTypeReserved,
    /// VECTOR is one that no CPU of this kind defines.
    VectorReserved,
    /// TYPE is 4, or TYPE is 3 and VECTOR is 3 or 4.
    SoftwareOrBpOrOf,
    /// ASID is above the CPU's number of encrypted guests.
    AsidAboveSevMaximum,
    /// ASID is below the lowest one for SEV without SEV-ES.
    AsidBelowSevMinimum,
    /// One of AVIC's three pointers has a bit at or above MAXPHYADDR.
    AvicPointerTooWide,
    /// A performance counter is enabled.
    CounterEnabled,
    /// SEV_FEATURES has a bit that ALLOWED_SEV_FEATURES has not.
    SevFeatureNotAllowed,
}

/// What the tests are asked of: words of which each bit may be known or not.
pub(crate) trait State {
    fn bits(&self, word: Word) -> Bits;
    fn limits(&self) -> &Limits;
    /// Which bit of an address is the C-bit of memory encryption.
    fn c_bit(&self) -> CBit;

    /// The bits of a physical address that are reserved: at and above MAXPHYADDR, but for the C-bit.
    #[inline(always)]
    fn address_reserved(&self) -> Reserved {
        let CBit { certain, possible } = self.c_bit();
        let limits = self.limits();
        Reserved {
            certain: limits.highest_limit().wrapping_neg() & !certain,
            possible: limits.lowest_limit().wrapping_neg() & !certain,
            exempt: possible,
        }
    }
}

/// The C-bit: a bit that marks encrypted pages and is no part of the address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CBit {
    /// It is this one.
    pub(crate) certain: u64,
    /// It may be one of these, or none.
    pub(crate) possible: u64,
}

/// The bits of a word that a CPU does not define, as far as is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Reserved {
    /// Reserved on every CPU that fits what is known, but for `exempt`.
    pub(crate) certain: u64,
    /// Reserved on some CPU that fits what is known: a superset of `certain`.
    pub(crate) possible: u64,
    /// Bits of which one at most may be the C-bit, which is no part of an address.
    pub(crate) exempt: u64,
}

impl Reserved {
    /// Whether some bit of `mask` may be set and reserved (`wanted`), or none may be (not `wanted`).
    #[inline(always)]
    const fn may_be(self, bits: Bits, mask: u64, wanted: bool) -> bool {
        if wanted { self.some_of(bits.may_set() & mask) } else { self.none_of(!bits.may_clear() & mask) }
    }

    /// Whether one of these bits, which may be set, may be reserved.
    #[inline(always)]
    const fn some_of(self, may_be_set: u64) -> bool {
        may_be_set & self.possible != 0
    }

    /// Whether these bits, which are set, may all be defined.
    #[inline(always)]
    const fn none_of(self, set: u64) -> bool {
        let left = set & self.certain;
        left == 0 || left.is_power_of_two() && left & self.exempt != 0
    }
}

/// Bits 51:12: a page address in a pointer field.
pub(crate) const POINTER: u64 = 0x000F_FFFF_FFFF_F000;
pub(crate) const PAGE_OFFSET: u64 = 0xFFF;

impl Literal {
    /// The CPU has this feature.
    pub(crate) const fn has(feature: Feature) -> Self {
        Self::Is { word: Word::Cpu, mask: feature.mask(), value: feature.mask() }
    }

    /// The CPU lacks this feature.
    pub(crate) const fn lacks(feature: Feature) -> Self {
        Self::Is { word: Word::Cpu, mask: feature.mask(), value: 0 }
    }

    /// Whether some completion of what is known makes the literal `wanted`.
    #[inline(always)]
    pub(crate) fn may_be<S: State>(self, state: &S, wanted: bool) -> bool {
        match (self, wanted) {
            (Self::Is { word, mask, value }, true) | (Self::IsNot { word, mask, value }, false) => {
                state.bits(word).may_be(mask, value)
            }
            (Self::Is { word, mask, value }, false) | (Self::IsNot { word, mask, value }, true) => {
                let bits = state.bits(word);
                (bits.may_set() & !value | bits.may_clear() & value) & mask != 0
            }
            (Self::Holds(test), _) => test.may_be(state, wanted),
        }
    }

    /// Calls `visit` with each word that it reads and the bits that count; what is derived is
    /// resolved into what it is derived from.
    pub fn reads(self, visit: &mut dyn FnMut(Word, u64)) {
        match self {
            Self::Is { word: Word::Mode, mask, .. } | Self::IsNot { word: Word::Mode, mask, .. } => {
                for &(bit, sources) in MODE_SOURCES {
                    if mask & bit.bits() != 0 {
                        for &(word, mask) in sources {
                            visit(word, mask);
                        }
                    }
                }
            }
            Self::Is { word, mask, .. } | Self::IsNot { word, mask, .. } => visit(word, mask),
            Self::Holds(test) => test.reads(visit),
        }
    }
}

/// What each bit of [`Mode`] that a rule reads is derived from; [`mode`] below does it.
pub(crate) const MODE_SOURCES: &[(Mode, &[(Word, u64)])] = {
    use crate::register::{Efer, Host, IntCtl, NestedCtl};
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
    use crate::register::{Efer, Host, IntCtl, NestedCtl};
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

const PDPTES: [Word; 4] = [Word::Pdpte0, Word::Pdpte1, Word::Pdpte2, Word::Pdpte3];
const AVIC_POINTERS: [Word; 3] = [Word::AvicBackingPage, Word::AvicLogicalTable, Word::AvicPhysicalTable];
/// PERF_CTLn.EN is bit 22; PERF_CTR_GLOBAL_CTL enables counters 0 to 5 by its low bits.
pub(crate) const COUNTER_ENABLES: [(Word, u64); 7] = [
    (Word::PerfCtl0, 1 << 22),
    (Word::PerfCtl1, 1 << 22),
    (Word::PerfCtl2, 1 << 22),
    (Word::PerfCtl3, 1 << 22),
    (Word::PerfCtl4, 1 << 22),
    (Word::PerfCtl5, 1 << 22),
    (Word::PerfGlobalCtl, 0x3F),
];
/// Bit 63 enables the mask and bit 62 has no feature.
const SEV_FEATURE_BITS: u64 = u64::MAX >> 2;

impl Test {
    /// Whether some completion of what is known makes the test say `wanted`.
    #[inline(always)]
    fn may_be<S: State>(self, state: &S, wanted: bool) -> bool {
        let limits = state.limits();
        match self {
            Self::AddressTooWide(word) => state.address_reserved().may_be(state.bits(word), u64::MAX, wanted),
            Self::NotAPageAddress(word) => {
                let address = state.address_reserved();
                let (certain, possible) = (address.certain | PAGE_OFFSET, address.possible | PAGE_OFFSET);
                Reserved { certain, possible, ..address }.may_be(state.bits(word), u64::MAX, wanted)
            }
            Self::PointerTooWide(word) => state.address_reserved().may_be(state.bits(word), POINTER, wanted),
            Self::TableTooHigh { word, size } => table_too_high(state, word, size, wanted),
            Self::Cr4Reserved => limits.cr4.may_be(state.bits(Word::Cr4), u64::MAX, wanted),
            Self::EferReserved => limits.efer.may_be(state.bits(Word::Efer), u64::MAX, wanted),
            Self::PatInvalid => pat_invalid(state.bits(Word::GPat), wanted),
            Self::PdpteReserved => pdpte_reserved(state, wanted),
            Self::EventTypeReserved => event_type_reserved(state.bits(Word::EventInj), wanted),
            Self::VectorReserved => vector_reserved(state, wanted),
            Self::SoftwareOrBpOrOf => software_or_bp_or_of(state.bits(Word::EventInj), wanted),
            Self::AsidAboveSevMaximum => asid_above_sev_maximum(state, wanted),
            Self::AsidBelowSevMinimum => asid_below_sev_minimum(state, wanted),
            Self::AvicPointerTooWide => avic_pointer_too_wide(state, wanted),
            Self::CounterEnabled => counter_enabled(state, wanted),
            Self::SevFeatureNotAllowed => sev_feature_not_allowed(state, wanted),
        }
    }

    /// Calls `visit` with each word that it reads and the bits that count.
    fn reads(self, visit: &mut dyn FnMut(Word, u64)) {
        match self {
            Self::AddressTooWide(word) | Self::NotAPageAddress(word) => visit(word, u64::MAX),
            Self::PointerTooWide(word) => visit(word, POINTER),
            Self::TableTooHigh { word, .. } => visit(word, !PAGE_OFFSET),
            Self::Cr4Reserved => visit(Word::Cr4, u64::MAX),
            Self::EferReserved => visit(Word::Efer, u64::MAX),
            Self::PatInvalid => visit(Word::GPat, u64::MAX),
            Self::PdpteReserved => PDPTES.iter().for_each(|&word| visit(word, u64::MAX)),
            Self::EventTypeReserved => visit(Word::EventInj, Event::TYPE),
            Self::VectorReserved => visit(Word::EventInj, Event::VECTOR),
            Self::SoftwareOrBpOrOf => visit(Word::EventInj, Event::TYPE | Event::VECTOR),
            Self::AsidAboveSevMaximum | Self::AsidBelowSevMinimum => visit(Word::Asid, u32::MAX.into()),
            Self::AvicPointerTooWide => AVIC_POINTERS.iter().for_each(|&word| visit(word, POINTER)),
            Self::CounterEnabled => COUNTER_ENABLES.iter().for_each(|&(word, mask)| visit(word, mask)),
            Self::SevFeatureNotAllowed => {
                visit(Word::SevFeatures, SEV_FEATURE_BITS);
                visit(Word::AllowedSevFeatures, SEV_FEATURE_BITS);
            }
        }
    }
}

/// The end of the table grows with each address bit and the limit with MAXPHYADDR: the smallest and
/// the largest completion decide.
#[inline(always)]
fn table_too_high<S: State>(state: &S, word: Word, size: u64, wanted: bool) -> bool {
    let bits = state.bits(word);
    let limits = state.limits();
    let c_bit = state.c_bit();
    let end = |base: u64| (base & !PAGE_OFFSET).saturating_add(size);
    if wanted {
        end(bits.may_set() & !c_bit.certain) > limits.lowest_limit()
    } else {
        let base = !bits.may_clear() & !c_bit.certain;
        // Of the bits that may be the C-bit one is: the highest that is set leaves the least.
        let candidates = base & c_bit.possible;
        let highest = if candidates == 0 { 0 } else { 1 << candidates.ilog2() };
        end(base & !highest) <= limits.highest_limit()
    }
}

#[inline(always)]
fn avic_pointer_too_wide<S: State>(state: &S, wanted: bool) -> bool {
    let [backing, logical, physical] = AVIC_POINTERS;
    let [a, b, c] = [state.bits(backing), state.bits(logical), state.bits(physical)];
    let reserved = state.address_reserved();
    if wanted {
        reserved.some_of((a.may_set() | b.may_set() | c.may_set()) & POINTER)
    } else {
        reserved.none_of(!(a.may_clear() & b.may_clear() & c.may_clear()) & POINTER)
    }
}

/// Memory types are 0, 1, 4, 5, 6 and 7: a byte is none when one of its bits 7:3 is set, or bit 1 without
/// bit 2. All eight bytes at once.
#[inline(always)]
pub(crate) const fn pat_invalid(pat: Bits, wanted: bool) -> bool {
    const HIGH: u64 = 0xF8F8_F8F8_F8F8_F8F8;
    const BIT_1: u64 = 0x0202_0202_0202_0202;
    if wanted {
        pat.may_set() & HIGH | pat.may_set() & (pat.may_clear() >> 1) & BIT_1 != 0
    } else {
        let (set, clear) = (!pat.may_clear(), !pat.may_set());
        set & HIGH | set & (clear >> 1) & BIT_1 == 0
    }
}

/// Reserved in a PDPTE of legacy PAE paging: 63:MAXPHYADDR, 8:5 and 2:1. Bits 11:9 are software's.
#[inline(always)]
fn pdpte_reserved<S: State>(state: &S, wanted: bool) -> bool {
    const PRESENT: u64 = 1;
    const LOW: u64 = 0x1E6;
    /// The entry's bits that count: none of an entry that is not present.
    #[inline(always)]
    const fn counting(entry: Bits, wanted: bool) -> u64 {
        let (present, bits) = if wanted {
            (entry.may_set() & PRESENT != 0, entry.may_set())
        } else {
            (entry.may_clear() & PRESENT == 0, !entry.may_clear())
        };
        if present { bits & !PRESENT } else { 0 }
    }
    let [a, b, c, d] = PDPTES;
    let bits = counting(state.bits(a), wanted)
        | counting(state.bits(b), wanted)
        | counting(state.bits(c), wanted)
        | counting(state.bits(d), wanted);
    let address = state.address_reserved();
    let reserved = Reserved { certain: address.certain | LOW, possible: address.possible | LOW, ..address };
    if wanted { reserved.some_of(bits) } else { reserved.none_of(bits) }
}

/// TYPE 0, 2, 3 and 4 are defined.
#[inline(always)]
fn event_type_reserved(event: Bits, wanted: bool) -> bool {
    const RESERVED: u8 = 0b1110_0010;
    (0..8_u8)
        .any(|kind| (RESERVED >> kind & 1 == 1) == wanted && event.may_be(Event::TYPE, u64::from(kind) << 8))
}

#[inline(always)]
fn vector_reserved<S: State>(state: &S, wanted: bool) -> bool {
    let reserved = state.limits().reserved_vectors;
    some_vector(state.bits(Word::EventInj), |vector| reserved.contains(vector) == wanted)
}

/// Whether some completion of VECTOR is as asked.
#[inline(always)]
fn some_vector(event: Bits, is_wanted: impl Fn(Vector) -> bool) -> bool {
    if event.known_mask() & Event::VECTOR == Event::VECTOR {
        return is_wanted(Event::from_bits(event.value()).vector());
    }
    let mut numbers = (0..=u8::MAX).filter(|&number| event.may_be(Event::VECTOR, number.into()));
    numbers.any(|number| is_wanted(Vector::new(number)))
}

fn software_or_bp_or_of(event: Bits, wanted: bool) -> bool {
    use crate::event::EventType;
    let may_be = |kind: EventType| event.may_be(Event::TYPE, u64::from(kind.bits()) << 8);
    let bp_or_of = |wanted| some_vector(event, |vector| (vector == BP || vector == OF) == wanted);
    let exception = may_be(EventType::EXCEPTION) && bp_or_of(wanted);
    if wanted {
        may_be(EventType::SOFTWARE) || exception
    } else {
        let others = [0, 1, 2, 5, 6, 7].map(EventType::from_bits);
        others.into_iter().any(may_be) || exception
    }
}

fn asid_above_sev_maximum<S: State>(state: &S, wanted: bool) -> bool {
    let asid = state.bits(Word::Asid);
    let maximum = state.limits().sev_asid_maximum;
    if wanted {
        asid.largest() > u64::from(maximum.lowest)
    } else {
        !asid.may_clear() <= u64::from(maximum.highest)
    }
}

fn asid_below_sev_minimum<S: State>(state: &S, wanted: bool) -> bool {
    let asid = state.bits(Word::Asid);
    let minimum = state.limits().sev_asid_minimum;
    if wanted {
        !asid.may_clear() < u64::from(minimum.highest)
    } else {
        asid.largest() >= u64::from(minimum.lowest)
    }
}

fn counter_enabled<S: State>(state: &S, wanted: bool) -> bool {
    let mut words = COUNTER_ENABLES.iter().map(|&(word, mask)| (state.bits(word), mask));
    if wanted {
        words.any(|(bits, mask)| bits.may_set() & mask != 0)
    } else {
        words.all(|(bits, mask)| !bits.may_clear() & mask == 0)
    }
}

fn sev_feature_not_allowed<S: State>(state: &S, wanted: bool) -> bool {
    let (features, allowed) = (state.bits(Word::SevFeatures), state.bits(Word::AllowedSevFeatures));
    if wanted {
        features.may_set() & allowed.may_clear() & SEV_FEATURE_BITS != 0
    } else {
        !features.may_clear() & !allowed.may_set() & SEV_FEATURE_BITS == 0
    }
}
