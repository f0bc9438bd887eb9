//! Opening what is to be read.

use nsvm_report::{Error, suggest};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, stdin};
use std::path::Path;
use vmcb::KnownPage;
use vmcb_dump::{Kind, Reader};

/// Read at once from a file.
const BUFFER: usize = 1 << 20;

/// The name of a file in messages, without what would disturb a terminal.
pub(crate) fn name(path: &Path) -> String {
    if is_stdin(path) {
        return "<stdin>".into();
    }
    suggest::clean(&path.display().to_string())
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

pub(crate) fn open(path: &Path) -> Result<Box<dyn BufRead>, Error> {
    if is_stdin(path) {
        return Ok(Box::new(BufReader::with_capacity(BUFFER, stdin())));
    }
    let fail = |message: String| Error::Input { file: name(path), message };
    let file = File::open(path).map_err(|error| fail(reason(&error)))?;
    let size = match file.metadata() {
        Ok(about) if about.is_dir() => return Err(fail("is a directory; name the files in it".into())),
        Ok(about) => usize::try_from(about.len()).unwrap_or(BUFFER),
        Err(_) => BUFFER,
    };
    // A buffer larger than the file would only cost time to get.
    Ok(Box::new(BufReader::with_capacity(size.clamp(1 << 13, BUFFER), file)))
}

/// An input to be read in large pieces, and its size where it is known.
pub(crate) fn stream(path: &Path) -> Result<(Box<dyn Read + Send>, Option<u64>), Error> {
    if is_stdin(path) {
        return Ok((Box::new(stdin()), None));
    }
    let fail = |message: String| Error::Input { file: name(path), message };
    let file = File::open(path).map_err(|error| fail(reason(&error)))?;
    let size = match file.metadata() {
        Ok(about) if about.is_dir() => return Err(fail("is a directory; name the files in it".into())),
        Ok(about) if about.is_file() => Some(about.len()),
        _ => None,
    };
    Ok((Box::new(file), size))
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".into(),
        std::io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => error.to_string(),
    }
}

/// A decrypted VMSA: the first page of a file.
pub(crate) fn vmsa(path: &Path) -> Result<Box<KnownPage>, Error> {
    let fail = |message: String| Error::Input { file: name(path), message };
    let mut pages = Reader::new(open(path)?);
    match pages.next() {
        Some(Ok(found)) if matches!(found.kind, Kind::RawPage | Kind::HexDump) => Ok(found.vmcb),
        Some(Ok(found)) => {
            Err(fail(format!("a VMSA is read from a raw page or a hex dump, and this is: {}", found.kind)))
        }
        Some(Err(error)) => Err(fail(error.to_string())),
        None => Err(fail("no page in it".into())),
    }
}
