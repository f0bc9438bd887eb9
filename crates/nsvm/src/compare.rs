//! `nsvm compare`: writes the files of `--witness`, and leaves the rest to `nsvm-report`.

use crate::cli::Compare as Arguments;
use crate::{cpu, input};
use nsvm_report::{Comparison, Error, Status, WitnessPages, print_comparison};
use std::fs;
use std::io::Write;
use std::path::Path;
use vmcb::Cpu;

pub(crate) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<Status, Error> {
    let cpus: Vec<(&str, Cpu)> = arguments
        .cpus
        .iter()
        .map(|text| Ok((text.as_str(), cpu::parse(text)?)))
        .collect::<Result<_, Error>>()?;
    let comparison = Comparison::new(cpus, arguments.policy.into());
    let pages = match &arguments.witness {
        Some(directory) => {
            let pages = WitnessPages::of(&comparison)?;
            write(&pages, directory)?;
            Some(pages)
        }
        None => None,
    };
    print_comparison(&comparison, pages.as_ref(), arguments.format.into(), out)?;
    Ok(comparison.status())
}

/// Writes the files and reads each back.
fn write(pages: &WitnessPages, directory: &Path) -> Result<(), Error> {
    let fail = |path: &Path, what: &str| Error::Input { file: input::name(path), message: what.to_owned() };
    fs::create_dir_all(directory).map_err(|error| fail(directory, &error.to_string()))?;
    for (name, bytes) in &pages.files {
        let path = directory.join(name);
        fs::write(&path, bytes).map_err(|error| fail(&path, &error.to_string()))?;
        let back = fs::read(&path).map_err(|error| fail(&path, &error.to_string()))?;
        if back != *bytes {
            return Err(fail(&path, "reading it back gives other bytes than were written"));
        }
    }
    Ok(())
}
