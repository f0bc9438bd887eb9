//! Errors of fetching.

use super::suites::SUITES;
use crate::store::{self, Kind, listed};

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store cannot be used, or what was fetched does not start.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The text is no request.
    #[error(
        "`{text}` asks for nothing: {what}. Write qemu@SUITE, bochs@SUITE, kernel@SUITE or kernel:PACKAGE@SUITE"
    )]
    Request {
        /// What was given.
        text: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A program that fetching needs is not here.
    #[error(
        "there is no `{tool}` here: fetching needs a Debian machine (apt, dpkg, tar). Give the path of an installed QEMU or Bochs instead"
    )]
    NoTool {
        /// The program.
        tool: &'static str,
    },
    /// The machine's sources name no archive of Debian.
    #[error(
        "apt's sources ({}) name no archive of Debian: fetching needs an enabled `deb` entry with a suite of Debian and the component main",
        listed("", files, "")
    )]
    NotDebian {
        /// The files that were read.
        files: Vec<String>,
    },
    /// The machine cannot run what Debian builds for amd64.
    #[error(
        "this machine is {machine}: {kind} is fetched for amd64 only and would not start. Kernels can be fetched; for {kind} use the machine's own"
    )]
    Machine {
        /// Its architecture.
        machine: &'static str,
        /// What was asked for.
        kind: Kind,
    },
    /// The archive has no such suite.
    #[error("the archive has no suite `{suite}`; known ones are {}", SUITES.join(", "))]
    UnknownSuite {
        /// What was asked for.
        suite: String,
    },
    /// The suite has no such package.
    #[error("{suite} has no package `{package}`{}", listed("; there is ", near, ""))]
    UnknownPackage {
        /// The suite.
        suite: String,
        /// What was asked for.
        package: String,
        /// Some that there are.
        near: Vec<String>,
    },
    /// The suite still names a kernel, but not all of its packages.
    #[error(
        "{suite} has {package}, but no longer {needs}, which it needs: choose another kernel of the suite"
    )]
    Gone {
        /// The suite.
        suite: String,
        /// The kernel's package.
        package: String,
        /// The package that is not there.
        needs: String,
    },
    /// apt could not do it.
    #[error(
        "{doing} failed; apt's last words:\n{said}\nCheck the network and apt's sources, then fetch again"
    )]
    Apt {
        /// What it was doing.
        doing: String,
        /// Its last lines.
        said: String,
    },
    /// A package cannot be unpacked: it is cut off or damaged.
    #[error(
        "{package} cannot be unpacked, it is cut off or damaged:\n{said}\nFetch again; if it stays so the archive's copy is bad"
    )]
    BadPackage {
        /// Its file name.
        package: String,
        /// The last lines of what unpacked it.
        said: String,
    },
    /// The packages hold no program, image or modules where they should be.
    #[error(
        "the packages of {wanted} hold no {missing}: Debian changed where it is; please report this with the version"
    )]
    Incomplete {
        /// What was asked for, with the version.
        wanted: String,
        /// What is not there.
        missing: &'static str,
    },
}

pub(super) type Result<T, E = Error> = std::result::Result<T, E>;
