//! `--format sarif`: SARIF 2.1.0, one object with one run, written as the VMCBs come.
//!
//! The rules stand at the front, since all are known before; of the results nothing is kept. So memory is bounded
//! whatever the input, and the output is about 100 KB and 1 KB a result.

use crate::error::Error;
use crate::explain;
use crate::record::{At, Decision, Failure, Finding, MANUAL, REVISION, Report, Standing};
use crate::status::Status;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use vmcb::Rule;

/// Notifications of one run: files that cannot be read. More are counted.
const MOST_FAILURES: usize = 1000;

#[derive(Default)]
pub(crate) struct Sarif {
    begun: bool,
    results: u64,
    failures: Vec<Failure>,
    failures_left_out: u64,
}

impl Sarif {
    /// One VMCB: a result for each finding, note and remark, and one where it is undecided; with `verbose` one for each
    /// undecided rule.
    pub(crate) fn report(
        &mut self,
        report: &Report,
        verbose: bool,
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        for finding in &report.findings {
            self.result(result_of(finding, report.verdict.vmcb), out)?;
        }
        for note in &report.notes {
            let places: Vec<&At> = note.fields.iter().filter_map(|field| field.place.as_ref()).collect();
            let places = if places.is_empty() { vec![&report.verdict.place] } else { places };
            let text = sentences(std::iter::once(&note.text).chain(&note.more));
            let properties = json!({ "vmcb": note.vmcb, "note": note.id });
            self.result(plain("note", "fail", &text, &places, properties), out)?;
        }
        for remark in &report.remarks {
            let properties = json!({ "vmcb": remark.vmcb });
            self.result(plain("note", "fail", &remark.text, &[&remark.place], properties), out)?;
        }
        for predicted in &report.predictions {
            let text = format!("as {}: {}", predicted.title, predicted.text);
            let properties = json!({ "vmcb": predicted.vmcb, "stack": predicted.stack });
            self.result(plain("none", "informational", &text, &[&report.verdict.place], properties), out)?;
        }
        let verdict = &report.verdict;
        if verbose {
            for undecided in &report.undecided {
                let missing =
                    undecided.missing.iter().map(|item| item.name.as_str()).collect::<Vec<_>>().join(", ");
                let text = format!("{}: not decided. Missing: {missing}", undecided.title);
                let properties = json!({ "vmcb": undecided.vmcb });
                let mut result = plain("none", "open", &text, &[&verdict.place], properties);
                rule_of(&mut result, undecided.rule);
                self.result(result, out)?;
            }
        }
        if verdict.decision == Decision::Undecided {
            let properties = json!({ "vmcb": verdict.vmcb });
            self.result(plain("none", "open", &verdict.text, &[&verdict.place], properties), out)?;
        }
        Ok(())
    }

    /// A file that cannot be read.
    pub(crate) fn failure(&mut self, failure: Failure) {
        if self.failures.len() < MOST_FAILURES {
            self.failures.push(failure);
        } else {
            self.failures_left_out += 1;
        }
    }

    pub(crate) fn end(&mut self, status: Status, out: &mut dyn Write) -> Result<(), Error> {
        self.begin(out)?;
        let mut notifications: Vec<Value> = self
            .failures
            .iter()
            .map(|failure| {
                let location =
                    json!({ "physicalLocation": { "artifactLocation": { "uri": uri(&failure.file) } } });
                json!({ "level": "error", "message": { "text": failure.text }, "locations": [location] })
            })
            .collect();
        if self.failures_left_out > 0 {
            let text = format!("{} more files could not be read", self.failures_left_out);
            notifications.push(json!({ "level": "error", "message": { "text": text } }));
        }
        let invocation = json!({
            "executionSuccessful": status != Status::Failed,
            "exitCode": status as u8,
            "exitCodeDescription": match status {
                Status::Fine => "nothing is refused",
                Status::Undecided => "nothing is refused, but something is not decided",
                Status::Refused => "a VMCB is refused",
                Status::Failed => "an input cannot be read",
            },
            "toolExecutionNotifications": notifications,
        });
        writeln!(out, "\n],\"invocations\":[{invocation}]}}]}}")?;
        Ok(())
    }

    fn begin(&mut self, out: &mut dyn Write) -> Result<(), Error> {
        if self.begun {
            return Ok(());
        }
        self.begun = true;
        let driver = json!({
            "name": "nsvm",
            "version": env!("CARGO_PKG_VERSION"),
            "semanticVersion": env!("CARGO_PKG_VERSION"),
            "rules": rules().collect::<Vec<_>>(),
        });
        write!(
            out,
            "{{\"$schema\":\"https://json.schemastore.org/sarif-2.1.0.json\",\"version\":\"2.1.0\",\"runs\":[{{\
             \"tool\":{{\"driver\":{driver}}},\"columnKind\":\"unicodeCodePoints\",\"results\":["
        )?;
        Ok(())
    }

    fn result(&mut self, result: Value, out: &mut dyn Write) -> Result<(), Error> {
        self.begin(out)?;
        let comma = if self.results == 0 { "" } else { "," };
        self.results += 1;
        write!(out, "{comma}\n{result}")?;
        Ok(())
    }
}

/// The descriptors: rules in the order of the rulebook, then the habits of implementations.
fn rules() -> impl Iterator<Item = Value> {
    let rules = Rule::ALL.iter().map(|&rule| {
        let row = rule.row();
        let section = explain::section(row.section);
        json!({
            "id": row.id,
            "shortDescription": { "text": row.title },
            "fullDescription": { "text": format!("{}. {}", row.title, row.mend) },
            "help": {
                "text": format!("{MANUAL}, {section}, rev {REVISION}. {}", row.mend),
                "markdown": explain::rule_page(rule),
            },
            "properties": { "class": row.class.letter().to_string(), "outcome": row.outcome.name(), "section": row.section },
        })
    });
    let habits = explain::HABITS.iter().map(|habit| {
        json!({
            "id": habit.id,
            "shortDescription": { "text": habit.title },
            "fullDescription": { "text": habit.text },
            "help": { "text": habit.text },
        })
    });
    rules.chain(habits)
}

/// Names the rule of a result.
fn rule_of(result: &mut Value, id: &str) {
    if let Some(index) = rules_by_id().get(id)
        && let Some(object) = result.as_object_mut()
    {
        object.insert("ruleId".into(), id.into());
        object.insert("ruleIndex".into(), (*index).into());
    }
}

fn rules_by_id() -> &'static BTreeMap<&'static str, usize> {
    static INDEX: std::sync::OnceLock<BTreeMap<&'static str, usize>> = std::sync::OnceLock::new();
    INDEX.get_or_init(|| {
        let habits = explain::HABITS.iter().map(|habit| habit.id);
        Rule::ALL.iter().map(|rule| rule.id()).chain(habits).zip(0..).collect()
    })
}

fn result_of(finding: &Finding, vmcb: u64) -> Value {
    let level = match finding.standing {
        Standing::Required => "warning",
        Standing::Broken | Standing::RefusedByKvm | Standing::RefusedByXen => "error",
    };
    let mut places: Vec<&At> = finding.place.iter().collect();
    for place in finding.fields.iter().filter(|field| field.primary).filter_map(|field| field.place.as_ref())
    {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    let values =
        finding.fields.iter().filter(|field| !field.value.is_empty()).map(|field| match &*field.decoded {
            "" => format!("{} = {}", field.name, field.value),
            decoded => format!("{} = {}: {decoded}", field.name, field.value),
        });
    let text = sentences(
        std::iter::once(&finding.title)
            .cloned()
            .chain(values)
            .chain(finding.help.map(str::to_owned))
            .collect::<Vec<_>>()
            .iter(),
    );
    let properties = json!({
        "vmcb": vmcb,
        "standing": finding.standing,
        "candidates": finding.candidates,
        "inferred": finding.inferred,
        "notes": finding.notes,
    });
    let mut result = plain(level, "fail", &text, &places, properties);
    if let [only] = &finding.candidates[..] {
        rule_of(&mut result, only);
    }
    // What else the rule reads.
    let related: Vec<Value> = finding
        .fields
        .iter()
        .filter(|field| !field.primary)
        .filter_map(|field| {
            let mut location = location(field.place.as_ref()?);
            let text = format!("{} = {}", field.name, field.value);
            location.as_object_mut()?.insert("message".into(), json!({ "text": text }));
            Some(location)
        })
        .collect();
    if let Some(object) = result.as_object_mut()
        && !related.is_empty()
    {
        object.insert("relatedLocations".into(), related.into());
    }
    result
}

/// A result without a rule.
fn plain(level: &str, kind: &str, text: &str, places: &[&At], properties: Value) -> Value {
    let locations: Vec<Value> = places.iter().map(|place| location(place)).collect();
    json!({
        "level": level,
        "kind": kind,
        "message": { "text": text },
        "locations": locations,
        "properties": properties,
    })
}

fn location(at: &At) -> Value {
    let (file, region) = match at {
        At::Text { file, line, column, end_column } => {
            (file, json!({ "startLine": line, "startColumn": column, "endColumn": end_column }))
        }
        At::Byte { file, offset } => (file, json!({ "byteOffset": offset, "byteLength": 1 })),
    };
    json!({ "physicalLocation": { "artifactLocation": { "uri": uri(file) }, "region": region } })
}

/// A path as a reference: relative, or with the scheme `file` where it is absolute.
fn uri(file: &str) -> String {
    let mut uri = String::from(if file.starts_with('/') { "file://" } else { "" });
    for byte in file.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => {
                uri.push(byte.into())
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

/// Sentences with full stops.
fn sentences<'a>(parts: impl Iterator<Item = &'a String>) -> String {
    let mut text = String::new();
    for part in parts {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(part);
        if !part.ends_with(['.', '!', '?']) {
            text.push('.');
        }
    }
    text
}
