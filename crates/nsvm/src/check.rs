//! `nsvm check`: reads, asks `vmcb`, and says what it answered. Nothing is judged here.

mod case;
mod culprit;
mod emit;
mod encrypted;
mod field;
mod finding;
mod notes;
mod prediction;
mod question;
mod refused;
mod stack;
mod verdict;

use crate::error::Error;
use crate::human::Printer;
use crate::lab::Output;
use crate::record::{Decision, Failure, Finding, Note, Predicted, Record, Said, Summary, Undecided, Verdict};
use crate::{Status, cli, complain, input};
use case::Case;
use emit::Emitter;
use prediction::Peers;
use question::Question;
use std::io::{IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use vmcb_dump::Reader;

pub(crate) fn run(arguments: &cli::Check, out: &mut dyn Write) -> Result<Status, Error> {
    let question = Question::new(arguments)?;
    let stdin = [PathBuf::from("-")];
    let files = if arguments.files.is_empty() { &stdin[..] } else { &arguments.files };
    if arguments.files.is_empty() && std::io::stdin().is_terminal() {
        let _ =
            writeln!(anstream::stderr(), "nsvm: reading the standard input; `nsvm check --help` says more");
    }
    // What cannot be written is told before the work.
    let output = arguments.output.as_deref().map(Output::open).transpose()?;
    let emitter = arguments.emit.map(|emit| Emitter::new(emit, &question.cpu)).transpose()?;
    let quiet = emitter.is_some() && output.is_none();
    let mut run = Run {
        question: &question,
        peers: Peers::new(&question),
        printer: Printer::new(arguments.format, arguments.verbose, quiet, out),
        emitter,
        output,
        summary: Summary::default(),
        status: Status::Fine,
    };
    for file in files {
        run.file(file)?;
    }
    run.finish()
}

struct Run<'a> {
    question: &'a Question,
    peers: Peers<'a>,
    printer: Printer<'a>,
    emitter: Option<Emitter>,
    output: Option<Output>,
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
                    let emitter = &mut self.emitter;
                    let mut emit = |case: &Case<'_>, report: &Report| {
                        if let Some(emitter) = emitter {
                            emitter.add(case, report);
                        }
                    };
                    let number = self.summary.vmcbs;
                    let report = Case::report(self.question, &self.peers, &name, number, &found, &mut emit);
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
        if let Some(emitter) = self.emitter.take() {
            let text = emitter.finish();
            match self.output.take() {
                Some(output) => output.write(text.as_bytes())?,
                None => self.printer.raw(&text)?,
            }
        }
        self.printer.end(&assumed, self.summary, several, self.status)?;
        Ok(self.status)
    }
}

/// All that is said of one VMCB.
pub(crate) struct Report {
    pub(crate) findings: Vec<Finding>,
    pub(crate) undecided: Vec<Undecided>,
    pub(crate) remarks: Vec<Said>,
    pub(crate) notes: Vec<Note>,
    /// Of the stacks of `--as`.
    pub(crate) predictions: Vec<Predicted>,
    /// Of everyone, for `--who`.
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
