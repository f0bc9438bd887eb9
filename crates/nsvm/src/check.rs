//! `nsvm check`: reads the files, and leaves the rest to `nsvm-report`.

use crate::cli::Check as Arguments;
use crate::output::Output;
use crate::{cpu, input};
use nsvm_report::{Check, Error, Options, Question, Status};
use std::io::{IsTerminal as _, Write};
use std::path::PathBuf;
use vmcb::{Cpu, Phase};

pub(crate) fn run(
    arguments: &Arguments,
    out: &mut dyn Write,
    complain: &mut dyn FnMut(&Error),
) -> Result<Status, Error> {
    let question = Question::new(options(arguments)?, &cpu::parse)?;
    let stdin = [PathBuf::from("-")];
    let files = if arguments.files.is_empty() { &stdin[..] } else { &arguments.files };
    if arguments.files.is_empty() && std::io::stdin().is_terminal() {
        let _ =
            writeln!(anstream::stderr(), "nsvm: reading the standard input; `nsvm check --help` says more");
    }
    let mut file = arguments.output.as_deref().map(Output::open).transpose()?;
    let output = nsvm_report::Output {
        format: arguments.format.into(),
        verbose: arguments.verbose,
        emit: arguments.emit.map(Into::into),
        report_too: file.is_some(),
    };
    let mut check = Check::new(&question, output, out)?;
    for path in files {
        let name = input::name(path);
        let error = match input::open(path) {
            Ok(opened) => check.input(&name, opened)?,
            Err(error) => {
                check.unopened(&name, &error)?;
                Some(error)
            }
        };
        if let Some(error) = error {
            complain(&error);
        }
    }
    if let Some(file) = file.take() {
        file.write(check.take_emitted().unwrap_or_default().as_bytes())?;
    }
    let outcome = check.finish()?;
    if let Some(totals) = outcome.totals {
        let _ = writeln!(anstream::stderr(), "{totals}");
    }
    Ok(outcome.status)
}

fn options(arguments: &Arguments) -> Result<Options<'_>, Error> {
    let cpu = match &arguments.cpu {
        Some(text) => Some((cpu::parse(text)?, text.as_str())),
        None => None::<(Cpu, &str)>,
    };
    let vmsa = match &arguments.vmsa {
        Some(path) => Some((input::name(path), input::vmsa(path)?)),
        None => None,
    };
    Ok(Options {
        cpu,
        policy: arguments.policy.into(),
        host: arguments.host.as_deref(),
        phase: arguments.phase.map(Phase::from),
        vmsa,
        stacks: &arguments.stacks,
        who: arguments.who,
    })
}
