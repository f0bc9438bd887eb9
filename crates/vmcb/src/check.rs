//! The check of a complete VMCB: straight-line where it accepts.
//!
//! Each row becomes code of its own: the conditions are constants, so the compiler sees a load, a mask and
//! a compare for each. The pass asks only whether some rule *may* be broken; where none may, that is the
//! answer. Naming what is broken is the judge's work, out of line.

use crate::environment::{Environment, Inputs};
use crate::event::Event;
use crate::exception::Vector;
use crate::feature::Feature;
use crate::judge::{Verdict, View, read_le};
use crate::known::Bits;
use crate::layout::PAGE_SIZE;
use crate::limits::Limits;
use crate::literal::{CBit, Literal, State, mode};
use crate::register::{Cr0, CsAttributes, Mode, NestedCtl};
use crate::rules::{MAX_LITERALS, ON_EVENT, ROWS, Rule, RuleSet, for_each_rule, needs_sev};
use crate::word::{Source, Word};
use core::marker::PhantomData;

/// A complete page of a guest that has neither SEV nor SEV-ES on.
struct Plain<'a> {
    page: &'a [u8; PAGE_SIZE],
    limits: &'a Limits,
    environment: &'a Environment<'a>,
    /// What is derived; unknown while it is being derived.
    mode: Bits,
}

impl<'a> Plain<'a> {
    #[inline(always)]
    fn new(page: &'a [u8; PAGE_SIZE], limits: &'a Limits, environment: &'a Environment<'a>) -> Self {
        let underived = Self { page, limits, environment, mode: Bits::UNKNOWN };
        let mode = mode(&underived);
        Self { mode, ..underived }
    }
}

impl State for Plain<'_> {
    #[inline(always)]
    fn bits(&self, word: Word) -> Bits {
        match word.source() {
            Source::Control(field) | Source::Save(field) => {
                Bits::known(read_le(self.page, field.offset, field.size))
            }
            Source::Cpu => self.limits.cpu().features,
            Source::Derived => self.mode,
            Source::Environment | Source::Vmsa(_) => self.environment.bits(word),
        }
    }

    #[inline(always)]
    fn limits(&self) -> &Limits {
        self.limits
    }

    #[inline(always)]
    fn c_bit(&self) -> CBit {
        // The pass that accepts leaves it in the address; the judge knows better.
        CBit { certain: 0, possible: self.limits.c_bit }
    }
}

/// Whether a rule that is not about SEV may be broken.
#[inline(always)]
fn some_rule_may_be_broken(state: &Plain<'_>) -> bool {
    let mut some = false;
    let event = Event::from_bits(read_le(state.page, EVENTINJ.offset, EVENTINJ.size));
    macro_rules! ask {
        ($rule:expr) => {
            // The rules about events have a table of their own; those about SEV guests cannot be broken.
            if const { !ON_EVENT.contains(Rule::ALL[$rule]) && !needs_sev($rule) } {
                some |= may_be_broken::<{ $rule }>(state);
            }
        };
    }
    for_each_rule!(ask);
    some | !state.limits.accepts_event(event, guest_mode(state))
}

const EVENTINJ: crate::layout::Field = crate::layout::vmcb_field::eventinj;

/// Whether all conditions of a rule may hold.
// Unoptimised, each inlined rule keeps its temporaries on the stack for the whole pass: megabytes.
#[cfg_attr(not(debug_assertions), inline(always))]
fn may_be_broken<const RULE: usize>(state: &Plain<'_>) -> bool {
    const { assert!(MAX_LITERALS == 5) };
    literal_may_hold::<RULE, 0>(state)
        & literal_may_hold::<RULE, 1>(state)
        & literal_may_hold::<RULE, 2>(state)
        & literal_may_hold::<RULE, 3>(state)
        & literal_may_hold::<RULE, 4>(state)
}

#[inline(always)]
fn literal_may_hold<const RULE: usize, const INDEX: usize>(state: &Plain<'_>) -> bool {
    match const { literal(RULE, INDEX) } {
        Some(literal) => literal.may_be(state, true),
        None => true,
    }
}

const fn literal(rule: usize, index: usize) -> Option<Literal> {
    if index < ROWS[rule].when.len() { Some(ROWS[rule].when[index]) } else { None }
}

/// The mode that VMRUN takes the guest of this page to be in.
#[inline(always)]
fn guest_mode(state: &Plain<'_>) -> GuestMode {
    let long = state.bits(Word::Mode).only(Mode::LONG.bits());
    let paging = state.bits(Word::Cr0).only(Cr0::PG.bits());
    let l = state.bits(Word::CsAttributes).only(CsAttributes::L.bits());
    // Where long mode is not known, 64-bit mode accepts less.
    GuestMode((long.may_set() & paging.may_set() & l.may_set()) as u8)
}

/// Which rules a complete VMCB breaks, as VMRUN would read it now.
///
/// # Examples
/// ```
/// use vmcb::{Cpu, Decision, Environment, Limits, Policy, Rule};
/// let limits = Limits::compile(&Cpu::parse("EPYC-Milan,phys-bits=48").unwrap(), Policy::VirtualCpu);
/// let verdict = vmcb::check(&[0; 4096], &limits, &Environment::real_host());
/// assert_eq!(verdict.decision(), Decision::Refused);
/// let broken: Vec<_> = verdict.broken().iter().map(Rule::id).collect();
/// assert_eq!(broken, ["ctl-vmrun-intercept-clear", "ctl-asid-zero", "sav-efer-svme-clear"]);
/// ```
#[inline]
pub fn check(vmcb: &[u8; PAGE_SIZE], limits: &Limits, environment: &Environment<'_>) -> Verdict {
    if passes(vmcb, limits, environment) { Verdict::ACCEPTED } else { name(vmcb, limits, environment) }
}

/// Whether no rule can be broken: the pass that accepts.
#[inline(always)]
fn passes(vmcb: &[u8; PAGE_SIZE], limits: &Limits, environment: &Environment<'_>) -> bool {
    const ENCRYPTED: u64 = NestedCtl::SEV.union(NestedCtl::SEV_ES).bits();
    let state = Plain::new(vmcb, limits, environment);
    let may_encrypt = limits.cpu().features.may_set() & (Feature::Sev.mask() | Feature::SevEs.mask()) != 0;
    let encrypted = state.bits(Word::NestedCtl).value() & ENCRYPTED != 0;
    !(may_encrypt & encrypted | some_rule_may_be_broken(&state))
}

#[cold]
#[inline(never)]
fn name(vmcb: &[u8; PAGE_SIZE], limits: &Limits, environment: &Environment<'_>) -> Verdict {
    View::complete(vmcb, limits, environment).judge()
}

/// What the caller of [`admit`] answers for himself, as a type.
pub trait TakesOver {
    /// The inputs.
    const INPUTS: Inputs;
}

/// The caller answers for nothing.
#[derive(Clone, Copy, Debug)]
pub enum Nothing {}

impl TakesOver for Nothing {
    const INPUTS: Inputs = Inputs::NONE;
}

/// A VMCB in which no rule is broken and none undecided, but for what `T` says that the caller took over.
///
/// Only [`admit`] makes one:
///
/// ```compile_fail,E0451
/// let page = [0; 4096];
/// let forged = vmcb::Checked::<vmcb::Nothing> { vmcb: &page, taken_over: core::marker::PhantomData };
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Checked<'a, T: TakesOver = Nothing> {
    vmcb: &'a [u8; PAGE_SIZE],
    taken_over: PhantomData<T>,
}

impl<'a, T: TakesOver> Checked<'a, T> {
    /// The page.
    #[must_use]
    pub const fn page(&self) -> &'a [u8; PAGE_SIZE] {
        self.vmcb
    }

    /// What the caller answers for.
    #[must_use]
    pub const fn taken_over(&self) -> Inputs {
        T::INPUTS
    }
}

/// [`check`], and the proof of it.
///
/// The page must be a private copy: one that a guest can still write proves nothing.
///
/// # Errors
/// The verdict, when a rule is broken or undecided, or when `environment` takes over more than `T` says.
///
/// # Examples
/// ```
/// use vmcb::{Cpu, Environment, Input, Inputs, Limits, Policy, TakesOver};
/// /// Our engine raises VMRUN's own faults and reads the PDPTEs itself.
/// enum Engine {}
/// impl TakesOver for Engine {
///     const INPUTS: Inputs = Inputs::NONE
///         .with(Input::HostMode).with(Input::VmcbAddress).with(Input::Pdptes).with(Input::UCet);
/// }
/// let limits = Limits::compile(&Cpu::parse("EPYC-Milan,phys-bits=48").unwrap(), Policy::VirtualCpu);
/// let environment = Engine::INPUTS.iter().fold(Environment::unknown(), |e, input| e.take_over(input));
/// let mut page = [0; 4096];
/// assert!(vmcb::admit::<Engine>(&page, &limits, &environment).is_err());
/// page[0x10] = 1; // intercept VMRUN
/// page[0x58] = 1; // ASID
/// page[0x4D1] = 0x10; // EFER.SVME
/// assert!(vmcb::admit::<Engine>(&page, &limits, &environment).is_ok());
/// ```
#[inline]
pub fn admit<'a, T: TakesOver>(
    vmcb: &'a [u8; PAGE_SIZE],
    limits: &Limits,
    environment: &Environment<'_>,
) -> Result<Checked<'a, T>, Verdict> {
    let verdict = check(vmcb, limits, environment);
    if verdict.is_accepted() && T::INPUTS.contains_all(environment.taken_over()) {
        Ok(Checked { vmcb, taken_over: PhantomData })
    } else {
        Err(verdict)
    }
}

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

    /// The same guest under SNP with Alternate Injection: the control area's EVENTINJ is ignored.
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
                    bits = bits.union(Mode::SNP).union(Mode::ALTERNATE);
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
pub fn accepted_exceptions(limits: &Limits, mode: GuestMode) -> crate::ExceptionSet {
    (0..32).map(Vector::new).fold(crate::ExceptionSet::EMPTY, |set, vector| {
        let event = Event::new(crate::EventType::EXCEPTION, vector);
        if limits.accepts_event(event, mode) { set.with(vector) } else { set }
    })
}
