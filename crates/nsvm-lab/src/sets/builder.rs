//! Puts cases into a set.

use crate::case::{Base, Case, Set};
use crate::protocol::memory;
use std::collections::BTreeMap;
use vmcb::layout::{Field, PAGE_SIZE};

/// A write to a VMCB: offset and size in bytes, and the value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write {
    pub(super) offset: u16,
    pub(super) size: u16,
    pub(super) value: u64,
}

impl Write {
    pub(super) fn field(field: Field, value: u64) -> Self {
        Self { offset: field.offset, size: field.size, value }
    }

    /// The bytes and their offsets, lowest first.
    pub(super) fn bytes(self) -> impl Iterator<Item = (u16, u8)> {
        (self.offset..self.offset + self.size).zip(self.value.to_le_bytes())
    }
}

/// A set that grows.
pub(super) struct Builder {
    set: Set,
    index: BTreeMap<String, usize>,
}

impl Builder {
    pub(super) fn new(bases: Vec<Base>) -> Self {
        let index = bases.iter().enumerate().map(|(index, base)| (base.name.clone(), index)).collect();
        Self { set: Set { name: String::new(), bases, cases: Vec::new() }, index }
    }

    pub(super) fn bases(&self) -> &[Base] {
        &self.set.bases
    }

    /// The position of the base of this name.
    pub(super) fn find(&self, base: &str) -> Option<usize> {
        self.index.get(base).copied()
    }

    /// The bases of these names, with their positions. A name that is none is left out: a test holds the lists of
    /// names against the rows.
    pub(super) fn named(&self, names: &[&str]) -> Vec<(usize, String)> {
        names.iter().filter_map(|name| Some((self.find(name)?, (*name).to_owned()))).collect()
    }

    /// Adds the base with these writes; later ones count for more.
    pub(super) fn add(&mut self, id: String, base: usize, writes: &[Write]) -> &mut Case {
        let differences = differences(&self.set.bases[base].page, writes);
        self.push(Case { differences, ..plain(id, base) })
    }

    pub(super) fn push(&mut self, case: Case) -> &mut Case {
        self.set.cases.push(case);
        let last = self.set.cases.len() - 1;
        &mut self.set.cases[last]
    }

    pub(super) fn finish(mut self, name: &str) -> Set {
        name.clone_into(&mut self.set.name);
        self.set
    }
}

/// The base as it is.
pub(super) fn plain(id: String, base: usize) -> Case {
    Case {
        id,
        base,
        differences: Vec::new(),
        rax: memory::VMCB,
        flags: 0,
        tables: None,
        cannot_run: None,
        meaningless: None,
    }
}

/// The bytes that the writes change, in ascending runs.
pub(super) fn differences(base: &[u8; PAGE_SIZE], writes: &[Write]) -> Vec<(u16, Vec<u8>)> {
    let bytes: BTreeMap<_, _> = writes.iter().flat_map(|write| write.bytes()).collect();
    let mut runs: Vec<(u16, Vec<u8>)> = Vec::new();
    for (offset, byte) in bytes {
        if base.get(usize::from(offset)).is_none_or(|&old| old == byte) {
            continue;
        }
        match runs.last_mut() {
            Some((start, run)) if usize::from(*start) + run.len() == usize::from(offset) => run.push(byte),
            _ => runs.push((offset, vec![byte])),
        }
    }
    runs
}
