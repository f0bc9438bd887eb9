//! The CPU that is safe for all: what each of them offers, with the narrowest width.
//!
//! Fewer features mean fewer VMCBs accepted, but for one kind of rule: a feature that checks more where it is
//! there. A VMCB that breaks such a rule is accepted where the feature is absent, because the bit means nothing
//! there. These rules are named.

use super::difference::facts;
use super::named::Named;
use crate::cpu;
use crate::explain::features;
use vmcb::{Contrast, Cpu, Feature, Limits, Missing, Policy, Rule, Word};

pub(super) struct Safe {
    pub(super) cpu: Cpu,
    /// As `--cpu` takes it.
    pub(super) spec: String,
    /// Features that are not known of all, and so left out.
    pub(super) left_out: Vec<Feature>,
    /// Rules by which a CPU refuses what the safe one accepts.
    pub(super) exceptions: Vec<Exception>,
    /// What would have to be known of the CPUs.
    pub(super) missing: Vec<String>,
}

pub(super) struct Exception {
    pub(super) rule: Rule,
    /// The CPU that refuses.
    pub(super) refusing: usize,
    /// The features behind it, which the safe CPU does not show.
    pub(super) features: Vec<Feature>,
}

impl Safe {
    pub(super) fn of(cpus: &[Named], policy: Policy) -> Self {
        let mut all = cpus.iter().map(|named| named.cpu);
        let first = all.next().unwrap_or(Cpu::ANY);
        let mut safe = all.fold(first, |safe, cpu| safe.meet(&cpu));
        let mut left_out = Vec::new();
        for &feature in Feature::ALL {
            if safe.has(feature).is_none() {
                safe = safe.with(feature, feature.restricts());
                left_out.push(feature);
            }
        }
        let limits = Limits::compile(&safe, policy);
        let (mut exceptions, mut missing) = (Vec::new(), Vec::new());
        for (refusing, named) in cpus.iter().enumerate() {
            for rule in named.limits.may_differ(&limits).iter() {
                if let Some((Contrast::Verdict, _)) = rule.contrast(&named.limits, &limits, None) {
                    let mut behind = Vec::new();
                    for fact in named.limits.differing(&limits, rule) {
                        if let Missing::Bits(Word::Cpu, mask) = fact {
                            behind.extend(features(mask));
                        }
                    }
                    exceptions.push(Exception { rule, refusing, features: behind });
                    continue;
                }
                // A feature that is not known of a CPU matters where, there or not, it adds a check.
                let adds_a_check = |feature: Feature| {
                    [true, false].into_iter().any(|has| {
                        let either = Limits::compile(&named.cpu.with(feature, has), policy);
                        matches!(rule.contrast(&either, &limits, None), Some((Contrast::Verdict, _)))
                    })
                };
                let mut open = Vec::new();
                for fact in named.limits.unknown(rule) {
                    match fact {
                        Missing::Bits(Word::Cpu, mask) => {
                            let adding = features(mask).filter(|&feature| adds_a_check(feature));
                            open.extend(adding.map(|feature| feature.name().to_owned()));
                        }
                        other => open.extend(facts(other)),
                    }
                }
                for fact in open {
                    if !missing.contains(&fact) {
                        missing.push(fact);
                    }
                }
            }
        }
        Self { cpu: safe, spec: cpu::spec(&safe), left_out, exceptions, missing }
    }
}
