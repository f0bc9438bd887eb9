//! The script of the next guest, and where a run of it stopped.

use super::state::Trial;
use crate::model::script::{Access, Step};

/// Where a run of a guest stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    /// L2 ended, by this exit code.
    L1(u64),
    /// The guest stopped at an exit for L0.
    L0(u64),
    /// The VM shut down, and another one was created.
    Shutdown,
}

pub(super) const CPUID: u64 = 0x72;
pub(super) const INTR: u64 = 0x60;
pub(super) const NMI: u64 = 0x61;
pub(super) const VINTR: u64 = 0x64;
pub(super) const NPF: u64 = 0x400;

pub(super) const IF: u64 = 1 << 9;

impl Trial {
    /// Gives the next guest a script, which ends with an exit of this code.
    pub(super) fn prepare(&mut self, steps: impl IntoIterator<Item = Step>, code: u64) {
        self.script.clear();
        self.script.extend(steps);
        self.accesses.clear();
        self.accesses.extend(self.script.iter().copied().filter(is_access));
        self.script.push_back(Step::Exit(code, [0, 0]));
    }
}

pub(super) const fn is_access(step: &Step) -> bool {
    matches!(step, Step::Access(_) | Step::Linear(_))
}

pub(super) const fn is_write(step: Step) -> bool {
    matches!(step, Step::Access(Access { write: true, .. }) | Step::Linear(Access { write: true, .. }))
}
