#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod allowed;
mod bits;
mod check;
mod cli;
mod compare;
mod cpu;
mod decode;
mod error;
mod explain;
mod host;
mod human;
mod input;
mod l0;
mod lab;
mod near;
mod record;
mod sarif;
mod scan;
mod tables;

pub use explain::{HABITS, Habit, index_page, rule_page};

use clap::{CommandFactory as _, Parser as _};
use cli::{Cli, Color, L0, Verb};
use error::Error;
use std::ffi::OsString;
use std::io::Write;

/// What the exit status says. Of several answers the first in this order counts:
/// `Failed`, `Refused`, `Undecided`, `Fine`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Status {
    /// 0: nothing is refused.
    Fine = 0,
    /// 2: nothing is refused, but something is not decided.
    Undecided = 2,
    /// 1: something is refused.
    Refused = 1,
    /// 3: bad usage, or an input that cannot be read.
    Failed = 3,
}

impl Status {
    /// The more important of two.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        const ORDER: [Status; 4] = [Status::Failed, Status::Refused, Status::Undecided, Status::Fine];
        ORDER.into_iter().find(|&status| status == self || status == other).unwrap_or(self)
    }
}

impl From<Status> for std::process::ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status as u8)
    }
}

/// The definition of the command line, from which help, completions and the man page come.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> std::process::ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Where even this cannot be printed, the status remains.
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
    let result = dispatch(cli.verb, &mut out).and_then(|status| {
        out.flush()?;
        Ok(status)
    });
    if result.is_err() {
        // What was found so far comes before the error; if it cannot be printed, the error says so.
        let _ = out.flush();
    }
    match result {
        Ok(status) => status,
        // Whoever reads has had enough.
        Err(Error::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Status::Failed as u8,
        Err(error) => {
            complain(&error);
            Status::Failed as u8
        }
    }
    .into()
}

fn resolve(choice: anstream::ColorChoice) -> anstream::ColorChoice {
    match choice {
        anstream::ColorChoice::Auto => anstream::AutoStream::choice(&std::io::stdout()),
        other => other,
    }
}

/// An error, to stderr.
fn complain(error: &Error) {
    let mut stderr = anstream::stderr().lock();
    let _ = writeln!(stderr, "{}error{}: {error}", human::RED, human::PLAIN);
    if let Some(help) = error.help() {
        let _ = writeln!(stderr, "  = help: {help}");
    }
}

/// The exit status.
fn dispatch(verb: Verb, out: &mut dyn Write) -> Result<u8, Error> {
    let status = match verb {
        Verb::L0(L0::Run(arguments)) => return l0::run(&arguments, out),
        Verb::Check(arguments) => check::run(&arguments, out),
        Verb::Scan(arguments) => scan::run(&arguments, out),
        Verb::Decode(arguments) => decode::run(&arguments, out),
        Verb::Explain { rule } => explain::run(&rule, out),
        Verb::Rules(arguments) => tables::rules(&arguments, out),
        Verb::Vectors { cpu, format } => tables::vectors(cpu.as_deref(), format, out),
        Verb::Cpus { format } => tables::cpus(format, out),
        Verb::Cpu { spec, format } => allowed::run(&spec, format, out),
        Verb::Compare(arguments) => compare::run(&arguments, out),
        Verb::Lab(verb) => lab::run(&verb, out),
        Verb::Completions { shell } => {
            // The generator panics where it cannot write, so it writes to memory.
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut command(), "nsvm", &mut text);
            out.write_all(&text)?;
            Ok(Status::Fine)
        }
        Verb::Man => {
            out.write_all(&man()?)?;
            Ok(Status::Fine)
        }
    };
    status.map(|status| status as u8)
}

/// The man page: one of the command, then one of each verb.
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
