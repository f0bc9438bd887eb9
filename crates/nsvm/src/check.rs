//! `nsvm check`: reads, asks `vmcb`, and says what it answered. Nothing is judged here.

use crate::cli;
use crate::error::Error;
use crate::explain;
use crate::host::HostFacts;
use crate::human::Printer;
use crate::record::{
    At, By, Decision, Failure, Field, Finding, MANUAL, Mark, Missing, MissingKind, Note, REVISION, Record,
    Said, Standing, Summary, Undecided, Verdict,
};
use crate::{Status, bits, complain, cpu, host, input};
use std::cell::OnceCell;
use std::io::{IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use vmcb::layout::{Field as Layout, Page, vmcb_field};
use vmcb::{
    Cpu, Environment, ExitCode, Feature, KnownPage, Limits, Literal, Outcome, Phase, Policy, Rule, RuleSet,
    Source, Test, View, Vmsa, Word,
};
use vmcb_dump::{Found, Kind, Place, Reader, Refusal, Refuser};

pub(crate) fn run(arguments: &cli::Check, out: &mut dyn Write) -> Result<Status, Error> {
    let question = Question::new(arguments)?;
    let stdin = [PathBuf::from("-")];
    let files = if arguments.files.is_empty() { &stdin[..] } else { &arguments.files };
    if arguments.files.is_empty() && std::io::stdin().is_terminal() {
        let _ =
            writeln!(anstream::stderr(), "nsvm: reading the standard input; `nsvm check --help` says more");
    }
    let mut run = Run {
        question: &question,
        printer: Printer::new(arguments.format, arguments.verbose, out),
        summary: Summary::default(),
        status: Status::Fine,
    };
    for file in files {
        run.file(file)?;
    }
    run.finish()
}

/// What is asked of every VMCB.
struct Question {
    cpu: Cpu,
    cpu_text: String,
    cpu_given: bool,
    policy: Policy,
    limits: Limits,
    /// Of the same policy: any AMD CPU, and one of which no feature is known.
    any: OnceCell<Limits>,
    blank: OnceCell<Limits>,
    host: HostFacts,
    phase: Option<Phase>,
    vmsa: Option<(String, Box<KnownPage>)>,
}

impl Question {
    fn new(arguments: &cli::Check) -> Result<Self, Error> {
        let cpu = arguments.cpu.as_deref().map_or(Ok(Cpu::ANY), cpu::parse)?;
        let policy = arguments.policy.into();
        let vmsa = match &arguments.vmsa {
            Some(path) => Some((input::name(path), input::vmsa(path)?)),
            None => None,
        };
        Ok(Self {
            cpu,
            cpu_text: arguments.cpu.clone().unwrap_or_else(|| "any".into()),
            cpu_given: arguments.cpu.is_some(),
            policy,
            limits: Limits::compile(&cpu, policy),
            any: OnceCell::new(),
            blank: OnceCell::new(),
            host: HostFacts::parse(arguments.host.as_deref())?,
            phase: arguments.phase.map(|phase| match phase {
                cli::Phase::Before => Phase::Before,
                cli::Phase::After => Phase::After,
            }),
            vmsa,
        })
    }

    fn any(&self) -> &Limits {
        self.any.get_or_init(|| Limits::compile(&Cpu::ANY, self.policy))
    }

    fn blank(&self) -> &Limits {
        self.blank.get_or_init(|| {
            let cpu = Feature::ALL.iter().fold(Cpu::ANY, |cpu, &feature| cpu.without_knowing(feature));
            Limits::compile(&cpu, self.policy)
        })
    }
}

struct Run<'a> {
    question: &'a Question,
    printer: Printer<'a>,
    summary: Summary,
    status: Status,
}

impl Run<'_> {
    fn file(&mut self, path: &Path) -> Result<(), Error> {
        let name = input::name(path);
        self.summary.files += 1;
        let opened = match input::open(path) {
            Ok(opened) => opened,
            Err(error) => return self.failed(&name, &error),
        };
        for item in Reader::new(opened) {
            match item {
                Ok(found) => {
                    self.summary.vmcbs += 1;
                    let report = Case::report(self.question, &name, self.summary.vmcbs, &found);
                    self.count(report.verdict.decision);
                    self.printer.report(report, &found)?;
                }
                Err(error) => {
                    let error = Error::Input { file: name.clone(), message: error.to_string() };
                    return self.failed(&name, &error);
                }
            }
        }
        Ok(())
    }

    fn failed(&mut self, file: &str, error: &Error) -> Result<(), Error> {
        self.summary.unreadable += 1;
        self.status = self.status.and(Status::Failed);
        let text = match error {
            Error::Input { message, .. } => message.clone(),
            other => other.to_string(),
        };
        self.printer.failure(Failure { file: file.to_owned(), text })?;
        complain(error);
        Ok(())
    }

    fn count(&mut self, decision: Decision) {
        let (count, status) = match decision {
            Decision::Accepted => (&mut self.summary.accepted, Status::Fine),
            Decision::Refused => (&mut self.summary.refused, Status::Refused),
            Decision::Undecided => (&mut self.summary.undecided, Status::Undecided),
        };
        *count += 1;
        self.status = self.status.and(status);
    }

    fn finish(mut self) -> Result<Status, Error> {
        let several = self.summary.files > 1 || self.summary.vmcbs > 1;
        let assumed = self.question.host.assumed();
        self.printer.end(&assumed, self.summary, several)?;
        Ok(self.status)
    }
}

/// All that is said of one VMCB.
pub(crate) struct Report {
    pub(crate) findings: Vec<Finding>,
    pub(crate) undecided: Vec<Undecided>,
    pub(crate) remarks: Vec<Said>,
    pub(crate) notes: Vec<Note>,
    pub(crate) verdict: Verdict,
}

impl Report {
    /// In the order in which they are said.
    pub(crate) fn into_records(self) -> impl Iterator<Item = Record> {
        let findings = self.findings.into_iter().map(Record::Finding);
        let undecided = self.undecided.into_iter().map(Record::Undecided);
        let remarks = self.remarks.into_iter().map(Record::Remark);
        let notes = self.notes.into_iter().map(Record::Note);
        findings
            .chain(undecided)
            .chain(remarks)
            .chain(notes)
            .chain(std::iter::once(Record::Verdict(self.verdict)))
    }
}

/// One VMCB under judgement.
struct Case<'a> {
    question: &'a Question,
    file: &'a str,
    vmcb: u64,
    found: &'a Found,
    vmsa: Option<&'a KnownPage>,
    phase: Phase,
    environment: &'a Environment<'a>,
    view: View<'a>,
}

impl<'a> Case<'a> {
    fn report(question: &'a Question, file: &'a str, vmcb: u64, found: &'a Found) -> Report {
        let given = question.vmsa.as_ref().map(|(_, page)| &**page);
        let vmsa = found.vmsa.as_deref().or(given);
        let environment =
            question.host.environment(found.vmcb_address).with_vmsa(vmsa.map_or(Vmsa::Unknown, Vmsa::Known));
        let phase = question.phase.unwrap_or(found.phase);
        let view = View::new(&found.vmcb, phase, &question.limits, &environment);
        Case { question, file, vmcb, found, vmsa, phase, environment: &environment, view }.judge()
    }

    fn judge(&self) -> Report {
        // A line that says only why KVM refused shows no VMCB to judge.
        let shown = !self.only_reasons() || !self.found.vmcb.is_empty();
        let judged = self.view.judge();
        let (broken, unstated, unknown) = if shown {
            (judged.broken(), judged.unstated(), judged.unknown())
        } else {
            (RuleSet::EMPTY, RuleSet::EMPTY, RuleSet::EMPTY)
        };
        let inferred = judged.inferred().intersection(broken);
        let machine = self.machine();
        let mut findings: Vec<Finding> = Vec::new();
        for rule in broken.iter() {
            findings.push(self.finding(rule, Standing::Broken, inferred.contains(rule)));
        }
        for refusal in &self.found.refusals {
            self.refusal(refusal, &mut findings);
        }
        for rule in unstated.iter() {
            findings.push(self.finding(rule, Standing::Required, false));
        }
        let undecided: Vec<Undecided> = unknown.iter().map(|rule| self.undecided(rule)).collect();
        let mut missing: Vec<Missing> = Vec::new();
        for item in undecided.iter().flat_map(|undecided| &undecided.missing) {
            if !missing.iter().any(|known| known.kind == item.kind && known.name == item.name) {
                missing.push(Missing { bits: None, ..item.clone() });
            }
        }
        let verdict = self.verdict(broken, unstated, unknown, inferred, machine, missing);
        let mut notes = self.notes();
        self.machine_notes(machine, &verdict, &mut notes);
        let remarks = self.found.remarks.iter().map(|remark| Said {
            vmcb: self.vmcb,
            text: remark.to_string(),
            place: self.at(&remark.place),
            mark: match &remark.place {
                Place::Text { line, columns } => {
                    Some(Mark::Text { file: self.file.to_owned(), line: *line, columns: columns.clone() })
                }
                Place::Byte { .. } => None,
            },
        });
        Report { findings, undecided, remarks: remarks.collect(), notes, verdict }
    }

    fn at(&self, place: &Place) -> At {
        At::new(self.file, place, self.found)
    }

    /// The exit code, where the input shows one that counts.
    fn exit_code(&self) -> Option<ExitCode> {
        if self.phase != Phase::After {
            return None;
        }
        let bits = self.found.vmcb.field(vmcb_field::exitcode);
        let low = u64::from(u32::MAX);
        if bits.known_mask() == u64::MAX {
            Some(ExitCode::from_bits(bits.value()).widened())
        } else if bits.known_mask() & low == low {
            Some(ExitCode::from_low_half(bits.value() as u32))
        } else {
            None
        }
    }

    /// What the machine did that made the dump.
    fn machine(&self) -> Option<Decision> {
        let code = self.exit_code()?;
        Some(if code.is_failure() { Decision::Refused } else { Decision::Accepted })
    }

    fn verdict(
        &self,
        broken: RuleSet,
        unstated: RuleSet,
        unknown: RuleSet,
        inferred: RuleSet,
        machine: Option<Decision>,
        missing: Vec<Missing>,
    ) -> Verdict {
        let refusal = self.found.refusals.first();
        let undecided = !unstated.is_empty() || !unknown.is_empty();
        let unexplained = machine == Some(Decision::Refused) && broken.is_empty();
        let (decision, by) = if !broken.is_empty() {
            (Decision::Refused, By::Rules)
        } else if let Some(refusal) = refusal {
            (Decision::Refused, By::of(refusal.by))
        } else if machine == Some(Decision::Accepted) && !self.question.cpu_given {
            (Decision::Accepted, By::ExitCode)
        } else if undecided || unexplained {
            (Decision::Undecided, By::Rules)
        } else {
            (Decision::Accepted, By::Rules)
        };
        let exit = self.exit_code();
        let mut verdict = Verdict {
            vmcb: self.vmcb,
            place: self.at(&self.found.place),
            form: form(self.found.kind),
            phase: match self.phase {
                Phase::Before => "before",
                Phase::After => "after",
                Phase::Unknown => "unknown",
            },
            decision,
            by,
            broken: ids(broken).map(str::to_owned).collect(),
            required: ids(unstated).collect(),
            undecided: ids(unknown).collect(),
            inferred: ids(inferred).collect(),
            missing,
            exit_code: exit.map(|code| hex(code.bits())),
            exit_name: exit.map(|code| code.to_string()),
            machine,
            unexplained,
            cpu: self.question.cpu_text.clone(),
            policy: self.question.policy.name(),
            assumed: self.question.host.assumed(),
            text: String::new(),
        };
        if matches!(by, By::Kvm | By::Xen) {
            for refusal in &self.found.refusals {
                if let [rule] = refusal.rules
                    && !verdict.broken.iter().any(|id| id == rule)
                {
                    verdict.broken.push((*rule).to_owned());
                }
            }
        }
        verdict.text = self.verdict_text(&verdict);
        verdict
    }

    /// The verdict line without its place.
    fn verdict_text(&self, verdict: &Verdict) -> String {
        let open = verdict.undecided.len() + verdict.required.len();
        match (verdict.decision, verdict.by) {
            (Decision::Refused, By::Kvm | By::Xen) => {
                let who = self.found.refusals.first().map_or(String::new(), |refusal| refusal.by.to_string());
                let mut reasons: Vec<String> = Vec::new();
                for refusal in &self.found.refusals {
                    let reason = match refusal.rules {
                        [] => continue,
                        [rule] => (*rule).to_owned(),
                        several => format!("one of {}", several.join(", ")),
                    };
                    if !reasons.contains(&reason) {
                        reasons.push(reason);
                    }
                }
                match &reasons[..] {
                    [] => format!("refused by {who}, for a condition that stands for no rule of the manual"),
                    reasons => format!("refused by {who}: {}", reasons.join("; ")),
                }
            }
            (Decision::Refused, _) => {
                let count = verdict.broken.len();
                let mut text = format!("refused: {} broken ({})", rules(count), verdict.broken.join(", "));
                if !verdict.inferred.is_empty() {
                    text.push_str(", inferred from EXITINTINFO");
                }
                if open > 0 {
                    text.push_str(&format!(", {open} undecided"));
                }
                text
            }
            (Decision::Accepted, By::ExitCode) => {
                format!("accepted: VMRUN accepted it: {}", self.exit_text())
            }
            (Decision::Accepted, _) => "accepted".into(),
            (Decision::Undecided, _) => {
                let mut parts = Vec::new();
                if verdict.unexplained {
                    parts.push(format!(
                        "VMRUN refused it with {}, and nothing that is known of the VMCB explains it",
                        self.exit_text()
                    ));
                }
                if !verdict.required.is_empty() {
                    parts.push(format!(
                        "{} required and not met, outcome not stated ({})",
                        rules(verdict.required.len()),
                        verdict.required.join(", ")
                    ));
                }
                if !verdict.undecided.is_empty() {
                    parts.push(rules(verdict.undecided.len()));
                    parts.push(format!("missing: {}", self.missing_text(&verdict.missing)));
                }
                format!("undecided: {}", parts.join("; "))
            }
        }
    }

    /// `exit code 0x400 (NPF)`.
    fn exit_text(&self) -> String {
        match self.exit_code() {
            Some(code) if code.is_failure() => format!("exit code {} ({code})", code.bits().cast_signed()),
            Some(code) => format!("exit code {:#x} ({code})", code.bits()),
            None => "no exit code".into(),
        }
    }

    /// What is missing, shortly.
    fn missing_text(&self, missing: &[Missing]) -> String {
        let cpu = match (self.question.cpu_given, self.question.cpu.phys_bits()) {
            (false, _) => "--cpu MODEL,phys-bits=N",
            (true, None) => "add ,phys-bits=N to --cpu",
            (true, Some(_)) => "add to --cpu",
        };
        let event = missing.iter().any(|item| item.name == Word::EventInj.name());
        let vmcb = match self.phase {
            Phase::After if event => "EVENTINJ is cleared by #VMEXIT",
            Phase::Unknown if event => {
                "EVENTINJ is cleared by #VMEXIT: --phase before, if this is not after one"
            }
            _ => "",
        };
        let groups = [
            (MissingKind::Vmcb, "VMCB field", vmcb),
            (MissingKind::Cpu, "CPU fact", cpu),
            (MissingKind::Vmsa, "VMSA field", "--vmsa FILE"),
            (MissingKind::Host, "host fact", "--host"),
        ];
        let mut parts = Vec::new();
        for (kind, what, how) in groups {
            let names: Vec<&str> =
                missing.iter().filter(|item| item.kind == kind).map(|item| item.name.as_str()).collect();
            if names.is_empty() {
                continue;
            }
            let plural = if names.len() == 1 { "" } else { "s" };
            let how = if how.is_empty() { String::new() } else { format!("; {how}") };
            parts.push(format!("{} {what}{plural} ({}{how})", names.len(), some_of(&names)));
        }
        parts.join(", ")
    }

    fn undecided(&self, rule: Rule) -> Undecided {
        let mut missing: Vec<Missing> = Vec::new();
        let mut add = |kind, name: String, bits: Option<u64>| {
            let item = Missing { kind, name, bits: bits.map(hex) };
            if !missing.contains(&item) {
                missing.push(item);
            }
        };
        self.view.missing(rule, &mut |what| match what {
            vmcb::Missing::Bits(Word::Cpu, mask) => {
                for feature in explain::features(mask) {
                    add(MissingKind::Cpu, feature.name().into(), None);
                }
            }
            vmcb::Missing::Bits(Word::Host, mask) => {
                for (spelling, fact, _) in host::FACTS {
                    if mask & fact.bits() != 0 {
                        add(MissingKind::Host, spelling.into(), None);
                    }
                }
                if mask & vmcb::Host::CPL0.union(vmcb::Host::CPL1).bits() != 0 {
                    add(MissingKind::Host, "cpl".into(), None);
                }
            }
            vmcb::Missing::Bits(word, mask) => match (word.source(), self.view.field(word)) {
                (Source::Environment, _) => {
                    let name = match word {
                        Word::VmcbAddress => "rax",
                        _ => "pdptes",
                    };
                    add(MissingKind::Host, name.into(), None);
                }
                (_, None) => add(MissingKind::Host, "u-cet".into(), None),
                (_, Some(field)) => {
                    let kind = match field.page {
                        Page::Vmcb => MissingKind::Vmcb,
                        Page::Vmsa => MissingKind::Vmsa,
                    };
                    add(kind, word.name().into(), Some(mask));
                }
            },
            vmcb::Missing::PhysBits => add(MissingKind::Cpu, "phys-bits".into(), None),
            vmcb::Missing::CBit => {
                if self.question.cpu.has(Feature::Sme) != Some(false) {
                    add(MissingKind::Cpu, "c-bit".into(), None);
                }
                add(MissingKind::Host, "memenc".into(), None);
            }
            vmcb::Missing::SevAsids => {
                add(MissingKind::Cpu, "sev-asid-max".into(), None);
                add(MissingKind::Cpu, "sev-asid-min".into(), None);
            }
            other => add(MissingKind::Vmcb, format!("{other:?}"), None),
        });
        Undecided { vmcb: self.vmcb, rule: rule.id(), title: rule.row().title, missing }
    }

    /// A rule that is broken, or whose requirement is not met.
    fn finding(&self, rule: Rule, standing: Standing, inferred: bool) -> Finding {
        let row = rule.row();
        let fields = self.fields(rule);
        let mut notes = Vec::new();
        if inferred {
            notes.push(
                "inferred from EXITINTINFO: #VMEXIT clears EVENTINJ.V, and some processors (QEMU's VMRUN is one) \
                 leave in EXITINTINFO the event that they refused to inject"
                    .to_owned(),
            );
        }
        if standing == Standing::Required {
            notes.push("required, outcome not stated: the manual does not say what VMRUN does".to_owned());
        }
        for refusal in self.found.refusals.iter().filter(|refusal| refusal.rules.contains(&row.id)) {
            notes.push(format!("{} refused it for this condition: {}", refusal.by, refusal.condition));
        }
        if !row.remark.is_empty() {
            notes.push(row.remark.to_owned());
        }
        Finding {
            vmcb: self.vmcb,
            standing,
            rule: Some(row.id.to_owned()),
            candidates: vec![row.id.to_owned()],
            title: row.title.to_owned(),
            class: Some(row.class.letter()),
            outcome: Some(row.outcome.name()),
            manual: MANUAL,
            revision: REVISION,
            section: Some(row.section),
            inferred,
            condition: None,
            place: fields.iter().find(|field| field.primary).and_then(|field| field.place.clone()),
            cpu: self.cpu_facts(rule),
            fields,
            help: Some(row.mend),
            notes,
        }
    }

    /// Whether the input shows why an implementation refused and nothing of the VMCB.
    fn only_reasons(&self) -> bool {
        matches!(self.found.kind, Kind::KvmTraceFailed | Kind::XenChecks)
    }

    /// What an implementation itself said, unless a finding says it already.
    fn refusal(&self, refusal: &Refusal, findings: &mut Vec<Finding>) {
        let said = |finding: &Finding| finding.candidates.iter().any(|id| refusal.rules.contains(&&**id));
        if findings.iter().any(said) {
            return;
        }
        let candidates: Vec<String> = refusal.rules.iter().map(|id| (*id).to_owned()).collect();
        let note = match (refusal.by, self.found.kind) {
            (Refuser::Kvm, Kind::KvmTraceFailed) => {
                "this line shows the condition that KVM found, and none of the VMCB's values; kvm_nested_vmenter \
                 and a dump of the VMCB show them"
            }
            (Refuser::Kvm, _) => {
                "KVM checked this after kvm_nested_vmenter, on values that its lines do not show"
            }
            (_, Kind::XenChecks) => {
                "this line shows what Xen found, and of the VMCB only what it names; a dump of the VMCB shows the rest"
            }
            _ => "Xen found this; what the dump shows of the VMCB does not decide it",
        };
        let mut notes = vec![note.to_owned()];
        let certain = match refusal.rules {
            [id] => Rule::from_id(id),
            _ => None,
        };
        if let [id] = refusal.rules
            && let Some(habit) = explain::habit(id)
        {
            notes.push(format!("no rule of the manual, but a habit of {}: {}", refusal.by, habit.text));
        }
        for id in refusal.rules.iter().filter(|_| refusal.rules.len() > 1) {
            if let Some(rule) = Rule::from_id(id) {
                notes.push(format!("{id}: {}", rule.row().title));
            }
        }
        if refusal.rules.is_empty() {
            notes.push("no rule of the manual is known to stand for this condition".to_owned());
        }
        let row = certain.map(Rule::row);
        let place = self.at(&refusal.place);
        let mark = match &refusal.place {
            Place::Text { line, columns } => {
                Some(Mark::Text { file: self.file.to_owned(), line: *line, columns: columns.clone() })
            }
            Place::Byte { .. } => None,
        };
        findings.push(Finding {
            vmcb: self.vmcb,
            standing: Standing::refused_by(refusal.by),
            rule: certain.map(|rule| rule.id().to_owned()),
            candidates,
            title: format!("{} refused: {}", refusal.by, refusal.condition),
            class: row.map(|row| row.class.letter()),
            outcome: Some(Outcome::Invalid.name()),
            manual: MANUAL,
            revision: REVISION,
            section: row.map(|row| row.section),
            inferred: false,
            condition: Some(refusal.condition.clone()),
            place: Some(place.clone()),
            fields: vec![Field {
                name: "condition".into(),
                page: "vmcb",
                offset: None,
                value: String::new(),
                known: hex(0),
                mask: hex(0),
                decoded: row.map_or_else(String::new, |row| row.title.to_owned()),
                primary: true,
                place: Some(place),
                mark,
            }],
            cpu: Vec::new(),
            help: row.map(|row| row.mend),
            notes,
        });
    }

    /// The fields that a rule reads and that are known, each with its place.
    fn fields(&self, rule: Rule) -> Vec<Field> {
        let mut words: Vec<(Word, u64)> = Vec::new();
        let mut primary: Vec<Word> = Vec::new();
        for literal in rule.row().when {
            let mut read: Vec<Word> = Vec::new();
            literal.reads(&mut |word, mask| {
                if matches!(word, Word::Cpu | Word::Mode) {
                    return;
                }
                read.push(word);
                match words.iter_mut().find(|(known, _)| *known == word) {
                    Some((_, all)) => *all |= mask,
                    None => words.push((word, mask)),
                }
            });
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

    fn field(&self, rule: Rule, word: Word, mask: u64, primary: bool) -> Field {
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

    fn place_of(&self, mark: &Mark) -> At {
        match mark {
            Mark::Text { line, columns, .. } => {
                self.at(&Place::Text { line: *line, columns: columns.clone() })
            }
            Mark::Page { file, file_offset, .. } => At::Byte { file: file.clone(), offset: *file_offset },
        }
    }

    /// Where the lowest of these bits of a field stands in the input.
    fn mark(&self, field: Layout, name: &str, value: u64, bits: u64) -> Option<Mark> {
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

    /// The set bits of a word each of which alone would break the rule; none where that is no question
    /// of single bits.
    fn culprits(&self, rule: Rule, word: Word, mask: u64) -> u64 {
        let Some(literal) = rule.row().when.iter().copied().find(|literal| is_about_bits(*literal, word))
        else {
            return 0;
        };
        let Some(field) = self.view.field(word) else {
            return 0;
        };
        let value = self.view.word(word).value() & mask;
        let step = if literal == Literal::Holds(Test::PatInvalid) { 8 } else { 1 };
        let mut culprits = 0;
        for group in (0..64).step_by(step).map(|bit| (u64::MAX >> (64 - step)) << bit) {
            if value & group != 0
                && self.with_field(&self.question.limits, field, value & group, &mut |view| {
                    view.holds(literal) == Some(true)
                })
            {
                culprits |= value & group;
            }
        }
        culprits
    }

    /// Asks about the same VMCB with another value in one field.
    fn with_field<T>(
        &self,
        limits: &Limits,
        field: Layout,
        value: u64,
        ask: &mut dyn FnMut(&View<'_>) -> T,
    ) -> T {
        match field.page {
            Page::Vmcb => {
                let mut page = self.found.vmcb.clone();
                page.learn(field.offset, field.size, value, u64::MAX);
                ask(&View::new(&page, Phase::Before, limits, self.environment))
            }
            Page::Vmsa => {
                let mut page = self.vmsa.cloned().unwrap_or_else(KnownPage::nothing);
                page.learn(field.offset, field.size, value, u64::MAX);
                let environment = self.environment.with_vmsa(Vmsa::Known(&page));
                ask(&View::new(&self.found.vmcb, Phase::Before, limits, &environment))
            }
        }
    }

    /// The features of the CPU that decide whether a bit of a word is defined.
    fn features_of_bit(&self, rule: Rule, word: Word, bit: u8) -> Vec<Feature> {
        let Some(field) = self.view.field(word) else {
            return Vec::new();
        };
        let mut features = Vec::new();
        self.with_field(self.question.blank(), field, 1 << bit, &mut |view| {
            for &literal in rule.row().when.iter().filter(|literal| is_about_bits(**literal, word)) {
                if view.holds(literal).is_none() {
                    view.missing(rule, &mut |what| {
                        if let vmcb::Missing::Bits(Word::Cpu, mask) = what {
                            features.extend(explain::features(mask));
                        }
                    });
                }
            }
        });
        features
    }

    fn culprits_text(&self, rule: Rule, word: Word, culprits: u64) -> String {
        if word == Word::GPat {
            return bits::pat(self.view.word(word).value());
        }
        let per_feature = rule
            .row()
            .when
            .iter()
            .any(|literal| matches!(literal, Literal::Holds(Test::Cr4Reserved | Test::EferReserved)));
        if !per_feature {
            let names: Vec<String> = (0..64)
                .rev()
                .filter(|bit| {
                    culprits >> bit & 1 == 1 && word.bit_names().iter().any(|(named, ..)| named == bit)
                })
                .map(|bit| bits::bit_with_name(word, bit))
                .collect();
            let all = if names.len() == culprits.count_ones() as usize {
                names.join(", ")
            } else {
                bits::bits(culprits)
            };
            let what = if word == Word::SevFeatures
                && rule.row().when.contains(&Literal::Holds(Test::SevFeatureNotAllowed))
            {
                "not allowed"
            } else {
                "must be 0"
            };
            return format!("{all} {what}");
        }
        let mut reserved: u64 = 0;
        let mut parts = Vec::new();
        for bit in (0..64).rev().filter(|bit| culprits >> bit & 1 == 1) {
            let features = self.features_of_bit(rule, word, bit);
            if features.is_empty() {
                reserved |= 1 << bit;
            }
            for feature in features {
                let value = match self.question.cpu.has(feature) {
                    Some(has) => u8::from(has).to_string(),
                    None => "?".into(),
                };
                let name = bits::bit_with_name(word, bit);
                parts.push(format!(
                    "{name} depends on {}, here {value} ({})",
                    feature.cpuid(),
                    feature.name()
                ));
            }
        }
        if reserved != 0 {
            let verb = if reserved.count_ones() == 1 { "is" } else { "are" };
            parts.push(format!("{} {verb} reserved on every AMD CPU", bits::bits(reserved)));
        }
        parts.join("; ")
    }

    /// What the CPU has to do with it: the features that the rule reads, where not all CPUs have the same.
    fn cpu_facts(&self, rule: Rule) -> Vec<String> {
        let mut mask = 0;
        for literal in rule.row().when {
            literal.reads(&mut |word, bits| {
                if word == Word::Cpu {
                    mask |= bits;
                }
            });
        }
        let mut facts: Vec<String> = explain::features(mask)
            .filter(|&feature| Cpu::ANY.has(feature).is_none())
            .filter_map(|feature| {
                let has = self.question.cpu.has(feature)?;
                let verb = if has { "has" } else { "lacks" };
                let value = u8::from(has);
                Some(format!(
                    "it {verb} {}: {} = {value} ({})",
                    feature.meaning(),
                    feature.cpuid(),
                    feature.name()
                ))
            })
            .collect();
        if rule
            .row()
            .when
            .iter()
            .any(|literal| matches!(literal, Literal::Holds(test) if explain::asks_width(*test)))
        {
            facts.push(match self.question.cpu.phys_bits() {
                Some(width) => format!("physical addresses have {width} bits: CPUID 8000_0008 EAX[7:0]"),
                None => format!("no AMD CPU has physical addresses of more than {} bits", vmcb::PHYS_BITS.1),
            });
        }
        if self.question.cpu_given && self.on_every_cpu(rule) {
            facts.push("every AMD CPU refuses this".into());
        }
        facts
    }

    fn on_every_cpu(&self, rule: Rule) -> bool {
        let view = View::new(&self.found.vmcb, self.phase, self.question.any(), self.environment);
        view.judge().broken().contains(rule)
    }

    /// Notes of the rulebook.
    fn notes(&self) -> Vec<Note> {
        let mut notes = Vec::new();
        if self.only_reasons() {
            return notes;
        }
        self.view.notes(&mut |note| {
            let layout = note.field();
            let word = if layout == vmcb_field::eventinj { Some(Word::EventInj) } else { None };
            let bits = self.found.vmcb.field(layout);
            let value = word.map_or(bits, |word| self.view.word(word)).value();
            let name = word.map_or(layout.name, Word::name);
            let mark = self.mark(layout, name, value, 1);
            let field = Field {
                name: name.into(),
                page: "vmcb",
                offset: Some(format!("{:#05x}", layout.offset)),
                value: hex(value),
                known: hex(bits.known_mask() & width_mask(layout.size.into())),
                mask: hex(bits.known_mask() & width_mask(layout.size.into())),
                decoded: word.map_or_else(|| bits::bits(value), |_| bits::event(value)),
                primary: true,
                place: mark.as_ref().map(|mark| self.place_of(mark)),
                mark,
            };
            notes.push(Note {
                vmcb: self.vmcb,
                id: note.id(),
                text: note.title().into(),
                more: Vec::new(),
                section: Some(note.section()),
                fields: vec![field],
            });
        });
        notes
    }

    /// What the exit code says, where it says more than the verdict line.
    fn machine_notes(&self, machine: Option<Decision>, verdict: &Verdict, notes: &mut Vec<Note>) {
        let mut say = |id, text: String, more: Vec<String>, marked: bool| {
            let fields = if marked { self.exit_field().into_iter().collect() } else { Vec::new() };
            notes.push(Note { vmcb: self.vmcb, id, text, more, section: None, fields });
        };
        match machine {
            Some(Decision::Accepted) if verdict.by != By::ExitCode => {
                let mut more = Vec::new();
                if verdict.decision == Decision::Refused {
                    more.push(
                        "after #VMEXIT the save area holds the guest's state at its exit, not what VMRUN loaded"
                            .to_owned(),
                    );
                    if self.question.cpu_given {
                        more.push(format!(
                            "the verdict is for the CPU asked about: {}",
                            self.question.cpu_text
                        ));
                    }
                }
                let text =
                    format!("VMRUN accepted it on the machine that made the dump: {}", self.exit_text());
                say("machine-accepted", text, more, true);
            }
            Some(Decision::Refused) => self.refusal_notes(verdict, &mut say),
            None if self.phase == Phase::Unknown => {
                let code = self.found.vmcb.field(vmcb_field::exitcode);
                if code.known_mask() == u64::MAX && code.value() != 0 {
                    let code = ExitCode::from_bits(code.value()).widened();
                    let text = format!(
                        "EXITCODE is {:#x} ({code}), and the input does not tell whether it was seen before VMRUN \
                         or after #VMEXIT: --phase after takes it as what VMRUN did",
                        code.bits()
                    );
                    say("phase-unknown", text, Vec::new(), false);
                }
            }
            _ => {}
        }
    }

    fn refusal_notes(&self, verdict: &Verdict, say: &mut dyn FnMut(&'static str, String, Vec<String>, bool)) {
        let Some(code) = self.exit_code() else {
            return;
        };
        let family: Vec<Rule> = Rule::ALL
            .iter()
            .copied()
            .filter(|rule| code != ExitCode::INVALID && rule.row().outcome.name() == format!("VMEXIT_{code}"))
            .collect();
        if !family.is_empty() {
            let text = format!("VMRUN refused it with {}, which only these rules do", self.exit_text());
            let more = family.iter().map(|rule| format!("{}: {}", rule.id(), rule.row().title)).collect();
            say("refused-by-family", text, more, true);
        } else if verdict.unexplained {
            let mut more = Vec::new();
            if !verdict.undecided.is_empty() {
                more.push(format!(
                    "{} not decided, so the cause may be in what the dump does not show: {}",
                    are(verdict.undecided.len()),
                    self.missing_text(&verdict.missing)
                ));
            }
            more.extend(self.on_other_cpus(verdict));
            more.extend(OTHER_CAUSES.map(str::to_owned));
            let text =
                format!("VMRUN refused it with {}, and no rule is broken for certain", self.exit_text());
            say("refused-unexplained", text, more, true);
        }
    }

    /// The undecided rules that a CPU with, or without, certain features would refuse for.
    fn on_other_cpus(&self, verdict: &Verdict) -> Vec<String> {
        let mut found = Vec::new();
        for rule in verdict.undecided.iter().filter_map(|id| Rule::from_id(id)) {
            let missing = self.undecided(rule).missing;
            let features: Option<Vec<Feature>> = missing
                .iter()
                .map(|item| (item.kind == MissingKind::Cpu).then(|| Feature::from_name(&item.name)).flatten())
                .collect();
            let Some(features) = features.filter(|features| !features.is_empty()) else {
                continue;
            };
            for has in [true, false] {
                let cpu = features.iter().fold(self.question.cpu, |cpu, &feature| cpu.with(feature, has));
                let limits = Limits::compile(&cpu, self.question.policy);
                let view = View::new(&self.found.vmcb, self.phase, &limits, self.environment);
                if view.judge().broken().contains(rule) {
                    let sign = if has { '+' } else { '-' };
                    let names: Vec<String> =
                        features.iter().map(|feature| format!("{sign}{}", feature.name())).collect();
                    let (id, title) = (rule.id(), rule.row().title);
                    found.push(format!("on a CPU with {}: {id} would be broken: {title}", names.join(",")));
                    break;
                }
            }
        }
        found
    }

    /// EXITCODE as a field to mark.
    fn exit_field(&self) -> Option<Field> {
        let field = vmcb_field::exitcode;
        let bits = self.found.vmcb.field(field);
        let value = bits.value();
        let mark = self.mark(field, "EXITCODE", value, 1);
        let code = self.exit_code()?;
        Some(Field {
            name: "EXITCODE".into(),
            page: "vmcb",
            offset: Some(format!("{:#05x}", field.offset)),
            value: hex(value),
            known: hex(bits.known_mask()),
            mask: hex(bits.known_mask()),
            decoded: code.to_string(),
            primary: true,
            place: mark.as_ref().map(|mark| self.place_of(mark)),
            mark,
        })
    }
}

/// What ends in VMEXIT_INVALID without a trace in the VMCB.
const OTHER_CAUSES: [&str; 6] = [
    "else: the hypervisor below, where this machine is itself a guest: it runs a VMCB of its own making, which \
     the CPU may refuse for reasons that are not in this one",
    "else: VMRUN in SMM, or under an SMM monitor",
    "else: the contents of an encrypted VMSA, or its checksum",
    "else: memory: a permission map, a table or the VMSA where there is no memory",
    "else: the RMP, where SEV-SNP is enabled",
    "else: MSRs of the host (SYSCFG, HWCR, VM_HSAVE_PA, IBS), or a field cached by the clean bits",
];

/// Whether single bits of this word decide the literal.
fn is_about_bits(literal: Literal, word: Word) -> bool {
    match literal {
        Literal::IsNot { word: read, value: 0, .. } => read == word && word != Word::EventInj,
        Literal::Holds(test) => match test {
            Test::AddressTooWide(read) | Test::PointerTooWide(read) => read == word,
            Test::Cr4Reserved => word == Word::Cr4,
            Test::EferReserved => word == Word::Efer,
            Test::PatInvalid => word == Word::GPat,
            Test::SevFeatureNotAllowed => word == Word::SevFeatures,
            Test::AvicPointerTooWide => {
                matches!(word, Word::AvicBackingPage | Word::AvicLogicalTable | Word::AvicPhysicalTable)
            }
            _ => false,
        },
        _ => false,
    }
}

fn bits_of_host(value: u64, mask: u64) -> String {
    let facts = Word::Host.bit_names().iter().filter(|(bit, ..)| mask >> bit & 1 == 1);
    let facts = facts
        .map(|(bit, _, meaning)| format!("{meaning}: {}", if value >> bit & 1 == 1 { "yes" } else { "no" }));
    facts.collect::<Vec<_>>().join(", ")
}

fn form(kind: Kind) -> &'static str {
    match kind {
        Kind::RawPage => "raw-page",
        Kind::HexDump => "hex-dump",
        Kind::KvmDump => "kvm-dump",
        Kind::KvmTraceEnter => "kvm-trace-enter",
        Kind::KvmTraceFailed => "kvm-trace-failed",
        Kind::KvmTraceExit => "kvm-trace-exit",
        Kind::KvmNestedState => "kvm-nested-state",
        Kind::XenDump => "xen-dump",
        Kind::XenChecks => "xen-checks",
        Kind::QemuRegisters => "qemu-registers",
        Kind::QemuLog => "qemu-log",
        _ => "other",
    }
}

fn ids(set: RuleSet) -> impl Iterator<Item = &'static str> {
    set.iter().map(Rule::id).collect::<Vec<_>>().into_iter()
}

fn hex(value: u64) -> String {
    format!("{value:#x}")
}

fn width_mask(bytes: usize) -> u64 {
    if bytes >= 8 { u64::MAX } else { (1 << (bytes * 8)) - 1 }
}

/// `1 rule`, `5 rules`.
fn rules(count: usize) -> String {
    format!("{count} rule{}", if count == 1 { "" } else { "s" })
}

fn are(count: usize) -> String {
    format!("{} {}", rules(count), if count == 1 { "is" } else { "are" })
}

/// The first few of a list.
fn some_of(names: &[&str]) -> String {
    const MOST: usize = 3;
    let shown = names.iter().take(MOST).copied().collect::<Vec<_>>().join(", ");
    if names.len() > MOST { format!("{shown}, ...") } else { shown }
}
