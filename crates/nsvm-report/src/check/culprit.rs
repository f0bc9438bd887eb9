//! Which bits of a field break a rule, and what they depend on.

use super::case::Case;
use crate::{bits, explain};
use vmcb::layout::{Field as Layout, Page};
use vmcb::{Feature, KnownPage, Limits, Literal, Phase, Rule, Test, View, Vmsa, Word};

impl Case<'_> {
    /// The set bits of a word each of which alone would break the rule; none where that is no question
    /// of single bits.
    pub(super) fn culprits(&self, rule: Rule, word: Word, mask: u64) -> u64 {
        let Some(literal) = rule.row().when.iter().copied().find(|literal| is_about_bits(*literal, word))
        else {
            return 0;
        };
        let Some(field) = self.view.field(word) else {
            return 0;
        };
        let value = self.view.word(word).value() & mask;
        let step = if literal == Literal::Holds(Test::PatInvalid) { 8 } else { 1 };
        let mut culprits = 0;
        for group in (0..64).step_by(step).map(|bit| (u64::MAX >> (64 - step)) << bit) {
            if value & group != 0
                && self.with_field(&self.judged_for.limits, field, value & group, &mut |view| {
                    view.holds(literal) == Some(true)
                })
            {
                culprits |= value & group;
            }
        }
        culprits
    }

    /// Asks about the same VMCB with another value in one field.
    pub(super) fn with_field<T>(
        &self,
        limits: &Limits,
        field: Layout,
        value: u64,
        ask: &mut dyn FnMut(&View<'_>) -> T,
    ) -> T {
        match field.page {
            Page::Vmcb => {
                let mut page = self.found.vmcb.clone();
                page.learn(field.offset, field.size, value, u64::MAX);
                ask(&View::new(&page, Phase::Before, limits, self.environment))
            }
            Page::Vmsa => {
                let mut page = self.vmsa.cloned().unwrap_or_else(KnownPage::nothing);
                page.learn(field.offset, field.size, value, u64::MAX);
                let environment = self.environment.with_vmsa(Vmsa::Known(&page));
                ask(&View::new(&self.found.vmcb, Phase::Before, limits, &environment))
            }
        }
    }

    /// The features of the CPU that decide whether a bit of a word is defined.
    pub(super) fn features_of_bit(&self, rule: Rule, word: Word, bit: u8) -> Vec<Feature> {
        let Some(field) = self.view.field(word) else {
            return Vec::new();
        };
        let mut features = Vec::new();
        self.with_field(self.question.blank(), field, 1 << bit, &mut |view| {
            for &literal in rule.row().when.iter().filter(|literal| is_about_bits(**literal, word)) {
                if view.holds(literal).is_none() {
                    for what in view.missing(rule) {
                        if let vmcb::Missing::Bits(Word::Cpu, mask) = what {
                            features.extend(explain::features(mask));
                        }
                    }
                }
            }
        });
        features
    }

    pub(super) fn culprits_text(&self, rule: Rule, word: Word, culprits: u64) -> String {
        if word == Word::GPat {
            return bits::pat(self.view.word(word).value());
        }
        let per_feature = rule
            .row()
            .when
            .iter()
            .any(|literal| matches!(literal, Literal::Holds(Test::Cr4Reserved | Test::EferReserved)));
        if !per_feature {
            let names: Vec<String> = (0..64)
                .rev()
                .filter(|bit| {
                    culprits >> bit & 1 == 1 && word.bit_names().iter().any(|(named, ..)| named == bit)
                })
                .map(|bit| bits::bit_with_name(word, bit))
                .collect();
            let all = if names.len() == culprits.count_ones() as usize {
                names.join(", ")
            } else {
                bits::bits(culprits)
            };
            let what = if word == Word::SevFeatures
                && rule.row().when.contains(&Literal::Holds(Test::SevFeatureNotAllowed))
            {
                "not allowed"
            } else {
                "must be 0"
            };
            return format!("{all} {what}");
        }
        let mut reserved: u64 = 0;
        let mut parts = Vec::new();
        for bit in (0..64).rev().filter(|bit| culprits >> bit & 1 == 1) {
            let features = self.features_of_bit(rule, word, bit);
            if features.is_empty() {
                reserved |= 1 << bit;
            }
            for feature in features {
                let value = match self.judged_for.cpu.has(feature) {
                    Some(has) => u8::from(has).to_string(),
                    None => "?".into(),
                };
                let name = bits::bit_with_name(word, bit);
                parts.push(format!(
                    "{name} depends on {}, here {value} ({})",
                    feature.cpuid(),
                    feature.name()
                ));
            }
        }
        if reserved != 0 {
            let verb = if reserved.count_ones() == 1 { "is" } else { "are" };
            parts.push(format!("{} {verb} reserved on every AMD CPU", bits::bits(reserved)));
        }
        parts.join("; ")
    }
}

/// Whether single bits of this word decide the literal.
fn is_about_bits(literal: Literal, word: Word) -> bool {
    match literal {
        Literal::IsNot { word: read, value: 0, .. } => read == word && word != Word::EventInj,
        Literal::Holds(test) => match test {
            Test::AddressTooWide(read) | Test::PointerTooWide(read) => read == word,
            Test::Cr4Reserved => word == Word::Cr4,
            Test::EferReserved => word == Word::Efer,
            Test::PatInvalid => word == Word::GPat,
            Test::SevFeatureNotAllowed => word == Word::SevFeatures,
            Test::AvicPointerTooWide => {
                matches!(word, Word::AvicBackingPage | Word::AvicLogicalTable | Word::AvicPhysicalTable)
            }
            _ => false,
        },
        _ => false,
    }
}
