//! The judgement of a VMCB of which anything may be unknown.

use super::environment::{Environment, Vmsa};
use super::verdict::Verdict;
use crate::cpu::bounds::Bounds;
use crate::cpu::feature::Feature;
use crate::cpu::gates::{features_of_cr4, features_of_efer};
use crate::cpu::reserved::Reserved;
use crate::defs::bytes::read_le;
use crate::defs::event::Event;
use crate::defs::exit_code::ExitCode;
use crate::defs::known::{Bits, KnownPage};
use crate::defs::layout::{Field, PAGE_SIZE, vmcb_field, vmsa_field};
use crate::defs::phase::Phase;
use crate::defs::register::{Host, IntCtl, Mode, NestedCtl, SevFeatures, VintrCtrl};
use crate::defs::word::{Source, Word};
use crate::limits::compiled::Limits;
use crate::rules::literal::Literal;
use crate::rules::mode::mode;
use crate::rules::predicate::Test;
use crate::rules::set::{ON_EVENT, REFUSING, RuleSet};
use crate::rules::state::{CBit, State};
use crate::rules::table::Rule;
use core::fmt;

/// A page to judge: complete or partly known.
#[derive(Clone, Copy)]
enum Bytes<'a> {
    Nothing,
    TakenOver,
    Complete(&'a [u8; PAGE_SIZE]),
    Partial(&'a KnownPage),
}

impl Bytes<'_> {
    fn read(self, field: Field) -> Bits {
        match self {
            Self::Nothing => Bits::UNKNOWN,
            Self::TakenOver => Bits::TAKEN_OVER,
            Self::Complete(page) => Bits::known(read_le(page, field.offset, field.size)),
            Self::Partial(page) => page.field(field),
        }
    }
}

/// What was known when a VMCB was judged: each word that the rules read, and where it stands.
///
/// # Examples
/// ```
/// use vmcb::{Cpu, Decision, Environment, KnownPage, Limits, Phase, Policy, Rule, View};
/// use vmcb::layout::vmcb_field;
/// let limits = Limits::compile(&Cpu::ANY, Policy::VirtualCpu);
/// let mut page = KnownPage::nothing();
/// page.learn(vmcb_field::guest_asid.offset, 4, 0, u64::MAX);
/// let environment = Environment::real_host();
/// let view = View::new(&page, Phase::Before, &limits, &environment);
/// let verdict = view.judge();
/// assert_eq!(verdict.decision(), Decision::Refused);
/// assert!(verdict.broken().iter().eq([Rule::CtlAsidZero]));
/// ```
#[derive(Clone)]
pub struct View<'a> {
    /// The words as the pages and the environment have them.
    read: [Bits; Word::ALL.len()],
    /// The words as the rules read them: registers from the page that holds them, EVENTINJ from where it
    /// counts, what is derived.
    words: [Bits; Word::ALL.len()],
    vmcb: Bytes<'a>,
    vmsa: Bytes<'a>,
    environment: &'a Environment<'a>,
    limits: &'a Limits,
    inferred: bool,
}

impl State for View<'_> {
    fn bits(&self, word: Word) -> Bits {
        self.words.get(word as usize).copied().unwrap_or(Bits::UNKNOWN)
    }

    fn bounds(&self) -> &Bounds {
        &self.limits.bounds
    }

    fn c_bit(&self) -> CBit {
        let possible = self.limits.bounds.c_bit;
        let active = self.bits(Word::Host).only(Host::MEM_ENCRYPTION.bits());
        let features = self.limits.cpu().features;
        let encrypts = !features.may_clear() & (Feature::Sme.mask() | Feature::Sev.mask()) != 0;
        if active.may_set() == 0 {
            CBit { certain: 0, possible: 0 }
        } else if active.may_clear() == 0 && encrypts && possible.is_power_of_two() {
            CBit { certain: possible, possible: 0 }
        } else {
            CBit { certain: 0, possible }
        }
    }
}

impl<'a> View<'a> {
    /// A page that may be partly known.
    #[must_use]
    pub fn new(
        vmcb: &'a KnownPage,
        phase: Phase,
        limits: &'a Limits,
        environment: &'a Environment<'a>,
    ) -> Self {
        Self::of(Bytes::Partial(vmcb), phase, limits, environment)
    }

    /// A page that is known as a whole, as VMRUN reads it.
    #[must_use]
    pub fn complete(vmcb: &'a [u8; PAGE_SIZE], limits: &'a Limits, environment: &'a Environment<'a>) -> Self {
        Self::of(Bytes::Complete(vmcb), Phase::Before, limits, environment)
    }

    fn of(vmcb: Bytes<'a>, phase: Phase, limits: &'a Limits, environment: &'a Environment<'a>) -> Self {
        let vmsa = match environment.vmsa {
            Vmsa::Unknown => Bytes::Nothing,
            Vmsa::TakenOver => Bytes::TakenOver,
            Vmsa::Page(page) => Bytes::Complete(page),
            Vmsa::Known(page) => Bytes::Partial(page),
        };
        let mut view = Self {
            read: [Bits::UNKNOWN; Word::ALL.len()],
            words: [Bits::UNKNOWN; Word::ALL.len()],
            vmcb,
            vmsa,
            environment,
            limits,
            inferred: false,
        };
        let exit = vmcb.read(vmcb_field::exitcode);
        let recorded = vmcb.read(vmcb_field::exitintinfo);
        for (slot, &word) in view.read.iter_mut().zip(Word::ALL) {
            *slot = match word.source() {
                Source::Control(field) => vmcb.read(field),
                Source::Vmsa(field) if word != Word::UCet => vmsa.read(field),
                Source::Vmsa(_) | Source::Environment => environment.bits(word),
                Source::Cpu => limits.cpu().features,
                // Filled by `settle`.
                Source::Save(_) | Source::Derived => Bits::UNKNOWN,
            };
            if word == Word::EventInj && phase != Phase::Before && slot.may_clear() & Event::V != 0 {
                // #VMEXIT clears V, so V = 0 says nothing. Where VMRUN refused, the event may stand in
                // EXITINTINFO.
                let refused = exit.known_mask() & 0xFFFF_FFFF == 0xFFFF_FFFF
                    && ExitCode::from_bits(exit.value()).widened() == ExitCode::INVALID;
                view.inferred = refused && recorded.may_clear() & Event::V == 0;
                *slot = if view.inferred { recorded } else { Bits::UNKNOWN };
            }
        }
        view.settle();
        view
    }

    fn set(&mut self, word: Word, bits: Bits) {
        if let Some(slot) = self.words.get_mut(word as usize) {
            *slot = bits;
        }
    }

    /// Fills in what depends on whether the guest is an SEV-ES one, and what is derived.
    fn settle(&mut self) {
        self.words = self.read;
        let sev_es = mode(self).only(Mode::SEV_ES.bits());
        for &word in Word::ALL {
            let (plain, encrypted) = match word.source() {
                Source::Save(field) => (self.vmcb.read(field), self.vmsa.read(field.in_vmsa())),
                Source::Vmsa(field) if word == Word::UCet => {
                    (self.environment.bits(word), self.vmsa.read(field))
                }
                _ => continue,
            };
            self.set(word, either(sev_es, encrypted, plain));
        }
        let from_vmsa = mode(self).only(Mode::VMSA_EVENTS.bits());
        if from_vmsa.may_set() != 0 {
            let event = either(from_vmsa, self.vmsa.read(vmsa_field::eventinj), self.bits(Word::EventInj));
            self.set(Word::EventInj, event);
            // Of 060h only V_INTR_MASKING, VGIF enable and AVIC enable are used then (15.36.16, 15.36.21.2).
            let plain = self.bits(Word::IntCtl);
            let vintr = self.bits(Word::VintrCtrl).with(IntCtl::X2AVIC_ENABLE.bits(), Bits::known(0));
            let taken = IntCtl::X2AVIC_ENABLE.union(IntCtl::V_NMI_ENABLE).bits();
            const _: () = assert!(IntCtl::V_NMI_ENABLE.bits() == VintrCtrl::V_NMI_ENABLE.bits());
            self.set(Word::IntCtl, either(from_vmsa, plain.with(taken, vintr), plain));
        }
        let derived = mode(self);
        self.set(Word::Mode, derived);
    }

    /// The bits that decide which of two fields a rule reads: registers stand in the VMSA when all of the
    /// first group are set, events when moreover all of the second are, or all of the third. A rule is
    /// decided exactly when all completions agree, so judging takes both values of each that is unknown.
    const SELECTORS: [&'static [(Word, u64)]; 3] = [
        &[(Word::NestedCtl, NestedCtl::SEV_ES.bits()), (Word::Cpu, Feature::SevEs.mask())],
        &[
            (Word::Cpu, Feature::SevSnp.mask()),
            (Word::SevFeatures, SevFeatures::SNP_ACTIVE.bits()),
            (Word::Cpu, Feature::AlternateInjection.mask()),
            (Word::SevFeatures, SevFeatures::ALTERNATE_INJECTION.bits()),
        ],
        &[(Word::Cpu, Feature::SecureAvic.mask()), (Word::SevFeatures, SevFeatures::SECURE_AVIC.bits())],
    ];

    /// Which rules are broken for certain, and which are not decided.
    pub fn judge(&self) -> Verdict {
        let mut all = Leaf { broken: RuleSet::ALL, met: RuleSet::ALL, possible: RuleSet::EMPTY };
        self.judge_leaves(&mut all);
        let possible = all.possible.intersection(self.limits.rules());
        let broken = all.broken.intersection(possible);
        let unstated = all.met.intersection(possible).difference(broken);
        Verdict {
            broken,
            unstated,
            unknown: possible.difference(broken).difference(unstated),
            inferred: self.inferred && !broken.intersection(ON_EVENT).is_empty(),
        }
    }

    /// Joins the judgements of all completions of the selectors; each level of the recursion settles one.
    fn judge_leaves(&self, all: &mut Leaf) {
        let Some((word, mask)) = self.unknown_selector() else {
            let leaf = self.judge_leaf();
            all.broken = all.broken.intersection(leaf.broken);
            all.met = all.met.intersection(leaf.met);
            all.possible = all.possible.union(leaf.possible);
            return;
        };
        for value in [0, u64::MAX] {
            let mut branch = self.clone();
            if let Some(slot) = branch.read.get_mut(word as usize) {
                *slot = slot.with(mask, Bits::known(value));
            }
            branch.settle();
            branch.judge_leaves(all);
        }
    }

    /// Where the caller answers for the VMSA, these decide whether a rule is his: a guest is no SNP guest on
    /// a CPU without SNP, whatever the VMSA says.
    const WHOSE: [(Word, u64); 2] =
        [(Word::Cpu, Feature::SevSnp.mask()), (Word::Cpu, Feature::RestrictedInjection.mask())];

    /// The first unknown bit that decides which field is read, or whose a rule is, if it matters.
    fn unknown_selector(&self) -> Option<(Word, u64)> {
        let off = |&(word, mask): &(Word, u64)| self.bits(word).may_set() & mask == 0;
        let unknown = |&&(word, mask): &&(Word, u64)| self.bits(word).unknown_mask() & mask != 0;
        let [registers, events @ ..] = Self::SELECTORS;
        if registers.iter().any(off) {
            return None;
        }
        // A group with a bit that is off selects nothing.
        let events = events.into_iter().filter(|group| !group.iter().any(off)).flatten();
        let taken_over = self.bits(Word::SevFeatures) == Bits::TAKEN_OVER;
        let whose = Self::WHOSE.iter().filter(|_| taken_over);
        registers.iter().chain(events).chain(whose).find(unknown).copied()
    }

    fn judge_leaf(&self) -> Leaf {
        let (mut met, mut possible) = (RuleSet::EMPTY, RuleSet::EMPTY);
        for &rule in Rule::ALL {
            let when = rule.row().when;
            if when.iter().all(|literal| literal.may_be(self, true)) {
                possible = possible.union(RuleSet::only(rule));
                if !when.iter().any(|literal| literal.may_be(self, false)) {
                    met = met.union(RuleSet::only(rule));
                }
            }
        }
        // The manual says of the VMSA's EVENTINJ that it has the same layout, not that it is checked.
        let from_vmsa = self.bits(Word::Mode).only(Mode::VMSA_EVENTS.bits()).may_set() != 0;
        let refusing = if from_vmsa { REFUSING.difference(ON_EVENT) } else { REFUSING };
        Leaf { broken: met.intersection(refusing), met, possible }
    }

    /// What is known of a field of the VMCB page.
    #[must_use]
    pub fn control(&self, field: Field) -> Bits {
        self.vmcb.read(field)
    }

    /// What is known of a word.
    #[must_use]
    pub fn word(&self, word: Word) -> Bits {
        self.bits(word)
    }

    /// The field in which a word stands; `None` for what is not in a page.
    #[must_use]
    pub fn field(&self, word: Word) -> Option<Field> {
        let on = |bit: Mode| self.bits(Word::Mode).only(bit.bits()).may_clear() == 0;
        match word {
            Word::EventInj if on(Mode::VMSA_EVENTS) => Some(vmsa_field::eventinj),
            Word::EventInj if self.inferred => Some(vmcb_field::exitintinfo),
            Word::UCet if !on(Mode::SEV_ES) => None,
            _ => word.field(on(Mode::SEV_ES)),
        }
    }

    /// Whether the event that is judged was taken from EXITINTINFO.
    #[must_use]
    pub const fn event_is_inferred(&self) -> bool {
        self.inferred
    }

    /// Whether a literal holds; `None` where that is not known.
    #[must_use]
    pub fn holds(&self, literal: Literal) -> Option<bool> {
        match (literal.may_be(self, true), literal.may_be(self, false)) {
            (true, false) => Some(true),
            (false, _) => Some(false),
            (true, true) => None,
        }
    }

    /// What would have to be known for the rule to be decided.
    pub fn missing(&self, rule: Rule) -> impl Iterator<Item = Missing> {
        let open = rule.row().when.iter().copied().filter(|&literal| self.holds(literal).is_none());
        open.flat_map(|literal| {
            let bits = literal.reads().map(|(word, mask)| (word, self.bits(word).unknown_mask() & mask));
            let bits = bits.filter(|&(_, unknown)| unknown != 0);
            let limits = literal.test().and_then(|test| self.missing_limits(test));
            bits.map(|(word, unknown)| Missing::Bits(word, unknown)).chain(limits)
        })
    }

    /// What is missing of the CPU to decide the test.
    fn missing_limits(&self, test: Test) -> Option<Missing> {
        let bounds = &self.limits.bounds;
        let undecided =
            |word, reserved: Reserved| self.bits(word).may_set() & reserved.possible & !reserved.certain;
        let features = |mask: u64| {
            let unknown = self.limits.cpu().features.unknown_mask() & mask;
            (unknown != 0).then_some(Missing::Bits(Word::Cpu, unknown))
        };
        match test {
            Test::Cr4Reserved => features(features_of_cr4(undecided(Word::Cr4, bounds.cr4))),
            Test::EferReserved => features(features_of_efer(undecided(Word::Efer, bounds.efer))),
            Test::AsidAboveSevMaximum | Test::AsidBelowSevMinimum => {
                let known = bounds.sev_asid_maximum.is_known() && bounds.sev_asid_minimum.is_known();
                (!known).then_some(Missing::SevAsids)
            }
            Test::AddressTooWide(_)
            | Test::NotAPageAddress(_)
            | Test::PointerTooWide(_)
            | Test::TableTooHigh { .. }
            | Test::AvicPointerTooWide
            | Test::PdpteReserved => {
                let c_bit = (bounds.c_bit != 0).then_some(Missing::CBit);
                if bounds.phys_bits.is_known() { c_bit } else { Some(Missing::PhysBits) }
            }
            Test::PatInvalid
            | Test::EventTypeReserved
            | Test::VectorReserved
            | Test::SoftwareOrBpOrOf
            | Test::CounterEnabled
            | Test::SevFeatureNotAllowed => None,
        }
    }
}

/// What is found where all selectors are known.
struct Leaf {
    /// Refused.
    broken: RuleSet,
    /// The conditions are met, whatever the manual says of the outcome.
    met: RuleSet,
    /// The conditions may be met.
    possible: RuleSet,
}

/// Something that would have to be known to decide a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Missing {
    /// These bits of a word.
    Bits(Word, u64),
    /// The CPU's physical address width, MAXPHYADDR.
    PhysBits,
    /// Where the C-bit is, and whether memory encryption is active.
    CBit,
    /// The CPU's ASID bounds for SEV guests.
    SevAsids,
}

impl fmt::Display for Missing {
    /// `bits 0x300 of EFER`, `CPU features: shstk, sev-es`, `the CPU's physical address width`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Bits(Word::Cpu, mask) => {
                let features = Feature::ALL.iter().filter(|feature| feature.mask() & mask != 0);
                f.write_str("CPU features: ")?;
                features.enumerate().try_for_each(|(index, feature)| {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{feature}")
                })
            }
            Self::Bits(word, mask) => write!(f, "bits {mask:#x} of {}", word.name()),
            Self::PhysBits => f.write_str("the CPU's physical address width"),
            Self::CBit => f.write_str("the position of the C-bit, and whether memory encryption is active"),
            Self::SevAsids => f.write_str("the CPU's ASID bounds for SEV guests"),
        }
    }
}

/// One of two, where it may be unknown which.
fn either(which: Bits, then: Bits, otherwise: Bits) -> Bits {
    match (which.may_set() & 1, which.may_clear() & 1) {
        (1, 0) => then,
        (0, _) => otherwise,
        // A bit is known where both have the same.
        _ => Bits::from_masks(then.may_set() | otherwise.may_set(), then.may_clear() | otherwise.may_clear()),
    }
}

/// Judges a VMCB of which some bits are known.
///
/// Exact: a rule is decided when all completions of the unknown bits agree, so more knowledge never
/// changes a decided answer. For a page that is known as a whole [`check`](crate::check()) gives the
/// same verdict, faster.
pub fn judge(vmcb: &KnownPage, phase: Phase, limits: &Limits, environment: &Environment<'_>) -> Verdict {
    View::new(vmcb, phase, limits, environment).judge()
}
