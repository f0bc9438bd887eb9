//! The exit status of a report.

/// What the exit status means. If a run has several answers, the first in this order counts: `Failed`, `Refused`,
/// `Undecided`, `Fine`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Status {
    /// 0: nothing is refused.
    Fine = 0,
    /// 2: nothing is refused, but something is not decided.
    Undecided = 2,
    /// 1: something is refused.
    Refused = 1,
    /// 3: bad usage, or an input that cannot be read.
    Failed = 3,
}

impl Status {
    /// Returns the more important of two.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        const ORDER: [Status; 4] = [Status::Failed, Status::Refused, Status::Undecided, Status::Fine];
        ORDER.into_iter().find(|&status| status == self || status == other).unwrap_or(self)
    }
}

impl From<Status> for std::process::ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status as u8)
    }
}
