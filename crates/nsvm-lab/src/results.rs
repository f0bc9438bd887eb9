//! What a run leaves behind: text that is kept in the repository, merged and compared.
//!
//! # The text
//! ```text
//! nsvm-results 1
//!
//! subject: qemu-tcg
//! version: 7.2.22
//! cpu: max
//! date: 2026-11-22
//! set: commit
//! cases: 9631
//! cpuid: 8000000a 0 1 10 0 10010001
//! msr: c0010114 8
//!
//! invalid<tab>eventinj.long64#604-605,63e-7ff
//! ran<tab>legal.long64,legal.pae
//! end 1-9631
//! ```
//!
//! `below:`, `shard:` and `note:` lines are there where they say something; `cpuid:` (leaf, subleaf, EAX, EBX, ECX,
//! EDX), `msr:` (number, value) and `note:` may be there many times. A `subject:` line begins a section. Below the
//! head stands a line for each [outcome](crate::outcome::Outcome) and stem: the token, a tab, and ids parted by
//! commas; members of a numbered family are written as ranges of hexadecimal numbers. The last line counts
//! sections and cases, so that a truncated file is noticed.

use crate::outcome::{Answer, Outcome};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use vmcb::CpuidEntry;

/// Version of the text.
pub const VERSION: u32 = 1;
/// A file tells of no more cases than this: a range of a few bytes names any number of them.
pub const MAX_CASES: usize = 1 << 20;
/// Nor do the outcomes of one file need more memory than this, in bytes, ids and tokens counted for each case.
const MAX_BYTES: usize = 1 << 28;
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

    fn parse(text: &str) -> Option<Self> {
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

/// Why results cannot be read, written or merged.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// The text is not what it should be.
    #[error("{file}:{line}: {what}")]
    Text {
        /// The file's name.
        file: String,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong, and how to mend it.
        what: String,
    },
    /// Two files contradict each other.
    #[error(transparent)]
    Contradiction(Box<Contradiction>),
}

/// Two files that cannot be parts of one run.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{subject}: {what}: `{first}` in {first_file}, `{second}` in {second_file}; \
     run one of them again, or do not merge them"
)]
pub struct Contradiction {
    /// The section's [label](Head::label).
    pub subject: String,
    /// What they tell about: `case flip.long64.cr4#17`, `CPUID`.
    pub what: String,
    /// What one file says.
    pub first: String,
    /// Its name.
    pub first_file: String,
    /// What the other file says.
    pub second: String,
    /// Its name.
    pub second_file: String,
}

/// What makes sections parts of one run.
type Key = (String, String, Option<String>, String, String);

impl Head {
    /// `kvm 6.12.48 on qemu-tcg 7.2.22, cpu max`: who it is, in one line. The CPU model is told where it is not the
    /// one that the subject has anyway: `qemu-tcg 7.2.22, cpu EPYC-v4`.
    #[must_use]
    pub fn label(&self) -> String {
        let mut label = format!("{} {}", self.subject, self.version);
        if let Some(below) = &self.below {
            let _ = write!(label, " on {below}");
        }
        if crate::subject::default_cpu(&self.subject).is_some_and(|cpu| cpu != self.cpu) {
            let _ = write!(label, ", cpu {}", self.cpu);
        }
        label
    }

    fn key(&self) -> Key {
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

    /// Asked before anything is allocated for so many cases of so many bytes each.
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

/// How two results differ.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Diff {
    /// Of subjects that both have.
    pub sections: Vec<SectionDiff>,
    /// Subjects that only the old results have.
    pub only_old: Vec<String>,
    /// Subjects that only the new results have.
    pub only_new: Vec<String>,
}

/// How two sections differ.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SectionDiff {
    /// The old section's [label](Head::label).
    pub old: String,
    /// The new one's.
    pub new: String,
    /// Other parts of the heads that differ, as sentences.
    pub heads: Vec<String>,
    /// Cases that only the old section has.
    pub only_old: BTreeSet<String>,
    /// Cases that only the new section has.
    pub only_new: BTreeSet<String>,
    /// Cases whose answer changed, by the [names](answer_name) of the old answer and the new one.
    pub answers: BTreeMap<(String, String), BTreeSet<String>>,
    /// Cases whose answer is the same and whose outcome is not, by the old token and the new one.
    pub details: BTreeMap<(String, String), BTreeSet<String>>,
    /// How many cases differ whose outcome is known to change from run to run.
    pub unstable: usize,
    /// How many cases have the same outcome in both.
    pub same: usize,
}

/// Compares results subject by subject.
///
/// A subject is found by name and version, and among several of those by the stack below, the CPU and the set.
/// To compare two versions, give their sections to [`compare`].
#[must_use]
pub fn diff(old: &Results, new: &Results) -> Diff {
    let mut diff = Diff::default();
    let mut left: Vec<&Section> = new.sections.iter().collect();
    let mut pairs: Vec<(&Section, Option<&Section>)> = old.sections.iter().map(|one| (one, None)).collect();
    // Exact matches first, lest a near one takes their partner.
    for exact in [true, false] {
        for (one, partner) in pairs.iter_mut().filter(|(_, partner)| partner.is_none()) {
            let found = left.iter().position(|two| {
                let (one, two) = (&one.head, &two.head);
                let same = (&one.subject, &one.version) == (&two.subject, &two.version);
                same && (!exact || one.key() == two.key())
            });
            *partner = found.map(|index| left.remove(index));
        }
    }
    for (one, partner) in pairs {
        match partner {
            Some(two) => diff.sections.push(compare(one, two)),
            None => diff.only_old.push(one.head.label()),
        }
    }
    diff.only_new = left.iter().map(|section| section.head.label()).collect();
    diff
}

/// Compares two sections, whoever they are of.
#[must_use]
pub fn compare(old: &Section, new: &Section) -> SectionDiff {
    let mut diff = SectionDiff { old: old.head.label(), new: new.head.label(), ..SectionDiff::default() };
    let (one, two) = (&old.head, &new.head);
    let mut head = |what: &str, one: &str, two: &str| {
        if one != two {
            diff.heads.push(format!("{what}: {one} -> {two}"));
        }
    };
    head("cpu", &one.cpu, &two.cpu);
    head("set", &one.set, &two.set);
    head("cases", &one.cases.to_string(), &two.cases.to_string());
    let sorted = |head: &Head| {
        let mut table = head.cpuid.clone();
        table.sort_by_key(|e| (e.leaf, e.subleaf));
        table
    };
    if sorted(one) != sorted(two) {
        diff.heads.push("their CPUID differs".to_owned());
    }
    for (case, before) in &old.outcomes {
        let Some(after) = new.outcomes.get(case) else {
            diff.only_old.insert(case.clone());
            continue;
        };
        if before == after {
            diff.same += 1;
        } else if before.answer() == after.answer() {
            let tokens = (before.to_string(), after.to_string());
            diff.details.entry(tokens).or_default().insert(case.clone());
        } else {
            let answers = (answer_name(before.answer()), answer_name(after.answer()));
            diff.answers.entry(answers).or_default().insert(case.clone());
        }
    }
    diff.only_new = new.outcomes.keys().filter(|case| !old.outcomes.contains_key(*case)).cloned().collect();
    diff
}

impl Diff {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.only_old.is_empty()
            && self.only_new.is_empty()
            && self.sections.iter().all(SectionDiff::is_empty)
    }
}

impl SectionDiff {
    /// Counts the cases that differ and are named unstable, and lists them no more.
    pub fn set_aside(&mut self, is_unstable: impl Fn(&str) -> bool) {
        for changed in [&mut self.answers, &mut self.details] {
            changed.retain(|_, ids| {
                let before = ids.len();
                ids.retain(|id| !is_unstable(id));
                self.unstable += before - ids.len();
                !ids.is_empty()
            });
        }
    }

    /// Whether every case has the same outcome in both, but for those that were [set aside](Self::set_aside).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.only_old.is_empty()
            && self.only_new.is_empty()
            && self.answers.is_empty()
            && self.details.is_empty()
    }
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for label in &self.only_old {
            writeln!(f, "only in the old results: {label}")?;
        }
        for label in &self.only_new {
            writeln!(f, "only in the new results: {label}")?;
        }
        self.sections.iter().try_for_each(|section| section.fmt(f))
    }
}

impl fmt::Display for SectionDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.old == self.new {
            writeln!(f, "{}", self.old)?;
        } else {
            writeln!(f, "{} -> {}", self.old, self.new)?;
        }
        for head in &self.heads {
            writeln!(f, "  {head}")?;
        }
        let sum = |of: &BTreeMap<_, BTreeSet<String>>| of.values().map(BTreeSet::len).sum::<usize>();
        if !self.answers.is_empty() {
            writeln!(f, "  another answer: {} cases", sum(&self.answers))?;
            for ((before, after), ids) in &self.answers {
                writeln!(f, "    {before} -> {after}: {} cases", ids.len())?;
                write_ids(f, "      ", ids)?;
                for line in events(ids.iter().map(String::as_str)) {
                    writeln!(f, "      {line}")?;
                }
            }
        }
        if !self.details.is_empty() {
            writeln!(f, "  the same answer, another outcome: {} cases", sum(&self.details))?;
            for ((before, after), ids) in &self.details {
                writeln!(f, "    `{before}` -> `{after}`: {} cases", ids.len())?;
                write_ids(f, "      ", ids)?;
            }
        }
        for (what, ids) in [("old", &self.only_old), ("new", &self.only_new)] {
            if !ids.is_empty() {
                writeln!(f, "  only in the {what} results: {} cases", ids.len())?;
                write_ids(f, "    ", ids)?;
            }
        }
        if self.unstable > 0 {
            writeln!(f, "  {} cases named unstable differ", self.unstable)?;
        }
        writeln!(f, "  the same: {} cases", self.same)
    }
}

fn write_ids(f: &mut fmt::Formatter<'_>, indent: &str, ids: &BTreeSet<String>) -> fmt::Result {
    compress(ids.iter().map(String::as_str)).iter().try_for_each(|ids| writeln!(f, "{indent}{ids}"))
}

/// What people call an answer: `accepted`, `refused (VMEXIT_INVALID)`.
#[must_use]
pub fn answer_name(answer: Answer) -> String {
    match answer {
        Answer::Accepted => "accepted".to_owned(),
        Answer::Refused(outcome) => format!("refused ({})", outcome.name()),
        Answer::Fault => "faulted".to_owned(),
        Answer::Broken => "broken".to_owned(),
        Answer::Skipped => "skipped".to_owned(),
    }
}

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

/// How numbers are written.
#[derive(Clone, Copy)]
pub(crate) enum Base {
    Decimal,
    Hex,
}

/// Ascending numbers as ranges.
pub(crate) fn ranges(numbers: impl IntoIterator<Item = u32>, base: Base, comma: &str) -> String {
    let mut text = String::new();
    let number = |text: &mut String, number: u32| match base {
        Base::Decimal => write!(text, "{number}"),
        Base::Hex => write!(text, "{number:x}"),
    };
    let mut numbers = numbers.into_iter().peekable();
    while let Some(first) = numbers.next() {
        let mut last = first;
        while let Some(next) = numbers.next_if(|&next| last.checked_add(1) == Some(next)) {
            last = next;
        }
        if !text.is_empty() {
            text.push_str(comma);
        }
        let _ = number(&mut text, first);
        if last != first {
            text.push('-');
            let _ = number(&mut text, last);
        }
    }
    text
}

/// The number that these digits are the one way to write.
fn canonical(digits: &str) -> Option<u32> {
    let number = u32::try_from(hex(digits)?).ok()?;
    let lower = !digits.bytes().any(|byte| byte.is_ascii_uppercase());
    (lower && (digits == "0" || !digits.starts_with('0'))).then_some(number)
}

fn hex(digits: &str) -> Option<u64> {
    u64::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))
}

fn decimal(digits: &str) -> Option<u32> {
    digits.parse().ok().filter(|_| !digits.starts_with('+'))
}

fn numbers<const N: usize>(text: &str) -> Option<[u32; N]> {
    let mut numbers = [0; N];
    let mut words = text.split(' ');
    for number in &mut numbers {
        *number = u32::try_from(hex(words.next()?)?).ok()?;
    }
    words.next().is_none().then_some(numbers)
}

/// One line, whatever it was.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// As much of a hostile text as an error shows.
fn excerpt(text: &str) -> String {
    let mut start: String = text.chars().take(60).collect();
    if start.len() < text.len() {
        start.push_str("...");
    }
    clean(&start)
}
