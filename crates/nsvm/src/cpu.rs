//! `--cpu`: the virtual CPU by name, from a file, or that of this machine.

mod machine;

use crate::input;
use nsvm_report::{Described, Error, parse_model};
use std::io::{Read as _, Write as _};
use std::path::Path;
use vmcb::Cpu;

/// No description of a CPU is larger than this.
const MOST_BYTES: u64 = 16 << 20;

/// Parses a CPU as `--cpu` takes it, and prints remarks on its description to stderr.
///
/// # Errors
/// If a name is unknown or a file cannot be read.
pub fn parse(text: &str) -> Result<Cpu, Error> {
    describe(text).map(|described| described.cpu)
}

/// Like [`parse`], but also returns the remarks.
pub(crate) fn describe(text: &str) -> Result<Described, Error> {
    let described = read(text)?;
    let mut stderr = anstream::stderr().lock();
    for remark in &described.remarks {
        // If stderr cannot be written, the answer still holds.
        let _ = writeln!(stderr, "note: --cpu: {remark}");
    }
    Ok(described)
}

/// Reads a source and the changes after its first comma.
fn read(text: &str) -> Result<Described, Error> {
    let file = text.strip_prefix("file:").or_else(|| text.strip_prefix("cpuid:"));
    if let Some(file) = file {
        let (path, changes) = split(file);
        return from_file(Path::new(path))?.change(changes);
    }
    match text.strip_prefix("host").filter(|rest| rest.is_empty() || rest.starts_with(',')) {
        Some(changes) => machine::this()?.change(changes),
        None => Ok(parse_model(text)?.into()),
    }
}

/// Splits a path from the changes after its first comma. If a file has that comma in its name, all is its path.
fn split(text: &str) -> (&str, &str) {
    match text.split_once(',') {
        Some(parts) if !Path::new(text).exists() => parts,
        _ => (text, ""),
    }
}

fn from_file(path: &Path) -> Result<Described, Error> {
    let fail = |message: String| Error::Input { file: input::name(path), message };
    let mut text = Vec::new();
    let opened = std::fs::File::open(path).map_err(|error| fail(error.to_string()))?;
    opened.take(MOST_BYTES + 1).read_to_end(&mut text).map_err(|error| fail(error.to_string()))?;
    if text.len() as u64 > MOST_BYTES {
        return Err(fail(format!("no description of a CPU has more than {} MiB", MOST_BYTES >> 20)));
    }
    Described::from_text(&String::from_utf8_lossy(&text)).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_ends_at_its_first_comma() {
        assert_eq!(split("dom.xml,+shstk,phys-bits=48"), ("dom.xml", "+shstk,phys-bits=48"));
        assert_eq!(split("dom.xml"), ("dom.xml", ""));
    }
}
