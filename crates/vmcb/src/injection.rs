//! Events about to be injected: which EVENTINJ accepts, in a few instructions.

use crate::event::{Event, EventType};
use crate::exception::{ExceptionSet, Vector};
use crate::known::Bits;
use crate::limits::Limits;
use crate::literal::{CBit, State};
use crate::register::Mode;
use crate::rules::{ON_EVENT, RuleSet};
use crate::verdict::Verdict;
use crate::word::Word;

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
pub(crate) struct EventTable([[u32; EventTable::WORDS]; GuestMode::COUNT]);

impl EventTable {
    /// Bits 11:5 select a word, 4:0 the bit in it.
    const WORDS: usize = 1 << 7;
    pub(crate) const NONE: Self = Self([[0; Self::WORDS]; GuestMode::COUNT]);

    pub(crate) fn of(limits: &Limits) -> Self {
        let mut table = Self::NONE;
        for (mode, words) in (0..).map(GuestMode).zip(&mut table.0) {
            let accepted =
                |low: u64| judge_event(Event::from_bits(Event::V | low), mode, limits).is_accepted();
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
}

impl Limits {
    /// Whether EVENTINJ may hold this for certain: yes or no, in a few instructions.
    ///
    /// `false` is also the answer where it is not decided; [`check_event`] says which.
    #[must_use]
    #[inline(always)]
    pub const fn accepts_event(&self, event: Event, mode: GuestMode) -> bool {
        let low = event.bits() as u32;
        let word = self.events.0[mode.0 as usize % GuestMode::COUNT][(low >> 5) as usize % EventTable::WORDS];
        !event.valid() || word >> (low % 32) & 1 != 0
    }
}

/// Which rules an event breaks that is about to be written to EVENTINJ.
///
/// # Examples
/// ```
/// use vmcb::{Cpu, Event, EventType, GuestMode, Limits, Policy, Rule, Vector, check_event};
/// let limits = Limits::compile(&Cpu::parse("EPYC-Milan").unwrap(), Policy::VirtualCpu);
/// let page_fault = Event::new(EventType::EXCEPTION, Vector::new(14)).with_error_code(2);
/// assert!(check_event(page_fault, GuestMode::BITS_64, &limits).is_accepted());
/// let nmi_as_exception = Event::new(EventType::EXCEPTION, Vector::new(2));
/// let verdict = check_event(nmi_as_exception, GuestMode::BITS_64, &limits);
/// assert!(verdict.broken().iter().eq([Rule::EvtExcVector2]));
/// ```
#[inline]
pub fn check_event(event: Event, mode: GuestMode, limits: &Limits) -> Verdict {
    if limits.accepts_event(event, mode) { Verdict::ACCEPTED } else { judge_event(event, mode, limits) }
}

/// A guest of which only the mode is known.
struct Injection<'a> {
    event: Event,
    mode: GuestMode,
    limits: &'a Limits,
}

impl State for Injection<'_> {
    fn bits(&self, word: Word) -> Bits {
        let all = |on: bool| Bits::known(if on { u64::MAX } else { 0 });
        let injection = self.mode.0 & GuestMode::INJECTION;
        match word {
            Word::EventInj => Bits::known(self.event.bits()),
            Word::Cpu => self.limits.cpu().features,
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

    fn limits(&self) -> &Limits {
        self.limits
    }

    fn c_bit(&self) -> CBit {
        CBit { certain: 0, possible: self.limits.c_bit }
    }
}

#[cold]
#[inline(never)]
fn judge_event(event: Event, mode: GuestMode, limits: &Limits) -> Verdict {
    if mode.0 & GuestMode::INJECTION == GuestMode::ALTERNATE {
        return Verdict::ACCEPTED;
    }
    let state = Injection { event, mode, limits };
    let rules = ON_EVENT.intersection(limits.rules());
    let possible: RuleSet = rules
        .iter()
        .filter(|rule| rule.row().when.iter().all(|literal| literal.may_be(&state, true)))
        .collect();
    let met = possible
        .iter()
        .filter(|rule| !rule.row().when.iter().any(|literal| literal.may_be(&state, false)))
        .collect();
    Verdict::of(met, possible)
}

/// The vectors that TYPE 3 may carry for such a guest, for certain, without an error code.
#[must_use]
pub fn accepted_exceptions(limits: &Limits, mode: GuestMode) -> ExceptionSet {
    (0..32).map(Vector::new).fold(ExceptionSet::EMPTY, |set, vector| {
        let event = Event::new(EventType::EXCEPTION, vector);
        if limits.accepts_event(event, mode) { set.with(vector) } else { set }
    })
}
