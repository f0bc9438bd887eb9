//! The fields that a rule reads, and where they stand in the input.

use super::case::Case;
use crate::bits;
use crate::record::{At, Field, Mark};
use vmcb::layout::{Field as Layout, Page, vmcb_field};
use vmcb::{Rule, Word};
use vmcb_dump::Place;

impl Case<'_> {
    /// The fields that a rule reads and that are known, each with its place.
    pub(super) fn fields(&self, rule: Rule) -> Vec<Field> {
        let mut words: Vec<(Word, u64)> = Vec::new();
        let mut primary: Vec<Word> = Vec::new();
        for literal in rule.row().when {
            let mut read: Vec<Word> = Vec::new();
            for (word, mask) in literal.reads() {
                if matches!(word, Word::Cpu | Word::Mode) {
                    continue;
                }
                read.push(word);
                match words.iter_mut().find(|(known, _)| *known == word) {
                    Some((_, all)) => *all |= mask,
                    None => words.push((word, mask)),
                }
            }
            if !read.is_empty() {
                primary = read;
            }
        }
        // What is injected is what the rules on events are about, whatever else they read.
        if words.iter().any(|(word, _)| *word == Word::EventInj) {
            primary = vec![Word::EventInj];
        }
        words
            .into_iter()
            .filter(|&(word, mask)| self.view.word(word).known_mask() & mask != 0)
            .map(|(word, mask)| self.field(rule, word, mask, primary.contains(&word)))
            .collect()
    }

    pub(super) fn field(&self, rule: Rule, word: Word, mask: u64, primary: bool) -> Field {
        let known = self.view.word(word);
        let mask = mask & known.known_mask();
        let layout = self.view.field(word);
        let culprits = self.culprits(rule, word, mask);
        let name = match layout {
            Some(field) if word == Word::EventInj && field == vmcb_field::exitintinfo => "EXITINTINFO",
            _ => word.name(),
        };
        let decoded = match word {
            Word::Host => bits_of_host(known.value(), mask),
            _ if culprits != 0 => self.culprits_text(rule, word, culprits),
            _ => bits::describe(word, known.value(), mask),
        };
        let width = layout.map_or(8, |field| usize::from(field.size.min(8)));
        let value = known.value() & width_mask(width);
        let mark = layout.and_then(|field| self.mark(field, name, value, mask));
        Field {
            name: name.into(),
            page: match layout.map(|field| field.page) {
                Some(Page::Vmcb) => "vmcb",
                Some(Page::Vmsa) => "vmsa",
                None => "host",
            },
            offset: layout.map(|field| format!("{:#05x}", field.offset)),
            value: hex(value),
            known: hex(known.known_mask() & width_mask(width)),
            mask: hex(mask & width_mask(width)),
            decoded,
            primary,
            place: mark.as_ref().map(|mark| self.place_of(mark)),
            mark,
        }
    }

    pub(super) fn place_of(&self, mark: &Mark) -> At {
        match mark {
            Mark::Text { line, columns, .. } => {
                self.at(&Place::Text { line: *line, columns: columns.clone() })
            }
            Mark::Page { file, file_offset, .. } => At::Byte { file: file.clone(), offset: *file_offset },
        }
    }

    /// Where the lowest of these bits of a field stands in the input.
    pub(super) fn mark(&self, field: Layout, name: &str, value: u64, bits: u64) -> Option<Mark> {
        let byte = field.offset + (bits.trailing_zeros() / 8) as u16;
        let width = usize::from(field.size.min(8)) * 2;
        let page = |file: &str, file_offset: u64| Mark::Page {
            file: file.to_owned(),
            file_offset,
            offset: field.offset,
            name: name.to_owned(),
            value: format!("{value:0width$x}"),
        };
        if let Some(seen) = self.found.seen_at(field.page, byte) {
            return Some(match &seen.place {
                Place::Text { line, columns } => {
                    Mark::Text { file: self.file.to_owned(), line: *line, columns: columns.clone() }
                }
                Place::Byte { offset } => {
                    page(self.file, (offset + u64::from(field.offset)).saturating_sub(seen.offset.into()))
                }
            });
        }
        // A page that was given apart.
        let (file, _) = self.question.vmsa.as_ref()?;
        (field.page == Page::Vmsa && self.found.vmsa.is_none()).then(|| page(file, field.offset.into()))
    }
}

fn bits_of_host(value: u64, mask: u64) -> String {
    let facts = Word::Host.bit_names().iter().filter(|(bit, ..)| mask >> bit & 1 == 1);
    let facts = facts
        .map(|(bit, _, meaning)| format!("{meaning}: {}", if value >> bit & 1 == 1 { "yes" } else { "no" }));
    facts.collect::<Vec<_>>().join(", ")
}

pub(super) fn hex(value: u64) -> String {
    format!("{value:#x}")
}

pub(super) fn width_mask(bytes: usize) -> u64 {
    if bytes >= 8 { u64::MAX } else { (1 << (bytes * 8)) - 1 }
}
