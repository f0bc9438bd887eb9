//! Errors of the store and of programs of the machine.

use super::kind::Kind;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// How long a program may take to tell its version.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Why the store, or a program of the machine, cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The disk is full.
    #[error("{}: the disk is full; nothing half-finished was kept. Free some space, or set NSVM_LAB_CACHE to another disk", path.display())]
    DiskFull {
        /// Where there was no space.
        path: PathBuf,
    },
    /// Neither `NSVM_LAB_CACHE`, `XDG_CACHE_HOME` nor `HOME` says where the cache is.
    #[error("no place for the cache is known: set NSVM_LAB_CACHE to a folder")]
    NoCache,
    /// The cache's path holds a character that apt or the dynamic loader reads as a separator.
    #[error("{}: the cache's path holds {found:?}, which apt and the dynamic loader cannot take; set NSVM_LAB_CACHE to a plain path", path.display())]
    CachePath {
        /// The path.
        path: PathBuf,
        /// The character.
        found: char,
    },
    /// No such kind.
    #[error("no kind of subject is called `{found}`: there are qemu, bochs, kernel and xen")]
    UnknownKind {
        /// What was given.
        found: String,
    },
    /// A tree's sheet is cut off or says nonsense.
    #[error("{}, line {line}: {what}; remove the folder and fetch it again", path.display())]
    Damaged {
        /// The sheet.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// Nothing in the store answers to the name.
    #[error("the store holds no `{wanted}`{}; `nsvm lab fetch` gets one", listed(" (there is ", here, ")"))]
    NotHere {
        /// What was asked for.
        wanted: String,
        /// What is here of that kind.
        here: Vec<String>,
    },
    /// The program cannot be executed.
    #[error("{}: cannot be executed: {error}", path.display())]
    CannotRun {
        /// The program.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The program is not what it is taken for, or does not start.
    #[error("{}: this is no {kind}: asked for its version, it said {said:?}", path.display())]
    NotOne {
        /// The program.
        path: PathBuf,
        /// What it should be.
        kind: Kind,
        /// The first line that it printed; empty if none.
        said: String,
    },
    /// The program did not tell its version in time.
    #[error("{}: did not tell its version within {} s", path.display(), PATIENCE.as_secs())]
    Silent {
        /// The program.
        path: PathBuf,
    },
}

pub(crate) fn listed(before: &str, names: &[String], after: &str) -> String {
    if names.is_empty() { String::new() } else { format!("{before}{}{after}", names.join(", ")) }
}

impl Error {
    /// An error of the file system; a full disk gets its own words.
    pub(crate) fn io(path: &Path, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { path: path.to_owned() }
            }
            _ => Self::Io { path: path.to_owned(), error },
        }
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| Error::UnknownKind { found: text.to_owned() })
    }
}
