//! What would make a literal hold, or fail: the changes from which witnesses are searched.
//!
//! A move is only a proposal. Whoever applies one asks the literal itself whether it worked, so nothing here
//! decides what a condition means.

use crate::event::Event;
use crate::exception::Vector;
use crate::judge::View;
use crate::limits::Limits;
use crate::literal::{COUNTER_ENABLES, Literal, MODE_SOURCES, PAGE_OFFSET, POINTER, State, Test};
use crate::word::Word;

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
/// `against` are the limits of a CPU that should see nothing wrong in it: what only the CPU of `view` refuses
/// comes first.
pub(crate) fn moves(
    literal: Literal,
    wanted: bool,
    view: &View<'_>,
    against: Option<&Limits>,
    visit: &mut dyn FnMut(Move) -> bool,
) -> bool {
    match (literal, wanted) {
        (Literal::Holds(test), _) => test_moves(test, wanted, view, against, visit),
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
            visit(Move::of(word, mask, value))
        }
        (Literal::Is { word, mask, value }, false) | (Literal::IsNot { word, mask, value }, true) => {
            bits_of(mask).any(|bit| visit(Move::of(word, bit, !value)))
        }
    }
}

/// What one bit of the derived word rests on, without the CPU's features, which no move changes.
fn sources(bit: u64) -> impl Iterator<Item = (Word, u64)> + Clone {
    let row = MODE_SOURCES.iter().filter(move |(of, _)| of.bits() == bit);
    row.flat_map(|(_, sources)| sources.iter().copied()).filter(|(word, _)| *word != Word::Cpu)
}

fn asid_is(asid: u64) -> Move {
    Move::of(Word::Asid, u64::MAX, asid)
}

fn test_moves(
    test: Test,
    wanted: bool,
    view: &View<'_>,
    against: Option<&Limits>,
    visit: &mut dyn FnMut(Move) -> bool,
) -> bool {
    let limits = view.limits();
    let address = view.address_reserved();
    // The bits that only this CPU refuses, then all that it refuses.
    let refused = |certain: u64, elsewhere: Option<u64>| {
        let only_here = elsewhere.map_or(0, |possible| certain & !possible);
        [only_here, certain & !only_here]
    };
    let too_high = |limits: &Limits| limits.lowest_limit().wrapping_neg() & !limits.c_bit;
    let one_bit = |word: Word, groups: [u64; 2], visit: &mut dyn FnMut(Move) -> bool| {
        groups.into_iter().flat_map(bits_of).any(|bit| visit(Move::of(word, bit, bit)))
    };
    match (test, wanted) {
        (Test::AddressTooWide(word), true) => {
            one_bit(word, refused(address.certain, against.map(too_high)), visit)
        }
        (Test::NotAPageAddress(word), true) => {
            let [here, rest] = refused(address.certain, against.map(too_high));
            one_bit(word, [here, rest | PAGE_OFFSET], visit)
        }
        (Test::PointerTooWide(word), true) => {
            one_bit(word, refused(address.certain & POINTER, against.map(too_high)), visit)
        }
        (Test::AvicPointerTooWide, true) => {
            one_bit(Word::AvicBackingPage, refused(address.certain & POINTER, against.map(too_high)), visit)
        }
        (Test::AddressTooWide(word) | Test::PointerTooWide(word), false) => {
            visit(Move::of(word, address.possible, 0))
        }
        (Test::NotAPageAddress(word), false) => visit(Move::of(word, address.possible | PAGE_OFFSET, 0)),
        (Test::AvicPointerTooWide, false) => {
            let mut all = Move::default();
            for word in [Word::AvicBackingPage, Word::AvicLogicalTable, Word::AvicPhysicalTable] {
                all.push(word, address.possible & POINTER, 0);
            }
            visit(all)
        }
        (Test::TableTooHigh { word, size }, true) => {
            let limit = limits.highest_limit();
            // A bit beyond the limit may be the other CPU's C-bit.
            let first = (limit.wrapping_sub(size) & !PAGE_OFFSET).wrapping_add(PAGE_OFFSET + 1);
            [first]
                .into_iter()
                .chain(bits_of(limit.wrapping_neg()))
                .any(|base| visit(Move::of(word, u64::MAX, base)))
        }
        (Test::TableTooHigh { word, size }, false) => {
            visit(Move::of(word, u64::MAX, limits.lowest_limit().wrapping_sub(size) & !PAGE_OFFSET))
        }
        (Test::Cr4Reserved, true) => {
            one_bit(Word::Cr4, refused(limits.cr4.certain, against.map(|other| other.cr4.possible)), visit)
        }
        (Test::Cr4Reserved, false) => visit(Move::of(Word::Cr4, limits.cr4.possible, 0)),
        (Test::EferReserved, true) => {
            one_bit(Word::Efer, refused(limits.efer.certain, against.map(|other| other.efer.possible)), visit)
        }
        (Test::EferReserved, false) => visit(Move::of(Word::Efer, limits.efer.possible, 0)),
        // 2 is no memory type; 0 is one.
        (Test::PatInvalid, true) => visit(Move::of(Word::GPat, 0xFF, 2)),
        (Test::PatInvalid, false) => {
            (0..64).step_by(8).any(|byte| visit(Move::of(Word::GPat, 0xFF << byte, 0)))
                || visit(Move::of(Word::GPat, u64::MAX, 0))
        }
        (Test::PdpteReserved, true) => {
            // A present entry; bit 1 is reserved everywhere.
            let [here, rest] = refused(address.certain, against.map(too_high));
            bits_of(here)
                .chain([1 << 1])
                .chain(bits_of(rest))
                .any(|bit| visit(Move::of(Word::Pdpte0, u64::MAX, 1 | bit)))
        }
        (Test::PdpteReserved, false) => {
            let mut all = Move::default();
            for word in [Word::Pdpte0, Word::Pdpte1, Word::Pdpte2, Word::Pdpte3] {
                all.push(word, !1, 0);
            }
            visit(all)
        }
        (Test::EventTypeReserved, _) => {
            (0..8).any(|kind| visit(Move::of(Word::EventInj, Event::TYPE, kind << 8)))
        }
        (Test::VectorReserved, true) => {
            let elsewhere = against.map(|other| other.reserved_vectors);
            let here = |vector: &Vector| elsewhere.is_none_or(|other| !other.contains(*vector));
            let reserved = || limits.reserved_vectors.iter();
            let chosen = reserved().filter(here).chain(reserved());
            let mut moves =
                chosen.map(|vector| Move::of(Word::EventInj, Event::VECTOR, vector.number().into()));
            moves.any(&mut *visit)
        }
        (Test::VectorReserved, false) => {
            let vector = view.bits(Word::EventInj).value() & Event::VECTOR;
            bits_of(0x1F).any(|bit| visit(Move::of(Word::EventInj, Event::VECTOR, vector ^ bit)))
        }
        (Test::SoftwareOrBpOrOf, true) => visit(Move::of(Word::EventInj, Event::TYPE, 4 << 8)),
        (Test::SoftwareOrBpOrOf, false) => visit(Move::of(Word::EventInj, Event::TYPE, 0)),
        // Next to the bound; or beyond the other bound too, of either CPU.
        (Test::AsidAboveSevMaximum, _) => {
            let maximum = limits.sev_asid_maximum;
            let asid = if wanted { u64::from(maximum.highest) + 1 } else { maximum.lowest.into() };
            let minimum = |limits: &Limits| u64::from(limits.sev_asid_minimum.highest);
            let further = [minimum(limits), against.map_or(asid, minimum)];
            visit(asid_is(asid))
                || further.into_iter().filter(|&other| other > asid).any(|asid| visit(asid_is(asid)))
        }
        (Test::AsidBelowSevMinimum, _) => {
            let minimum = limits.sev_asid_minimum;
            let asid = if wanted { minimum.lowest.saturating_sub(1) } else { minimum.highest };
            let maximum = |limits: &Limits| u64::from(limits.sev_asid_maximum.lowest);
            let further = [maximum(limits), against.map_or(asid.into(), maximum)];
            let mut further = further.into_iter().filter(|&other| other < asid.into());
            visit(asid_is(asid.into())) || further.any(|asid| visit(asid_is(asid)))
        }
        (Test::CounterEnabled, true) => COUNTER_ENABLES
            .iter()
            .any(|&(word, mask)| bits_of(mask).any(|bit| visit(Move::of(word, bit, bit)))),
        (Test::CounterEnabled, false) => {
            let mut all = Move::default();
            COUNTER_ENABLES.iter().for_each(|&(word, mask)| all.push(word, mask, 0));
            visit(all)
        }
        (Test::SevFeatureNotAllowed, true) => bits_of(u64::MAX >> 2).any(|bit| {
            let mut one = Move::of(Word::SevFeatures, bit, bit);
            one.push(Word::AllowedSevFeatures, bit, 0);
            visit(one)
        }),
        (Test::SevFeatureNotAllowed, false) => {
            let features = view.bits(Word::SevFeatures).value();
            visit(Move::of(Word::AllowedSevFeatures, features & u64::MAX >> 2, u64::MAX))
        }
    }
}
