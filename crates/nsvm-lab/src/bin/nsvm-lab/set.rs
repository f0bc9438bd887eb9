//! Sets of cases: picking, listing, and writing as an image.

use crate::files::{failed, write};
use nsvm::cli::Form;
use nsvm::{Error, Status, suggest};
use nsvm_lab::case::Set;
use nsvm_lab::glob::Globs;
use nsvm_lab::image::Image;
use nsvm_lab::protocol::console;
use nsvm_lab::{results, sets};
use std::io::Write;
use std::path::Path;

/// The set, or the part of it whose ids match.
pub(crate) fn set_of(name: &str, only: Option<&str>) -> Result<Set, Error> {
    let mut set = sets::set(name).map_err(|error| {
        let near = suggest::help(name, sets::names().iter().map(|&name| name.to_owned()));
        Error::usage(error.to_string(), near)
    })?;
    if let Some(only) = only {
        let globs = Globs::parse(only).map_err(failed)?;
        // A family's name stands for all of it.
        set.cases.retain(|case| globs.matches(&case.id) || globs.matches(results::split_id(&case.id).0));
        if set.cases.is_empty() {
            return Err(Error::usage(
                format!("--only: no case of the set {name} matches `{only}`"),
                "`nsvm lab cases` lists them".to_owned(),
            ));
        }
    }
    Ok(set)
}

pub(crate) fn cases(name: &str, only: Option<&str>, out: &mut dyn Write) -> Result<Status, Error> {
    for case in &set_of(name, only)?.cases {
        match (&case.cannot_run, &case.meaningless) {
            (Some(why), _) => writeln!(out, "{}  not run: {why}", case.id)?,
            (None, Some(why)) => writeln!(out, "{}  not compared: {why}", case.id)?,
            (None, None) => writeln!(out, "{}", case.id)?,
        }
    }
    Ok(Status::Fine)
}

pub(crate) fn image(form: Form, set: &str, output: &Path, out: &mut dyn Write) -> Result<Status, Error> {
    let mut set = set_of(set, None)?;
    set.cases.retain(|case| case.cannot_run.is_none());
    let image = Image::new(&set, console::SERIAL | console::SCREEN).map_err(failed)?;
    let bytes = match form {
        Form::Disk => image.disk(),
        Form::Multiboot => image.flat().to_vec(),
        Form::Elf => image.elf(),
    };
    write(output, &bytes)?;
    writeln!(
        out,
        "{}: {} cases, {} bytes; see `nsvm lab image --help`",
        output.display(),
        set.cases.len(),
        bytes.len()
    )?;
    Ok(Status::Fine)
}
