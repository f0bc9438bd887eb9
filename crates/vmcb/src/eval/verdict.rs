//! The answer: which rules are broken, and which are not decided.

use crate::rules::set::{ON_EVENT, REFUSING, RuleSet};

/// What VMRUN does with a VMCB: the three answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Decision {
    /// No rule is broken, and none is undecided.
    Accepted,
    /// A rule is broken, whatever the unknown bits are.
    Refused,
    /// No rule is broken for certain, but some are not decided.
    Undecided,
}

/// Which rules are broken, and which are not decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[must_use]
pub struct Verdict {
    pub(crate) broken: RuleSet,
    pub(crate) unstated: RuleSet,
    pub(crate) unknown: RuleSet,
    pub(crate) inferred: bool,
}

impl Verdict {
    pub(crate) const ACCEPTED: Self =
        Self { broken: RuleSet::EMPTY, unstated: RuleSet::EMPTY, unknown: RuleSet::EMPTY, inferred: false };

    /// From the rules whose conditions are met for certain, and those whose conditions may be met.
    pub(crate) fn of(met: RuleSet, possible: RuleSet) -> Self {
        Self {
            broken: met.intersection(REFUSING),
            unstated: met.without(REFUSING),
            unknown: possible.without(met),
            inferred: false,
        }
    }

    /// The three answers in one.
    pub const fn decision(&self) -> Decision {
        if !self.broken.is_empty() {
            Decision::Refused
        } else if self.is_accepted() {
            Decision::Accepted
        } else {
            Decision::Undecided
        }
    }

    /// Whether no rule is broken and none undecided.
    #[must_use]
    #[inline(always)]
    pub const fn is_accepted(&self) -> bool {
        self.broken.is_empty() && self.unstated.is_empty() && self.unknown.is_empty()
    }

    /// All rules that refuse the VMCB, whatever the unknown bits are.
    #[must_use]
    pub const fn broken(&self) -> RuleSet {
        self.broken
    }

    /// All rules of which it is not decided whether VMRUN refuses.
    #[must_use]
    pub const fn undecided(&self) -> RuleSet {
        self.unstated.union(self.unknown)
    }

    /// Of the undecided ones: what the manual requires is not met, and it does not say what VMRUN does.
    #[must_use]
    pub const fn unstated(&self) -> RuleSet {
        self.unstated
    }

    /// Of the undecided ones: an input is missing.
    #[must_use]
    pub const fn unknown(&self) -> RuleSet {
        self.unknown
    }

    /// Those broken rules that were judged on EXITINTINFO in the place of EVENTINJ: the page was seen
    /// after a VMEXIT_INVALID, and some processors leave the refused event there.
    #[must_use]
    pub const fn inferred(&self) -> RuleSet {
        if self.inferred { self.broken.intersection(ON_EVENT) } else { RuleSet::EMPTY }
    }
}
