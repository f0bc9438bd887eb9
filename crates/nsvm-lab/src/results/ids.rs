//! Ids of cases: families, events, and short lists.

use super::numbers::{Base, canonical, ranges};
use std::collections::{BTreeMap, BTreeSet};

/// The case of an `eventinj` family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct EventCase<'a> {
    /// The base that it changes.
    pub base: &'a str,
    /// V.
    pub valid: bool,
    /// TYPE, 0 to 7.
    pub kind: u8,
    /// VECTOR.
    pub vector: u8,
    /// EV.
    pub error: bool,
}

/// Reads the id of a case of the families `eventinj.BASE#N`, N = V << 12 | TYPE << 9 | VECTOR << 1 | EV.
#[must_use]
pub fn event_of(id: &str) -> Option<EventCase<'_>> {
    let (stem, number) = split_id(id);
    let base = stem.strip_prefix("eventinj.")?;
    let number = number.filter(|&number| number < 1 << 13)?;
    Some(EventCase {
        base,
        valid: number >> 12 != 0,
        kind: (number >> 9) as u8 & 7,
        vector: (number >> 1) as u8,
        error: number & 1 != 0,
    })
}

/// The set of events that cases inject, as lines: `TYPE 3: vectors 9, 15, 20-27`.
///
/// A line says which V (if it is 0), which EV (if not both) and which base (if not all) it is about.
#[must_use]
pub fn events<'a>(ids: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    // V = 0, which EV, and the vectors.
    type EventGroup = (bool, &'static str, BTreeSet<u32>);
    type Plane = BTreeMap<(bool, u8), [BTreeSet<u32>; 2]>;
    let mut bases: BTreeMap<&str, Plane> = BTreeMap::new();
    for event in ids.into_iter().filter_map(event_of) {
        let plane = bases.entry(event.base).or_default();
        plane.entry((!event.valid, event.kind)).or_default()[usize::from(event.error)]
            .insert(event.vector.into());
    }
    let mut planes: BTreeMap<Plane, Vec<&str>> = BTreeMap::new();
    for (base, plane) in bases {
        planes.entry(plane).or_default().push(base);
    }
    let mut lines = Vec::new();
    let several = planes.len() > 1;
    for (plane, bases) in planes {
        let bases = if several { format!(" ({})", bases.join(", ")) } else { String::new() };
        // TYPEs with the same vectors share a line, which stands where the first of them would.
        let mut groups: Vec<(EventGroup, Vec<u32>)> = Vec::new();
        for ((no_event, kind), [without, with]) in plane {
            let both: BTreeSet<u32> = without.intersection(&with).copied().collect();
            let only = |one: &BTreeSet<u32>| one.difference(&both).copied().collect::<BTreeSet<u32>>();
            for (mark, set) in
                [("", both.clone()), (" EV 0 only", only(&without)), (" EV 1 only", only(&with))]
            {
                if set.is_empty() {
                    continue;
                }
                let group = (no_event, mark, set);
                match groups.iter_mut().find(|(known, _)| *known == group) {
                    Some((_, kinds)) => kinds.push(kind.into()),
                    None => groups.push((group, vec![kind.into()])),
                }
            }
        }
        for ((no_event, mark, set), kinds) in groups {
            let v = if no_event { "V 0 " } else { "" };
            let kinds = ranges(kinds, Base::Decimal, ", ");
            let word = if set.len() == 1 { "vector" } else { "vectors" };
            let vectors = ranges(set, Base::Decimal, ", ");
            lines.push(format!("{v}TYPE {kinds}{mark}: {word} {vectors}{bases}"));
        }
    }
    lines
}

/// The stem of an id, and its number if it is a member of a numbered family.
#[must_use]
pub fn split_id(id: &str) -> (&str, Option<u32>) {
    match id.split_once('#').map(|(stem, digits)| (stem, canonical(digits))) {
        Some((stem, number @ Some(_))) => (stem, number),
        _ => (id, None),
    }
}

/// Ids in few words: a string for each numbered family, `STEM#0-1f,22`, and one for all other ids that begin with
/// the same word, `legal.long64,legal.pae`.
#[must_use]
pub fn compress<'a>(ids: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut families: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    let mut others: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for id in ids {
        match split_id(id) {
            (stem, Some(number)) => families.entry(stem).or_default().insert(number),
            (id, None) => others.entry(id.split('.').next().unwrap_or(id)).or_default().insert(id),
        };
    }
    let families =
        families.into_iter().map(|(stem, numbers)| format!("{stem}#{}", ranges(numbers, Base::Hex, ",")));
    let others = others.into_values().map(|ids| ids.into_iter().collect::<Vec<_>>().join(","));
    let mut all: Vec<String> = families.chain(others).collect();
    all.sort();
    all
}
