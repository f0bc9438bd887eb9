//! A rule that is broken, or not decided, with all that is said of it.

use super::case::Case;
use super::field::hex;
use crate::record::{Finding, MANUAL, Missing, MissingKind, REVISION, Standing, Undecided};
use crate::{explain, host};
use vmcb::layout::Page;
use vmcb::{Cpu, Feature, Literal, Rule, Source, View, Word};

impl Case<'_> {
    pub(super) fn undecided(&self, rule: Rule) -> Undecided {
        let mut missing: Vec<Missing> = Vec::new();
        let mut add = |kind, name: String, bits: Option<u64>| {
            let item = Missing { kind, name, bits: bits.map(hex) };
            if !missing.contains(&item) {
                missing.push(item);
            }
        };
        for what in self.view.missing(rule) {
            match what {
                vmcb::Missing::Bits(Word::Cpu, mask) => {
                    for feature in explain::features(mask) {
                        add(MissingKind::Cpu, feature.name().into(), None);
                    }
                }
                vmcb::Missing::Bits(Word::Host, mask) => {
                    for (spelling, fact, _) in host::FACTS {
                        if mask & fact.bits() != 0 {
                            add(MissingKind::Host, spelling.into(), None);
                        }
                    }
                    if mask & vmcb::Host::CPL0.union(vmcb::Host::CPL1).bits() != 0 {
                        add(MissingKind::Host, "cpl".into(), None);
                    }
                }
                vmcb::Missing::Bits(word, mask) => match (word.source(), self.view.field(word)) {
                    (Source::Environment, _) => {
                        let name = match word {
                            Word::VmcbAddress => "rax",
                            _ => "pdptes",
                        };
                        add(MissingKind::Host, name.into(), None);
                    }
                    (_, None) => add(MissingKind::Host, "u-cet".into(), None),
                    (_, Some(field)) => {
                        let kind = match field.page {
                            Page::Vmcb => MissingKind::Vmcb,
                            Page::Vmsa => MissingKind::Vmsa,
                        };
                        add(kind, word.name().into(), Some(mask));
                    }
                },
                vmcb::Missing::PhysBits => add(MissingKind::Cpu, "phys-bits".into(), None),
                vmcb::Missing::CBit => {
                    if self.judged_for.cpu.has(Feature::Sme) != Some(false) {
                        add(MissingKind::Cpu, "c-bit".into(), None);
                    }
                    add(MissingKind::Host, "memenc".into(), None);
                }
                vmcb::Missing::SevAsids => {
                    add(MissingKind::Cpu, "sev-asid-max".into(), None);
                    add(MissingKind::Cpu, "sev-asid-min".into(), None);
                }
                other => add(MissingKind::Vmcb, format!("{other:?}"), None),
            }
        }
        Undecided { vmcb: self.vmcb, rule: rule.id(), title: rule.row().title, missing }
    }

    /// A rule that is broken, or whose requirement is not met.
    pub(super) fn finding(&self, rule: Rule, standing: Standing, inferred: bool) -> Finding {
        let row = rule.row();
        let fields = self.fields(rule);
        let mut notes = Vec::new();
        if inferred {
            notes.push(
                "inferred from EXITINTINFO: #VMEXIT clears EVENTINJ.V, and some processors (QEMU's VMRUN is one) \
                 leave in EXITINTINFO the event that they refused to inject"
                    .to_owned(),
            );
        }
        if standing == Standing::Required {
            notes.push("required, outcome not stated: the manual does not say what VMRUN does".to_owned());
        }
        for refusal in self.found.refusals.iter().filter(|refusal| refusal.rules.contains(&row.id)) {
            notes.push(format!("{} refused it for this condition: {}", refusal.by, refusal.condition));
        }
        if !row.remark.is_empty() {
            notes.push(row.remark.to_owned());
        }
        Finding {
            vmcb: self.vmcb,
            standing,
            rule: Some(row.id.to_owned()),
            candidates: vec![row.id.to_owned()],
            title: row.title.to_owned(),
            class: Some(row.class.letter()),
            outcome: Some(row.outcome.name()),
            manual: MANUAL,
            revision: REVISION,
            section: Some(row.section),
            inferred,
            condition: None,
            place: fields.iter().find(|field| field.primary).and_then(|field| field.place.clone()),
            cpu: self.cpu_facts(rule),
            fields,
            help: Some(row.mend),
            notes,
        }
    }

    /// What the CPU has to do with it: the features that the rule reads, where not all CPUs have the same.
    pub(super) fn cpu_facts(&self, rule: Rule) -> Vec<String> {
        let of_cpu = rule.reads().filter(|(word, _)| *word == Word::Cpu);
        let mask = of_cpu.fold(0, |all, (_, bits)| all | bits);
        let mut facts: Vec<String> = explain::features(mask)
            .filter(|&feature| Cpu::ANY.has(feature).is_none())
            .filter_map(|feature| {
                let has = self.judged_for.cpu.has(feature)?;
                let verb = if has { "has" } else { "lacks" };
                let value = u8::from(has);
                Some(format!(
                    "it {verb} {}: {} = {value} ({})",
                    feature.meaning(),
                    feature.cpuid(),
                    feature.name()
                ))
            })
            .collect();
        if rule
            .row()
            .when
            .iter()
            .any(|literal| matches!(literal, Literal::Holds(test) if explain::asks_width(*test)))
        {
            facts.push(match self.judged_for.cpu.phys_bits() {
                Some(width) => format!("physical addresses have {width} bits: CPUID 8000_0008 EAX[7:0]"),
                None => format!("no AMD CPU has physical addresses of more than {} bits", vmcb::PHYS_BITS.1),
            });
        }
        if self.question.cpu_given && self.on_every_cpu(rule) {
            facts.push("every AMD CPU refuses this".into());
        }
        facts
    }

    pub(super) fn on_every_cpu(&self, rule: Rule) -> bool {
        let view = View::new(&self.found.vmcb, self.phase, self.question.any(), self.environment);
        view.judge().broken().contains(rule)
    }
}
