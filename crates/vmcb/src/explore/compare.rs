//! In which rules two CPUs may differ, and what would have to be known of one to say so.
//!
//! A rule reads the CPU in few places: features, the masks of CR4 and EFER, the address width, the ASID bounds.
//! Where two CPUs have the same there, and it is known, no VMCB tells them apart by that rule. So what is left
//! out here cannot differ; what is named may.

use crate::cpu::feature::Feature;
use crate::cpu::gates::{features_of_cr4, features_of_efer};
use crate::cpu::reserved::Reserved;
use crate::defs::known::{Bits, KnownPage};
use crate::defs::phase::Phase;
use crate::defs::register::Mode;
use crate::defs::word::{Source, Word};
use crate::eval::environment::{Environment, Vmsa};
use crate::eval::judge::{Missing, View};
use crate::limits::compiled::Limits;
use crate::rules::literal::Literal;
use crate::rules::mode::MODE_SOURCES;
use crate::rules::predicate::Test;
use crate::rules::set::RuleSet;
use crate::rules::state::State;
use crate::rules::table::Rule;

impl Limits {
    /// Rules that some VMCB breaks on a CPU of this kind.
    #[must_use]
    pub fn breakable(&self) -> RuleSet {
        self.anything(|view| {
            let verdict = view.judge();
            verdict.broken().union(verdict.undecided())
        })
    }

    /// Rules by which the two CPUs may judge some VMCB differently. By all others they do not.
    ///
    /// A rule of which something is not known of one of them is always among them, where it can be broken at
    /// all: two CPUs of which the same is unknown need not be the same.
    ///
    /// # Examples
    /// ```
    /// use vmcb::{Cpu, Limits, Policy, Rule};
    /// let limits = |text| Limits::compile(&Cpu::parse(text).unwrap(), Policy::VirtualCpu);
    /// let milan = limits("EPYC-Milan,phys-bits=48,lmsle-unsupported=on");
    /// let more = limits("EPYC-Milan,phys-bits=48,lmsle-unsupported=on,+shstk");
    /// assert!(milan.may_differ(&milan).is_empty());
    /// assert!(milan.may_differ(&more).contains(Rule::EvtExcCpWithoutShstk));
    /// assert!(!milan.may_differ(&more).contains(Rule::CtlNcr3Mbz));
    /// ```
    #[must_use]
    pub fn may_differ(&self, other: &Self) -> RuleSet {
        let (here, there) = (self.breakable(), other.breakable());
        Rule::ALL
            .iter()
            .copied()
            .filter(|&rule| match (here.contains(rule), there.contains(rule)) {
                (false, false) => false,
                (true, true) => {
                    self.reads_otherwise(other, rule) || self.is_open(rule) || other.is_open(rule)
                }
                _ => true,
            })
            .collect()
    }

    /// What is not known of this CPU and decides whether some VMCB breaks the rule.
    pub fn unknown(&self, rule: Rule, visit: &mut dyn FnMut(Missing)) {
        if !self.breakable().contains(rule) {
            return;
        }
        let mut features = 0;
        self.features_read(rule, &mut |mask| features |= mask);
        let mut on_features = |mask: u64| features |= mask;
        for &literal in rule.row().when {
            let Literal::Holds(test) = literal else { continue };
            match test {
                Test::Cr4Reserved => on_features(features_of_cr4(u64::MAX)),
                Test::EferReserved => on_features(features_of_efer(u64::MAX)),
                Test::AsidAboveSevMaximum
                    if self.bounds.sev_asid_maximum.lowest != self.bounds.sev_asid_maximum.highest =>
                {
                    visit(Missing::SevAsids);
                }
                Test::AsidBelowSevMinimum
                    if self.bounds.sev_asid_minimum.lowest != self.bounds.sev_asid_minimum.highest =>
                {
                    visit(Missing::SevAsids);
                }
                _ if !reads_address(test) => {}
                _ => {
                    if self.bounds.phys_bits.lowest != self.bounds.phys_bits.highest {
                        visit(Missing::PhysBits);
                    }
                    if self.bounds.c_bit != 0 {
                        on_features(encryption());
                        if !self.bounds.c_bit.is_power_of_two() {
                            visit(Missing::CBit);
                        }
                    }
                }
            }
        }
        let unknown = self.cpu().features.unknown_mask() & features;
        if unknown != 0 {
            visit(Missing::Bits(Word::Cpu, unknown));
        }
    }

    fn is_open(&self, rule: Rule) -> bool {
        let mut open = false;
        self.unknown(rule, &mut |_| open = true);
        open
    }

    /// Asks about a VMCB, a VMSA and a host of which nothing is known.
    fn anything<R>(&self, ask: impl FnOnce(&View<'_>) -> R) -> R {
        let nothing = KnownPage::nothing();
        let environment = Environment::unknown().with_vmsa(Vmsa::Known(&nothing));
        ask(&View::new(&nothing, Phase::Before, self, &environment))
    }

    /// Calls `visit` with the features that decide what the rule's conditions mean: those that it names, those
    /// behind what is turned on, those that decide which page is read. Features behind something that this CPU
    /// can never turn on are left out.
    fn features_read(&self, rule: Rule, visit: &mut dyn FnMut(u64)) {
        let possible = self.anything(|view| view.bits(Word::Mode).may_set());
        let mut of_mode = |bit: Mode| {
            if possible & bit.bits() != 0 {
                for &(of, sources) in MODE_SOURCES {
                    if of == bit {
                        sources
                            .iter()
                            .filter(|(word, _)| *word == Word::Cpu)
                            .for_each(|&(_, mask)| visit(mask));
                    }
                }
            }
        };
        let mut named = 0;
        for &literal in rule.row().when {
            if let Literal::Is { word: Word::Mode, mask, .. }
            | Literal::IsNot { word: Word::Mode, mask, .. } = literal
            {
                for &(bit, _) in MODE_SOURCES {
                    if mask & bit.bits() != 0 {
                        of_mode(bit);
                    }
                }
            }
            literal.reads(&mut |word, mask| match word.source() {
                Source::Save(_) => of_mode(Mode::SEV_ES),
                Source::Vmsa(_) if word == Word::UCet => of_mode(Mode::SEV_ES),
                _ if matches!(word, Word::EventInj | Word::IntCtl)
                    && possible & Mode::VMSA_EVENTS.bits() != 0 =>
                {
                    of_mode(Mode::ALTERNATE);
                    named |= Feature::SecureAvic.mask() | Feature::SevEs.mask();
                }
                Source::Cpu if matches!(literal, Literal::Is { word: Word::Cpu, .. }) => named |= mask,
                _ => {}
            });
        }
        visit(named);
    }

    /// What the rule reads of the two CPUs and is not the same, or not known alike.
    pub fn differing(&self, other: &Self, rule: Rule, visit: &mut dyn FnMut(Missing)) {
        let mut features = 0;
        self.features_read(rule, &mut |mask| features |= mask);
        other.features_read(rule, &mut |mask| features |= mask);
        for &literal in rule.row().when {
            let Literal::Holds(test) = literal else { continue };
            match test {
                Test::Cr4Reserved => features |= features_of_cr4(unequal(self.bounds.cr4, other.bounds.cr4)),
                Test::EferReserved => {
                    features |= features_of_efer(unequal(self.bounds.efer, other.bounds.efer))
                }
                Test::AsidAboveSevMaximum
                    if self.bounds.sev_asid_maximum != other.bounds.sev_asid_maximum =>
                {
                    visit(Missing::SevAsids);
                }
                Test::AsidBelowSevMinimum
                    if self.bounds.sev_asid_minimum != other.bounds.sev_asid_minimum =>
                {
                    visit(Missing::SevAsids);
                }
                _ if reads_address(test) => {
                    if self.bounds.phys_bits != other.bounds.phys_bits {
                        visit(Missing::PhysBits);
                    }
                    if self.bounds.c_bit != other.bounds.c_bit {
                        visit(Missing::CBit);
                    }
                    if self.bounds.c_bit | other.bounds.c_bit != 0 {
                        features |= encryption();
                    }
                }
                _ => {}
            }
        }
        let unlike = differing(&self.cpu().features, &other.cpu().features) & features;
        if unlike != 0 {
            visit(Missing::Bits(Word::Cpu, unlike));
        }
    }

    fn reads_otherwise(&self, other: &Self, rule: Rule) -> bool {
        // Limits that were stored by another build may differ in more than the CPU tells.
        let mut otherwise = rule.row().when.iter().any(|&literal| match literal {
            Literal::Holds(Test::Cr4Reserved) => self.bounds.cr4 != other.bounds.cr4,
            Literal::Holds(Test::EferReserved) => self.bounds.efer != other.bounds.efer,
            Literal::Holds(Test::VectorReserved) => {
                self.bounds.reserved_vectors != other.bounds.reserved_vectors
            }
            _ => false,
        });
        self.differing(other, rule, &mut |_| otherwise = true);
        otherwise
    }
}

/// The bits that are not reserved alike.
const fn unequal(a: Reserved, b: Reserved) -> u64 {
    (a.certain ^ b.certain) | (a.possible ^ b.possible)
}

/// The bits that are not known alike.
const fn differing(a: &Bits, b: &Bits) -> u64 {
    (a.may_set() ^ b.may_set()) | (a.may_clear() ^ b.may_clear())
}

/// The features behind the C-bit.
const fn encryption() -> u64 {
    Feature::Sme.mask() | Feature::Sev.mask()
}

const fn reads_address(test: Test) -> bool {
    match test {
        Test::AddressTooWide(_)
        | Test::NotAPageAddress(_)
        | Test::PointerTooWide(_)
        | Test::TableTooHigh { .. }
        | Test::AvicPointerTooWide
        | Test::PdpteReserved => true,
        Test::Cr4Reserved
        | Test::EferReserved
        | Test::PatInvalid
        | Test::EventTypeReserved
        | Test::VectorReserved
        | Test::SoftwareOrBpOrOf
        | Test::AsidAboveSevMaximum
        | Test::AsidBelowSevMinimum
        | Test::CounterEnabled
        | Test::SevFeatureNotAllowed => false,
    }
}
