//! The conditions that are no comparison of bits, and whether each may hold of what is known.

use super::state::State;
use crate::cpu::reserved::Reserved;
use crate::defs::event::{Event, EventType};
use crate::defs::exception::{BP, OF, Vector};
use crate::defs::known::Bits;
use crate::defs::word::Word;

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

/// Bits 51:12: a page address in a pointer field.
pub(crate) const POINTER: u64 = 0x000F_FFFF_FFFF_F000;
pub(crate) const PAGE_OFFSET: u64 = 0xFFF;

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
pub(crate) const SEV_FEATURE_BITS: u64 = u64::MAX >> 2;

impl Test {
    /// Whether some completion of what is known makes the test say `wanted`.
    #[inline(always)]
    pub(super) fn may_be<S: State>(self, state: &S, wanted: bool) -> bool {
        let bounds = state.bounds();
        match self {
            Self::AddressTooWide(word) => state.address_reserved().may_be(state.bits(word), u64::MAX, wanted),
            Self::NotAPageAddress(word) => {
                let address = state.address_reserved();
                let (certain, possible) = (address.certain | PAGE_OFFSET, address.possible | PAGE_OFFSET);
                Reserved { certain, possible, ..address }.may_be(state.bits(word), u64::MAX, wanted)
            }
            Self::PointerTooWide(word) => state.address_reserved().may_be(state.bits(word), POINTER, wanted),
            Self::TableTooHigh { word, size } => table_too_high(state, word, size, wanted),
            Self::Cr4Reserved => bounds.cr4.may_be(state.bits(Word::Cr4), u64::MAX, wanted),
            Self::EferReserved => bounds.efer.may_be(state.bits(Word::Efer), u64::MAX, wanted),
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

    /// Each word that it reads, with the bits that count.
    pub(super) fn reads(self) -> impl Iterator<Item = (Word, u64)> {
        let (one, more, mask): (_, &[Word], _) = match self {
            Self::AddressTooWide(word) | Self::NotAPageAddress(word) => (Some(word), &[], u64::MAX),
            Self::PointerTooWide(word) => (Some(word), &[], POINTER),
            Self::TableTooHigh { word, .. } => (Some(word), &[], !PAGE_OFFSET),
            Self::Cr4Reserved => (Some(Word::Cr4), &[], u64::MAX),
            Self::EferReserved => (Some(Word::Efer), &[], u64::MAX),
            Self::PatInvalid => (Some(Word::GPat), &[], u64::MAX),
            Self::PdpteReserved => (None, &PDPTES, u64::MAX),
            Self::EventTypeReserved => (Some(Word::EventInj), &[], Event::TYPE),
            Self::VectorReserved => (Some(Word::EventInj), &[], Event::VECTOR),
            Self::SoftwareOrBpOrOf => (Some(Word::EventInj), &[], Event::TYPE | Event::VECTOR),
            Self::AsidAboveSevMaximum | Self::AsidBelowSevMinimum => (Some(Word::Asid), &[], u32::MAX.into()),
            Self::AvicPointerTooWide => (None, &AVIC_POINTERS, POINTER),
            Self::SevFeatureNotAllowed => {
                (None, &[Word::SevFeatures, Word::AllowedSevFeatures], SEV_FEATURE_BITS)
            }
            Self::CounterEnabled => (None, &[], 0),
        };
        let counters = COUNTER_ENABLES.into_iter().filter(move |_| self == Self::CounterEnabled);
        one.into_iter().chain(more.iter().copied()).map(move |word| (word, mask)).chain(counters)
    }
}

/// The end of the table grows with each address bit and the limit with MAXPHYADDR: the smallest and
/// the largest completion decide.
#[inline(always)]
fn table_too_high<S: State>(state: &S, word: Word, size: u64, wanted: bool) -> bool {
    let bits = state.bits(word);
    let bounds = state.bounds();
    let c_bit = state.c_bit();
    let end = |base: u64| (base & !PAGE_OFFSET).saturating_add(size);
    if wanted {
        end(bits.may_set() & !c_bit.certain) > bounds.lowest_limit()
    } else {
        let base = !bits.may_clear() & !c_bit.certain;
        // Of the bits that may be the C-bit one is: the highest that is set leaves the least.
        let candidates = base & c_bit.possible;
        let highest = if candidates == 0 { 0 } else { 1 << candidates.ilog2() };
        end(base & !highest) <= bounds.highest_limit()
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
    let reserved = state.bounds().reserved_vectors;
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
    let maximum = state.bounds().sev_asid_maximum;
    if wanted {
        asid.largest() > u64::from(maximum.lowest)
    } else {
        !asid.may_clear() <= u64::from(maximum.highest)
    }
}

fn asid_below_sev_minimum<S: State>(state: &S, wanted: bool) -> bool {
    let asid = state.bits(Word::Asid);
    let minimum = state.bounds().sev_asid_minimum;
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
