//! Parses the arguments, runs the verb, and turns its result into the exit status.

use crate::cli::{Cli, Color, Verb};
use crate::{check, compare, cpu, external, scan};
use clap::{CommandFactory as _, Parser as _};
use nsvm_report::style::{PLAIN, RED};
use nsvm_report::{Error, Status};
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use vmcb::Cpu;

/// Returns the definition of the command line, from which help, completions and the man page are made.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    run_with(arguments.clone(), |verb, out| dispatch(verb, &arguments, out))
}

/// Parses the arguments of `nsvm`, and runs `verb` with what they ask for. The programs behind `nsvm lab` and `nsvm l0`
/// use it, so that they share arguments, colors, messages and exit status.
pub fn run_with(
    arguments: impl IntoIterator<Item = OsString>,
    verb: impl FnOnce(Verb, &mut dyn Write) -> Result<u8, Error>,
) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // If even this cannot be printed, the status remains.
            let _ = error.print();
            return if error.use_stderr() { Status::Failed } else { Status::Fine }.into();
        }
    };
    let choice = match cli.color {
        Color::Auto => anstream::ColorChoice::Auto,
        Color::Always => anstream::ColorChoice::Always,
        Color::Never => anstream::ColorChoice::Never,
    };
    choice.write_global();
    let mut out =
        std::io::BufWriter::new(anstream::AutoStream::new(std::io::stdout().lock(), resolve(choice)));
    let result = verb(cli.verb, &mut out).and_then(|status| {
        out.flush()?;
        Ok(status)
    });
    if result.is_err() {
        // What was found so far is printed before the error. If it cannot be printed, the error says so.
        let _ = out.flush();
    }
    match result {
        Ok(status) => status,
        // The reader has closed the pipe.
        Err(Error::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Status::Failed as u8,
        Err(error) => {
            complain(&error);
            Status::Failed as u8
        }
    }
    .into()
}

/// Runs the command with its output written to `out`. Errors on single inputs still go to stderr.
///
/// # Errors
/// If the arguments are wrong, if the verb is an external program, or if the command fails.
pub fn output<T: Into<OsString> + Clone>(
    arguments: impl IntoIterator<Item = T>,
    out: &mut dyn Write,
) -> Result<u8, Error> {
    let cli = Cli::try_parse_from(arguments).map_err(|error| Error::usage(error.to_string(), None))?;
    match cli.verb {
        Verb::Lab(_) | Verb::L0(_) => Err(Error::usage("this verb is a separate program", None)),
        verb => dispatch(verb, &[], out),
    }
}

fn resolve(choice: anstream::ColorChoice) -> anstream::ColorChoice {
    match choice {
        anstream::ColorChoice::Auto => anstream::AutoStream::choice(&std::io::stdout()),
        other => other,
    }
}

/// Prints an error to stderr.
fn complain(error: &Error) {
    let mut stderr = anstream::stderr().lock();
    let _ = writeln!(stderr, "{RED}error{PLAIN}: {error}");
    if let Some(help) = error.help() {
        let _ = writeln!(stderr, "  = help: {help}");
    }
}

/// Runs a verb and returns the exit status.
fn dispatch(verb: Verb, arguments: &[OsString], out: &mut dyn Write) -> Result<u8, Error> {
    let status = match verb {
        Verb::Lab(_) => return external::run("lab", arguments),
        Verb::L0(_) => return external::run("l0", arguments),
        Verb::Check(arguments) => check::run(&arguments, out, &mut complain)?,
        Verb::Scan(arguments) => scan::run(&arguments, out, &mut complain)?,
        Verb::Compare(arguments) => compare::run(&arguments, out)?,
        Verb::Decode(arguments) => {
            let cpu = arguments.cpu.as_deref().map(cpu::parse).transpose()?;
            let options = nsvm_report::DecodeOptions {
                field: arguments.field.as_deref().and_then(nsvm_report::Field::from_name),
                cpu: cpu.as_ref(),
                format: arguments.format.into(),
            };
            nsvm_report::decode(&arguments.words, options, out, &mut complain)?
        }
        other => {
            show(other, out)?;
            Status::Fine
        }
    };
    Ok(status as u8)
}

/// Runs a verb that only prints what is known.
fn show(verb: Verb, out: &mut dyn Write) -> Result<(), Error> {
    match verb {
        Verb::Explain { rule } => out.write_all(nsvm_report::explain(&rule)?.as_bytes())?,
        Verb::Rules(arguments) => {
            let filter = nsvm_report::RuleFilter {
                class: arguments.class.as_deref(),
                group: arguments.group.as_deref(),
                reads: arguments.reads.as_deref(),
                grep: arguments.grep.as_deref(),
            };
            nsvm_report::rules(filter, arguments.format.into(), out)?;
        }
        Verb::Vectors { cpu, format } => {
            let cpu = cpu.as_deref().map_or(Ok(Cpu::ANY), cpu::parse)?;
            nsvm_report::vectors(&cpu, format.into(), out)?;
        }
        Verb::Cpus { format } => nsvm_report::cpus(format.into(), out)?,
        Verb::Cpu { spec, format } => {
            nsvm_report::cpu_report(&spec, cpu::describe(&spec)?, format.into(), out)?;
        }
        Verb::Completions { shell } => {
            // The generator panics if it cannot write, so it writes to memory.
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut command(), "nsvm", &mut text);
            out.write_all(&text)?;
        }
        Verb::Man => out.write_all(&man()?)?,
        Verb::Check(_) | Verb::Scan(_) | Verb::Decode(_) | Verb::Compare(_) | Verb::Lab(_) | Verb::L0(_) => {}
    }
    Ok(())
}

/// Returns the man page: one of the command, then one of each verb.
fn man() -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut command = command();
    command.build();
    clap_mangen::Man::new(command.clone()).render(&mut text)?;
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        let title = format!("nsvm-{}", verb.get_name());
        clap_mangen::Man::new(verb.clone().display_name(title.clone())).title(title).render(&mut text)?;
    }
    Ok(text)
}
