//! All differences between several CPUs.

use super::difference::{Difference, Pair};
use super::migration::Migration;
use super::named::Named;
use super::safe::Safe;
use crate::status::Status;
use crate::suggest;
use vmcb::{Cpu, Limits, Policy};

/// The result of a comparison. It holds the smallest VMCB that shows each difference, whether a guest may move, and a CPU
/// that is safe for all.
pub struct Comparison {
    pub(super) cpus: Vec<Named>,
    pub(super) pairs: Vec<Pair>,
    pub(super) migrations: Vec<Migration>,
    pub(super) safe: Safe,
}

impl Comparison {
    /// Compares each CPU with each other one. The texts are the descriptions as the user wrote them.
    #[must_use]
    pub fn new<'a>(cpus: impl IntoIterator<Item = (&'a str, Cpu)>, policy: Policy) -> Self {
        let name =
            |(text, cpu)| Named { text: suggest::clean(text), cpu, limits: Limits::compile(&cpu, policy) };
        let cpus: Vec<Named> = cpus.into_iter().map(name).collect();
        let mut pairs = Vec::new();
        for b in 1..cpus.len() {
            for a in 0..b {
                pairs.extend(Pair::of(&cpus, a, b));
            }
        }
        pairs.sort_by_key(|pair| (pair.a, pair.b));
        let directions = pairs.iter().flat_map(|pair| [(pair, pair.a, pair.b), (pair, pair.b, pair.a)]);
        let migrations = directions.map(|(pair, from, to)| Migration::of(pair, from, to)).collect();
        let safe = Safe::of(&cpus, policy);
        Self { cpus, pairs, migrations, safe }
    }

    /// Returns `Refused` if two CPUs differ, `Undecided` if none do but an unknown fact may make a difference, and
    /// `Fine` otherwise.
    #[must_use]
    pub fn status(&self) -> Status {
        let status = |pair: &Pair| match (pair.differences.is_empty(), pair.open.is_empty()) {
            (false, _) => Status::Refused,
            (true, false) => Status::Undecided,
            (true, true) => Status::Fine,
        };
        self.pairs.iter().map(status).fold(Status::Fine, Status::and)
    }

    /// Returns all differences, pair by pair.
    pub(super) fn differences(&self) -> impl Iterator<Item = &Difference> {
        self.pairs.iter().flat_map(|pair| &pair.differences)
    }
}
