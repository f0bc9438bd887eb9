//! Verdicts, each made once: few different words occur in a trace.

use crate::Options;
use crate::report::KeyHasher;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use vmcb::layout::vmcb_field as f;
use vmcb::{
    Decision, Environment, Event, GuestMode, KnownPage, Limits, Phase, RuleSet, View, Vmsa, check_event,
};
use vmcb_dump::Found;
use vmcb_dump::trace::{Arguments, Slot};

/// Verdicts that are kept; an input that shows more different words is judged again and again.
const MOST: usize = 1 << 13;

/// The fields of VMCB12 that trace lines show, but RIP, which no rule reads.
pub(crate) const SHOWN: [(Slot, u16, u16, u64); 12] = [
    (Slot::IntCtl, f::int_ctl.offset, 4, u64::MAX),
    (Slot::EventInj, f::eventinj.offset, 4, u64::MAX),
    (Slot::NestedPaging, f::nested_ctl.offset, 8, 1),
    (Slot::NCr3, f::n_cr3.offset, 8, u64::MAX),
    (Slot::Cr3, f::cr3.offset, 8, u64::MAX),
    (Slot::CrRead, f::intercept_cr.offset, 2, u64::MAX),
    (Slot::CrWrite, f::intercept_cr.offset + 2, 2, u64::MAX),
    (Slot::Exceptions, f::intercept_exceptions.offset, 4, u64::MAX),
    (Slot::Misc1, f::intercept_misc1.offset, 4, u64::MAX),
    (Slot::Misc2, f::intercept_misc2.offset, 4, u64::MAX),
    (Slot::Misc3, f::intercept_misc3.offset, 4, u64::MAX),
    (Slot::EventInjError, f::eventinj.offset + 4, 4, u64::MAX),
];

/// What lines show of one VMCB12.
pub(crate) type Entry = [Option<u64>; SHOWN.len()];

/// Takes over what `arguments` show.
pub(crate) fn learn(entry: &mut Entry, arguments: &Arguments) {
    for (value, (slot, ..)) in entry.iter_mut().zip(SHOWN) {
        *value = value.or(arguments.get(slot));
    }
}

/// The rules that are broken, and those that are required and not met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Broken {
    pub(crate) refusing: RuleSet,
    pub(crate) unstated: RuleSet,
}

impl Broken {
    /// What either breaks.
    pub(crate) fn and(self, other: Self) -> Self {
        let refusing = self.refusing.union(other.refusing);
        Self { refusing, unstated: self.unstated.union(other.unstated).without(refusing) }
    }
}

type Kept<K, V> = HashMap<K, V, BuildHasherDefault<KeyHasher>>;

#[derive(Debug)]
pub(crate) struct Judge {
    limits: Limits,
    entries: Kept<Entry, Broken>,
    events: Kept<u32, (Decision, Broken)>,
}

impl Judge {
    pub(crate) fn new(options: &Options) -> Self {
        let limits = Limits::compile(&options.cpu, options.policy);
        Self { limits, entries: Kept::default(), events: Kept::default() }
    }

    /// What a VMCB12 breaks, as far as lines show it.
    pub(crate) fn entry(&mut self, entry: &Entry) -> Broken {
        if let Some(&broken) = self.entries.get(entry) {
            return broken;
        }
        let mut page = KnownPage::nothing();
        for (value, (_, offset, size, mask)) in entry.iter().zip(SHOWN) {
            if let Some(value) = *value {
                page.learn(offset, size, value, mask);
            }
        }
        let environment = Environment::real_host();
        let verdict = View::new(&page, Phase::Before, &self.limits, &environment).judge();
        let broken = Broken { refusing: verdict.broken(), unstated: verdict.unstated() };
        if self.entries.len() >= MOST {
            self.entries.clear();
        }
        self.entries.insert(*entry, broken);
        broken
    }

    /// Whether EVENTINJ may hold this in a guest without SEV, whose mode is unknown: decided where both modes agree.
    pub(crate) fn event(&mut self, word: u32) -> (Decision, Broken) {
        if let Some(&known) = self.events.get(&word) {
            return known;
        }
        let event = Event::from_bits(word.into());
        let [one, other] =
            [GuestMode::OTHER, GuestMode::BITS_64].map(|mode| check_event(event, mode, &self.limits));
        let decision = match (one.decision(), other.decision()) {
            (one, other) if one == other => one,
            _ => Decision::Undecided,
        };
        let broken = Broken {
            refusing: one.broken().intersection(other.broken()),
            unstated: one.unstated().intersection(other.unstated()),
        };
        if self.events.len() >= MOST {
            self.events.clear();
        }
        self.events.insert(word, (decision, broken));
        (decision, broken)
    }

    /// What a dumped VMCB breaks, and whether that is all decided.
    pub(crate) fn dump(&self, found: &Found) -> (Decision, Broken) {
        let vmsa = found.vmsa.as_deref().map_or(Vmsa::Unknown, Vmsa::Known);
        let environment = Environment::real_host().with_vmsa(vmsa);
        let verdict = View::new(&found.vmcb, found.phase, &self.limits, &environment).judge();
        (verdict.decision(), Broken { refusing: verdict.broken(), unstated: verdict.unstated() })
    }
}
