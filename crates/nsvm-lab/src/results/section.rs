//! What subjects did: sections with heads and outcomes.

use super::numbers::{Base, decimal, ranges};
use crate::names::default_cpu;
use crate::outcome::Outcome;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use vmcb::CpuidEntry;

/// A set is split into no more shards than this.
const MAX_SHARDS: u32 = 4096;

/// What one or several subjects did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Results {
    /// One for each subject.
    pub sections: Vec<Section>,
}

/// What one subject did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Section {
    /// Who, when, with which cases.
    pub head: Head,
    /// By the case's id.
    pub outcomes: BTreeMap<String, Outcome>,
}

/// Who was asked what, when.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Head {
    /// Who executes VMRUN: `model`, `qemu-tcg`, `bochs`, `kvm`, `hardware`.
    pub subject: String,
    /// Its version as it tells it itself: `7.2.22`.
    pub version: String,
    /// What it ran on, if not on hardware: `qemu-tcg 7.2.22, cpu max`.
    pub below: Option<String>,
    /// The CPU model that was asked for.
    pub cpu: String,
    /// The day of the run: `2026-11-22`; a time may follow.
    pub date: String,
    /// Name of the set of cases.
    pub set: String,
    /// How many cases the whole set has.
    pub cases: usize,
    /// The shards of the set that were run; `None` for all of it.
    pub shard: Option<Shards>,
    /// CPUID as the payload saw it.
    pub cpuid: Vec<CpuidEntry>,
    /// MSRs as the payload saw them: number and value.
    pub msrs: Vec<(u32, u64)>,
    /// What else is to be known about the run.
    pub notes: Vec<String>,
}

/// Which parts of a set that was split were run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shards {
    /// How many there are.
    pub of: u32,
    /// Those that were run, counted from 1.
    pub have: BTreeSet<u32>,
}

impl Shards {
    /// Shard `number` of `of`, counted from 1.
    #[must_use]
    pub fn one(number: u32, of: u32) -> Self {
        Self { of, have: BTreeSet::from([number]) }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (have, of) = text.split_once('/')?;
        let of = decimal(of)?;
        if of == 0 || of > MAX_SHARDS {
            return None;
        }
        let mut set = BTreeSet::new();
        for part in have.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (decimal(first)?, decimal(last)?);
            if first == 0 || first > last || last > of {
                return None;
            }
            set.extend(first..=last);
        }
        Some(Self { of, have: set })
    }
}

impl fmt::Display for Shards {
    /// `1-3,5/8`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", ranges(self.have.iter().copied(), Base::Decimal, ","), self.of)
    }
}

/// What makes sections parts of one run.
pub(super) type Key = (String, String, Option<String>, String, String);

impl Head {
    /// `kvm 6.12.48 on qemu-tcg 7.2.22, cpu max`: who it is, in one line. The CPU model is told where it is not the
    /// one that the subject has anyway: `qemu-tcg 7.2.22, cpu EPYC-v4`.
    #[must_use]
    pub fn label(&self) -> String {
        let mut label = format!("{} {}", self.subject, self.version);
        if let Some(below) = &self.below {
            let _ = write!(label, " on {below}");
        }
        if default_cpu(&self.subject).is_some_and(|cpu| cpu != self.cpu) {
            let _ = write!(label, ", cpu {}", self.cpu);
        }
        label
    }

    pub(super) fn key(&self) -> Key {
        let Self { subject, version, below, cpu, set, .. } = self;
        (subject.clone(), version.clone(), below.clone(), cpu.clone(), set.clone())
    }
}

impl Section {
    /// What is missing of the set, as a sentence; `None` if nothing is.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        let missing = self.head.cases.saturating_sub(self.outcomes.len());
        if missing == 0 {
            return None;
        }
        let mut text = format!("{missing} of {} cases are missing", self.head.cases);
        if let Some(shards) = &self.head.shard {
            let absent = (1..=shards.of).filter(|number| !shards.have.contains(number));
            let absent = ranges(absent, Base::Decimal, ", ");
            if !absent.is_empty() {
                let _ = write!(text, ": shards {absent} of {}", shards.of);
            }
        }
        Some(text)
    }
}
