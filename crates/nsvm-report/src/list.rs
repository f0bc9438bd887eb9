//! Lists of what `vmcb` contains: rules, vectors, CPU models.

use crate::cpu;
use crate::error::Error;
use crate::explain::{self, GROUPS};
use crate::format::Format;
use crate::record::{self, print};
use serde::Serialize;
use std::io::Write;
use vmcb::{
    Cpu, Decision, EXCEPTIONS, Event, EventType, Existence, Feature, GuestMode, Limits, MODELS, Policy, Rule,
    Vector, Word, check_event,
};

/// A rule as JSON.
#[derive(Serialize)]
#[serde(tag = "type", rename = "rule")]
struct RuleLine {
    rule: &'static str,
    class: char,
    group: char,
    outcome: &'static str,
    section: &'static str,
    title: &'static str,
    mend: &'static str,
    remark: &'static str,
    reads: Vec<String>,
}

/// Which rules are listed.
#[derive(Clone, Copy, Debug)]
pub struct RuleFilter<'a> {
    /// Only this class: A, D, R or T.
    pub class: Option<&'a str>,
    /// Only this group: P, C, S, E or V.
    pub group: Option<&'a str>,
    /// Only rules that read this field, register or CPU feature.
    pub reads: Option<&'a str>,
    /// Only rules whose page has this text.
    pub grep: Option<&'a str>,
}

/// Lists rules.
///
/// # Errors
/// If no rule reads what the filter names, or if the output cannot be written.
pub fn rules(filter: RuleFilter<'_>, format: Format, out: &mut dyn Write) -> Result<(), Error> {
    let letter = |text: Option<&str>| text.and_then(|text| text.to_uppercase().chars().next());
    let (class, group) = (letter(filter.class), letter(filter.group));
    let reads = filter.reads.map(normal);
    if let Some(wanted) = &reads
        && !Rule::ALL.iter().any(|&rule| words(rule).iter().any(|word| normal(word) == *wanted))
    {
        let known = Rule::ALL.iter().flat_map(|&rule| words(rule));
        return Err(Error::unknown("--reads: no rule reads this", filter.reads.unwrap_or(""), known));
    }
    let grep = filter.grep.map(str::to_lowercase);
    let mut shown = 0;
    for &rule in Rule::ALL {
        let row = rule.row();
        let fits = class.is_none_or(|class| row.class.letter() == class)
            && group.is_none_or(|group| explain::group(rule) == group)
            && reads.as_ref().is_none_or(|wanted| words(rule).iter().any(|word| normal(word) == *wanted))
            && grep.as_ref().is_none_or(|text| explain::rule_page(rule).to_lowercase().contains(text));
        if !fits {
            continue;
        }
        shown += 1;
        if format == Format::Json {
            let line = RuleLine {
                rule: row.id,
                class: row.class.letter(),
                group: explain::group(rule),
                outcome: row.outcome.name(),
                section: row.section,
                title: row.title,
                mend: row.mend,
                remark: row.remark,
                reads: words(rule),
            };
            print(out, &line)?;
        } else {
            writeln!(out, "{:<40} {}  {:<18} {}", row.id, row.class.letter(), row.outcome.name(), row.title)?;
        }
    }
    if shown == 0 && format == Format::Human {
        writeln!(out, "no rule fits; the groups are {}", groups())?;
    }
    Ok(())
}

fn groups() -> String {
    GROUPS.map(|(letter, title)| format!("{letter} ({title})")).join(", ")
}

/// The words and features that a rule reads.
fn words(rule: Rule) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut add = |name: String| {
        if !names.contains(&name) {
            names.push(name);
        }
    };
    for (word, mask) in rule.reads() {
        match word {
            Word::Cpu => explain::features(mask).for_each(|feature| add(feature.name().into())),
            _ => add(word.name().into()),
        }
    }
    names
}

fn normal(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase()
}

/// A vector as JSON.
#[derive(Serialize)]
#[serde(tag = "type", rename = "vector")]
pub(crate) struct VectorLine {
    vector: u8,
    mnemonic: Option<&'static str>,
    meaning: &'static str,
    error_code: bool,
    /// The CPUID bit without which it does not exist.
    cpuid: Option<String>,
    /// What becomes of EVENTINJ with it, by the guest's mode.
    injected: Injected,
    text: String,
}

#[derive(Serialize)]
struct Injected {
    bits_64: record::Decision,
    other: record::Decision,
    sev_es: record::Decision,
    restricted_injection: record::Decision,
}

/// Vectors 0 to 31.
pub(crate) fn vector_lines(limits: &Limits) -> impl Iterator<Item = VectorLine> {
    (0..).zip(&EXCEPTIONS).map(|(number, row)| {
        let event = Event::new(EventType::EXCEPTION, Vector::new(number));
        let ask = |mode| check_event(event, mode, limits).decision().into();
        VectorLine {
            vector: number,
            mnemonic: row.mnemonic,
            meaning: row.meaning,
            error_code: row.error_code,
            cpuid: needed(row.existence).map(|feature| feature.cpuid().to_string()),
            injected: Injected {
                bits_64: ask(GuestMode::BITS_64),
                other: ask(GuestMode::OTHER),
                sev_es: ask(GuestMode::OTHER.with_sev_es()),
                restricted_injection: ask(GuestMode::OTHER.with_restricted_injection()),
            },
            text: injectable(Vector::new(number), row.existence, limits),
        }
    })
}

impl VectorLine {
    /// A line of the table.
    pub(crate) fn human(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let pushes = if self.error_code { "yes" } else { "no" };
        let name = self.mnemonic.unwrap_or("-");
        let Self { vector, meaning, text, .. } = self;
        writeln!(out, "{vector:>3}  {name:<4}  {meaning:<38}  {pushes:<10}  {text}")
    }
}

/// The feature that makes an exception exist.
fn needed(existence: Existence) -> Option<Feature> {
    match existence {
        Existence::ShadowStacks => Some(Feature::Shstk),
        Existence::SevEs => Some(Feature::SevEs),
        Existence::RestrictedInjection => Some(Feature::RestrictedInjection),
        Existence::Always | Existence::Overrun | Existence::Nmi | Existence::Never => None,
    }
}

/// Lists vectors 0 to 31 and whether this CPU accepts each in EVENTINJ.
///
/// # Errors
/// If the output cannot be written.
pub fn vectors(cpu: &Cpu, format: Format, out: &mut dyn Write) -> std::io::Result<()> {
    let limits = Limits::compile(cpu, Policy::VirtualCpu);
    if format == Format::Json {
        vector_lines(&limits).try_for_each(|line| print(out, &line))
    } else {
        vector_heading(out)?;
        vector_lines(&limits).try_for_each(|line| line.human(out))
    }
}

pub(crate) fn vector_heading(out: &mut dyn Write) -> std::io::Result<()> {
    let empty = "";
    writeln!(out, "{empty:>3}  {empty:<4}  {empty:<38}  error code  injectable as an exception (TYPE 3)")
}

/// The answers of `vmcb` for guests without SEV, in one phrase.
fn injectable(vector: Vector, existence: Existence, limits: &Limits) -> String {
    let event = Event::new(EventType::EXCEPTION, vector);
    let ask = |mode| check_event(event, mode, limits).decision();
    let condition = match existence {
        Existence::Always => String::new(),
        Existence::ShadowStacks => format!("needs shadow stacks, {}", Feature::Shstk.cpuid()),
        Existence::SevEs => format!("needs SEV-ES, {}", Feature::SevEs.cpuid()),
        Existence::RestrictedInjection => "only into an SNP guest with Restricted Injection".into(),
        Existence::Nmi => "an NMI has TYPE 2".into(),
        Existence::Overrun | Existence::Never => "reserved".into(),
    };
    let with = |word: &str| {
        if condition.is_empty() { word.to_owned() } else { format!("{word}: {condition}") }
    };
    let restricted = check_event(event, GuestMode::BITS_64.with_restricted_injection(), limits).decision();
    let not_into_seves = limits.cpu().has(Feature::SevEs) != Some(false)
        && ask(GuestMode::OTHER.with_sev_es()) == Decision::Refused;
    match (ask(GuestMode::OTHER), ask(GuestMode::BITS_64)) {
        (Decision::Accepted, Decision::Accepted) if not_into_seves => {
            "yes, but not into SEV-ES guests".into()
        }
        (Decision::Accepted, Decision::Accepted) => "yes".into(),
        (Decision::Accepted, Decision::Undecided) if not_into_seves => {
            "yes, but not into SEV-ES guests; in 64-bit mode undecided".into()
        }
        (Decision::Accepted, Decision::Refused) => "not in 64-bit mode".into(),
        (Decision::Accepted, Decision::Undecided) => "yes; in 64-bit mode undecided".into(),
        (Decision::Refused, Decision::Refused) if restricted == Decision::Accepted => condition,
        (Decision::Refused, Decision::Refused) => with("no"),
        _ => with("depends on the CPU"),
    }
}

/// A version of a model as JSON.
#[derive(Serialize)]
#[serde(tag = "type", rename = "model")]
struct ModelLine {
    name: String,
    version: usize,
    aliases: Vec<&'static str>,
    part: &'static str,
}

/// A feature as JSON.
#[derive(Serialize)]
#[serde(tag = "type", rename = "feature")]
struct FeatureLine {
    name: &'static str,
    aliases: &'static [&'static str],
    cpuid: String,
    meaning: &'static str,
    /// It states a limit, not an ability.
    restricts: bool,
}

/// A setting with a value, as JSON.
#[derive(Serialize)]
#[serde(tag = "type", rename = "setting")]
struct SettingLine {
    name: &'static str,
    meaning: &'static str,
}

/// Lists the CPU models, the features that rules read, and the settings.
///
/// # Errors
/// If the output cannot be written.
pub fn cpus(format: Format, out: &mut dyn Write) -> std::io::Result<()> {
    if format == Format::Json {
        return cpus_as_json(out);
    }
    writeln!(out, "MODELS (a name without a version is version 1)")?;
    for model in MODELS {
        let mut names = vec![model.name.to_owned()];
        names.extend((2..=model.versions.len()).map(|version| format!("{}-v{version}", model.name)));
        names.extend(model.aliases.iter().map(|(alias, version)| format!("{alias} (v{version})")));
        writeln!(out, "  {:<26} {}", model.part, names.join(" "))?;
    }
    writeln!(out, "  {:<26} any", "any AMD CPU with SVM")?;
    for (form, meaning) in cpu::SOURCES {
        writeln!(out, "  {meaning:<26} {form}")?;
    }
    writeln!(out, "\nFEATURES that rules read: +NAME, -NAME, NAME=on, NAME=off")?;
    for feature in Feature::ALL {
        let aliases = feature.aliases();
        let also = if aliases.is_empty() { String::new() } else { format!(", also {}", aliases.join(", ")) };
        writeln!(
            out,
            "  {:<22} {:<24} {}{also}",
            feature.name(),
            feature.cpuid().to_string(),
            feature.meaning()
        )?;
    }
    writeln!(out, "\nSETTINGS")?;
    for (name, meaning) in cpu::SETTINGS {
        writeln!(out, "  {:<22} {meaning}", format!("{name}=N"))?;
    }
    Ok(())
}

fn cpus_as_json(out: &mut dyn Write) -> std::io::Result<()> {
    for model in MODELS {
        for version in 1..=model.versions.len() {
            let aliases = model.aliases.iter().filter(|(_, of)| usize::from(*of) == version);
            let name =
                if version == 1 { model.name.to_owned() } else { format!("{}-v{version}", model.name) };
            let aliases = aliases.map(|(alias, _)| *alias).collect();
            print(out, &ModelLine { name, version, aliases, part: model.part })?;
        }
    }
    for feature in Feature::ALL {
        print(
            out,
            &FeatureLine {
                name: feature.name(),
                aliases: feature.aliases(),
                cpuid: feature.cpuid().to_string(),
                meaning: feature.meaning(),
                restricts: feature.restricts(),
            },
        )?;
    }
    for (name, meaning) in cpu::SETTINGS {
        print(out, &SettingLine { name, meaning })?;
    }
    Ok(())
}
