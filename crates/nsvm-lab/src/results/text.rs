//! Reads and writes the text.

use super::error::Error;
use super::ids::compress;
use super::numbers::{canonical, clean, decimal, excerpt, hex, numbers};
use super::section::{Head, Results, Section, Shards};
use crate::outcome::Outcome;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use vmcb::CpuidEntry;

/// Version of the text.
pub const VERSION: u32 = 1;
/// A file tells of no more cases than this: a range of a few bytes names any number of them.
pub const MAX_CASES: usize = 1 << 20;
/// Nor do the outcomes of one file need more memory than this, in bytes, ids and tokens counted for each case.
const MAX_BYTES: usize = 1 << 28;

impl Results {
    /// Reads the text; `file` names it in errors.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line. Memory is bounded by [`MAX_CASES`] whatever the text says.
    pub fn parse(file: &str, text: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::default();
        let mut lines = 0;
        for line in text.split(|&byte| byte == b'\n') {
            lines += 1;
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let read = match std::str::from_utf8(line) {
                Ok(line) => reader.line(line),
                Err(error) => Err(format!("byte {} of the line is not UTF-8", error.valid_up_to() + 1)),
            };
            read.map_err(|what| Error::Text { file: file.to_owned(), line: lines, what })?;
        }
        reader.finish().map_err(|what| Error::Text { file: file.to_owned(), line: lines, what })
    }

    /// The text. Control characters in words of others (a dying machine's last ones) become spaces.
    ///
    /// # Errors
    /// What could not be read back: an id with a blank or a comma, a number in another form than `#1f`, a head
    /// without a date, more outcomes than the head has cases.
    pub fn to_text(&self) -> Result<String, Error> {
        let text = self.render();
        Self::parse("results to be written", text.as_bytes())?;
        Ok(text)
    }

    fn render(&self) -> String {
        let mut text = format!("nsvm-results {VERSION}\n");
        for section in &self.sections {
            text.push('\n');
            section.head.render(&mut text);
            text.push('\n');
            let mut tokens: BTreeMap<String, Vec<&str>> = BTreeMap::new();
            for (id, outcome) in &section.outcomes {
                tokens.entry(clean(&outcome.to_string())).or_default().push(id);
            }
            for (token, ids) in tokens {
                for group in compress(ids) {
                    let _ = writeln!(text, "{token}\t{group}");
                }
            }
        }
        let cases: usize = self.sections.iter().map(|section| section.outcomes.len()).sum();
        let _ = writeln!(text, "end {}-{cases}", self.sections.len());
        text
    }
}

impl Head {
    fn render(&self, text: &mut String) {
        let mut line = |name: &str, value: &str| {
            let value = clean(value);
            let _ = writeln!(text, "{name}: {}", value.trim());
        };
        line("subject", &self.subject);
        line("version", &self.version);
        if let Some(below) = &self.below {
            line("below", below);
        }
        line("cpu", &self.cpu);
        line("date", &self.date);
        line("set", &self.set);
        line("cases", &self.cases.to_string());
        if let Some(shards) = &self.shard {
            line("shard", &shards.to_string());
        }
        for CpuidEntry { leaf, subleaf, eax, ebx, ecx, edx } in &self.cpuid {
            line("cpuid", &format!("{leaf:x} {subleaf:x} {eax:x} {ebx:x} {ecx:x} {edx:x}"));
        }
        for (msr, value) in &self.msrs {
            line("msr", &format!("{msr:x} {value:x}"));
        }
        for note in &self.notes {
            line("note", note);
        }
    }
}

/// Reads line after line.
#[derive(Default)]
struct Reader {
    started: bool,
    ended: bool,
    sections: Vec<Section>,
    /// Names of the head's lines that were seen; `None` before the first section.
    fields: Option<BTreeSet<&'static str>>,
    cases: usize,
    bytes: usize,
}

/// The head's lines: the name, whether it must be there, whether it may be there more than once.
const FIELDS: [(&str, bool, bool); 11] = [
    ("subject", true, false),
    ("version", true, false),
    ("below", false, false),
    ("cpu", true, false),
    ("date", true, false),
    ("set", true, false),
    ("cases", true, false),
    ("shard", false, false),
    ("cpuid", false, true),
    ("msr", false, true),
    ("note", false, true),
];

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if !self.started {
            let version = line
                .strip_prefix("nsvm-results ")
                .ok_or("this is no file of results: it does not begin with `nsvm-results`")?;
            if version != VERSION.to_string() {
                return Err(format!(
                    "version {} of the format; this nsvm reads version {VERSION}",
                    excerpt(version)
                ));
            }
            self.started = true;
            return Ok(());
        }
        if line.is_empty() {
            return Ok(());
        }
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err("there is a control character in the line".to_owned());
        }
        if self.ended {
            return Err("the file goes on after its `end` line".to_owned());
        }
        if let Some((token, ids)) = line.split_once('\t') {
            self.outcomes(token, ids)
        } else if let Some((name, value)) = line.split_once(':') {
            self.field(name, value.trim())
        } else if let Some(counts) = line.strip_prefix("end ") {
            self.head_is_whole()?;
            let is = format!("{}-{}", self.sections.len(), self.cases);
            if counts != is {
                return Err(format!("the file has {is} sections and cases, not {}", excerpt(counts)));
            }
            self.ended = true;
            Ok(())
        } else {
            Err(format!("`{}` is neither `name: value` nor `outcome<tab>ids`", excerpt(line)))
        }
    }

    fn field(&mut self, name: &str, value: &str) -> Result<(), String> {
        let &(name, _, many) = FIELDS
            .iter()
            .find(|(known, ..)| *known == name)
            .ok_or_else(|| format!("no line of a head is called `{}`", excerpt(name)))?;
        if name == "subject" {
            self.head_is_whole()?;
            self.sections.push(Section::default());
            self.fields = Some(BTreeSet::new());
        }
        let (Some(fields), Some(section)) = (&mut self.fields, self.sections.last_mut()) else {
            return Err("a section begins with its `subject:`".to_owned());
        };
        if !section.outcomes.is_empty() {
            return Err(format!("`{name}:` stands below outcomes; a section begins with its `subject:`"));
        }
        if !fields.insert(name) && !many {
            return Err(format!("`{name}:` is there twice"));
        }
        let head = &mut section.head;
        let text =
            || if value.is_empty() { Err(format!("`{name}:` is empty")) } else { Ok(value.to_owned()) };
        match name {
            "subject" => head.subject = text()?,
            "version" => head.version = text()?,
            "below" => head.below = Some(text()?),
            "cpu" => head.cpu = text()?,
            "set" => head.set = text()?,
            "note" => head.notes.push(text()?),
            "date" => {
                // Compared as text when merged: the later one stays.
                let day = value.as_bytes().get(..10).is_some_and(|day| {
                    day.iter().enumerate().all(|(at, byte)| match at {
                        4 | 7 => *byte == b'-',
                        _ => byte.is_ascii_digit(),
                    })
                });
                if !day {
                    return Err(format!("`{}` is no date of the form 2026-11-22", excerpt(value)));
                }
                head.date = text()?;
            }
            "cases" => {
                let number = decimal(value).and_then(|number| usize::try_from(number).ok());
                head.cases = number.filter(|&number| number <= MAX_CASES).ok_or_else(|| {
                    format!("`{}` is no number of cases; there are at most {MAX_CASES}", excerpt(value))
                })?;
            }
            "shard" => {
                let shards = Shards::parse(value);
                head.shard =
                    Some(shards.ok_or_else(|| {
                        format!("`{}` is no shard of the form 1/4 or 1-2,4/8", excerpt(value))
                    })?);
            }
            "cpuid" => {
                let [leaf, subleaf, eax, ebx, ecx, edx] = numbers(value).ok_or_else(|| {
                    format!("`{}` is not six numbers of 32 bits, in hexadecimal", excerpt(value))
                })?;
                head.cpuid.push(CpuidEntry { leaf, subleaf, eax, ebx, ecx, edx });
            }
            _ => {
                let wrong = || format!("`{}` is no MSR and its value, in hexadecimal", excerpt(value));
                let (msr, value) = value.split_once(' ').ok_or_else(wrong)?;
                let msr = hex(msr).and_then(|msr| u32::try_from(msr).ok()).ok_or_else(wrong)?;
                head.msrs.push((msr, hex(value).ok_or_else(wrong)?));
            }
        }
        Ok(())
    }

    fn head_is_whole(&self) -> Result<(), String> {
        let Some(fields) = &self.fields else { return Ok(()) };
        match FIELDS.iter().find(|(name, must, _)| *must && !fields.contains(name)) {
            Some((name, ..)) => Err(format!("the head of the section above has no `{name}:`")),
            None => Ok(()),
        }
    }

    fn outcomes(&mut self, token: &str, ids: &str) -> Result<(), String> {
        self.head_is_whole()?;
        let outcome: Outcome = token.parse().map_err(|_| format!("`{}` is no outcome", excerpt(token)))?;
        let Some((stem, numbers)) = ids.split_once('#') else {
            return ids.split(',').try_for_each(|id| {
                self.has_room(1, id.len() + token.len())?;
                self.insert(id.to_owned(), &outcome, token)
            });
        };
        for part in numbers.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |digits: &str| {
                canonical(digits).ok_or_else(|| {
                    format!(
                        "`{}` is no number of a case: lower hexadecimal, no zero in front, 32 bits",
                        excerpt(digits)
                    )
                })
            };
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(format!("the range {part} runs backwards"));
            }
            let count = usize::try_from(last - first).map_or(usize::MAX, |more| more.saturating_add(1));
            self.has_room(count, stem.len() + 9 + token.len())?;
            for number in first..=last {
                self.insert(format!("{stem}#{number:x}"), &outcome, token)?;
            }
        }
        Ok(())
    }

    /// Checks the limits before memory for `count` cases of `size` bytes each is allocated.
    fn has_room(&self, count: usize, size: usize) -> Result<(), String> {
        let section = self.sections.last().ok_or("a section begins with its `subject:`")?;
        let cases = section.head.cases;
        if count > cases.saturating_sub(section.outcomes.len()) {
            return Err(format!("there are more cases than the {cases} of the head"));
        }
        let bytes = count.saturating_mul(128 + size).saturating_add(self.bytes);
        if self.cases + count > MAX_CASES || bytes > MAX_BYTES {
            return Err(format!("the file tells of too much; split it: at most {MAX_CASES} cases"));
        }
        Ok(())
    }

    fn insert(&mut self, id: String, outcome: &Outcome, token: &str) -> Result<(), String> {
        let section = self.sections.last_mut().ok_or("a section begins with its `subject:`")?;
        let stem = id.split('#').next().unwrap_or_default();
        if stem.is_empty() || !stem.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',') {
            return Err(format!("`{}` is no id of a case", excerpt(&id)));
        }
        self.cases += 1;
        self.bytes += 128 + id.len() + token.len();
        match section.outcomes.entry(id) {
            Entry::Vacant(free) => {
                free.insert(outcome.clone());
                Ok(())
            }
            Entry::Occupied(taken) => Err(format!("case {} is there twice", excerpt(taken.key()))),
        }
    }

    fn finish(self) -> Result<Results, String> {
        if self.ended {
            Ok(Results { sections: self.sections })
        } else {
            Err("the file is truncated: it has no `end` line".to_owned())
        }
    }
}
