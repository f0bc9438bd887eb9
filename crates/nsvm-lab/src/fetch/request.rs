//! What to fetch.

use super::error::{Error, Result};
use crate::store::{INSTALLED, Kind};
use std::fmt;
use std::str::FromStr;

/// What to fetch. Its text: `qemu@sid`, `bochs@trixie`, `kernel@sid` for the newest generic kernel of a suite,
/// `kernel:linux-image-6.12.9-amd64@bookworm-backports` or `kernel:6.12.9-amd64@bookworm-backports` for this one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Request {
    /// What sort of subject.
    pub kind: Kind,
    /// A suite of Debian.
    pub suite: String,
    /// A kernel's package; nothing for the newest.
    pub package: Option<String>,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.package {
            Some(package) => write!(f, "{}:{package}@{}", self.kind, self.suite),
            None => write!(f, "{}@{}", self.kind, self.suite),
        }
    }
}

impl FromStr for Request {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |what| Error::Request { text: text.to_owned(), what };
        let (front, suite) = text.split_once('@').ok_or_else(|| wrong("it names no suite"))?;
        let (kind, package) = match front.split_once(':') {
            Some((kind, package)) => (kind, Some(package)),
            None => (front, None),
        };
        let kind: Kind = kind.parse()?;
        // These words become arguments and file names.
        if !plain(suite) {
            return Err(wrong("a suite is made of small letters, digits, `-` and `.`"));
        }
        if suite == INSTALLED {
            return Err(wrong("what is installed is here already"));
        }
        let package = match package {
            None => None,
            Some(_) if kind != Kind::Kernel => {
                return Err(wrong("only a kernel may be chosen by its package"));
            }
            Some(name) if !plain(name) => {
                return Err(wrong("a package's name is made of small letters, digits, `+`, `-` and `.`"));
            }
            Some(name) if name.starts_with("linux-image-") => Some(name.to_owned()),
            Some(name) => Some(format!("linux-image-{name}")),
        };
        Ok(Self { kind, suite: suite.to_owned(), package })
    }
}

/// Checks whether a word can be an argument and a file name.
pub(super) fn plain(word: &str) -> bool {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    word.starts_with(letter) && word.len() <= 100 && word.chars().all(|c| letter(c) || "+-.".contains(c))
}
