//! Result files: reading, comparing, merging, reporting.

use crate::files::{Outputs, expected_list, failed, read, read_results, write};
use crate::set::set_of;
use crate::show::show;
use nsvm::cli::LabReport;
use nsvm::{Error, Status};
use nsvm_lab::compare::compare_all;
use nsvm_lab::glob::Globs;
use nsvm_lab::results::{self, Results};
use nsvm_lab::{run, sets};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

pub(crate) fn report(arguments: &LabReport, out: &mut dyn Write) -> Result<Status, Error> {
    let list = expected_list(arguments.show.expected.as_deref())?;
    let parts = arguments.files.iter().map(|path| Ok((path.display().to_string(), read_results(path)?)));
    let merged = results::merge(parts.collect::<Result<Vec<_>, Error>>()?).map_err(failed)?;
    let outputs = Outputs::open(None, &arguments.show)?;
    for section in &merged.sections {
        if let Some(missing) = section.missing() {
            writeln!(out, "note: {}: {missing}", section.head.label())?;
        }
    }
    let whole = merged.sections.iter().all(|section| section.missing().is_none());
    let all = compare_all(merged, &list).map_err(failed)?;
    show(all, whole, outputs, out)
}

pub(crate) fn diff(
    old: &Path,
    new: &Path,
    between: Option<&[String]>,
    out: &mut dyn Write,
) -> Result<Status, Error> {
    let (old, new) = (read_results(old)?, read_results(new)?);
    let mut diff = match between {
        Some([one, two]) => {
            let pick = |results: &Results, text: &str| -> Result<results::Section, Error> {
                let globs = Globs::parse(text).map_err(failed)?;
                let labels = || results.sections.iter().map(|section| section.head.label());
                let mut found =
                    results.sections.iter().filter(|section| globs.matches(&section.head.label()));
                match (found.next(), found.next()) {
                    (Some(section), None) => Ok(section.clone()),
                    (None, _) => Err(failed(format!(
                        "no subject is called `{text}`; there are: {}",
                        labels().collect::<Vec<_>>().join("; ")
                    ))),
                    _ => Err(failed(format!("several subjects match `{text}`"))),
                }
            };
            let one = results::compare(&pick(&old, one)?, &pick(&new, two)?);
            results::Diff { sections: vec![one], ..results::Diff::default() }
        }
        _ => results::diff(&old, &new),
    };
    // Ids mean the same in every set, and this one has all cases.
    let unstable: BTreeSet<String> = set_of("full", None)?
        .cases
        .into_iter()
        .filter_map(|case| case.meaningless.map(|_| case.id))
        .collect();
    for section in &mut diff.sections {
        // Between two subjects a difference is what is asked for.
        let same = (section.old == section.new).then(|| section.old.clone());
        let named = same.as_deref().and_then(|label| label.split_once(' '));
        let of_subject =
            |id: &str| named.is_some_and(|(who, version)| sets::unstable(who, version, id).is_some());
        section.set_aside(|id| unstable.contains(id) || of_subject(id));
    }
    write!(out, "{diff}")?;
    Ok(if diff.is_empty() { Status::Fine } else { Status::Refused })
}

pub(crate) fn merge(files: &[PathBuf], output: Option<&Path>, out: &mut dyn Write) -> Result<Status, Error> {
    let parts = files.iter().map(|path| Ok((path.display().to_string(), read_results(path)?)));
    let merged = results::merge(parts.collect::<Result<Vec<_>, Error>>()?).map_err(failed)?;
    for section in &merged.sections {
        if let Some(missing) = section.missing() {
            eprintln!("note: {}: {missing}", section.head.label());
        }
    }
    put(&merged, output, out)
}

fn put(results: &Results, output: Option<&Path>, out: &mut dyn Write) -> Result<Status, Error> {
    let text = results.to_text().map_err(failed)?;
    match output {
        Some(path) => write(path, text.as_bytes())?,
        None => out.write_all(text.as_bytes())?,
    }
    Ok(Status::Fine)
}

pub(crate) fn import(
    capture: &Path,
    set: &str,
    machine: &str,
    output: Option<&Path>,
    out: &mut dyn Write,
) -> Result<Status, Error> {
    let set = set_of(set, None)?;
    let text = read(capture)?;
    let section = run::import(&set, &String::from_utf8_lossy(&text), machine)
        .map_err(|message| Error::Input { file: capture.display().to_string(), message })?;
    put(&Results { sections: vec![section] }, output, out)
}
