//! The program behind `nsvm lab`, which runs the same cases on several implementations of VMRUN. The library `nsvm-lab`
//! does the work. This program parses arguments, reads and writes files, and prints the results.

mod fetch;
mod files;
mod progress;
mod results;
mod run;
mod set;
mod show;

use nsvm::cli::{Lab, Verb};
use nsvm::{Error, Status};
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    // The arguments are those of `nsvm lab`, and so are the messages about them.
    let mut arguments: Vec<OsString> = vec!["nsvm".into(), "lab".into()];
    arguments.extend(std::env::args_os().skip(1));
    nsvm::run_with(arguments, |verb, out| match verb {
        Verb::Lab(verb) => dispatch(&verb, out).map(|status| status as u8),
        _ => Err(Error::usage("this program runs `nsvm lab` only", None)),
    })
}

fn dispatch(verb: &Lab, out: &mut dyn Write) -> Result<Status, Error> {
    match verb {
        Lab::Run(arguments) => run::run(arguments, out),
        Lab::Fetch { what, available: false } => fetch::fetch(what, out),
        Lab::Fetch { what, available: true } => fetch::available(what, out),
        Lab::List => fetch::list(out),
        Lab::Diff { old, new, between } => results::diff(old, new, between.as_deref(), out),
        Lab::Merge { files, output } => results::merge(files, output.as_deref(), out),
        Lab::Report(arguments) => results::report(arguments, out),
        Lab::Cases { set, only } => set::cases(set, only.as_deref(), out),
        Lab::Image { form, set, output } => set::image(*form, set, output, out),
        Lab::Import { capture, set, machine, output } => {
            results::import(capture, set, machine, output.as_deref(), out)
        }
    }
}
