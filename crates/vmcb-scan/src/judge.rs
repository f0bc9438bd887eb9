//! Verdicts, each made once: few different words occur in a trace.

use crate::options::Options;
use crate::vcpu::KeyHasher;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::LazyLock;
use vmcb::layout::vmcb_field as f;
use vmcb::{
    Decision, Environment, Event, GuestMode, KnownPage, Limits, Phase, Rule, RuleSet, View, Vmsa, check_event,
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

/// What lines show of one VMCB12, in the order of [`SHOWN`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Entry([Option<u64>; SHOWN.len()]);

impl Entry {
    /// Takes over what `arguments` show.
    pub(crate) fn learn(&mut self, arguments: &Arguments) {
        for (value, (slot, ..)) in self.0.iter_mut().zip(SHOWN) {
            *value = value.or(arguments.get(slot));
        }
    }

    /// EVENTINJ, its low 32 bits.
    pub(crate) fn event(&self) -> Option<u32> {
        self.shown(Slot::EventInj).map(|word| word as u32)
    }

    fn shown(&self, wanted: Slot) -> Option<u64> {
        self.0.iter().zip(SHOWN).find(|(_, (slot, ..))| *slot == wanted).and_then(|(value, _)| *value)
    }

    /// What is shown of some of the fields.
    fn only(&self, group: Group) -> Self {
        let mut some = *self;
        for (value, taken) in some.0.iter_mut().zip(group) {
            *value = value.filter(|_| taken);
        }
        some
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

impl Hash for Entry {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Two that show the same values of other fields are rare.
        self.0.iter().flatten().for_each(|value| state.write_u64(*value));
    }
}

/// Fields of [`SHOWN`].
type Group = [bool; SHOWN.len()];

/// The fields of which no rule reads one with one of another group: what a VMCB12 breaks is what its groups break,
/// each alone. Many more VMCB12s than values of one group are shown.
static GROUPS: LazyLock<Vec<Group>> = LazyLock::new(|| {
    let mut groups: Vec<Group> =
        (0..SHOWN.len()).map(|one| std::array::from_fn(|index| index == one)).collect();
    for rule in Rule::ALL {
        let mut read = [false; SHOWN.len()];
        for (word, mask) in rule.reads() {
            let Some(field) = word.field(false) else { continue };
            for (read, (_, offset, size, shown)) in read.iter_mut().zip(SHOWN) {
                let at = offset.checked_sub(field.offset).filter(|&at| at < field.size);
                let bits = at.map_or(0, |at| (shown & u64::MAX >> (64 - size * 8)) << (at * 8));
                *read |= bits & mask != 0;
            }
        }
        let overlaps = |group: &mut Group| group.iter().zip(read).any(|(&one, other)| one && other);
        let joined = groups.extract_if(.., overlaps).reduce(|one, other| {
            std::array::from_fn(|index| {
                one.get(index).copied().unwrap_or(false) || other.get(index).copied().unwrap_or(false)
            })
        });
        groups.extend(joined);
    }
    groups
});

/// The rules that are broken, and those that are required and not met.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Broken {
    pub(crate) refusing: RuleSet,
    pub(crate) unstated: RuleSet,
}

impl Broken {
    /// What either breaks.
    pub(crate) fn and(self, other: Self) -> Self {
        let refusing = self.refusing.union(other.refusing);
        Self { refusing, unstated: self.unstated.union(other.unstated).difference(refusing) }
    }
}

type Kept<K, V> = HashMap<K, V, BuildHasherDefault<KeyHasher>>;

#[derive(Debug)]
pub(crate) struct Judge {
    limits: Limits,
    /// Those of which all is judged, and those of which one group is.
    entries: Kept<Entry, Broken>,
    parts: Kept<Entry, Broken>,
    events: Kept<u32, (Decision, Broken)>,
}

impl Judge {
    pub(crate) fn new(options: &Options) -> Self {
        let limits = Limits::compile(&options.cpu, options.policy);
        let (entries, parts, events) = Default::default();
        Self { limits, entries, parts, events }
    }

    /// What a VMCB12 breaks, as far as lines show it.
    pub(crate) fn entry(&mut self, entry: &Entry) -> Broken {
        if let Some(&broken) = self.entries.get(entry) {
            return broken;
        }
        let mut broken = Broken::default();
        for &group in GROUPS.iter() {
            let part = entry.only(group);
            if part.is_empty() {
                continue;
            }
            broken = broken.and(match self.parts.get(&part) {
                Some(&known) => known,
                None => *kept(&mut self.parts).entry(part).or_insert(judge(&part, &self.limits)),
            });
        }
        kept(&mut self.entries).insert(*entry, broken);
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
        kept(&mut self.events).insert(word, (decision, broken));
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

/// Verdicts of which one more is to be kept.
fn kept<K, V>(kept: &mut Kept<K, V>) -> &mut Kept<K, V> {
    if kept.len() >= MOST {
        kept.clear();
    }
    kept
}

/// What fields break of which the others are not known.
fn judge(entry: &Entry, limits: &Limits) -> Broken {
    let mut page = KnownPage::nothing();
    for (value, (_, offset, size, mask)) in entry.0.iter().zip(SHOWN) {
        if let Some(value) = *value {
            page.learn(offset, size, value, mask);
        }
    }
    let environment = Environment::real_host();
    let verdict = View::new(&page, Phase::Before, limits, &environment).judge();
    Broken { refusing: verdict.broken(), unstated: verdict.unstated() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmcb::{Cpu, Policy};

    #[test]
    fn groups_are_judged_each_alone() {
        assert!(GROUPS.len() > 4, "{:?}", *GROUPS);
        for index in 0..SHOWN.len() {
            assert_eq!(GROUPS.iter().filter(|group| group[index]).count(), 1);
        }
        let mut random = 0x2545_F491_4F6C_DD1D_u64;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let mut broken = 0;
        for (cpu, policy) in
            [(Cpu::ANY, Policy::VirtualCpu), (Cpu::model("EPYC-v1").unwrap(), Policy::FixedVectors)]
        {
            let mut kept = Judge::new(&Options { cpu, policy, ..Options::default() });
            for _ in 0..2000 {
                let entry = Entry(SHOWN.map(|(_, _, size, mask)| {
                    let value = next() & u64::MAX >> (64 - size * 8) & mask;
                    let sparse = value & next() & next();
                    [None, Some(0), Some(value), Some(sparse)][next() as usize % 4]
                }));
                let whole = judge(&entry, &kept.limits);
                assert_eq!(kept.entry(&entry), whole, "{entry:?}");
                broken += usize::from(whole != Broken::default());
            }
        }
        assert!(broken > 100, "{broken}");
    }
}
