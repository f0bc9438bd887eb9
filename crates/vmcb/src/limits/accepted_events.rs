//! The events that are accepted for certain, and the guest modes on which that depends.

use crate::cpu::bounds::Bounds;
use crate::defs::event::Event;
use crate::defs::known::Bits;
use crate::defs::register::Mode;
use crate::defs::word::Word;
use crate::rules::set::{ON_EVENT, RuleSet};
use crate::rules::state::{CBit, State};
use crate::rules::table::Rule;

/// What EVENTINJ's rules ask of the guest: whether it is in 64-bit mode, and how events reach it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct GuestMode(u8);

impl GuestMode {
    /// Any mode but 64-bit mode: compatibility, legacy PAE, 32-bit, paged real, real.
    pub const OTHER: Self = Self(0);
    /// 64-bit mode: long mode (EFER.LME and CR0.PG) with CS.L.
    pub const BITS_64: Self = Self(1);

    const SEV_ES: u8 = 1 << 1;
    const RESTRICTED: u8 = 2 << 1;
    const ALTERNATE: u8 = 3 << 1;
    const INJECTION: u8 = 3 << 1;
    const COUNT: usize = 8;

    /// A plain guest, in 64-bit mode or in another one.
    #[must_use]
    #[inline(always)]
    pub const fn in_64_bit_mode(is_64_bit: bool) -> Self {
        Self(is_64_bit as u8)
    }

    /// The same guest with SEV-ES, or with SEV-SNP and neither Restricted nor Alternate Injection.
    #[must_use]
    pub const fn with_sev_es(self) -> Self {
        Self(self.0 & !Self::INJECTION | Self::SEV_ES)
    }

    /// The same guest under SNP with Restricted Injection.
    #[must_use]
    pub const fn with_restricted_injection(self) -> Self {
        Self(self.0 & !Self::INJECTION | Self::RESTRICTED)
    }

    /// The same guest under SNP with Alternate Injection or Secure AVIC: the control area's EVENTINJ is
    /// ignored.
    #[must_use]
    pub const fn with_alternate_injection(self) -> Self {
        Self(self.0 & !Self::INJECTION | Self::ALTERNATE)
    }

    const fn is_64_bit(self) -> bool {
        self.0 & Self::BITS_64.0 != 0
    }
}

/// Which events are accepted for certain, for each guest mode: a bit for each EV, TYPE and VECTOR, as
/// they stand in EVENTINJ's bits 11:0. Made from the rules.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub(crate) struct AcceptedEvents([[u32; AcceptedEvents::WORDS]; GuestMode::COUNT]);

impl AcceptedEvents {
    /// Bits 11:5 select a word, 4:0 the bit in it.
    const WORDS: usize = 1 << 7;
    const NONE: Self = Self([[0; Self::WORDS]; GuestMode::COUNT]);

    pub(super) fn of(bounds: &Bounds, rules: RuleSet) -> Self {
        let mut table = Self::NONE;
        for (mode, words) in (0..).map(GuestMode).zip(&mut table.0) {
            let accepted = |low: u64| {
                let event = Event::from_bits(Event::V | low);
                Injection { event, mode, bounds }.may_break(rules).is_empty()
            };
            for (low, word) in (0..).step_by(32).zip(words) {
                let exception = low & Event::TYPE == 3 << 8;
                // But for TYPE 3 with a vector below 32 no rule tells one vector of 32 from another: both
                // ends stand for all. (The tests compare all 4,096.)
                let one_by_one = exception && low & 0xE0 == 0;
                *word = if one_by_one {
                    (0..32).filter(|&bit| accepted(low | bit)).fold(0, |set, bit| set | 1 << bit)
                } else if accepted(low) && accepted(low | 31) {
                    u32::MAX
                } else {
                    0
                };
            }
        }
        table
    }

    #[inline(always)]
    pub(super) const fn accept(&self, event: Event, mode: GuestMode) -> bool {
        let low = event.bits() as u32;
        let word = self.0[mode.0 as usize % GuestMode::COUNT][(low >> 5) as usize % Self::WORDS];
        !event.valid() || word >> (low % 32) & 1 != 0
    }
}

/// A guest of which only the mode is known.
pub(crate) struct Injection<'a> {
    pub(crate) event: Event,
    pub(crate) mode: GuestMode,
    pub(crate) bounds: &'a Bounds,
}

impl State for Injection<'_> {
    fn bits(&self, word: Word) -> Bits {
        let all = |on: bool| Bits::known(if on { u64::MAX } else { 0 });
        let injection = self.mode.0 & GuestMode::INJECTION;
        match word {
            Word::EventInj => Bits::known(self.event.bits()),
            Word::Cpu => self.bounds.cpu.features,
            Word::Cr0 | Word::CsAttributes => all(self.mode.is_64_bit()),
            Word::Mode => {
                let mut bits = Mode::from_bits(0);
                if self.mode.is_64_bit() {
                    bits = bits.union(Mode::LONG);
                }
                if injection != 0 {
                    bits = bits.union(Mode::SEV_ES);
                }
                if injection == GuestMode::RESTRICTED {
                    bits = bits.union(Mode::SNP).union(Mode::RESTRICTED);
                }
                if injection == GuestMode::ALTERNATE {
                    bits = bits.union(Mode::SNP).union(Mode::ALTERNATE).union(Mode::VMSA_EVENTS);
                }
                Bits::known(bits.bits())
            }
            // No rule on events reads anything else.
            _ => Bits::TAKEN_OVER,
        }
    }

    fn bounds(&self) -> &Bounds {
        self.bounds
    }

    fn c_bit(&self) -> CBit {
        CBit { certain: 0, possible: self.bounds.c_bit }
    }
}

impl Injection<'_> {
    /// Those of `rules` that the event may break.
    pub(crate) fn may_break(&self, rules: RuleSet) -> RuleSet {
        // The control area's EVENTINJ is not read.
        if self.mode.0 & GuestMode::INJECTION == GuestMode::ALTERNATE {
            return RuleSet::EMPTY;
        }
        let rules = ON_EVENT.intersection(rules).iter();
        rules.filter(|rule| rule.row().when.iter().all(|literal| literal.may_be(self, true))).collect()
    }

    /// Those of `rules` whose conditions all hold, if each of them may hold.
    pub(crate) fn breaks(&self, rules: RuleSet) -> RuleSet {
        let some_may_fail = |rule: &Rule| rule.row().when.iter().any(|literal| literal.may_be(self, false));
        rules.iter().filter(|rule| !some_may_fail(rule)).collect()
    }
}
