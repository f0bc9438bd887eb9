//! `nsvm rules`, `nsvm vectors`, `nsvm cpus`: tables of what `vmcb` knows.

use crate::cli::{self, Format};
use crate::error::Error;
use crate::explain::{self, GROUPS};
use crate::{Status, cpu};
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

pub(crate) fn rules(arguments: &cli::Rules, out: &mut dyn Write) -> Result<Status, Error> {
    let letter = |text: &Option<String>| text.as_ref().and_then(|text| text.to_uppercase().chars().next());
    let (class, group) = (letter(&arguments.class), letter(&arguments.group));
    let reads = arguments.reads.as_deref().map(normal);
    if let Some(wanted) = &reads
        && !Rule::ALL.iter().any(|&rule| words(rule).iter().any(|word| normal(word) == *wanted))
    {
        let known = Rule::ALL.iter().flat_map(|&rule| words(rule));
        return Err(Error::unknown(
            "--reads: no rule reads this",
            arguments.reads.as_deref().unwrap_or(""),
            known,
        ));
    }
    let grep = arguments.grep.as_deref().map(str::to_lowercase);
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
        if arguments.format == Format::Json {
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
            writeln!(out, "{}", serde_json::to_string(&line).map_err(std::io::Error::from)?)?;
        } else {
            writeln!(out, "{:<40} {}  {:<18} {}", row.id, row.class.letter(), row.outcome.name(), row.title)?;
        }
    }
    if shown == 0 && arguments.format == Format::Human {
        writeln!(out, "no rule fits; the groups are {}", groups())?;
    }
    Ok(Status::Fine)
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
    for literal in rule.row().when {
        literal.reads(&mut |word, mask| match word {
            Word::Cpu => explain::features(mask).for_each(|feature| add(feature.name().into())),
            _ => add(word.name().into()),
        });
    }
    names
}

fn normal(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase()
}

pub(crate) fn vectors(spec: Option<&str>, out: &mut dyn Write) -> Result<Status, Error> {
    let cpu = spec.map_or(Ok(Cpu::ANY), cpu::parse)?;
    let limits = Limits::compile(&cpu, Policy::VirtualCpu);
    writeln!(
        out,
        "{:>3}  {:<4}  {:<38}  {:<10}  injectable as an exception (TYPE 3)",
        "", "", "", "error code"
    )?;
    for (number, row) in (0..).zip(&EXCEPTIONS) {
        let pushes = if row.error_code { "yes" } else { "no" };
        let answer = injectable(Vector::new(number), row.existence, &limits);
        let name = row.mnemonic.unwrap_or("-");
        writeln!(out, "{number:>3}  {name:<4}  {:<38}  {pushes:<10}  {answer}", row.meaning)?;
    }
    Ok(Status::Fine)
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

pub(crate) fn cpus(out: &mut dyn Write) -> Result<Status, Error> {
    writeln!(out, "MODELS (a name without a version is version 1)")?;
    for model in &MODELS {
        let mut names = vec![model.name.to_owned()];
        names.extend((2..=model.versions.len()).map(|version| format!("{}-v{version}", model.name)));
        names.extend(model.aliases.iter().map(|(alias, version)| format!("{alias} (v{version})")));
        writeln!(out, "  {:<26} {}", model.part, names.join(" "))?;
    }
    writeln!(out, "  {:<26} any", "any AMD CPU with SVM")?;
    writeln!(out, "  {:<26} cpuid:FILE", "a table of `cpuid -r`")?;
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
    Ok(Status::Fine)
}
