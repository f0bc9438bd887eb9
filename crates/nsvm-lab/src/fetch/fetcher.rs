//! Fetches subjects into a store.

use super::archive::{Archive, Available, megabytes};
use super::error::{Error, Result};
use super::request::{Request, plain};
use super::unpack::{make_root, size_of, unpack};
use crate::store::{self, Kind, Store, Subject, now, staging_dir};
use std::collections::BTreeMap;
use std::fs;

/// The package that needs all of Xen.
const XEN: &str = "xen-system-amd64";

/// Fetches subjects into a store. It asks the archive once for each suite.
pub struct Fetcher<'a> {
    store: &'a Store,
    archives: BTreeMap<String, Archive>,
}

/// Fetches one subject, or finds it in the store if the suite's newest is there already.
///
/// # Errors
/// See [`Error`]; nothing half-finished stays.
pub fn fetch(request: &Request, store: &Store, progress: &mut dyn FnMut(&str)) -> Result<Subject> {
    Fetcher::new(store)?.fetch(request, progress)
}

/// What a suite has of a kind: all its kernels for amd64, or the one QEMU or Bochs, the oldest first.
///
/// # Errors
/// See [`Error`].
pub fn available(
    kind: Kind,
    suite: &str,
    store: &Store,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Available>> {
    Fetcher::new(store)?.available(kind, suite, progress)
}

impl<'a> Fetcher<'a> {
    /// One that fetches into this store, from which it removes what interrupted fetches left.
    ///
    /// # Errors
    /// If leftovers cannot be removed.
    pub fn new(store: &'a Store) -> Result<Self> {
        store.remove_leftovers()?;
        Ok(Self { store, archives: BTreeMap::new() })
    }

    fn archive(&mut self, suite: &str, progress: &mut dyn FnMut(&str)) -> Result<&Archive> {
        if !self.archives.contains_key(suite) {
            if !plain(suite) {
                return Err(Error::UnknownSuite { suite: suite.to_owned() });
            }
            progress(&format!("reading what {suite} holds"));
            self.archives.insert(suite.to_owned(), Archive::new(self.store, suite)?);
        }
        Ok(&self.archives[suite])
    }

    /// As [`available`].
    ///
    /// # Errors
    /// See [`Error`].
    pub fn available(
        &mut self,
        kind: Kind,
        suite: &str,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Vec<Available>> {
        let archive = self.archive(suite, progress)?;
        let main = match kind {
            Kind::Kernel => return Ok(archive.kernels()),
            Kind::Qemu => "qemu-system-x86",
            Kind::Bochs => "bochs",
            Kind::Xen => XEN,
        };
        let found = archive.newest(main).into_iter();
        Ok(found
            .map(|e| Available { package: e.name.clone(), version: e.version.clone(), size: e.size })
            .collect())
    }

    /// As [`fetch()`].
    ///
    /// # Errors
    /// See [`Error`].
    pub fn fetch(&mut self, request: &Request, progress: &mut dyn FnMut(&str)) -> Result<Subject> {
        let kind = request.kind;
        if matches!(kind, Kind::Qemu | Kind::Bochs) && std::env::consts::ARCH != "x86_64" {
            return Err(Error::Machine { machine: std::env::consts::ARCH, kind });
        }
        let store = self.store;
        let archive = self.archive(&request.suite, progress)?;
        let main = match kind {
            Kind::Qemu => archive.need("qemu-system-x86")?,
            Kind::Bochs => archive.need("bochs")?,
            Kind::Xen => archive.need(XEN)?,
            Kind::Kernel => archive.kernel(request.package.as_deref().unwrap_or("linux-image-amd64"))?,
        };
        let (main_name, main_version) = (main.name.clone(), main.version.clone());
        let part = staging_dir(store.root())?;
        let mut subject = Subject {
            kind,
            version: main_version.split_once(':').map_or(&*main_version, |(_, rest)| rest).to_owned(),
            suite: request.suite.clone(),
            root: part.path().join("tree"),
            package: main_name,
            fetched: now(),
            size: 0,
            packages: Vec::new(),
            program: None,
        };
        if let Some(there) = store.holds(&subject) {
            progress(&format!("{there} is here already"));
            return Ok(there);
        }
        let debs = archive.download(kind, main, part.path(), progress)?;
        progress(&format!("unpacking {} packages", debs.len()));
        make_root(&subject.root)?;
        for deb in &debs {
            unpack(deb, &subject.root)?;
            subject.packages.push(archive.package(deb));
            // The disk need not hold both forms of all of them.
            fs::remove_file(deb).map_err(|error| store::Error::io(deb, error))?;
        }
        check(&subject, request)?;
        subject.size = size_of(&subject.root);
        let subject = store.keep(subject)?;
        progress(&format!("{subject} is here: {}", megabytes(subject.size)));
        Ok(subject)
    }
}

/// Whether what was unpacked can be used: a program is started, a kernel's files are looked for.
fn check(subject: &Subject, request: &Request) -> Result<()> {
    let incomplete =
        |missing| Error::Incomplete { wanted: format!("{request} ({})", subject.version), missing };
    match subject.kind {
        Kind::Kernel => subject.kernel().map(drop).ok_or_else(|| incomplete("vmlinuz with its modules")),
        Kind::Xen => subject.xen().map(drop).ok_or_else(|| incomplete("image of Xen")),
        Kind::Qemu | Kind::Bochs => {
            if !subject.program().is_some_and(|program| program.is_file()) {
                return Err(incomplete("program"));
            }
            Ok(subject.ask().map(drop)?)
        }
    }
}
