//! The policies by which limits are compiled.

use crate::defs::named::named;
use crate::rules::set::RuleSet;
use crate::rules::table::Rule;

/// Which exception vectors EVENTINJ may carry: the two ways that the discussion of Linux's check
/// left open. See `docs/migration-policies.md` for what each does to a guest that migrates.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
#[non_exhaustive]
pub enum Policy {
    /// Option 1: derived from the virtual CPU. #CP needs SHSTK, #VC SEV-ES, #HV Restricted Injection.
    #[default]
    VirtualCpu,
    /// Option 2: a fixed, permissive set. #CP, #VC and #HV are always let through, and whether they
    /// exist is left to the hardware below.
    FixedVectors,
}

impl Policy {
    /// All policies.
    pub const ALL: &'static [Self] = &[Self::VirtualCpu, Self::FixedVectors];

    /// Its stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::VirtualCpu => "virtual-cpu",
            Self::FixedVectors => "fixed-vectors",
        }
    }

    /// Its stable number, by which limits store it.
    pub(super) const fn number(self) -> u64 {
        match self {
            Self::VirtualCpu => 0,
            Self::FixedVectors => 1,
        }
    }

    /// The policy with this number.
    pub(super) fn from_number(number: u64) -> Option<Self> {
        Self::ALL.iter().copied().find(|policy| policy.number() == number)
    }

    /// The policy with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|policy| policy.name() == name)
    }

    /// The rules that it enables.
    pub(super) fn rules(self) -> RuleSet {
        const BY_FEATURE: [Rule; 3] = [
            Rule::EvtExcCpWithoutShstk,
            Rule::EvtExcVcWithoutSeves,
            Rule::EvtExcHvWithoutRestrictedInjection,
        ];
        match self {
            Self::VirtualCpu => RuleSet::ALL,
            Self::FixedVectors => RuleSet::ALL.difference(BY_FEATURE.into_iter().collect()),
        }
    }
}

named! {
    /// Its stable name.
    Policy: name, from_name, "no policy has this name"
}
