//! Whether a guest may move from one CPU to another.

use super::difference::Pair;
use super::named::{letter, list};
use vmcb::{Contrast, Feature};

/// Whether a guest that was started on one CPU may continue on another.
pub(super) struct Migration {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) answer: May,
    pub(super) text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum May {
    Yes,
    /// Only what it has no reason to do is refused: bits of features that it does not see.
    IfUnused,
    No,
    Undecided,
}

impl May {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::IfUnused => "if-unused",
            Self::No => "no",
            Self::Undecided => "undecided",
        }
    }
}

impl Migration {
    /// As if the guest saw the other CPU from then on: where its own CPU moves with it, nothing changes.
    pub(super) fn of(pair: &Pair, from: usize, to: usize) -> Self {
        let (here, there) = (letter(from), letter(to));
        let shown = || pair.differences.iter().filter(|difference| difference.contrast == Contrast::Verdict);
        let lost: Vec<_> = shown().filter(|difference| difference.refusing == to).collect();
        let gained = shown().any(|difference| difference.accepting == to);
        let rules = |used: bool| {
            let mut ids: Vec<String> = Vec::new();
            for difference in lost.iter().filter(|difference| difference.unseen.is_empty() == used) {
                if !ids.iter().any(|id| id == difference.rule.id()) {
                    ids.push(difference.rule.id().to_owned());
                }
            }
            ids
        };
        let unseen: Vec<&str> = {
            let mut features: Vec<Feature> =
                lost.iter().flat_map(|difference| difference.unseen.clone()).collect();
            features.sort_unstable();
            features.dedup();
            features.into_iter().map(Feature::name).collect()
        };
        let missing: Vec<String> = pair.open.iter().map(|open| open.fact.clone()).collect();
        let (answer, why) = if !rules(true).is_empty() {
            (May::No, format!("{there} does not accept all that {here} accepts: {}", list(&rules(true))))
        } else if !missing.is_empty() {
            (May::Undecided, format!("it depends on what is not known: {}", list(&missing)))
        } else if !lost.is_empty() {
            let why = format!(
                "if it leaves alone what it does not see on {here}: {} ({})",
                list(&unseen),
                list(&rules(false))
            );
            (May::IfUnused, why)
        } else if gained {
            (May::Yes, format!("{there} accepts every VMCB that {here} accepts, and more"))
        } else {
            (May::Yes, format!("{there} accepts the same VMCBs as {here}"))
        };
        let said = match answer {
            May::Yes => "yes:",
            May::IfUnused => "yes,",
            May::No => "no:",
            May::Undecided => "undecided:",
        };
        let text = format!("a guest started on {here} may move to {there}? {said} {why}");
        Self { from, to, answer, text }
    }
}
