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
    pub fn unknown(&self, rule: Rule) -> impl Iterator<Item = Missing> {
        let mut open = Facts::default();
        if self.breakable().contains(rule) {
            open.features = self.features_read(rule);
            rule.row()
                .when
                .iter()
                .filter_map(|literal| literal.test())
                .for_each(|test| self.open_in(test, &mut open));
        }
        open.missing(self.cpu().features.unknown_mask())
    }

    /// Adds what is not known of this CPU and decides the test.
    fn open_in(&self, test: Test, open: &mut Facts) {
        match test {
            Test::Cr4Reserved => open.features |= features_of_cr4(u64::MAX),
            Test::EferReserved => open.features |= features_of_efer(u64::MAX),
            Test::AsidAboveSevMaximum => open.sev_asids |= !self.bounds.sev_asid_maximum.is_known(),
            Test::AsidBelowSevMinimum => open.sev_asids |= !self.bounds.sev_asid_minimum.is_known(),
            _ if reads_address(test) => {
                open.phys_bits |= !self.bounds.phys_bits.is_known();
                if self.bounds.c_bit != 0 {
                    open.features |= encryption();
                    open.c_bit |= !self.bounds.c_bit.is_power_of_two();
                }
            }
            _ => {}
        }
    }

    fn is_open(&self, rule: Rule) -> bool {
        self.unknown(rule).next().is_some()
    }

    /// Asks about a VMCB, a VMSA and a host of which nothing is known.
    fn anything<R>(&self, ask: impl FnOnce(&View<'_>) -> R) -> R {
        let nothing = KnownPage::nothing();
        let environment = Environment::unknown().with_vmsa(Vmsa::Known(&nothing));
        ask(&View::new(&nothing, Phase::Before, self, &environment))
    }

    /// The features that decide what the rule's conditions mean: those that it names, those behind what is turned on,
    /// those that decide which page is read. Features behind something that this CPU can never turn on are left out.
    fn features_read(&self, rule: Rule) -> u64 {
        let possible = self.anything(|view| view.bits(Word::Mode).may_set());
        let of_mode = |modes: Mode| {
            let rows =
                MODE_SOURCES.iter().filter(|(bit, _)| modes.contains(*bit) && possible & bit.bits() != 0);
            let sources = rows.flat_map(|(_, sources)| sources.iter());
            let of_cpu = sources.filter(|(word, _)| *word == Word::Cpu);
            of_cpu.fold(0, |all, (_, mask)| all | mask)
        };
        let mut features = 0;
        for &literal in rule.row().when {
            if let Literal::Is { word: Word::Mode, mask, .. }
            | Literal::IsNot { word: Word::Mode, mask, .. } = literal
            {
                features |= of_mode(Mode::from_bits(mask));
            }
            for (word, mask) in literal.reads() {
                features |= match word.source() {
                    Source::Save(_) => of_mode(Mode::SEV_ES),
                    Source::Vmsa(_) if word == Word::UCet => of_mode(Mode::SEV_ES),
                    _ if matches!(word, Word::EventInj | Word::IntCtl)
                        && possible & Mode::VMSA_EVENTS.bits() != 0 =>
                    {
                        of_mode(Mode::ALTERNATE) | Feature::SecureAvic.mask() | Feature::SevEs.mask()
                    }
                    Source::Cpu if matches!(literal, Literal::Is { word: Word::Cpu, .. }) => mask,
                    _ => 0,
                };
            }
        }
        features
    }

    /// What the rule reads of the two CPUs and is not the same, or not known alike.
    pub fn differing(&self, other: &Self, rule: Rule) -> impl Iterator<Item = Missing> {
        let mut unlike =
            Facts { features: self.features_read(rule) | other.features_read(rule), ..Facts::default() };
        let (here, there) = (&self.bounds, &other.bounds);
        for test in rule.row().when.iter().filter_map(|literal| literal.test()) {
            match test {
                Test::Cr4Reserved => unlike.features |= features_of_cr4(unequal(here.cr4, there.cr4)),
                Test::EferReserved => unlike.features |= features_of_efer(unequal(here.efer, there.efer)),
                Test::AsidAboveSevMaximum => {
                    unlike.sev_asids |= here.sev_asid_maximum != there.sev_asid_maximum
                }
                Test::AsidBelowSevMinimum => {
                    unlike.sev_asids |= here.sev_asid_minimum != there.sev_asid_minimum
                }
                _ if reads_address(test) => {
                    unlike.phys_bits |= here.phys_bits != there.phys_bits;
                    unlike.c_bit |= here.c_bit != there.c_bit;
                    if here.c_bit | there.c_bit != 0 {
                        unlike.features |= encryption();
                    }
                }
                _ => {}
            }
        }
        unlike.missing(differing(&self.cpu().features, &other.cpu().features))
    }

    fn reads_otherwise(&self, other: &Self, rule: Rule) -> bool {
        // Limits that were stored by another build may differ in more than the CPU tells.
        let otherwise = rule.row().when.iter().any(|&literal| match literal {
            Literal::Holds(Test::Cr4Reserved) => self.bounds.cr4 != other.bounds.cr4,
            Literal::Holds(Test::EferReserved) => self.bounds.efer != other.bounds.efer,
            Literal::Holds(Test::VectorReserved) => {
                self.bounds.reserved_vectors != other.bounds.reserved_vectors
            }
            _ => false,
        });
        otherwise || self.differing(other, rule).next().is_some()
    }
}

/// Facts about a CPU.
#[derive(Default)]
struct Facts {
    features: u64,
    phys_bits: bool,
    c_bit: bool,
    sev_asids: bool,
}

impl Facts {
    /// The same as a list. `open` are the features that count.
    fn missing(self, open: u64) -> impl Iterator<Item = Missing> {
        let features = self.features & open;
        let facts = [
            self.sev_asids.then_some(Missing::SevAsids),
            self.phys_bits.then_some(Missing::PhysBits),
            self.c_bit.then_some(Missing::CBit),
            (features != 0).then_some(Missing::Bits(Word::Cpu, features)),
        ];
        facts.into_iter().flatten()
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
