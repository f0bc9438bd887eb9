//! Merges the results of parts of one run.

use super::error::{Contradiction, Error};
use super::section::{Head, Key, Results, Section};
use crate::outcome::Outcome;
use std::collections::{BTreeMap, BTreeSet};
use vmcb::CpuidEntry;

/// Merges parts, each with the name that errors give it.
///
/// Sections of the same subject, version, stack below, CPU and set become one: shards become the whole set, or
/// what there is of it (see [`Section::missing`]). The order of the parts does not matter.
///
/// # Errors
/// Two parts that contradict each other.
pub fn merge(parts: impl IntoIterator<Item = (String, Results)>) -> Result<Results, Error> {
    let mut groups: BTreeMap<Key, Vec<(String, Section)>> = BTreeMap::new();
    for (file, results) in parts {
        for section in results.sections {
            groups.entry(section.head.key()).or_default().push((file.clone(), section));
        }
    }
    let mut sections = Vec::new();
    for mut group in groups.into_values() {
        // The first of several contradictions is the same in whatever order the files came.
        group.sort_by(|(a, _), (b, _)| a.cmp(b));
        sections.push(merge_group(group)?);
    }
    Ok(Results { sections })
}

fn merge_group(group: Vec<(String, Section)>) -> Result<Section, Error> {
    let mut outcomes: BTreeMap<String, (Outcome, String)> = BTreeMap::new();
    let mut merged: Option<(String, Head)> = None;
    for (file, Section { head, outcomes: more }) in group {
        let (first_file, into) = merged.get_or_insert_with(|| (file.clone(), head.clone()));
        into.absorb(first_file, &head, &file)?;
        for (case, outcome) in more {
            match outcomes.get(&case) {
                Some((known, _)) if *known == outcome => {}
                Some((known, known_file)) => {
                    return Err(Error::Contradiction(Box::new(Contradiction {
                        subject: head.label(),
                        what: format!("case {case}"),
                        first: known.to_string(),
                        first_file: known_file.clone(),
                        second: outcome.to_string(),
                        second_file: file,
                    })));
                }
                None => {
                    outcomes.insert(case, (outcome, file.clone()));
                }
            }
        }
    }
    let mut head = merged.map(|(_, head)| head).unwrap_or_default();
    if head.shard.as_ref().is_some_and(|shards| (1..=shards.of).all(|n| shards.have.contains(&n))) {
        head.shard = None;
    }
    let outcomes = outcomes.into_iter().map(|(case, (outcome, _))| (case, outcome)).collect();
    Ok(Section { head, outcomes })
}

impl Head {
    /// Takes over what another part of the same run says. It is also asked of the first part itself, so that
    /// a single one comes out in the same order as several.
    fn absorb(&mut self, file: &str, other: &Self, other_file: &str) -> Result<(), Error> {
        let differ = |what: &str, first: String, second: String| {
            Err(Error::Contradiction(Box::new(Contradiction {
                subject: other.label(),
                what: what.to_owned(),
                first,
                first_file: file.to_owned(),
                second,
                second_file: other_file.to_owned(),
            })))
        };
        if self.cases != other.cases {
            return differ("number of cases", self.cases.to_string(), other.cases.to_string());
        }
        let by_leaf = |head: &Self| {
            let mut table = head.cpuid.clone();
            table.sort_by_key(|e| (e.leaf, e.subleaf, e.eax, e.ebx, e.ecx, e.edx));
            table.dedup();
            table
        };
        let (mine, theirs) = (by_leaf(self), by_leaf(other));
        // A part in which nothing started knows no CPUID.
        if !mine.is_empty() && !theirs.is_empty() && mine != theirs {
            let odd = |one: &[CpuidEntry], two: &[CpuidEntry]| match one.iter().find(|e| !two.contains(e)) {
                Some(e) => {
                    format!("{:x} {:x} {:x} {:x} {:x} {:x}", e.leaf, e.subleaf, e.eax, e.ebx, e.ecx, e.edx)
                }
                None => "nothing more".to_owned(),
            };
            return differ("CPUID", odd(&mine, &theirs), odd(&theirs, &mine));
        }
        self.cpuid = if mine.is_empty() { theirs } else { mine };
        let by_number = |head: &Self| head.msrs.iter().copied().collect::<BTreeSet<_>>();
        let (mine, theirs) = (by_number(self), by_number(other));
        if !mine.is_empty() && !theirs.is_empty() && mine != theirs {
            let odd =
                |one: &BTreeSet<(u32, u64)>, two: &BTreeSet<(u32, u64)>| match one.difference(two).next() {
                    Some((msr, value)) => format!("{msr:x} {value:x}"),
                    None => "nothing more".to_owned(),
                };
            return differ("MSRs", odd(&mine, &theirs), odd(&theirs, &mine));
        }
        self.msrs = mine.union(&theirs).copied().collect();
        let notes: BTreeSet<_> = self.notes.drain(..).chain(other.notes.iter().cloned()).collect();
        self.notes = notes.into_iter().collect();
        if other.date > self.date {
            self.date.clone_from(&other.date);
        }
        self.shard = match (self.shard.take(), &other.shard) {
            (Some(mut mine), Some(theirs)) if mine.of == theirs.of => {
                mine.have.extend(&theirs.have);
                Some(mine)
            }
            _ => None,
        };
        Ok(())
    }
}
