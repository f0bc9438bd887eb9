//! Files that are written whole or not at all.

use nsvm_report::Error;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

fn not_written(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    |error| Error::Input {
        file: path.display().to_string(),
        message: format!("it cannot be written: {error}"),
    }
}

/// A file that is written whole or not at all. The text goes into a temporary file beside it, which is then renamed.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    /// The temporary file until it is renamed. A pipe or a device has none.
    beside: Option<PathBuf>,
    file: File,
}

impl Output {
    /// Opens the file before the work whose outcome goes there, so that the user learns at once if it cannot be written.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn open(path: &Path) -> Result<Self, Error> {
        // A link is followed, so that the file changes and not the link.
        let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        // /dev/stdout may be a link to a file that other programs hold open. It must not be replaced.
        let device = ["/dev", "/proc"].iter().any(|folder| path.starts_with(folder));
        if device || std::fs::metadata(&target).is_ok_and(|is| !is.is_file()) {
            let file = File::options().write(true).open(path).map_err(not_written(path))?;
            return Ok(Self { path: path.to_owned(), beside: None, file });
        }
        let name = target.file_name().ok_or_else(|| Error::Input {
            file: path.display().to_string(),
            message: "this is no name of a file".to_owned(),
        })?;
        let mut beside = OsString::from(".");
        beside.push(name);
        beside.push(format!(".{}", std::process::id()));
        let beside = target.with_file_name(beside);
        let file = File::create(&beside).map_err(not_written(path))?;
        Ok(Self { path: target, beside: Some(beside), file })
    }

    /// Writes the text and renames the file.
    ///
    /// # Errors
    /// If the text cannot be written.
    pub fn write(mut self, text: &[u8]) -> Result<(), Error> {
        self.file.write_all(text).map_err(not_written(&self.path))?;
        if let Some(beside) = &self.beside {
            // Some file systems report only here that they are full.
            self.file.sync_all().map_err(not_written(&self.path))?;
            std::fs::rename(beside, &self.path).map_err(not_written(&self.path))?;
            self.beside = None;
        }
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(beside) = &self.beside {
            let _ = std::fs::remove_file(beside);
        }
    }
}
