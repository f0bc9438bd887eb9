//! A row of the list: which cases, on which subjects, and what they do.

use super::facts::{CaseFacts, is_fault};
use crate::glob::Globs;
use crate::outcome::{Answer, Outcome, Seen};
use std::collections::BTreeSet;
use std::fmt;
use vmcb::layout::VMCB;
use vmcb::{Rule, RuleSet};
use vmcb_implementations::{Version, Versions};

/// One expected difference.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its line in the file, counted from 1.
    pub line: usize,
    /// Which cases, as written.
    pub cases: String,
    /// Why, one sentence without a full stop.
    pub why: String,
    /// Whether it was run; otherwise it was read in the source.
    pub measured: bool,
    /// Whether it was seen in some runs only: then it is never stale.
    pub sometimes: bool,
    /// The day of it, `2026-11-22`.
    pub date: String,
    matchers: Vec<Matcher>,
    pub(super) subjects: Globs,
    versions: Versions,
    does: Vec<Does>,
}

#[derive(Clone, Debug)]
enum Matcher {
    Case(Globs),
    Rules(RuleSet),
    Fields(BTreeSet<&'static str>),
    Bits { field: &'static str, mask: u64 },
}

#[derive(Clone, Debug)]
enum Does {
    Accepts,
    Refuses,
    Faults,
    Kills,
    Hangs,
    Outcome(Globs),
}

impl Row {
    /// Whether it speaks of this subject in this version.
    #[must_use]
    pub fn applies(&self, subject: &str, version: Version) -> bool {
        self.subjects.matches(subject) && self.versions.contain(version)
    }

    /// Whether it speaks of this case.
    #[must_use]
    pub fn matches(&self, case: &CaseFacts) -> bool {
        let changes = |name: &str| case.changed.iter().any(|change| change.field.name == name);
        self.matchers.iter().all(|matcher| match matcher {
            Matcher::Case(globs) => globs.matches(&case.id),
            Matcher::Rules(rules) => !case.broken.is_empty() && case.broken.difference(*rules).is_empty(),
            Matcher::Fields(names) => {
                !case.changed.is_empty()
                    && case.changed.iter().all(|change| names.contains(change.field.name))
            }
            Matcher::Bits { field, mask } => {
                changes(field)
                    && case
                        .changed
                        .iter()
                        .all(|change| change.field.name == *field && change.bits & !mask == 0)
            }
        })
    }

    /// Whether it says that this comes out.
    #[must_use]
    pub fn says(&self, outcome: &Outcome) -> bool {
        let (seen, answer) = (&outcome.seen, outcome.answer());
        self.does.iter().any(|does| match does {
            Does::Accepts => answer == Answer::Accepted,
            Does::Refuses => matches!(answer, Answer::Refused(how) if !is_fault(how)),
            Does::Faults => matches!(seen, Seen::Fault { .. }),
            Does::Kills => matches!(seen, Seen::Killed(_)),
            Does::Hangs => *seen == Seen::Hung,
            Does::Outcome(globs) => globs.matches(&outcome.to_string()),
        })
    }
}

impl fmt::Display for Row {
    /// `line 31: rules:evt-exc-vector-9: of the reserved vectors only 31 is refused`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}: {}", self.line, self.cases, self.why)
    }
}

/// Reads a row.
pub(super) fn parse_row(line: usize, text: &str) -> Result<Row, String> {
    let columns: Vec<&str> = text.split('|').map(str::trim).collect();
    let [cases, subject, versions, does, why, evidence, date] = columns[..] else {
        return Err(format!(
            "{} columns; expected 7: cases | subject | versions | does | why | evidence | date",
            columns.len()
        ));
    };
    let matchers = cases.split_whitespace().map(matcher).collect::<Result<Vec<_>, _>>()?;
    if matchers.is_empty() {
        return Err("no cases; expected `case:GLOB`, `rules:GLOB`, `field:GLOB` or `bits:FIELD=MASK`".into());
    }
    if why.is_empty() || why.ends_with('.') {
        return Err("why: expected one sentence without a full stop".into());
    }
    let (measured, sometimes) = match evidence {
        "measured" => (true, false),
        "sometimes" => (true, true),
        "source" => (false, false),
        _ => return Err(format!("evidence `{evidence}`; expected `measured`, `sometimes` or `source`")),
    };
    if !is_date(date) {
        return Err(format!("date `{date}`; expected YYYY-MM-DD"));
    }
    Ok(Row {
        line,
        cases: cases.to_owned(),
        why: why.to_owned(),
        measured,
        sometimes,
        date: date.to_owned(),
        matchers,
        subjects: Globs::parse(subject)?,
        versions: versions.parse().map_err(|error| format!("versions: {error}"))?,
        does: does.split(" or ").map(|word| does_what(word.trim())).collect::<Result<_, _>>()?,
    })
}

fn matcher(text: &str) -> Result<Matcher, String> {
    let (kind, what) = text.split_once(':').unwrap_or((text, ""));
    match kind {
        "case" => Ok(Matcher::Case(Globs::parse(what)?)),
        "rules" => {
            let globs = Globs::parse(what)?;
            each_is_used(&globs, || Rule::ALL.iter().map(|rule| rule.id()), "rule")?;
            Ok(Matcher::Rules(Rule::ALL.iter().copied().filter(|rule| globs.matches(rule.id())).collect()))
        }
        "field" => {
            let globs = Globs::parse(what)?;
            each_is_used(&globs, field_names, "field of the VMCB")?;
            Ok(Matcher::Fields(field_names().filter(|name| globs.matches(name)).collect()))
        }
        "bits" => {
            let (name, mask) = what.split_once('=').ok_or("expected `bits:FIELD=MASK`")?;
            let field = field_names().find(|field| *field == name);
            let digits = mask.strip_prefix("0x").filter(|digits| !digits.starts_with('+'));
            let mask = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
            Ok(Matcher::Bits {
                field: field.ok_or_else(|| format!("`{name}` names no field of the VMCB"))?,
                mask: mask.ok_or_else(|| format!("`{what}`: expected a mask in hexadecimal after 0x"))?,
            })
        }
        _ => Err(format!("`{text}`: expected `case:GLOB`, `rules:GLOB`, `field:GLOB` or `bits:FIELD=MASK`")),
    }
}

fn each_is_used<I: Iterator<Item = &'static str>>(
    globs: &Globs,
    names: impl Fn() -> I,
    what: &str,
) -> Result<(), String> {
    globs.unused(names).map_or(Ok(()), |pattern| Err(format!("`{pattern}` names no {what}")))
}

fn field_names() -> impl Iterator<Item = &'static str> {
    VMCB.iter().map(|field| field.name)
}

fn does_what(word: &str) -> Result<Does, String> {
    match word {
        "accepts" => Ok(Does::Accepts),
        "refuses" => Ok(Does::Refuses),
        "faults" => Ok(Does::Faults),
        "kills" => Ok(Does::Kills),
        "hangs" => Ok(Does::Hangs),
        _ => match word.strip_prefix("outcome:") {
            Some(globs) => Ok(Does::Outcome(Globs::parse(globs)?)),
            None => Err(format!(
                "does `{word}`; expected accepts, refuses, faults, kills or hangs, or `outcome:GLOB`"
            )),
        },
    }
}

fn is_date(text: &str) -> bool {
    text.len() == "YYYY-MM-DD".len() && text.parse::<jiff::civil::Date>().is_ok()
}
