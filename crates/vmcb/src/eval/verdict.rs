//! The answer: which rules are broken, and which are not decided.

use crate::rules::set::{ON_EVENT, REFUSING, RuleSet};
use crate::rules::table::Outcome;
use core::fmt;

/// The three possible results for a VMCB.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Decision {
    /// No rule is broken, and none is undecided.
    Accepted,
    /// A rule is broken for all values of the unknown bits.
    Refused,
    /// No rule is broken for certain, but some are not decided.
    Undecided,
}

/// Which rules are broken, and which are not decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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
            unstated: met.difference(REFUSING),
            unknown: possible.difference(met),
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

    /// Returns the outcome of the broken rule that VMRUN checks first: the exit code or the fault that a hypervisor must
    /// deliver.
    ///
    /// `None` if no rule is broken. Then the VMCB is either accepted or [undecided](Self::undecided); a hypervisor that
    /// refuses an undecided VMCB delivers [`ExitCode::INVALID`](crate::ExitCode::INVALID).
    ///
    /// # Examples
    /// ```
    /// use vmcb::{Cpu, Environment, ExitCode, Limits, Outcome, Policy, check};
    /// let limits = Limits::compile(&Cpu::parse("EPYC-Milan").unwrap(), Policy::VirtualCpu);
    /// let verdict = check(&[0; 4096], &limits, &Environment::real_host());
    /// assert_eq!(verdict.outcome(), Some(Outcome::Invalid));
    /// assert_eq!(verdict.outcome().and_then(Outcome::exit_code), Some(ExitCode::INVALID));
    /// ```
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        let outcomes = || self.broken.iter().map(|rule| rule.row().outcome);
        // #UD comes before #GP, and both come before the VMCB is read.
        let first = |wanted| outcomes().find(|&outcome| outcome == wanted);
        first(Outcome::InvalidOpcode)
            .or_else(|| first(Outcome::GeneralProtection))
            .or_else(|| outcomes().next())
    }

    /// Returns all rules that refuse the VMCB for all values of the unknown bits.
    #[must_use]
    pub const fn broken(&self) -> RuleSet {
        self.broken
    }

    /// Returns all rules that may refuse the VMCB, but not for certain.
    #[must_use]
    pub const fn undecided(&self) -> RuleSet {
        self.unstated.union(self.unknown)
    }

    /// Returns the undecided rules whose requirement is not met. The manual does not specify what VMRUN does then.
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

impl fmt::Display for Verdict {
    /// `accepted`, `refused (VMEXIT_INVALID): sav-cr0-cd-nw, sav-dr6-high` or `undecided: ctl-asid-zero`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = match self.outcome() {
            Some(outcome) => {
                write!(f, "refused ({outcome}): ")?;
                self.broken
            }
            None if self.is_accepted() => return f.write_str("accepted"),
            None => {
                f.write_str("undecided: ")?;
                self.undecided()
            }
        };
        rules.iter().enumerate().try_for_each(|(index, rule)| {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{rule}")
        })
    }
}
