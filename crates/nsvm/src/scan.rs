//! `nsvm scan`: what `vmcb_scan` counts, for people and as JSON lines.

mod json;
mod progress;
mod text;
mod words;

use crate::cli::{Format, Scan as Arguments};
use crate::{cpu, input};
use nsvm_report::{Error, Status, print_failure};
use progress::Bar;
use std::io::{Read, Write};
use std::path::Path;
use vmcb::Cpu;
use vmcb_scan::{Options, Report};

pub(crate) fn run(
    arguments: &Arguments,
    out: &mut dyn Write,
    complain: &mut dyn FnMut(&Error),
) -> Result<Status, Error> {
    let defaults = Options::default();
    let options = Options {
        cpu: arguments.cpu.as_deref().map_or(Ok(Cpu::ANY), cpu::parse)?,
        policy: arguments.policy.into(),
        events: arguments.events,
        lines: arguments.lines.into(),
        jobs: arguments.jobs.map_or(defaults.jobs, usize::from),
        ..defaults
    };
    let mut status = Status::Fine;
    for path in &arguments.files {
        let file = input::name(path);
        match scan(path, &file, &options) {
            Ok(report) => {
                status = status.and(judge(&report));
                match arguments.format {
                    Format::Json => json::print(&file, &report, out)?,
                    Format::Human => text::print(&file, &report, out)?,
                }
            }
            Err(error) => {
                status = status.and(Status::Failed);
                if arguments.format == Format::Json {
                    print_failure(out, &file, error.to_string())?;
                }
                complain(&error);
            }
        }
    }
    Ok(status)
}

fn scan(path: &Path, file: &str, options: &Options) -> Result<Report, Error> {
    let (opened, size) = input::stream(path)?;
    let bar = Bar::new(file, size);
    let input: Box<dyn Read + Send> = opened;
    let report = vmcb_scan::scan(input, options, |bytes| bar.update(bytes));
    bar.end(report.as_ref().ok().map(|report| report.bytes));
    report.map_err(|error| Error::Input { file: file.to_owned(), message: error.to_string() })
}

/// A trace of VMX is not judged, which is an error as in `nsvm check`.
fn judge(report: &Report) -> Status {
    let wrong = report.events.as_ref().is_some_and(|events| events.wrong > 0);
    if report.vmx > 0 {
        Status::Failed
    } else if report.is_refused() || wrong {
        Status::Refused
    } else if report.is_undecided() {
        Status::Undecided
    } else {
        Status::Fine
    }
}
