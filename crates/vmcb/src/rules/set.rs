//! Sets of rules, and the sets that follow from the rows.

use super::literal::Literal;
use super::table::{ROWS, Rule};
use crate::defs::register::{Mode, NestedCtl};
use crate::defs::set::{set_of, set_operations};
use crate::defs::word::Word;

/// A set of rules. Which bit stands for which rule is private and may change; only ids are stable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RuleSet(u128);

set_operations!(RuleSet, "rules");
set_of!(RuleSet, Rule);
set_of!(serde RuleSet, Rule);

impl RuleSet {
    /// Every rule of this build.
    pub const ALL: Self = Self((1 << ROWS.len()) - 1);

    /// The set of one rule.
    #[must_use]
    pub const fn only(rule: Rule) -> Self {
        Self(1 << rule as u8)
    }

    /// Whether the rule is in it.
    #[must_use]
    pub const fn contains(self, rule: Rule) -> bool {
        self.0 & Self::only(rule).0 != 0
    }

    /// The set with this rule too.
    #[must_use]
    pub const fn with(self, rule: Rule) -> Self {
        self.union(Self::only(rule))
    }

    /// The rules, in the order of the rulebook.
    pub fn iter(self) -> impl Iterator<Item = Rule> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            let rule = Rule::ALL.get(left.trailing_zeros() as usize).copied();
            left &= left.wrapping_sub(1);
            rule
        })
    }
}

impl core::fmt::Debug for RuleSet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_set().entries(self.iter().map(Rule::id)).finish()
    }
}

/// The rules whose class refuses.
pub(crate) const REFUSING: RuleSet = rows_where_refusing();
/// The rules that read EVENTINJ.
pub(crate) const ON_EVENT: RuleSet = rows_that_read(Word::EventInj);

const fn rows_where_refusing() -> RuleSet {
    let mut set = 0;
    let mut row = 0;
    while row < ROWS.len() {
        if ROWS[row].class.refuses() {
            set |= 1 << row;
        }
        row += 1;
    }
    RuleSet(set)
}

const fn rows_that_read(wanted: Word) -> RuleSet {
    let mut set = 0;
    let mut row = 0;
    while row < ROWS.len() {
        let mut index = 0;
        while index < ROWS[row].when.len() {
            if let Literal::Is { word, .. } | Literal::IsNot { word, .. } = ROWS[row].when[index] {
                if word as u8 == wanted as u8 {
                    set |= 1 << row;
                }
            }
            index += 1;
        }
        row += 1;
    }
    RuleSet(set)
}

/// Whether the rule can be broken only in a guest that has SEV or SEV-ES on.
pub(crate) const fn needs_sev(rule: usize) -> bool {
    const ENCRYPTED: u64 = Mode::SEV.bits()
        | Mode::SEV_ES.bits()
        | Mode::SNP.bits()
        | Mode::RESTRICTED.bits()
        | Mode::ALTERNATE.bits();
    let mut index = 0;
    while index < ROWS[rule].when.len() {
        if let Literal::Is { word, value, .. } = ROWS[rule].when[index] {
            if word as u8 == Word::Mode as u8 && value & ENCRYPTED != 0
                || word as u8 == Word::NestedCtl as u8 && value & NestedCtl::SEV_ES.bits() != 0
            {
                return true;
            }
        }
        index += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_as_many_rules_as_it_lists() {
        assert_eq!(RuleSet::EMPTY.len(), 0);
        assert_eq!(RuleSet::ALL.len(), Rule::ALL.len());
        let two = RuleSet::only(Rule::PreCpl).union(RuleSet::only(Rule::SnpSecureAvicPage));
        assert_eq!((two.len(), two.iter().count()), (2, 2));
    }

    /// The pass for plain guests leaves exactly these out: one too many would be a rule that is never asked.
    #[test]
    fn rules_that_need_sev_are_named() {
        let of_group = |id: &str| ["sev-", "seves-", "snp-"].iter().any(|group| id.starts_with(group));
        let others = ["sav-u-cet-reserved-seves", "evt-seves-soft-or-bp-of", "evt-restricted-injection"];
        for (rule, row) in ROWS.iter().enumerate() {
            // The backing page of any guest with AVIC must be the hypervisor's where SNP is on.
            let expected = others.contains(&row.id) || of_group(row.id) && row.id != "snp-avic-backing-rmp";
            assert_eq!(needs_sev(rule), expected, "{}", row.id);
        }
    }
}
