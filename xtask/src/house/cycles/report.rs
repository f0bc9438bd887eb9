//! Groups uses by siblings, finds the cycles, and describes them.

use super::model::{Crate, ModuleId};
use super::uses::Use;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Number of uses that a description shows per pair of modules.
const SHOWN: usize = 5;

type Edges<'u> = BTreeMap<(ModuleId, ModuleId), Vec<&'u Use>>;

/// Returns a description of each cycle, with the uses that make it.
pub(super) fn describe(krate: &Crate, uses: &[Use]) -> Vec<String> {
    let mut levels: BTreeMap<ModuleId, Edges<'_>> = BTreeMap::new();
    for one in uses {
        if let Some((parent, from, to)) = siblings(krate, one.user, one.owner) {
            levels.entry(parent).or_default().entry((from, to)).or_default().push(one);
        }
    }
    levels.values().flat_map(|edges| level(krate, edges)).collect()
}

/// Returns the two children of the closest common ancestor that contain the modules; nothing if one of them is inside
/// the other.
fn siblings(krate: &Crate, user: ModuleId, owner: ModuleId) -> Option<(ModuleId, ModuleId, ModuleId)> {
    let chain = |id: ModuleId| {
        let mut chain = vec![id];
        while let Some(parent) = krate.modules[*chain.last()?].parent {
            chain.push(parent);
        }
        chain.reverse();
        Some(chain)
    };
    let (user, owner) = (chain(user)?, chain(owner)?);
    let common = user.iter().zip(&owner).take_while(|(left, right)| left == right).count();
    Some((user[common - 1], *user.get(common)?, *owner.get(common)?))
}

fn level(krate: &Crate, edges: &Edges<'_>) -> Vec<String> {
    let nodes: BTreeSet<_> = edges.keys().flat_map(|(from, to)| [*from, *to]).collect();
    let mut reaches: BTreeMap<ModuleId, BTreeSet<ModuleId>> = BTreeMap::new();
    for node in &nodes {
        let mut reached = BTreeSet::new();
        let mut open = vec![*node];
        while let Some(next) = open.pop() {
            open.extend(
                edges
                    .keys()
                    .filter(|(from, _)| *from == next)
                    .map(|(_, to)| *to)
                    .filter(|to| reached.insert(*to)),
            );
        }
        reaches.insert(*node, reached);
    }
    let mut done = BTreeSet::new();
    let mut found = Vec::new();
    for node in &nodes {
        let together: BTreeSet<_> =
            reaches[node].iter().copied().filter(|other| reaches[other].contains(node)).collect();
        if together.is_empty() || done.contains(node) {
            continue;
        }
        done.extend(together.iter().copied());
        found.push(cycle(krate, edges, &together));
    }
    found
}

fn cycle(krate: &Crate, edges: &Edges<'_>, together: &BTreeSet<ModuleId>) -> String {
    let name = |id: ModuleId| krate.modules[id].path.join("::");
    let names: Vec<_> = together.iter().map(|id| name(*id)).collect();
    let mut text = format!("{}: modules use each other: {}", krate.name, names.join(", "));
    for ((from, to), uses) in edges {
        if !together.contains(from) || !together.contains(to) {
            continue;
        }
        let _ = write!(text, "\n    {} uses {} in {} places", name(*from), name(*to), uses.len());
        for one in uses.iter().take(SHOWN) {
            let _ = write!(text, "\n        {}:{}: `{}`", one.file.display(), one.line, one.item);
        }
    }
    text
}
