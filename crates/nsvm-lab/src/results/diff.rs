//! Compares results.

use super::ids::{compress, events};
use super::section::{Head, Results, Section};
use crate::outcome::Answer;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How two results differ.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Diff {
    /// Of subjects that both have.
    pub sections: Vec<SectionDiff>,
    /// Subjects that only the old results have.
    pub only_old: Vec<String>,
    /// Subjects that only the new results have.
    pub only_new: Vec<String>,
}

/// How two sections differ.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SectionDiff {
    /// The old section's [label](Head::label).
    pub old: String,
    /// The new one's.
    pub new: String,
    /// Other parts of the heads that differ, as sentences.
    pub heads: Vec<String>,
    /// Cases that only the old section has.
    pub only_old: BTreeSet<String>,
    /// Cases that only the new section has.
    pub only_new: BTreeSet<String>,
    /// Cases whose answer changed, by the [names](answer_name) of the old answer and the new one.
    pub answers: BTreeMap<(String, String), BTreeSet<String>>,
    /// Cases whose answer is the same and whose outcome is not, by the old token and the new one.
    pub details: BTreeMap<(String, String), BTreeSet<String>>,
    /// How many cases differ whose outcome is known to change from run to run.
    pub unstable: usize,
    /// How many cases have the same outcome in both.
    pub same: usize,
}

/// Compares results subject by subject.
///
/// A subject is found by name and version, and among several of those by the stack below, the CPU and the set.
/// To compare two versions, give their sections to [`compare`].
#[must_use]
pub fn diff(old: &Results, new: &Results) -> Diff {
    let mut diff = Diff::default();
    let mut left: Vec<&Section> = new.sections.iter().collect();
    let mut pairs: Vec<(&Section, Option<&Section>)> = old.sections.iter().map(|one| (one, None)).collect();
    // Exact matches first, lest a near one takes their partner.
    for exact in [true, false] {
        for (one, partner) in pairs.iter_mut().filter(|(_, partner)| partner.is_none()) {
            let found = left.iter().position(|two| {
                let (one, two) = (&one.head, &two.head);
                let same = (&one.subject, &one.version) == (&two.subject, &two.version);
                same && (!exact || one.key() == two.key())
            });
            *partner = found.map(|index| left.remove(index));
        }
    }
    for (one, partner) in pairs {
        match partner {
            Some(two) => diff.sections.push(compare(one, two)),
            None => diff.only_old.push(one.head.label()),
        }
    }
    diff.only_new = left.iter().map(|section| section.head.label()).collect();
    diff
}

/// Compares two sections, whoever they are of.
#[must_use]
pub fn compare(old: &Section, new: &Section) -> SectionDiff {
    let mut diff = SectionDiff { old: old.head.label(), new: new.head.label(), ..SectionDiff::default() };
    let (one, two) = (&old.head, &new.head);
    let mut head = |what: &str, one: &str, two: &str| {
        if one != two {
            diff.heads.push(format!("{what}: {one} -> {two}"));
        }
    };
    head("cpu", &one.cpu, &two.cpu);
    head("set", &one.set, &two.set);
    head("cases", &one.cases.to_string(), &two.cases.to_string());
    let sorted = |head: &Head| {
        let mut table = head.cpuid.clone();
        table.sort_by_key(|e| (e.leaf, e.subleaf));
        table
    };
    if sorted(one) != sorted(two) {
        diff.heads.push("their CPUID differs".to_owned());
    }
    for (case, before) in &old.outcomes {
        let Some(after) = new.outcomes.get(case) else {
            diff.only_old.insert(case.clone());
            continue;
        };
        if before == after {
            diff.same += 1;
        } else if before.answer() == after.answer() {
            let tokens = (before.to_string(), after.to_string());
            diff.details.entry(tokens).or_default().insert(case.clone());
        } else {
            let answers = (answer_name(before.answer()), answer_name(after.answer()));
            diff.answers.entry(answers).or_default().insert(case.clone());
        }
    }
    diff.only_new = new.outcomes.keys().filter(|case| !old.outcomes.contains_key(*case)).cloned().collect();
    diff
}

impl Diff {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.only_old.is_empty()
            && self.only_new.is_empty()
            && self.sections.iter().all(SectionDiff::is_empty)
    }
}

impl SectionDiff {
    /// Counts the cases that differ and are named unstable, and lists them no more.
    pub fn set_aside(&mut self, is_unstable: impl Fn(&str) -> bool) {
        for changed in [&mut self.answers, &mut self.details] {
            changed.retain(|_, ids| {
                let before = ids.len();
                ids.retain(|id| !is_unstable(id));
                self.unstable += before - ids.len();
                !ids.is_empty()
            });
        }
    }

    /// Whether every case has the same outcome in both, but for those that were [set aside](Self::set_aside).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.only_old.is_empty()
            && self.only_new.is_empty()
            && self.answers.is_empty()
            && self.details.is_empty()
    }
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for label in &self.only_old {
            writeln!(f, "only in the old results: {label}")?;
        }
        for label in &self.only_new {
            writeln!(f, "only in the new results: {label}")?;
        }
        self.sections.iter().try_for_each(|section| section.fmt(f))
    }
}

impl fmt::Display for SectionDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.old == self.new {
            writeln!(f, "{}", self.old)?;
        } else {
            writeln!(f, "{} -> {}", self.old, self.new)?;
        }
        for head in &self.heads {
            writeln!(f, "  {head}")?;
        }
        let sum = |of: &BTreeMap<_, BTreeSet<String>>| of.values().map(BTreeSet::len).sum::<usize>();
        if !self.answers.is_empty() {
            writeln!(f, "  another answer: {} cases", sum(&self.answers))?;
            for ((before, after), ids) in &self.answers {
                writeln!(f, "    {before} -> {after}: {} cases", ids.len())?;
                write_ids(f, "      ", ids)?;
                for line in events(ids.iter().map(String::as_str)) {
                    writeln!(f, "      {line}")?;
                }
            }
        }
        if !self.details.is_empty() {
            writeln!(f, "  the same answer, another outcome: {} cases", sum(&self.details))?;
            for ((before, after), ids) in &self.details {
                writeln!(f, "    `{before}` -> `{after}`: {} cases", ids.len())?;
                write_ids(f, "      ", ids)?;
            }
        }
        for (what, ids) in [("old", &self.only_old), ("new", &self.only_new)] {
            if !ids.is_empty() {
                writeln!(f, "  only in the {what} results: {} cases", ids.len())?;
                write_ids(f, "    ", ids)?;
            }
        }
        if self.unstable > 0 {
            writeln!(f, "  {} cases named unstable differ", self.unstable)?;
        }
        writeln!(f, "  the same: {} cases", self.same)
    }
}

fn write_ids(f: &mut fmt::Formatter<'_>, indent: &str, ids: &BTreeSet<String>) -> fmt::Result {
    compress(ids.iter().map(String::as_str)).iter().try_for_each(|ids| writeln!(f, "{indent}{ids}"))
}

/// What people call an answer: `accepted`, `refused (VMEXIT_INVALID)`.
#[must_use]
pub fn answer_name(answer: Answer) -> String {
    match answer {
        Answer::Accepted => "accepted".to_owned(),
        Answer::Refused(outcome) => format!("refused ({})", outcome.name()),
        Answer::Fault => "faulted".to_owned(),
        Answer::Broken => "broken".to_owned(),
        Answer::Skipped => "skipped".to_owned(),
    }
}
