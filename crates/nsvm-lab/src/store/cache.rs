//! The folder where fetched subjects are kept.

use super::ask::installed;
use super::error::Error;
use super::kind::Kind;
use super::manifest::MANIFEST;
use super::staging::{owner_lives, staging_dir};
use super::subject::{INSTALLED, Subject};
use super::versions::compare_versions;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder where fetched subjects are kept.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// What a store holds.
#[derive(Debug, Default)]
pub struct Listing {
    /// Complete trees, by kind and then by version, the oldest first.
    pub subjects: Vec<Subject>,
    /// Folders whose manifest is missing, cut off or wrong, each with what is wrong.
    pub damaged: Vec<(PathBuf, Error)>,
}

impl Store {
    /// Where the cache is by the environment: `NSVM_LAB_CACHE`, else `nsvm-lab` in `XDG_CACHE_HOME`, else in
    /// `.cache` at home.
    ///
    /// # Errors
    /// If none of them is set.
    pub fn default_root() -> Result<PathBuf, Error> {
        let set = |value: Option<OsString>| value.filter(|value| !value.is_empty()).map(PathBuf::from);
        set(env::var_os("NSVM_LAB_CACHE"))
            .or_else(|| set(env::var_os("XDG_CACHE_HOME")).map(|folder| folder.join("nsvm-lab")))
            .or_else(|| set(env::var_os("HOME")).map(|folder| folder.join(".cache/nsvm-lab")))
            .ok_or(Error::NoCache)
    }

    /// Opens the store in this folder, which need not exist yet.
    ///
    /// # Errors
    /// If the path cannot be handed to apt and the dynamic loader.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let root = std::path::absolute(root).map_err(|error| Error::io(root, error))?;
        let text = root.to_str().unwrap_or("\u{fffd}");
        if let Some(found) = text
            .chars()
            .find(|c| matches!(c, ':' | ';' | '"' | '\\' | '$' | '%' | '\u{fffd}') || c.is_control())
        {
            return Err(Error::CachePath { path: root, found });
        }
        Ok(Self { root })
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All that is here. Parts of fetches that run, or were interrupted, are not shown.
    ///
    /// # Errors
    /// If a folder cannot be read. A store that does not exist yet is empty.
    pub fn list(&self) -> Result<Listing, Error> {
        let mut listing = Listing::default();
        for kind in Kind::ALL {
            for tree in entries(&self.root.join(kind.name()))? {
                match Subject::read(&tree) {
                    Ok(subject) if subject.kind == kind && tree.ends_with(subject.folder()) => {
                        listing.subjects.push(subject)
                    }
                    Ok(subject) => {
                        let what = format!("it is that of {subject}, in another's folder");
                        listing.damaged.push((
                            tree.clone(),
                            Error::Damaged { path: tree.join(MANIFEST), line: 1, what },
                        ));
                    }
                    Err(error) => listing.damaged.push((tree, error)),
                }
            }
        }
        listing.subjects.sort_by(|a, b| {
            (a.kind.cmp(&b.kind))
                .then_with(|| compare_versions(&a.version, &b.version))
                .then_with(|| a.suite.cmp(&b.suite))
                .then_with(|| a.package.cmp(&b.package))
        });
        Ok(listing)
    }

    /// The newest subject that answers to `KIND`, `KIND@SUITE`, `KIND:VERSION` or `KIND:VERSION@SUITE`. VERSION is
    /// the beginning of its version, or of a kernel's release or package, up to a place where a number ends. The suite
    /// [`INSTALLED`] means programs of the machine itself.
    ///
    /// # Errors
    /// If there is none, with what is here of that kind.
    pub fn find(&self, wanted: &str) -> Result<Subject, Error> {
        let (front, suite) = match wanted.split_once('@') {
            Some((front, suite)) => (front, Some(suite)),
            None => (wanted, None),
        };
        let (kind, version) = match front.split_once(':') {
            Some((kind, version)) => (kind, Some(version)),
            None => (front, None),
        };
        let kind: Kind = kind.parse()?;
        let mut of_kind = match suite {
            Some(INSTALLED) => installed().into_iter().flatten().collect(),
            _ => self.list()?.subjects,
        };
        of_kind.retain(|subject| subject.kind == kind);
        let names = of_kind.iter().map(ToString::to_string).collect();
        let found = of_kind.into_iter().rev().find(|subject| {
            suite.is_none_or(|suite| subject.suite == suite)
                && version.is_none_or(|version| {
                    let folder = subject.folder_version();
                    [&subject.version, &subject.package, &folder].iter().any(|text| begins(text, version))
                        || subject.release().is_some_and(|release| begins(release, version))
                })
        });
        found.ok_or(Error::NotHere { wanted: wanted.to_owned(), here: names })
    }

    /// Removes a tree. It gets another name first, so that it never looks complete while it vanishes.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self, subject: &Subject) -> Result<(), Error> {
        self.remove_tree(&self.root.join(subject.folder()))
    }

    pub(crate) fn remove_tree(&self, tree: &Path) -> Result<(), Error> {
        let part = staging_dir(&self.root)?;
        let trash = part.path().join("removed");
        match fs::rename(tree, &trash) {
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io(tree, error)),
            Ok(()) => {}
        }
        fs::remove_dir_all(&trash).map_err(|error| Error::io(&trash, error))
    }

    /// Removes what interrupted fetches left, and says how many folders that were. Those of processes that still
    /// run stay.
    ///
    /// # Errors
    /// If a folder cannot be removed.
    pub fn remove_leftovers(&self) -> Result<usize, Error> {
        let mut removed = 0;
        for path in entries(&self.root)? {
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
            if name.strip_prefix("part-").is_none_or(owner_lives) {
                continue;
            }
            match fs::remove_dir_all(&path) {
                Ok(()) => removed += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io(&path, error)),
            }
        }
        Ok(removed)
    }

    /// Writes the manifest of a finished tree and moves the tree to its place. If another fetch was faster its tree stays and this one is
    /// dropped; a damaged one is replaced.
    pub(crate) fn keep(&self, mut subject: Subject) -> Result<Subject, Error> {
        let manifest = subject.root.join(MANIFEST);
        // The files must be on the disk before the manifest says so, whatever happens to the power.
        sync(&subject.root)?;
        let mut file = File::create(&manifest).map_err(|error| Error::io(&manifest, error))?;
        file.write_all(subject.manifest().as_bytes()).map_err(|error| Error::io(&manifest, error))?;
        file.sync_all().map_err(|error| Error::io(&manifest, error))?;
        let place = self.root.join(subject.folder());
        let shelf = self.root.join(subject.kind.name());
        fs::create_dir_all(&shelf).map_err(|error| Error::io(&shelf, error))?;
        if let Err(error) = fs::rename(&subject.root, &place) {
            match Subject::read(&place) {
                Ok(there) => return Ok(there),
                Err(_) if place.exists() => {
                    self.remove_tree(&place)?;
                    fs::rename(&subject.root, &place).map_err(|error| Error::io(&place, error))?;
                }
                Err(_) => return Err(Error::io(&place, error)),
            }
        }
        File::open(&shelf).and_then(|folder| folder.sync_all()).map_err(|error| Error::io(&shelf, error))?;
        subject.root = place;
        Ok(subject)
    }

    /// The tree of this subject, if it is here and whole.
    pub(crate) fn holds(&self, subject: &Subject) -> Option<Subject> {
        Subject::read(&self.root.join(subject.folder())).ok()
    }
}

/// Writes all cached data of the file system that the folder is on to the disk.
fn sync(folder: &Path) -> Result<(), Error> {
    let output =
        Command::new("sync").arg("-f").arg(folder).output().map_err(|error| Error::io(folder, error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.contains("No space left") {
        return Err(Error::DiskFull { path: folder.to_owned() });
    }
    Err(Error::io(folder, io::Error::other(said)))
}

/// Returns the entries of a folder in order, or none if there is no such folder.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let read = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|error| Error::io(folder, error))?,
    };
    let mut paths = Vec::new();
    for entry in read {
        paths.push(entry.map_err(|error| Error::io(folder, error))?.path());
    }
    paths.sort();
    Ok(paths)
}

/// Checks whether a text begins with `start`, and not in the middle of a number: `6.1.0` begins with `6.1`, `6.12` does
/// not.
fn begins(text: &str, start: &str) -> bool {
    let Some(rest) = text.strip_prefix(start) else { return false };
    let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    !(digit(start.chars().next_back()) && digit(rest.chars().next()))
}
