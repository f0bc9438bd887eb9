//! The table of who differs from the rulebook: for a terminal, as Markdown, as a page.
//!
//! What each case should do, and whether it did, is decided elsewhere. Here it is counted and shown: rules by
//! subjects, and below each cell the cases that it counts. A case that breaks several rules counts for each.

mod page;

pub use page::Esc;

use crate::outcome::{Outcome, Seen};
use crate::results::{Head, answer_name, compress, events};
use anstyle::{AnsiColor, Style};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use vmcb::Rule;

/// One subject: who it is and what became of each of its cases.
#[derive(Clone, Debug)]
pub struct Row {
    /// Head of its section in the results.
    pub head: Head,
    /// Its cases.
    pub cases: Vec<CaseReport>,
}

/// One case on one subject.
#[derive(Clone, Debug)]
pub struct CaseReport {
    /// The case's id.
    pub id: String,
    /// The rules of the rulebook that are broken, unstated or unknown; none if the VMCB is legal.
    pub rules: Vec<&'static str>,
    /// What the rulebook says.
    pub expected: Expected,
    /// What the subject did.
    pub outcome: Outcome,
    /// How the two compare.
    pub agreement: Agreement,
    /// Why a difference is known, as the list of expected differences gives it.
    pub reason: Option<String>,
    /// Whether `vmcb-implementations` predicted this answer; `None` if it predicts nothing here.
    pub prediction: Option<bool>,
    /// Which layer of the stack answered: `kvm`, `qemu-tcg`; `None` if nobody can tell.
    pub layer: Option<String>,
}

/// What the rulebook says of a VMCB.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Expected {
    /// VMRUN accepts it.
    Accept,
    /// VMRUN refuses it like this.
    Refuse(vmcb::Outcome),
    /// The manual does not say.
    Undecided,
}

impl Expected {
    /// `accepted`, `VMEXIT_INVALID`, `undecided`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accepted",
            Self::Refuse(outcome) => outcome.name(),
            Self::Undecided => "undecided",
        }
    }
}

/// How an outcome compares with the rulebook.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Agreement {
    /// It is another answer.
    Differs,
    /// The machine died or hung.
    Broken,
    /// It is the same answer.
    Agrees,
    /// The rulebook or the case gives nothing to compare with.
    NotComparable,
    /// It was not run.
    Skipped,
}

impl Agreement {
    /// All of them, in the order in which they matter.
    pub const ALL: [Self; 5] =
        [Self::Differs, Self::Broken, Self::Agrees, Self::NotComparable, Self::Skipped];

    /// The sign that stands for it in tables.
    #[must_use]
    pub const fn sign(self) -> char {
        match self {
            Self::Differs => '≠',
            Self::Broken => '!',
            Self::Agrees => '=',
            Self::NotComparable => '~',
            Self::Skipped => '-',
        }
    }

    /// What follows a number of cases: `12 differ`.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Differs => "differ",
            Self::Broken => "broken",
            Self::Agrees => "agree",
            Self::NotComparable => "not comparable",
            Self::Skipped => "skipped",
        }
    }

    const fn meaning(self) -> &'static str {
        match self {
            Self::Differs => "another answer than the rulebook's",
            Self::Broken => "the machine died or hung",
            Self::Agrees => "the rulebook's answer",
            Self::NotComparable => "run, but nothing to compare with",
            Self::Skipped => "not run",
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Differs => AnsiColor::Red.on_default().bold(),
            Self::Broken => AnsiColor::Yellow.on_default().bold(),
            Self::Agrees => AnsiColor::Green.on_default(),
            Self::NotComparable | Self::Skipped => Style::new().dimmed(),
        }
    }
}

/// Cases counted by agreement.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts([usize; 5]);

impl Counts {
    /// How many cases are of this kind.
    #[must_use]
    pub fn of(&self, agreement: Agreement) -> usize {
        self.0[agreement as usize]
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0.iter().sum()
    }

    /// Cases whose answer was compared with the rulebook's.
    #[must_use]
    pub fn compared(&self) -> usize {
        self.of(Agreement::Agrees) + self.of(Agreement::Differs)
    }

    fn add(&mut self, agreement: Agreement) {
        self.0[agreement as usize] += 1;
    }

    /// What a cell of the table shows first: a difference before all, agreement before what says nothing.
    #[must_use]
    pub fn main(&self) -> Option<Agreement> {
        use Agreement::{Agrees, Broken, Differs, NotComparable, Skipped};
        [Differs, Agrees, Broken, NotComparable, Skipped].into_iter().find(|&one| self.of(one) > 0)
    }
}

/// Rules by subjects.
#[derive(Clone, Debug)]
pub struct Report {
    rows: Vec<Row>,
    lines: Vec<Line>,
    totals: Vec<Counts>,
    unmeasured: Vec<Unmeasured>,
    /// Only a part of a set was run.
    part: bool,
}

/// One rule, and how many of its cases did what on each subject.
#[derive(Clone, Debug)]
struct Line {
    /// `None`: no rule is broken.
    rule: Option<&'static str>,
    /// By subject.
    counts: Vec<Counts>,
}

/// What stands for a rule in the line of legal VMCBs.
const LEGAL: &str = "(legal)";

impl Line {
    fn name(&self) -> &'static str {
        self.rule.unwrap_or(LEGAL)
    }

    fn cases(&self) -> usize {
        self.counts.iter().map(Counts::total).max().unwrap_or_default()
    }
}

/// A rule that no subject could exercise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unmeasured {
    /// Its id.
    pub rule: &'static str,
    /// Why its cases were skipped; empty if it has none.
    pub why: Vec<String>,
}

/// Cases with one explanation and one answer, on one or several subjects.
struct Finding {
    reason: Option<String>,
    layer: Option<String>,
    rules: Vec<&'static str>,
    expected: &'static str,
    answer: String,
    prediction: Option<bool>,
    /// Outcomes with their number of cases.
    outcomes: BTreeMap<String, usize>,
    cases: usize,
    ids: Vec<String>,
    events: Vec<String>,
    subjects: Vec<usize>,
}

impl Report {
    /// Counts.
    #[must_use]
    pub fn new(rows: Vec<Row>) -> Self {
        let mut by_rule: BTreeMap<(usize, &'static str), Line> = BTreeMap::new();
        let mut totals = vec![Counts::default(); rows.len()];
        let mut skips: BTreeMap<&'static str, BTreeSet<&str>> = BTreeMap::new();
        let mut measured = BTreeSet::new();
        for (subject, row) in rows.iter().enumerate() {
            for case in &row.cases {
                totals[subject].add(case.agreement);
                let mut rules: Vec<Option<&'static str>> = case.rules.iter().copied().map(Some).collect();
                rules.sort_unstable();
                rules.dedup();
                if rules.is_empty() {
                    rules.push(None);
                }
                for rule in rules {
                    let line = by_rule
                        .entry(place(rule))
                        .or_insert_with(|| Line { rule, counts: vec![Counts::default(); rows.len()] });
                    line.counts[subject].add(case.agreement);
                    match (&case.outcome.seen, rule) {
                        (Seen::Skipped(why), Some(rule)) => drop(skips.entry(rule).or_default().insert(why)),
                        (_, Some(rule)) => drop(measured.insert(rule)),
                        (_, None) => {}
                    }
                }
            }
        }
        let unmeasured =
            Rule::ALL.iter().map(|rule| rule.id()).filter(|rule| !measured.contains(rule)).map(|rule| {
                let why = skips.get(rule).into_iter().flatten().map(|&why| why.to_owned()).collect();
                Unmeasured { rule, why }
            });
        let unmeasured = unmeasured.collect();
        let lines = by_rule.into_values().collect();
        Self { lines, totals, unmeasured, part: false, rows }
    }

    /// The subjects, in the order of the columns.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Counts of one subject over all of its cases.
    #[must_use]
    pub fn totals(&self, subject: usize) -> Counts {
        self.totals.get(subject).copied().unwrap_or_default()
    }

    /// Counts of one rule's cases on one subject; `None` as rule: the legal VMCBs.
    #[must_use]
    pub fn counts(&self, rule: Option<&str>, subject: usize) -> Counts {
        let line = self.lines.iter().find(|line| line.rule == rule);
        line.and_then(|line| line.counts.get(subject)).copied().unwrap_or_default()
    }

    /// Without the list of rules that no subject could exercise, which says nothing where a part of a set was run.
    #[must_use]
    pub fn of_a_part(mut self) -> Self {
        self.unmeasured.clear();
        self.part = true;
        self
    }

    /// Rules that no subject could exercise: without a case, or with skipped ones only.
    #[must_use]
    pub fn unmeasured(&self) -> &[Unmeasured] {
        &self.unmeasured
    }

    fn unmeasured_by_reason(&self) -> BTreeMap<String, Vec<&'static str>> {
        let mut reasons: BTreeMap<String, Vec<&'static str>> = BTreeMap::new();
        for Unmeasured { rule, why } in &self.unmeasured {
            let why = if why.is_empty() { "no case".to_owned() } else { why.join("; ") };
            reasons.entry(why).or_default().push(rule);
        }
        reasons
    }

    /// How many cases of the set a subject has no outcome of.
    fn missing(&self, subject: usize) -> usize {
        let row = &self.rows[subject];
        row.head.cases.saturating_sub(row.cases.len())
    }

    /// Cases of a kind, those without a reason first, then by reason.
    fn findings(&self, agreement: Agreement) -> Vec<Finding> {
        type Key<'a> =
            (Option<&'a str>, Option<&'a str>, Vec<&'static str>, &'static str, String, Option<bool>);
        let mut groups: BTreeMap<(Key<'_>, usize), Vec<&CaseReport>> = BTreeMap::new();
        for (subject, row) in self.rows.iter().enumerate() {
            for case in row.cases.iter().filter(|case| case.agreement == agreement) {
                let mut rules = case.rules.clone();
                rules.sort_by_key(|rule| place(Some(rule)));
                let key = (
                    case.reason.as_deref(),
                    case.layer.as_deref(),
                    rules,
                    case.expected.name(),
                    answer_name(case.outcome.answer()),
                    case.prediction,
                );
                groups.entry((key, subject)).or_default().push(case);
            }
        }
        // Subjects that did the same with the same cases share a line.
        type Same<'a> = (Key<'a>, Vec<String>, BTreeMap<String, usize>);
        let mut shared: BTreeMap<Same<'_>, Finding> = BTreeMap::new();
        for ((key, subject), members) in groups {
            let ids = || members.iter().map(|case| case.id.as_str());
            let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
            for case in &members {
                *outcomes.entry(case.outcome.to_string()).or_default() += 1;
            }
            shared
                .entry((key, compress(ids()), outcomes))
                .or_insert_with_key(
                    |((reason, layer, rules, expected, answer, prediction), all, outcomes)| Finding {
                        reason: reason.map(str::to_owned),
                        layer: layer.map(str::to_owned),
                        rules: rules.clone(),
                        expected,
                        answer: answer.clone(),
                        prediction: *prediction,
                        outcomes: outcomes.clone(),
                        cases: members.len(),
                        ids: all.clone(),
                        events: events(ids()),
                        subjects: Vec::new(),
                    },
                )
                .subjects
                .push(subject);
        }
        shared.into_values().collect()
    }

    fn labels(&self, subjects: &[usize]) -> String {
        subjects.iter().map(|&subject| self.rows[subject].head.label()).collect::<Vec<_>>().join("; ")
    }

    /// For a terminal of so many columns, at least 40; many subjects take several tables.
    #[must_use]
    pub fn terminal(&self, colour: bool, columns: usize) -> String {
        let columns = columns.max(40);
        let mut out = String::new();
        let name =
            self.lines.iter().map(|line| line.name().len()).max().unwrap_or_default().max("skipped".len());
        let across = ((columns - 1 - COUNT).saturating_sub(name) / CELL).max(1);
        let headings: Vec<[String; 2]> = (0..self.rows.len()).map(|subject| self.heading(subject)).collect();
        let all: Vec<usize> = (0..self.rows.len()).collect();
        for part in all.chunks(across) {
            for (line, title, count) in [(0, "", ""), (1, "rule", "cases")] {
                let _ = write!(out, "{title:<name$} {count:>width$}", width = COUNT);
                for &subject in part {
                    let _ = write!(out, " {:<width$}", headings[subject][line], width = CELL - 1);
                }
                end(&mut out);
            }
            for line in &self.lines {
                let _ = write!(out, "{:<name$} {:>width$}", line.name(), line.cases(), width = COUNT);
                for &subject in part {
                    out.push(' ');
                    cell(&mut out, line.counts[subject], colour);
                }
                end(&mut out);
            }
            out.push('\n');
            for agreement in Agreement::ALL {
                let _ =
                    write!(out, "{:<name$} {:>width$}", agreement.words(), agreement.sign(), width = COUNT);
                for &subject in part {
                    let count = self.totals[subject].of(agreement);
                    let _ = write!(out, " {count:<width$}", width = CELL - 1);
                }
                end(&mut out);
            }
            if part.iter().any(|&subject| self.missing(subject) > 0) {
                let _ = write!(out, "{:<name$} {:>width$}", "missing", "", width = COUNT);
                for &subject in part {
                    let _ = write!(out, " {:<width$}", self.missing(subject), width = CELL - 1);
                }
                end(&mut out);
            }
            out.push('\n');
        }
        for (subject, row) in self.rows.iter().enumerate() {
            let [first, second] = &headings[subject];
            // A short name needs no key of its own.
            let heading = if second.is_empty() { format!("{first} ") } else { String::new() };
            wrap(&mut out, columns, &heading, &about(&row.head));
        }
        out.push('\n');
        let meanings: Vec<_> = Agreement::ALL.map(|a| format!("{} {}", a.sign(), a.meaning())).into();
        wrap(&mut out, columns, "", &format!("{}. · no case.", meanings.join("; ")));
        wrap(
            &mut out,
            columns,
            "",
            "A cell shows the number of differing cases, else of agreeing ones; ! behind it: others broke. \
             A case that breaks several rules counts for each.",
        );
        if !self.unmeasured.is_empty() {
            let _ = writeln!(out, "\nNot measured on any subject ({} rules):", self.unmeasured.len());
            for (why, rules) in self.unmeasured_by_reason() {
                wrap(&mut out, columns, "  ", &format!("{why}: {}", rules.join(", ")));
            }
        }
        out
    }

    /// Two short lines: name and version, or a number if they are long.
    fn heading(&self, subject: usize) -> [String; 2] {
        let short = |head: &Head| {
            let fits = |text: &str| text.chars().count() < CELL;
            (fits(&head.subject) && fits(&head.version)).then(|| [head.subject.clone(), head.version.clone()])
        };
        let one = short(&self.rows[subject].head);
        let alone = self.rows.iter().filter(|row| short(&row.head) == one).count() == 1;
        one.filter(|_| alone).unwrap_or_else(|| [format!("[{}]", subject + 1), String::new()])
    }

    /// The same as Markdown, and the list of differences.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut out = "# Who differs from the rulebook of VMRUN\n\n".to_owned();
        let _ = write!(out, "| rule | cases |");
        for row in &self.rows {
            let _ = write!(out, " {} |", text(&row.head.label()));
        }
        let _ = write!(out, "\n| --- | ---: |{}\n", " --- |".repeat(self.rows.len()));
        for line in &self.lines {
            let _ = write!(out, "| {} | {} |", text(line.name()), line.cases());
            for counts in &line.counts {
                let mut plain = String::new();
                cell(&mut plain, *counts, false);
                let _ = write!(out, " {} |", text(plain.trim_end()));
            }
            out.push('\n');
        }
        for agreement in Agreement::ALL {
            let _ = write!(out, "| *{}* | {} |", agreement.words(), text(&agreement.sign().to_string()));
            for counts in &self.totals {
                let _ = write!(out, " {} |", counts.of(agreement));
            }
            out.push('\n');
        }
        out.push_str("| *missing* | |");
        for subject in 0..self.rows.len() {
            let _ = write!(out, " {} |", self.missing(subject));
        }
        out.push_str("\n\n");
        let meanings = Agreement::ALL.map(|a| text(&format!("{} {}", a.sign(), a.meaning()))).join("; ");
        let _ = writeln!(
            out,
            "{meanings}. · no case. A cell shows the number of differing cases, else of agreeing ones; ! behind \
             it: others broke. A case that breaks several rules counts for each.\n\n## Subjects\n"
        );
        for row in &self.rows {
            let _ = writeln!(out, "- {}", text(&about(&row.head)));
            for note in &row.head.notes {
                let _ = writeln!(out, "  - {}", text(note));
            }
        }
        for (agreement, title) in [(Agreement::Differs, "Differences"), (Agreement::Broken, "Broken")] {
            self.list(&mut out, agreement, title);
        }
        if !self.unmeasured.is_empty() {
            let _ = writeln!(out, "\n## Not measured on any subject\n");
            for (why, rules) in self.unmeasured_by_reason() {
                let rules = rules.iter().map(|rule| code(rule)).collect::<Vec<_>>().join(", ");
                let _ = writeln!(out, "- {}: {rules}", text(&why));
            }
        }
        out
    }

    fn list(&self, out: &mut String, agreement: Agreement, title: &str) {
        let findings = self.findings(agreement);
        let _ = writeln!(out, "\n## {title}");
        if findings.is_empty() {
            out.push_str("\nNone.\n");
        }
        let mut reason = None;
        for finding in &findings {
            if reason.replace(&finding.reason) != Some(&finding.reason) {
                let _ = writeln!(
                    out,
                    "\n### {}\n",
                    finding.reason.as_deref().map_or("No reason known".to_owned(), text)
                );
            }
            out.push_str("- ");
            if let Some(layer) = &finding.layer {
                let _ = write!(out, "{}: ", text(layer));
            }
            let rules = finding.rules.iter().map(|rule| code(rule)).collect::<Vec<_>>().join(", ");
            let rules = if rules.is_empty() { "legal".to_owned() } else { rules };
            let _ = write!(
                out,
                "{rules}: expected {}, {}{}: ",
                text(finding.expected),
                text(&finding.answer),
                prediction(finding.prediction)
            );
            let outcomes = finding.outcomes.iter().map(|(outcome, count)| match finding.outcomes.len() {
                1 => code(outcome),
                _ => format!("{} ({count})", code(outcome)),
            });
            out.push_str(&outcomes.collect::<Vec<_>>().join(", "));
            let _ =
                writeln!(out, "\n  - {}: {}", text(&self.labels(&finding.subjects)), cases(finding.cases));
            for line in finding.events.iter() {
                let _ = writeln!(out, "  - {}", text(line));
            }
            let ids = finding.ids.iter().map(|ids| code(ids)).collect::<Vec<_>>().join(" ");
            let _ = writeln!(out, "  - {ids}");
        }
    }

    /// One page of HTML that needs nothing but itself.
    #[must_use]
    pub fn html(&self) -> String {
        page::render(self)
    }
}

/// Where a rule's line stands: legal VMCBs first, then the order of the rulebook, then names it does not know.
fn place(rule: Option<&'static str>) -> (usize, &'static str) {
    let Some(rule) = rule else { return (0, "") };
    match Rule::ALL.iter().position(|known| known.id() == rule) {
        Some(index) => (1 + index, ""),
        None => (usize::MAX, rule),
    }
}

/// Columns of the number of cases.
const COUNT: usize = 6;
/// Columns of a cell, with the blank before it: `≠ 8192 !`.
const CELL: usize = 9;

fn cell(out: &mut String, counts: Counts, colour: bool) {
    let (style, shown) = match counts.main() {
        None => (Style::new().dimmed(), "·".to_owned()),
        Some(agreement) => {
            let broke = agreement != Agreement::Broken && counts.of(Agreement::Broken) > 0;
            let broke = if broke { " !" } else { "" };
            (agreement.style(), format!("{} {}{broke}", agreement.sign(), counts.of(agreement)))
        }
    };
    let pad = " ".repeat((CELL - 1).saturating_sub(shown.chars().count()));
    let _ = match colour {
        true => write!(out, "{}{shown}{}{pad}", style.render(), style.render_reset()),
        false => write!(out, "{shown}{pad}"),
    };
}

/// Ends a line of a table, without blanks there.
fn end(out: &mut String) {
    out.truncate(out.trim_end_matches(' ').len());
    out.push('\n');
}

/// A paragraph of at most so many columns; further lines are indented like what follows `lead`.
fn wrap(out: &mut String, columns: usize, lead: &str, words: &str) {
    let indent = if lead.is_empty() { 0 } else { 4 };
    out.push_str(lead);
    let mut at = lead.chars().count();
    let mut first = true;
    for word in words.split(' ') {
        let length = word.chars().count();
        if !first && at + 1 + length > columns {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            at = indent;
        } else if !first {
            out.push(' ');
            at += 1;
        }
        out.push_str(word);
        at += length;
        first = false;
    }
    out.push('\n');
}

/// All that a head says of who it is, in one line.
fn about(head: &Head) -> String {
    let label = head.label();
    let mut about = label.clone();
    if !head.cpu.is_empty() && !label.ends_with(&format!(", cpu {}", head.cpu)) {
        let _ = write!(about, "; CPU {}", head.cpu);
    }
    let _ = write!(about, "; set {}; {}", head.set, head.date);
    if let Some(shards) = &head.shard {
        let _ = write!(about, "; shard {shards}");
    }
    about
}

fn cases(number: usize) -> String {
    if number == 1 { "1 case".to_owned() } else { format!("{number} cases") }
}

const fn prediction(held: Option<bool>) -> &'static str {
    match held {
        Some(true) => ", as predicted",
        Some(false) => ", not as predicted",
        None => "",
    }
}

/// Plain text in Markdown.
fn text(plain: &str) -> String {
    let mut out = String::new();
    for c in plain.chars() {
        if matches!(c, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '~' | '&') {
            out.push('\\');
        }
        out.push(if c.is_control() { ' ' } else { c });
    }
    out
}

/// Code in Markdown.
fn code(plain: &str) -> String {
    let plain: String = plain.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let longest = plain.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    if longest == 0 {
        return format!("`{plain}`");
    }
    let fence = "`".repeat(longest + 1);
    format!("{fence} {plain} {fence}")
}
