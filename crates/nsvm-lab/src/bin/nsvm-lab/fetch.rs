//! Subjects from Debian's archive: fetching and listing.

use crate::files::{failed, open_store};
use nsvm::{Error, Status};
use nsvm_lab::fetch::{Fetcher, Request};
use nsvm_lab::store::{self, Store, Subject};
use std::io::Write;

pub(crate) fn fetch(what: &[String], out: &mut dyn Write) -> Result<Status, Error> {
    let requests: Vec<Request> =
        what.iter().map(|text| text.parse()).collect::<Result<_, _>>().map_err(failed)?;
    let store = open_store()?;
    let mut fetcher = Fetcher::new(&store).map_err(failed)?;
    for request in &requests {
        let subject = fetcher.fetch(request, &mut |line| eprintln!("{line}")).map_err(failed)?;
        writeln!(out, "{subject}")?;
        out.flush()?;
    }
    Ok(Status::Fine)
}

pub(crate) fn available(what: &[String], out: &mut dyn Write) -> Result<Status, Error> {
    let requests: Vec<Request> =
        what.iter().map(|text| text.parse()).collect::<Result<_, _>>().map_err(failed)?;
    let store = open_store()?;
    let mut fetcher = Fetcher::new(&store).map_err(failed)?;
    for request in &requests {
        let found = fetcher
            .available(request.kind, &request.suite, &mut |line| eprintln!("{line}"))
            .map_err(failed)?;
        for one in found {
            writeln!(
                out,
                "{}:{}@{}  {}  {} MB",
                request.kind,
                one.package,
                request.suite,
                one.version,
                one.size >> 20
            )?;
        }
    }
    Ok(Status::Fine)
}

pub(crate) fn list(out: &mut dyn Write) -> Result<Status, Error> {
    for found in store::installed() {
        match found {
            Ok(subject) => {
                let program = subject.program().unwrap_or_default();
                writeln!(out, "{} {}, installed: {}", subject.kind, subject.version, program.display())?;
            }
            Err(error) => writeln!(out, "unusable: {error}")?,
        }
    }
    let root = Store::default_root().map_err(failed)?;
    let store = Store::open(&root).map_err(failed)?;
    let listing = store.list().map_err(failed)?;
    writeln!(out, "{}:", root.display())?;
    if listing.subjects.is_empty() {
        writeln!(out, "  nothing is fetched; `nsvm lab fetch qemu@trixie kernel@sid` gets some")?;
    }
    let columns = |subject: &Subject| {
        let release = subject.release().unwrap_or_default().to_owned();
        [subject.kind.name().to_owned(), subject.version.clone(), subject.suite.clone(), release]
    };
    let rows: Vec<_> = listing.subjects.iter().map(columns).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let (versions, suites) = (width(1), width(2));
    for (subject, [kind, version, suite, release]) in listing.subjects.iter().zip(&rows) {
        let size = format!("{} MB", subject.size >> 20);
        let line = format!("  {kind:<6}  {version:<versions$}  {suite:<suites$}  {size:>7}  {release}");
        writeln!(out, "{}", line.trim_end())?;
    }
    for (path, error) in &listing.damaged {
        writeln!(out, "damaged: {}: {error}", path.display())?;
    }
    Ok(Status::Fine)
}
