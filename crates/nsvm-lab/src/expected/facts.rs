//! Facts about a case that rows of the list refer to.

use crate::case::{Case, Set};
use crate::outcome::{Answer, Outcome};
use vmcb::layout::{Field, VMCB};
use vmcb::{RuleSet, Verdict};

/// What a row may ask of a case, and what the rulebook says of it.
#[derive(Clone, Debug)]
pub struct CaseFacts {
    /// Its id.
    pub id: String,
    /// Where its VMCB differs from its base's.
    pub changed: Vec<Change>,
    /// The rules that refuse it.
    pub broken: RuleSet,
    /// The rules whose conditions are met, where the manual does not say what VMRUN does.
    pub unstated: RuleSet,
    /// The rules that are not decided because something is not known.
    pub unknown: RuleSet,
    /// Whether its outcome is compared with the rulebook.
    pub compared: bool,
}

/// A field of the VMCB in which a case differs from its base.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// The field.
    pub field: Field,
    /// The bits that differ; all of them, where the difference lies beyond the first 8 bytes.
    pub bits: u64,
}

impl CaseFacts {
    /// Those of a case of a set, with the rulebook's verdict for the CPU on which it is run.
    #[must_use]
    pub fn new(set: &Set, case: &Case, verdict: &Verdict) -> Self {
        let (base, page) = (&set.bases[case.base].page, set.page(case));
        let changed = VMCB.iter().filter_map(|&field| {
            let at = usize::from(field.offset);
            let differs = |range: std::ops::Range<usize>| base[range.clone()] != page[range];
            let low = usize::from(field.size).min(8);
            if differs(at + low..at + usize::from(field.size)) {
                return Some(Change { field, bits: u64::MAX });
            }
            let pairs = base[at..at + low].iter().zip(&page[at..at + low]).rev();
            let bits = pairs.fold(0, |bits, (a, b)| bits << 8 | u64::from(a ^ b));
            (bits != 0).then_some(Change { field, bits })
        });
        Self {
            id: case.id.clone(),
            changed: changed.collect(),
            broken: verdict.broken(),
            unstated: verdict.unstated(),
            unknown: verdict.unknown(),
            compared: case.meaningless.is_none(),
        }
    }

    /// Whether this outcome is one that the rulebook excludes.
    #[must_use]
    pub fn differs(&self, outcome: &Outcome) -> bool {
        if !self.compared {
            return false;
        }
        let undecided = self.unstated.union(self.unknown);
        match outcome.answer() {
            Answer::Skipped => false,
            // No rule kills a machine, nor makes VMRUN fault in any other way than #UD and #GP(0).
            Answer::Broken | Answer::Fault => true,
            Answer::Accepted => !self.broken.is_empty(),
            Answer::Refused(how) if self.broken.is_empty() => {
                undecided.is_empty() || {
                    // An unknown rule refuses in its own way only; of an unstated one no way is excluded.
                    self.unstated.is_empty() && !refuses_so(self.unknown, how)
                }
            }
            // A rule that faults keeps VMRUN from reading the VMCB.
            Answer::Refused(how) => {
                let faults: RuleSet =
                    self.broken.iter().filter(|rule| is_fault(rule.row().outcome)).collect();
                let told = if faults.is_empty() { self.broken } else { faults };
                self.unstated.is_empty() && !refuses_so(told.union(self.unknown), how)
            }
        }
    }
}

fn refuses_so(rules: RuleSet, how: vmcb::Outcome) -> bool {
    rules.iter().any(|rule| rule.row().outcome == how)
}

pub(super) fn is_fault(outcome: vmcb::Outcome) -> bool {
    matches!(outcome, vmcb::Outcome::InvalidOpcode | vmcb::Outcome::GeneralProtection)
}
