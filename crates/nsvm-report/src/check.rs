//! Checks VMCBs: reads inputs, lets `vmcb` check each VMCB, and reports the verdicts. Nothing is judged here.

mod case;
mod culprit;
mod emit;
mod encrypted;
mod field;
mod finding;
mod judged_for;
mod notes;
mod prediction;
mod question;
mod refused;
mod report;
mod stack;
mod verdict;

pub use question::{Options, Question};

use crate::error::Error;
use crate::format::{CheckFormat, Emit};
use crate::printer::Printer;
use crate::record::{Decision, Failure, Report, Summary};
use crate::status::Status;
use case::Case;
use emit::Emitter;
use prediction::Peers;
use std::io::{BufRead, Write};
use vmcb_dump::Reader;

/// What a check prints.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// The form of the report.
    pub format: CheckFormat,
    /// Whether each undecided rule is listed with what is missing.
    pub verbose: bool,
    /// What is emitted, if anything.
    pub emit: Option<Emit>,
    /// Whether the report is printed although something is emitted.
    pub report_too: bool,
}

/// How a check ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The most important answer.
    pub status: Status,
    /// A line with the totals for people, if there were several VMCBs or inputs. It is not a part of the report.
    pub totals: Option<String>,
}

/// A check of several inputs with one question. Reports are printed as the VMCBs are read.
pub struct Check<'a> {
    question: &'a Question,
    peers: Peers<'a>,
    printer: Printer<'a>,
    emitter: Option<Emitter>,
    summary: Summary,
    status: Status,
}

impl<'a> Check<'a> {
    /// Prepares a check that prints to `out`.
    ///
    /// # Errors
    /// If the case rows inside this program cannot be read.
    pub fn new(question: &'a Question, output: Output, out: &'a mut dyn Write) -> Result<Self, Error> {
        let emitter = output.emit.map(|emit| Emitter::new(emit, &question.cpu)).transpose()?;
        let quiet = emitter.is_some() && !output.report_too;
        Ok(Self {
            question,
            peers: Peers::new(question),
            printer: Printer::new(output.format, output.verbose, quiet, out),
            emitter,
            summary: Summary::default(),
            status: Status::Fine,
        })
    }

    /// Judges every VMCB in the input. If the reader returns an error, this method reports it as an input that cannot
    /// be read, and returns the error in `Ok`. The caller shows the error and continues with the next input.
    ///
    /// # Errors
    /// If the report cannot be written.
    pub fn input(&mut self, name: &str, input: impl BufRead) -> Result<Option<Error>, Error> {
        self.summary.files += 1;
        for item in Reader::new(input) {
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
                    let report = Case::report(self.question, &self.peers, name, number, &found, &mut emit);
                    self.count(report.verdict.decision);
                    self.printer.report(report, &found)?;
                }
                Err(error) => {
                    let error = Error::Input { file: name.to_owned(), message: error.to_string() };
                    self.failed(name, &error)?;
                    return Ok(Some(error));
                }
            }
        }
        Ok(None)
    }

    /// Reports an input that cannot be opened.
    ///
    /// # Errors
    /// If the report cannot be written.
    pub fn unopened(&mut self, name: &str, error: &Error) -> Result<(), Error> {
        self.summary.files += 1;
        self.failed(name, error)
    }

    fn failed(&mut self, file: &str, error: &Error) -> Result<(), Error> {
        self.summary.unreadable += 1;
        self.status = self.status.and(Status::Failed);
        let text = match error {
            Error::Input { message, .. } => message.clone(),
            other => other.to_string(),
        };
        self.printer.failure(Failure { file: file.to_owned(), text })
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

    /// Takes the text of [`Output::emit`], so that the caller can write it. If the caller does not take it,
    /// [`Check::finish`] prints it. Returns `None` if the text does not exist or was taken before.
    pub fn take_emitted(&mut self) -> Option<String> {
        self.emitter.take().map(Emitter::finish)
    }

    /// Ends the report.
    ///
    /// # Errors
    /// If the report cannot be written.
    pub fn finish(mut self) -> Result<Outcome, Error> {
        let several = self.summary.files > 1 || self.summary.vmcbs > 1;
        let assumed = self.question.host.assumed();
        if let Some(text) = self.take_emitted() {
            self.printer.raw(&text)?;
        }
        let totals = self.printer.end(&assumed, self.summary, several, self.status)?;
        Ok(Outcome { status: self.status, totals })
    }
}
