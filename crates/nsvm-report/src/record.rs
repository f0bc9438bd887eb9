//! What the command says, as data: one record a line of JSON, and what the text for people is made of.
//!
//! Every key is always there. `schema/nsvm.schema.json` in the repository describes them.

use serde::Serialize;
use vmcb_dump::{Found, Place, Refuser};

/// The manual whose sections are cited.
pub(crate) const MANUAL: &str = "AMD APM vol. 2";
/// Its revision.
pub(crate) const REVISION: &str = "3.44";

/// Prints a line of JSON.
pub(crate) fn print(out: &mut dyn std::io::Write, line: &impl Serialize) -> std::io::Result<()> {
    writeln!(out, "{}", serde_json::to_string(line)?)
}

/// Prints a line of JSON about an input that cannot be read.
///
/// # Errors
/// If the output cannot be written.
pub fn print_failure(out: &mut dyn std::io::Write, file: &str, text: String) -> std::io::Result<()> {
    print(out, &Record::Error(Failure { file: file.to_owned(), text }))
}

/// One line of `--format json`.
#[derive(Serialize, Debug)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum Record {
    Finding(Finding),
    Undecided(Undecided),
    Remark(Said),
    Note(Note),
    Prediction(Predicted),
    Verdict(Verdict),
    Error(Failure),
    Summary(Summary),
    Decoded(Decoded),
}

/// Where something stands.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
#[serde(untagged)]
pub(crate) enum At {
    Text { file: String, line: u64, column: u64, end_column: u64 },
    Byte { file: String, offset: u64 },
}

impl At {
    /// Columns are counted in characters from 1; the end is the one after the last.
    pub(crate) fn new(file: &str, place: &Place, found: &Found) -> Self {
        match place {
            Place::Text { line, columns } => {
                let text = found.line(*line).unwrap_or("");
                let column =
                    |byte: usize| text.get(..byte).map_or(byte, |before| before.chars().count()) as u64 + 1;
                Self::Text {
                    file: file.to_owned(),
                    line: *line,
                    column: column(columns.start),
                    end_column: column(columns.end),
                }
            }
            Place::Byte { offset } => Self::Byte { file: file.to_owned(), offset: *offset },
        }
    }
}

/// `dump.txt:12`, `page.bin:0x1000`.
impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text { file, line, .. } => write!(f, "{file}:{line}"),
            Self::Byte { file, offset } => write!(f, "{file}:{offset:#x}"),
        }
    }
}

/// Whether a finding refuses.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Standing {
    /// VMRUN refuses.
    Broken,
    /// The manual requires otherwise and does not say what VMRUN does.
    Required,
    /// KVM said that it refused.
    RefusedByKvm,
    /// Xen said that it refused.
    RefusedByXen,
}

impl Standing {
    pub(crate) fn refused_by(refuser: Refuser) -> Self {
        match refuser {
            Refuser::Xen => Self::RefusedByXen,
            _ => Self::RefusedByKvm,
        }
    }
}

#[derive(Serialize, Debug)]
pub(crate) struct Finding {
    /// Which VMCB of the run, counted from 1.
    pub(crate) vmcb: u64,
    pub(crate) standing: Standing,
    /// The rule, if it is one and certain.
    pub(crate) rule: Option<String>,
    /// The rules of which one is broken; the same one where it is certain.
    pub(crate) candidates: Vec<String>,
    pub(crate) title: String,
    pub(crate) class: Option<char>,
    pub(crate) outcome: Option<&'static str>,
    pub(crate) manual: &'static str,
    pub(crate) revision: &'static str,
    pub(crate) section: Option<&'static str>,
    /// Judged on EXITINTINFO in the place of EVENTINJ.
    pub(crate) inferred: bool,
    /// The own words of KVM or Xen.
    pub(crate) condition: Option<String>,
    pub(crate) place: Option<At>,
    pub(crate) fields: Vec<Field>,
    /// What the CPU has to do with it.
    pub(crate) cpu: Vec<String>,
    pub(crate) help: Option<&'static str>,
    pub(crate) notes: Vec<String>,
}

/// A value that a finding is about.
#[derive(Serialize, Clone, Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    /// `vmcb`, `vmsa`, `host`.
    pub(crate) page: &'static str,
    pub(crate) offset: Option<String>,
    pub(crate) value: String,
    /// The bits of the value that are known.
    pub(crate) known: String,
    /// The bits that the rule reads.
    pub(crate) mask: String,
    pub(crate) decoded: String,
    pub(crate) primary: bool,
    pub(crate) place: Option<At>,
    /// Where the text for people marks it.
    #[serde(skip)]
    pub(crate) mark: Option<Mark>,
}

/// A mark in the user's text, or in a decoded line of a page.
#[derive(Clone, Debug)]
pub(crate) enum Mark {
    Text { file: String, line: u64, columns: std::ops::Range<usize> },
    Page { file: String, file_offset: u64, offset: u16, name: String, value: String },
}

impl Mark {
    pub(crate) fn file(&self) -> &str {
        match self {
            Self::Text { file, .. } | Self::Page { file, .. } => file,
        }
    }
}

/// A rule that is not decided.
#[derive(Serialize, Debug)]
pub(crate) struct Undecided {
    pub(crate) vmcb: u64,
    pub(crate) rule: &'static str,
    pub(crate) title: &'static str,
    pub(crate) missing: Vec<Missing>,
}

/// What would have to be known.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Missing {
    pub(crate) kind: MissingKind,
    pub(crate) name: String,
    /// The bits, where it is a word of bits.
    pub(crate) bits: Option<String>,
}

#[derive(Serialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MissingKind {
    /// A number or feature of the CPU: `--cpu`.
    Cpu,
    /// A field of the VMCB.
    Vmcb,
    /// A field of the VMSA.
    Vmsa,
    /// A fact about the host: `--host`.
    Host,
}

/// Something about the input.
#[derive(Serialize, Debug)]
pub(crate) struct Said {
    pub(crate) vmcb: u64,
    pub(crate) text: String,
    pub(crate) place: At,
    #[serde(skip)]
    pub(crate) mark: Option<Mark>,
}

/// Something to know that changes no verdict.
#[derive(Serialize, Debug)]
pub(crate) struct Note {
    pub(crate) vmcb: u64,
    /// Stable name.
    pub(crate) id: &'static str,
    pub(crate) text: String,
    /// More sentences.
    pub(crate) more: Vec<String>,
    pub(crate) section: Option<&'static str>,
    pub(crate) fields: Vec<Field>,
}

/// What a stack of implementations would do.
#[derive(Serialize, Debug)]
pub(crate) struct Predicted {
    pub(crate) vmcb: u64,
    /// As `--as` takes it.
    pub(crate) stack: String,
    /// The same for people.
    pub(crate) title: String,
    /// `accepts`, `refuses`, `stops`, `unknown`.
    pub(crate) answer: &'static str,
    /// Rules and habits that refuse, or that ought to have.
    pub(crate) by: Vec<&'static str>,
    /// The layer that refuses or stops, counted from 1 at the top; null where a layer above it may do so already.
    pub(crate) layer: Option<u64>,
    /// Judged on EXITINTINFO in the place of EVENTINJ.
    pub(crate) inferred: bool,
    /// What is not known.
    pub(crate) why: Vec<String>,
    pub(crate) grounds: Vec<Ground>,
    /// What is assumed beyond what a verdict assumes of the host.
    pub(crate) assumed: Vec<&'static str>,
    pub(crate) text: String,
}

impl Predicted {
    /// Returns in a few words how the answer is known.
    pub(crate) fn known_from(&self) -> String {
        let mut from: Vec<String> = Vec::new();
        let counts = |says: &str| match self.answer {
            "refuses" | "stops" => says == self.answer,
            "accepts" => says == "lets-pass",
            _ => false,
        };
        for ground in self.grounds.iter().filter(|ground| counts(ground.says)) {
            let text = match (&ground.from, ground.says) {
                (Some(text), "lets-pass") => format!("{text}: lets pass {}", ground.rule),
                (Some(text), _) => text.clone(),
                (None, _) => continue,
            };
            if !from.contains(&text) {
                from.push(text);
            }
        }
        match (&from[..], self.why.split_first()) {
            ([], None) => "no known check is against it".to_owned(),
            ([], Some((first, []))) => first.clone(),
            ([], Some((first, more))) => format!("{first}; and {} more", more.len()),
            (from, _) => from.join("; "),
        }
    }
}

/// A check that a prediction rests on.
#[derive(Serialize, Debug)]
pub(crate) struct Ground {
    pub(crate) layer: u64,
    pub(crate) rule: &'static str,
    /// `refuses`, `stops`, `lets-pass`, `unknown`.
    pub(crate) says: &'static str,
    pub(crate) known: Known,
    /// `measured 2026-11-24 on QEMU TCG 7.2.22`, `read in REPOSITORY REVISION`; null where it is not known.
    pub(crate) from: Option<String>,
    /// What the check does, in words; null where it is not known.
    pub(crate) does: Option<String>,
}

/// How something is known of an implementation.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Known {
    /// It was run.
    Measured,
    /// It was read in source.
    Read,
    /// The manual says so of hardware.
    Manual,
    /// It is not known.
    Unknown,
}

/// The answer on a VMCB or an event, as JSON has it.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// VMRUN accepts it.
    Accepted,
    /// VMRUN refuses it.
    Refused,
    /// It depends on what is not known.
    Undecided,
}

impl From<vmcb::Decision> for Decision {
    fn from(decision: vmcb::Decision) -> Self {
        match decision {
            vmcb::Decision::Accepted => Self::Accepted,
            vmcb::Decision::Refused => Self::Refused,
            vmcb::Decision::Undecided => Self::Undecided,
        }
    }
}

/// What a decision rests on.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum By {
    /// The rules.
    Rules,
    /// The exit code in the dump: the machine that made it ran VMRUN.
    ExitCode,
    /// KVM's own message.
    Kvm,
    /// Xen's own message.
    Xen,
}

impl By {
    pub(crate) fn of(refuser: Refuser) -> Self {
        match refuser {
            Refuser::Xen => Self::Xen,
            _ => Self::Kvm,
        }
    }
}

#[derive(Serialize, Debug)]
pub(crate) struct Verdict {
    pub(crate) vmcb: u64,
    pub(crate) place: At,
    /// `raw-page`, `hex-dump`, `kvm-dump` and so on: the schema lists them.
    pub(crate) form: &'static str,
    pub(crate) phase: &'static str,
    pub(crate) decision: Decision,
    pub(crate) by: By,
    pub(crate) broken: Vec<String>,
    pub(crate) required: Vec<&'static str>,
    pub(crate) undecided: Vec<&'static str>,
    pub(crate) inferred: Vec<&'static str>,
    pub(crate) missing: Vec<Missing>,
    pub(crate) exit_code: Option<String>,
    pub(crate) exit_name: Option<String>,
    /// What the machine did that made the dump; null where the dump does not tell.
    pub(crate) machine: Option<Decision>,
    /// The machine refused, and no rule explains it.
    pub(crate) unexplained: bool,
    pub(crate) cpu: String,
    pub(crate) policy: &'static str,
    /// The guest's registers are in an encrypted VMSA that is not known.
    pub(crate) encrypted: bool,
    /// What is assumed of the host.
    pub(crate) assumed: Vec<&'static str>,
    /// The verdict line without its place.
    pub(crate) text: String,
}

/// All that is said of one VMCB.
pub(crate) struct Report {
    pub(crate) findings: Vec<Finding>,
    pub(crate) undecided: Vec<Undecided>,
    pub(crate) remarks: Vec<Said>,
    pub(crate) notes: Vec<Note>,
    /// Of the stacks of `--as`.
    pub(crate) predictions: Vec<Predicted>,
    /// Of all known implementations, for `--who`.
    pub(crate) who: Vec<Predicted>,
    pub(crate) verdict: Verdict,
}

impl Report {
    /// In the order in which they are said.
    pub(crate) fn into_records(self) -> impl Iterator<Item = Record> {
        let findings = self.findings.into_iter().map(Record::Finding);
        let undecided = self.undecided.into_iter().map(Record::Undecided);
        let remarks = self.remarks.into_iter().map(Record::Remark);
        let notes = self.notes.into_iter().map(Record::Note);
        let predictions = self.predictions.into_iter().chain(self.who).map(Record::Prediction);
        findings
            .chain(undecided)
            .chain(remarks)
            .chain(notes)
            .chain(predictions)
            .chain(std::iter::once(Record::Verdict(self.verdict)))
    }
}

/// A word, by `nsvm decode`.
#[derive(Serialize, Debug)]
pub(crate) struct Decoded {
    /// As it was written, shortened.
    pub(crate) word: String,
    /// What it was taken for, as `--field` names it.
    pub(crate) field: String,
    pub(crate) value: String,
    /// Why, where it was guessed.
    pub(crate) guess: Option<String>,
    /// How it was read, where the spelling leaves a choice.
    pub(crate) spelling: Option<String>,
    pub(crate) title: String,
    pub(crate) parts: Vec<DecodedPart>,
    /// What else there is to say.
    pub(crate) said: Vec<String>,
}

/// Bits of a word.
#[derive(Serialize, Debug)]
pub(crate) struct DecodedPart {
    /// `31`, `10:8`.
    pub(crate) bits: String,
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) meaning: String,
}

/// An input that cannot be read, or not to its end.
#[derive(Serialize, Debug)]
pub(crate) struct Failure {
    pub(crate) file: String,
    pub(crate) text: String,
}

#[derive(Serialize, Default, Debug)]
pub(crate) struct Summary {
    pub(crate) files: u64,
    pub(crate) vmcbs: u64,
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) undecided: u64,
    pub(crate) unreadable: u64,
}
