//! Proposes changes (moves) after which a literal may hold, or fail. The search for witnesses tries them.
//!
//! A move is only a proposal: the search evaluates the literal after each move. So this module does not decide what a
//! condition means.

use crate::cpu::bounds::Bounds;
use crate::cpu::reserved::Reserved;
use crate::defs::event::{Event, EventType};
use crate::defs::exception::Vector;
use crate::defs::register::IntCtl;
use crate::defs::word::Word;
use crate::eval::judge::View;
use crate::rules::literal::Literal;
use crate::rules::mode::MODE_SOURCES;
use crate::rules::predicate::{COUNTER_ENABLES, PAGE_OFFSET, POINTER, SEV_FEATURE_BITS, Test};
use crate::rules::state::State;

/// Bits of one word that are set as in `value`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Write {
    pub(crate) word: Option<Word>,
    pub(crate) mask: u64,
    pub(crate) value: u64,
}

/// Writes that belong together; as many as the derived bits of a row have sources.
#[derive(Clone, Copy, Default)]
pub(crate) struct Move {
    writes: [Write; Move::MOST],
    length: usize,
}

impl Move {
    const MOST: usize = 16;

    pub(crate) fn of(word: Word, mask: u64, value: u64) -> Self {
        let mut one = Self::default();
        one.push(word, mask, value);
        one
    }

    pub(crate) fn push(&mut self, word: Word, mask: u64, value: u64) {
        if let Some(slot) = self.writes.get_mut(self.length) {
            *slot = Write { word: Some(word), mask, value };
            self.length += 1;
        }
    }

    pub(crate) fn writes(&self) -> impl Iterator<Item = (Word, u64, u64)> {
        self.writes.iter().filter_map(|write| Some((write.word?, write.mask, write.value)))
    }
}

/// Each bit of a mask, lowest first.
pub(crate) fn bits_of(mask: u64) -> impl Iterator<Item = u64> {
    (0..64).map(|position| 1_u64 << position).filter(move |bit| mask & bit != 0)
}

/// Calls `visit` with each move that may make `literal` be `wanted`, the nearest first, until it returns true.
///
/// `against` are the bounds of a CPU that should see nothing wrong in it: what only the CPU of `view` refuses
/// comes first.
pub(crate) fn moves(
    literal: Literal,
    wanted: bool,
    view: &View<'_>,
    against: Option<&Bounds>,
    visit: &mut dyn FnMut(Move) -> bool,
) -> bool {
    match (literal, wanted) {
        (Literal::Holds(test), _) => {
            let (bounds, address) = (view.bounds(), view.address_reserved());
            TestMoves { wanted, view, bounds, against, address }.of(test, visit)
        }
        (Literal::Is { word: Word::Cpu, .. } | Literal::IsNot { word: Word::Cpu, .. }, _) => false,
        (Literal::Is { word: Word::Mode, mask, value }, true)
        | (Literal::IsNot { word: Word::Mode, mask, value }, false) => {
            let mut all = Move::default();
            for bit in bits_of(mask) {
                if view.bits(Word::Mode).may_be(bit, value) && !view.bits(Word::Mode).may_be(bit, !value) {
                    continue;
                }
                if value & bit != 0 {
                    sources(bit).for_each(|(word, mask)| all.push(word, mask, u64::MAX));
                } else if let Some((word, mask)) = sources(bit).last() {
                    all.push(word, mask, 0);
                }
            }
            visit(all)
        }
        (Literal::Is { word: Word::Mode, mask, value }, false)
        | (Literal::IsNot { word: Word::Mode, mask, value }, true) => bits_of(mask).any(|bit| {
            if value & bit != 0 {
                // The last source is what distinguishes the bit from those that it builds on.
                let count = sources(bit).count();
                (0..count).rev().any(|index| {
                    sources(bit).nth(index).is_some_and(|(word, mask)| visit(Move::of(word, mask, 0)))
                })
            } else {
                let mut all = Move::default();
                sources(bit).for_each(|(word, mask)| all.push(word, mask, u64::MAX));
                visit(all)
            }
        }),
        (Literal::Is { word, mask, value }, true) | (Literal::IsNot { word, mask, value }, false) => {
            places(word, mask).any(|word| visit(Move::of(word, mask, value)))
        }
        (Literal::Is { word, mask, value }, false) | (Literal::IsNot { word, mask, value }, true) => {
            bits_of(mask).any(|bit| places(word, bit).any(|word| visit(Move::of(word, bit, !value))))
        }
    }
}

/// Returns the words that may hold these bits of `word`. V_NMI_ENABLE is in the VMSA if events are.
fn places(word: Word, mask: u64) -> impl Iterator<Item = Word> {
    let also_in_vmsa = word == Word::IntCtl && mask == IntCtl::V_NMI_ENABLE.bits();
    [word].into_iter().chain(also_in_vmsa.then_some(Word::VintrCtrl))
}

/// Returns the sources of one bit of the derived word, except for CPU features, which moves do not change.
fn sources(bit: u64) -> impl Iterator<Item = (Word, u64)> + Clone {
    let row = MODE_SOURCES.iter().filter(move |(of, _)| of.bits() == bit);
    row.flat_map(|(_, sources)| sources.iter().copied()).filter(|(word, _)| *word != Word::Cpu)
}

fn asid_is(asid: u64) -> Move {
    Move::of(Word::Asid, u64::MAX, asid)
}

/// The bits at and above MAXPHYADDR on some CPU that fits what is known, without the C-bit.
fn too_high(bounds: &Bounds) -> u64 {
    bounds.lowest_limit().wrapping_neg() & !bounds.c_bit
}

/// Finds moves after which a test may return `wanted`.
struct TestMoves<'a> {
    wanted: bool,
    view: &'a View<'a>,
    bounds: &'a Bounds,
    against: Option<&'a Bounds>,
    /// The reserved bits of an address.
    address: Reserved,
}

type Visit<'a> = &'a mut dyn FnMut(Move) -> bool;

impl TestMoves<'_> {
    fn of(&self, test: Test, visit: Visit<'_>) -> bool {
        match test {
            Test::AddressTooWide(word) => self.address(word, u64::MAX, 0, visit),
            Test::NotAPageAddress(word) => self.address(word, u64::MAX, PAGE_OFFSET, visit),
            Test::PointerTooWide(word) => self.address(word, POINTER, 0, visit),
            Test::AvicPointerTooWide => self.avic_pointers(visit),
            Test::TableTooHigh { word, size } => self.table(word, size, visit),
            Test::Cr4Reserved => self.reserved_bits(Word::Cr4, |bounds| bounds.cr4, visit),
            Test::EferReserved => self.reserved_bits(Word::Efer, |bounds| bounds.efer, visit),
            Test::PatInvalid => self.memory_types(visit),
            Test::PdpteReserved => self.pdptes(visit),
            Test::EventTypeReserved => {
                (0..8).any(|kind| visit(Move::of(Word::EventInj, Event::TYPE, kind << 8)))
            }
            Test::VectorReserved => self.vectors(visit),
            Test::SoftwareOrBpOrOf => {
                let kind = if self.wanted { EventType::SOFTWARE } else { EventType::INTERRUPT };
                visit(Move::of(Word::EventInj, Event::TYPE, u64::from(kind.bits()) << 8))
            }
            Test::AsidAboveSevMaximum => self.asid_above_maximum(visit),
            Test::AsidBelowSevMinimum => self.asid_below_minimum(visit),
            Test::CounterEnabled => self.counters(visit),
            Test::SevFeatureNotAllowed => self.sev_features(visit),
        }
    }

    /// The bits that only this CPU refuses, then all others that it refuses.
    fn refused(certain: u64, elsewhere: Option<u64>) -> [u64; 2] {
        let only_here = elsewhere.map_or(0, |possible| certain & !possible);
        [only_here, certain & !only_here]
    }

    fn one_bit(word: Word, groups: [u64; 2], visit: Visit<'_>) -> bool {
        groups.into_iter().flat_map(bits_of).any(|bit| visit(Move::of(word, bit, bit)))
    }

    /// The reserved address bits in `mask`, as [`refused`](Self::refused) groups them.
    fn refused_address(&self, mask: u64) -> [u64; 2] {
        Self::refused(self.address.certain & mask, self.against.map(too_high))
    }

    /// An address whose reserved bits are those in `mask`, and `low`.
    fn address(&self, word: Word, mask: u64, low: u64, visit: Visit<'_>) -> bool {
        if self.wanted {
            let [here, rest] = self.refused_address(mask);
            Self::one_bit(word, [here, rest | low], visit)
        } else {
            visit(Move::of(word, self.address.possible | low, 0))
        }
    }

    fn avic_pointers(&self, visit: Visit<'_>) -> bool {
        if self.wanted {
            return Self::one_bit(Word::AvicBackingPage, self.refused_address(POINTER), visit);
        }
        let mut all = Move::default();
        for word in [Word::AvicBackingPage, Word::AvicLogicalTable, Word::AvicPhysicalTable] {
            all.push(word, self.address.possible & POINTER, 0);
        }
        visit(all)
    }

    fn table(&self, word: Word, size: u64, visit: Visit<'_>) -> bool {
        if !self.wanted {
            let last = self.bounds.lowest_limit().wrapping_sub(size) & !PAGE_OFFSET;
            return visit(Move::of(word, u64::MAX, last));
        }
        let limit = self.bounds.highest_limit();
        // A bit beyond the limit may be the other CPU's C-bit.
        let first = (limit.wrapping_sub(size) & !PAGE_OFFSET).wrapping_add(PAGE_OFFSET + 1);
        let mut bases = [first].into_iter().chain(bits_of(limit.wrapping_neg()));
        bases.any(|base| visit(Move::of(word, u64::MAX, base)))
    }

    /// Visits changes of a register whose reserved bits depend on the CPU's features.
    fn reserved_bits(&self, word: Word, of: fn(&Bounds) -> Reserved, visit: Visit<'_>) -> bool {
        let reserved = of(self.bounds);
        if self.wanted {
            let elsewhere = self.against.map(|other| of(other).possible);
            Self::one_bit(word, Self::refused(reserved.certain, elsewhere), visit)
        } else {
            visit(Move::of(word, reserved.possible, 0))
        }
    }

    /// 2 is not a memory type; 0 is one.
    fn memory_types(&self, visit: Visit<'_>) -> bool {
        if self.wanted {
            return visit(Move::of(Word::GPat, 0xFF, 2));
        }
        (0..64).step_by(8).any(|byte| visit(Move::of(Word::GPat, 0xFF << byte, 0)))
            || visit(Move::of(Word::GPat, u64::MAX, 0))
    }

    fn pdptes(&self, visit: Visit<'_>) -> bool {
        if self.wanted {
            // A present entry; bit 1 is reserved everywhere.
            let [here, rest] = self.refused_address(u64::MAX);
            let mut bits = bits_of(here).chain([1 << 1]).chain(bits_of(rest));
            return bits.any(|bit| visit(Move::of(Word::Pdpte0, u64::MAX, 1 | bit)));
        }
        let mut all = Move::default();
        for word in [Word::Pdpte0, Word::Pdpte1, Word::Pdpte2, Word::Pdpte3] {
            all.push(word, !1, 0);
        }
        visit(all)
    }

    fn vectors(&self, visit: Visit<'_>) -> bool {
        if !self.wanted {
            let vector = self.view.bits(Word::EventInj).value() & Event::VECTOR;
            return bits_of(0x1F).any(|bit| visit(Move::of(Word::EventInj, Event::VECTOR, vector ^ bit)));
        }
        let elsewhere = self.against.map(|other| other.reserved_vectors);
        let here = |vector: &Vector| elsewhere.is_none_or(|other| !other.contains(*vector));
        let reserved = || self.bounds.reserved_vectors.iter();
        let chosen = reserved().filter(here).chain(reserved());
        let mut moves = chosen.map(|vector| Move::of(Word::EventInj, Event::VECTOR, vector.number().into()));
        moves.any(visit)
    }

    /// Next to the bound; or beyond the other bound too, of either CPU.
    fn asid_above_maximum(&self, visit: Visit<'_>) -> bool {
        let maximum = self.bounds.sev_asid_maximum;
        let asid = if self.wanted { u64::from(maximum.highest) + 1 } else { maximum.lowest.into() };
        let minimum = |bounds: &Bounds| u64::from(bounds.sev_asid_minimum.highest);
        let further = [minimum(self.bounds), self.against.map_or(asid, minimum)];
        visit(asid_is(asid))
            || further.into_iter().filter(|&other| other > asid).any(|asid| visit(asid_is(asid)))
    }

    /// As for the maximum.
    fn asid_below_minimum(&self, visit: Visit<'_>) -> bool {
        let minimum = self.bounds.sev_asid_minimum;
        let asid = if self.wanted { minimum.lowest.saturating_sub(1) } else { minimum.highest };
        let maximum = |bounds: &Bounds| u64::from(bounds.sev_asid_maximum.lowest);
        let further = [maximum(self.bounds), self.against.map_or(asid.into(), maximum)];
        let mut further = further.into_iter().filter(|&other| other < asid.into());
        visit(asid_is(asid.into())) || further.any(|asid| visit(asid_is(asid)))
    }

    fn counters(&self, visit: Visit<'_>) -> bool {
        if self.wanted {
            let mut enables =
                COUNTER_ENABLES.iter().flat_map(|&(word, mask)| bits_of(mask).map(move |bit| (word, bit)));
            return enables.any(|(word, bit)| visit(Move::of(word, bit, bit)));
        }
        let mut all = Move::default();
        COUNTER_ENABLES.iter().for_each(|&(word, mask)| all.push(word, mask, 0));
        visit(all)
    }

    fn sev_features(&self, visit: Visit<'_>) -> bool {
        if !self.wanted {
            let features = self.view.bits(Word::SevFeatures).value();
            return visit(Move::of(Word::AllowedSevFeatures, features & SEV_FEATURE_BITS, u64::MAX));
        }
        bits_of(SEV_FEATURE_BITS).any(|bit| {
            let mut one = Move::of(Word::SevFeatures, bit, bit);
            one.push(Word::AllowedSevFeatures, bit, 0);
            visit(one)
        })
    }
}
