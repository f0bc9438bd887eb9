//! What the rulebook says of a case, whether a subject agrees, and counts of that.

use anstyle::{AnsiColor, Style};

/// What the rulebook says of a VMCB.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Expected {
    /// VMRUN accepts it.
    Accept,
    /// VMRUN refuses it like this.
    Refuse(vmcb::Outcome),
    /// The manual does not say.
    Undecided,
}

impl Expected {
    /// `accepted`, `VMEXIT_INVALID`, `undecided`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accepted",
            Self::Refuse(outcome) => outcome.name(),
            Self::Undecided => "undecided",
        }
    }
}

/// How an outcome compares with the rulebook.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Agreement {
    /// It is another answer.
    Differs,
    /// The machine died or hung.
    Broken,
    /// It is the same answer.
    Agrees,
    /// The rulebook or the case gives nothing to compare with.
    NotComparable,
    /// It was not run.
    Skipped,
}

impl Agreement {
    /// All of them, in the order in which they matter.
    pub const ALL: [Self; 5] =
        [Self::Differs, Self::Broken, Self::Agrees, Self::NotComparable, Self::Skipped];

    /// The sign that stands for it in tables.
    #[must_use]
    pub const fn sign(self) -> char {
        match self {
            Self::Differs => '≠',
            Self::Broken => '!',
            Self::Agrees => '=',
            Self::NotComparable => '~',
            Self::Skipped => '-',
        }
    }

    /// What follows a number of cases: `12 differ`.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Differs => "differ",
            Self::Broken => "broken",
            Self::Agrees => "agree",
            Self::NotComparable => "not comparable",
            Self::Skipped => "skipped",
        }
    }

    pub(super) const fn meaning(self) -> &'static str {
        match self {
            Self::Differs => "another answer than the rulebook's",
            Self::Broken => "the machine died or hung",
            Self::Agrees => "the rulebook's answer",
            Self::NotComparable => "run, but nothing to compare with",
            Self::Skipped => "not run",
        }
    }

    pub(super) fn style(self) -> Style {
        match self {
            Self::Differs => AnsiColor::Red.on_default().bold(),
            Self::Broken => AnsiColor::Yellow.on_default().bold(),
            Self::Agrees => AnsiColor::Green.on_default(),
            Self::NotComparable | Self::Skipped => Style::new().dimmed(),
        }
    }
}

/// Cases counted by agreement.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts([usize; 5]);

impl Counts {
    /// How many cases are of this kind.
    #[must_use]
    pub fn of(&self, agreement: Agreement) -> usize {
        self.0[agreement as usize]
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0.iter().sum()
    }

    /// Cases whose answer was compared with the rulebook's.
    #[must_use]
    pub fn compared(&self) -> usize {
        self.of(Agreement::Agrees) + self.of(Agreement::Differs)
    }

    pub(super) fn add(&mut self, agreement: Agreement) {
        self.0[agreement as usize] += 1;
    }

    /// What a cell of the table shows first: a difference before all, agreement before what says nothing.
    #[must_use]
    pub fn main(&self) -> Option<Agreement> {
        use Agreement::{Agrees, Broken, Differs, NotComparable, Skipped};
        [Differs, Agrees, Broken, NotComparable, Skipped].into_iter().find(|&one| self.of(one) > 0)
    }
}
