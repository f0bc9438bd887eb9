//! What differs between two CPUs, rule by rule and bit by bit.

use super::named::{Named, letter};
use crate::bits::bit_with_name;
use crate::explain::features;
use std::collections::BTreeSet;
use vmcb::{Contrast, Decision, Feature, Gate, Limits, Literal, Missing, Rule, Test, Witness, Word};

/// One thing by which two CPUs differ, and the VMCB that shows it.
pub(super) struct Difference {
    pub(super) rule: Rule,
    /// The bit of CR4 or EFER that it is about.
    pub(super) bit: Option<(Word, u8)>,
    /// On this CPU the rule is broken.
    pub(super) refusing: usize,
    pub(super) accepting: usize,
    pub(super) contrast: Contrast,
    /// What the refusing CPU does: refuses, or the manual does not say.
    pub(super) decision: Decision,
    /// What the other one does.
    pub(super) other: Decision,
    pub(super) witness: Witness,
    /// What of the two CPUs is behind it.
    pub(super) because: Vec<String>,
    /// Features that only the refusing CPU has and without which it could not refuse: a guest that does not see
    /// them has no reason to set what they define.
    pub(super) unseen: Vec<Feature>,
}

/// Something that is not known, and what depends on it.
pub(super) struct Open {
    /// As `--cpu` takes it.
    pub(super) fact: String,
    pub(super) cpus: BTreeSet<usize>,
    pub(super) rules: Vec<Rule>,
}

/// Two CPUs.
pub(super) struct Pair {
    pub(super) a: usize,
    pub(super) b: usize,
    pub(super) differences: Vec<Difference>,
    pub(super) open: Vec<Open>,
}

impl Pair {
    pub(super) fn of(cpus: &[Named], a: usize, b: usize) -> Option<Self> {
        let mut pair = Self { a, b, differences: Vec::new(), open: Vec::new() };
        let (here, there) = (cpus.get(a)?, cpus.get(b)?);
        for rule in here.limits.may_differ(&there.limits).iter() {
            for (refusing, accepting) in [(a, b), (b, a)] {
                pair.differences.extend(differences(cpus, rule, refusing, accepting));
            }
            for (index, named) in [(a, here), (b, there)] {
                for missing in named.limits.unknown(rule) {
                    for fact in facts(missing) {
                        pair.note(fact, index, rule);
                    }
                }
            }
        }
        Some(pair)
    }

    fn note(&mut self, fact: String, cpu: usize, rule: Rule) {
        let index = self.open.iter().position(|open| open.fact == fact).unwrap_or_else(|| {
            self.open.push(Open { fact, cpus: BTreeSet::new(), rules: Vec::new() });
            self.open.len() - 1
        });
        if let Some(open) = self.open.get_mut(index) {
            open.cpus.insert(cpu);
            if !open.rules.contains(&rule) {
                open.rules.push(rule);
            }
        }
    }
}

/// How a fact that is missing is given.
pub(super) fn facts(missing: Missing) -> Vec<String> {
    match missing {
        Missing::Bits(Word::Cpu, mask) => features(mask).map(|feature| feature.name().to_owned()).collect(),
        Missing::PhysBits => vec!["phys-bits".into()],
        Missing::CBit => vec!["c-bit".into()],
        Missing::SevAsids => vec!["sev-asid-max".into(), "sev-asid-min".into()],
        other => vec![format!("{other:?}")],
    }
}

/// The register whose bits a rule is about, and the bits that the one CPU surely does not define and the other
/// surely does.
pub(super) fn register_bits(rule: Rule, refusing: &Limits, accepting: &Limits) -> Option<(Word, u64)> {
    rule.row().when.iter().find_map(|literal| match literal {
        Literal::Holds(Test::Cr4Reserved) => {
            Some((Word::Cr4, !refusing.cr4_maybe().bits() & accepting.cr4_always().bits()))
        }
        Literal::Holds(Test::EferReserved) => {
            Some((Word::Efer, !refusing.efer_maybe().bits() & accepting.efer_always().bits()))
        }
        _ => None,
    })
}

fn differences(cpus: &[Named], rule: Rule, refusing: usize, accepting: usize) -> Vec<Difference> {
    let (Some(one), Some(other)) = (cpus.get(refusing), cpus.get(accepting)) else { return Vec::new() };
    let (word, bits) = register_bits(rule, &one.limits, &other.limits).unwrap_or((Word::Cpu, 0));
    let mut asked: Vec<Option<(Word, u8)>> =
        (0..64).filter(|bit| bits >> bit & 1 == 1).map(|bit| Some((word, bit))).collect();
    if asked.is_empty() {
        asked.push(None);
    }
    let mut found = Vec::new();
    for bit in asked {
        let seed = bit.map(|(word, bit)| (word, 1 << bit));
        let Some((contrast, witness)) = rule.contrast(&one.limits, &other.limits, seed) else { continue };
        let (because, unseen) = behind(rule, bit, (refusing, one), (accepting, other));
        found.push(Difference {
            rule,
            bit,
            refusing,
            accepting,
            contrast,
            decision: witness.judge(&one.limits).decision(),
            other: witness.judge(&other.limits).decision(),
            witness,
            because,
            unseen,
        });
    }
    found
}

/// What of the CPUs is behind a difference, and which features a guest of the accepting one does not see.
fn behind(
    rule: Rule,
    bit: Option<(Word, u8)>,
    (refusing, one): (usize, &Named),
    (accepting, other): (usize, &Named),
) -> (Vec<String>, Vec<Feature>) {
    let (mut because, mut features_behind) = (Vec::new(), Vec::new());
    for fact in one.limits.differing(&other.limits, rule) {
        match fact {
            Missing::Bits(Word::Cpu, mask) => features_behind.extend(features(mask)),
            Missing::PhysBits => {
                let width = |named: &Named| {
                    named.cpu.phys_bits().map_or("unknown".to_owned(), |bits| bits.to_string())
                };
                because.push(format!(
                    "addresses of {} have {} bits, of {} {}",
                    letter(refusing),
                    width(one),
                    letter(accepting),
                    width(other)
                ));
            }
            Missing::CBit => because.push("the C-bit is not the same".into()),
            Missing::SevAsids => because.push("the ASIDs for SEV guests are not the same".into()),
            _ => {}
        }
    }
    if let Some(gate) = bit.and_then(gate) {
        features_behind.retain(|feature| *feature == gate);
    }
    let says = |named: &Named, feature| match named.cpu.has(feature) {
        Some(true) => "has",
        Some(false) => "lacks",
        None => "may have",
    };
    for feature in &features_behind {
        because.push(format!(
            "{} {} {} ({})",
            letter(refusing),
            says(one, *feature),
            feature.name(),
            feature.cpuid()
        ));
    }
    let only_there = !other.limits.breakable().contains(rule);
    let unseen = features_behind.into_iter().filter(|&feature| {
        only_there && one.cpu.has(feature) == Some(true) && other.cpu.has(feature) == Some(false)
    });
    (because, unseen.collect())
}

/// The feature that decides a bit of CR4 or EFER.
fn gate((word, bit): (Word, u8)) -> Option<Feature> {
    let of = |gate: Gate| match gate {
        Gate::With(feature) | Gate::Without(feature) => Some(feature),
        Gate::Always => None,
    };
    let has = |bits: u64| bits >> bit & 1 == 1;
    match word {
        Word::Cr4 => {
            vmcb::CR4_GATES.iter().find(|(bits, _)| has(bits.bits())).and_then(|&(_, gate)| of(gate))
        }
        _ => vmcb::EFER_GATES.iter().find(|(bits, _)| has(bits.bits())).and_then(|&(_, gate)| of(gate)),
    }
}

impl Difference {
    /// What it is about: a bit, or the rule's title.
    pub(super) fn title(&self) -> String {
        match self.bit {
            Some((word, bit)) => format!("{} {}", word.name(), bit_with_name(word, bit)),
            None => self.rule.row().title.to_owned(),
        }
    }

    /// The smallest VMCB that shows it: what the minimal legal guest has otherwise.
    pub(super) fn changes(&self) -> Vec<vmcb::Change> {
        self.witness.changes().collect()
    }
}
