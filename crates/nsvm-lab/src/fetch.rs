//! Gets subjects from the archive that the machine's own apt uses, without installing anything.
//!
//! apt works in a private state: other folders, an empty list of installed packages, and sources made from the
//! machine's own with the suite replaced. The packages are unpacked into a tree of the [store].
//!
//! ```no_run
//! use nsvm_lab::fetch::{Request, fetch};
//! use nsvm_lab::store::Store;
//!
//! let store = Store::open(&Store::default_root()?)?;
//! let request: Request = "qemu@trixie".parse()?;
//! let qemu = fetch(&request, &store, &mut |line| eprintln!("{line}"))?;
//! let mut command = qemu.command();
//! command.args(["-nodefaults", "-display", "none", "-accel", "tcg"]);
//! # Ok::<(), nsvm_lab::fetch::Error>(())
//! ```

use crate::store::{self, INSTALLED, Kind, Package, Part, Store, Subject, compare_versions, listed, now};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::str::FromStr;

/// Suites of Debian that hold subjects worth having. Others of the archive may be asked for too.
pub const SUITES: [&str; 6] =
    ["bookworm", "bookworm-backports", "trixie", "trixie-backports", "sid", "experimental"];

/// The package that needs all of Xen.
const XEN: &str = "xen-system-amd64";

/// What Debian's sources may call a suite, before `-updates`, `-security` and `-backports`.
const NAMES: [&str; 14] = [
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "experimental",
    "unstable",
    "testing",
    "stable",
    "oldstable",
    "oldoldstable",
    "rc-buggy",
];

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

type Result<T, E = Error> = std::result::Result<T, E>;

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

fn plain(word: &str) -> bool {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    word.starts_with(letter) && word.len() <= 100 && word.chars().all(|c| letter(c) || "+-.".contains(c))
}

/// The suites whose packages belong together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Suites {
    /// What was asked for.
    wanted: String,
    /// Of the main archive: the wanted one, and what its packages may depend on.
    main: Vec<String>,
    /// Of the security archive.
    security: Option<String>,
}

impl Suites {
    /// Those that a suite needs.
    #[must_use]
    pub fn of(wanted: &str) -> Self {
        let base = match wanted {
            "experimental" | "rc-buggy" => "sid",
            _ => wanted.split_once("-backports").map_or(wanted, |(base, _)| base),
        };
        let mut main = vec![base.to_owned()];
        let mut security = None;
        if !matches!(base, "sid" | "unstable") {
            main.push(format!("{base}-updates"));
            security = Some(format!("{base}-security"));
        }
        if base != wanted {
            main.push(wanted.to_owned());
        }
        Self { wanted: wanted.to_owned(), main, security }
    }

    /// Whether its packages are laid over another suite's, so that apt must be told to prefer them.
    fn is_overlay(&self) -> bool {
        self.main.first() != Some(&self.wanted)
    }

    /// Whether packages of a suite count as the wanted suite's own.
    fn own(&self, suite: &str) -> bool {
        suite == self.wanted
            || (!self.is_overlay()
                && (self.main.iter().any(|s| s == suite) || self.security.as_deref() == Some(suite)))
    }

    /// Leaves out a suite that the archive does not have; false if it cannot be done without.
    fn without(&mut self, suite: &str) -> bool {
        if self.security.as_deref() == Some(suite) {
            self.security = None;
            return true;
        }
        match self.main.iter().skip(1).position(|s| s == suite) {
            Some(place) if suite != self.wanted => {
                self.main.remove(place + 1);
                true
            }
            _ => false,
        }
    }
}

/// An entry of the machine's sources: what it says beside the suite.
struct Source {
    /// Options and addresses as they are to be written: lines of a stanza, or what stands before the suite.
    front: String,
    stanza: bool,
    suites: Vec<String>,
    /// Whether it is signed with Debian's keys, or with whichever the machine trusts.
    debian_keys: bool,
}

/// The sources for these suites, from the machine's own: `(file name, text)` each, names ending in `.sources` for
/// stanzas (deb822) and in `.list` for lines. Addresses, keys and options are kept; the suite is replaced, and
/// packages of the component main for amd64 are all that is asked for.
///
/// # Errors
/// If none of the entries is Debian's.
pub fn sources(files: &[(String, String)], suites: &Suites) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for (name, text) in files {
        if name.ends_with(".sources") { stanzas(text, &mut all) } else { lines(text, &mut all) }
    }
    // Others publish under Debian's names of suites too, signed with keys of their own. A mirror that signs with
    // its own key is taken where it is all there is.
    if all.iter().any(|source| source.debian_keys) {
        all.retain(|source| source.debian_keys);
    }
    let (mut stanza_text, mut line_text) = (String::new(), String::new());
    let mut written = BTreeSet::new();
    let mut has_main = false;
    for source in &all {
        for security in [false, true] {
            if !source.suites.iter().any(|suite| is_security(suite) == security) {
                continue;
            }
            let names: Vec<&String> =
                if security { suites.security.iter().collect() } else { suites.main.iter().collect() };
            has_main |= !security;
            if names.is_empty() || !written.insert((&source.front, security)) {
                continue;
            }
            // Writing to a string cannot fail.
            if source.stanza {
                let names = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ");
                let _ = writeln!(
                    stanza_text,
                    "Types: deb\nSuites: {names}\nComponents: main\nTargets: Packages\n{}",
                    source.front
                );
            } else {
                for name in names {
                    let _ = writeln!(line_text, "{} {name} main", source.front);
                }
            }
        }
    }
    if !has_main {
        return Err(Error::NotDebian { files: files.iter().map(|(name, _)| name.clone()).collect() });
    }
    let mut made = Vec::new();
    for (name, text) in [("lab.sources", stanza_text), ("lab.list", line_text)] {
        if !text.is_empty() {
            made.push((name.to_owned(), text));
        }
    }
    Ok(made)
}

fn is_security(suite: &str) -> bool {
    suite.ends_with("-security") || suite.ends_with("/updates")
}

fn is_debian(suite: &str) -> bool {
    let base = suite.strip_suffix("/updates").unwrap_or(suite);
    let ends = ["-updates", "-security", "-proposed-updates", "-backports", "-backports-sloppy"];
    let base = ends.iter().find_map(|end| base.strip_suffix(end)).unwrap_or(base);
    NAMES.contains(&base)
}

/// Entries of a `.sources` file: stanzas of `Field: value`, a value going on in lines that begin with a space.
fn stanzas(text: &str, all: &mut Vec<Source>) {
    let mut stanza: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            all.extend(stanza_source(&stanza));
            stanza.clear();
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = stanza.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            stanza.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
}

fn stanza_source(stanza: &[(String, String)]) -> Option<Source> {
    let field = |wanted: &str| {
        stanza
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map_or("", |(_, value)| value.as_str())
    };
    let has = |name: &str, word: &str| field(name).split_whitespace().any(|each| each == word);
    if !has("Types", "deb")
        || !has("Components", "main")
        || ["no", "false", "off"].contains(&field("Enabled"))
    {
        return None;
    }
    let suites: Vec<String> = field("Suites").split_whitespace().map(str::to_owned).collect();
    let uris: Vec<&str> = field("URIs").split_whitespace().filter(|uri| !uri.starts_with("cdrom:")).collect();
    if uris.is_empty() || !suites.iter().any(|suite| is_debian(suite)) {
        return None;
    }
    let mut front = format!("URIs: {}\n", uris.join(" "));
    const REPLACED: [&str; 7] =
        ["Types", "URIs", "Suites", "Components", "Architectures", "Targets", "Enabled"];
    for (name, value) in stanza {
        if !REPLACED.iter().any(|replaced| name.eq_ignore_ascii_case(replaced)) {
            let _ = writeln!(front, "{name}: {value}");
        }
    }
    let suites = suites.into_iter().filter(|suite| is_debian(suite)).collect();
    Some(Source { front, stanza: true, suites, debian_keys: debian_keys(field("Signed-By")) })
}

/// Entries of a `.list` file: `deb [options] address suite components`.
fn lines(text: &str, all: &mut Vec<Source>) {
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(rest) = line.strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t', '['])) else {
            continue;
        };
        let (options, rest) = match rest.trim_start().strip_prefix('[').and_then(|rest| rest.split_once(']'))
        {
            Some((options, rest)) => (options, rest),
            None => ("", rest),
        };
        let mut words = rest.split_whitespace();
        let (Some(uri), Some(suite)) = (words.next(), words.next()) else { continue };
        if uri.starts_with("cdrom:") || !words.any(|word| word == "main") || !is_debian(suite) {
            continue;
        }
        let mut kept: Vec<&str> = options.split_whitespace().collect();
        kept.retain(|option| !option.starts_with("arch") && !option.starts_with("target"));
        let signed = kept.iter().find_map(|option| option.strip_prefix("signed-by=")).unwrap_or_default();
        let debian_keys = debian_keys(signed);
        kept.push("target=Packages");
        all.push(Source {
            front: format!("deb [ {} ] {uri}", kept.join(" ")),
            stanza: false,
            suites: vec![suite.to_owned()],
            debian_keys,
        });
    }
}

fn debian_keys(signed_by: &str) -> bool {
    signed_by.is_empty() || signed_by.contains("debian-archive")
}

/// A package as a suite's index has it.
#[derive(Clone, Debug)]
struct Entry {
    name: String,
    version: String,
    architecture: String,
    depends: String,
    size: u64,
    sha256: String,
    /// Whether it is in the wanted suite itself, not only in what that is laid over.
    own: bool,
}

/// Reads an index, adding its entries. Lines that it does not need, or cannot read, it leaves out.
fn read_index(text: &str, own: bool, entries: &mut Vec<Entry>) {
    let empty = || Entry {
        name: String::new(),
        version: String::new(),
        architecture: String::new(),
        depends: String::new(),
        size: 0,
        sha256: String::new(),
        own,
    };
    let mut entry = empty();
    for line in text.lines().chain([""]) {
        if line.is_empty() {
            if !entry.name.is_empty() && !entry.version.is_empty() {
                entries.push(std::mem::replace(&mut entry, empty()));
            }
        } else if let Some((name, value)) = line.split_once(": ") {
            let value = || value.to_owned();
            match name {
                "Package" => entry.name = value(),
                "Version" => entry.version = value(),
                "Architecture" => entry.architecture = value(),
                "Depends" => entry.depends = value(),
                "Size" => entry.size = value().parse().unwrap_or(0),
                "SHA256" => entry.sha256 = value(),
                _ => {}
            }
        }
    }
}

/// A package that [`Fetcher::available`] found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Available {
    /// Its name.
    pub package: String,
    /// Its version.
    pub version: String,
    /// Bytes to download for a kernel; of the main package alone for others.
    pub size: u64,
}

/// apt's private state for one suite, up to date.
struct Archive {
    part: Part,
    suites: Suites,
    entries: Vec<Entry>,
}

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
        let part = Part::new(store)?;
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

impl Archive {
    fn new(store: &Store, suite: &str) -> Result<Self> {
        let files = machine_sources()?;
        let part = Part::new(store)?;
        let path = part.path();
        let mut suites = Suites::of(suite);
        for folder in ["state/lists/partial", "cache/archives/partial", "sources.list.d"] {
            let folder = path.join(folder);
            fs::create_dir_all(&folder).map_err(|error| store::Error::io(&folder, error))?;
        }
        write(&path.join("status"), "")?;
        write(&path.join("apt.conf"), &configuration(path))?;
        loop {
            for (name, text) in sources(&files, &suites)? {
                write(&path.join("sources.list.d").join(name), &text)?;
            }
            let output = run(apt(path).arg("update"), "apt-get")?;
            if output.status.success() {
                break;
            }
            // Not every suite has the parts that a release has: those that the archive does not know are left out.
            let missing = missing_suites(&said(&output));
            if missing.iter().any(|name| *name == suite || suites.main.first() == Some(name)) {
                return Err(Error::UnknownSuite { suite: suite.to_owned() });
            }
            let mut fewer = false;
            for name in &missing {
                fewer |= suites.without(name);
            }
            if !fewer {
                return Err(apt_error(format!("reading the index of {suite}"), path, &output));
            }
        }
        let mut entries = Vec::new();
        let mut list = tool("apt-get", path);
        list.args(["indextargets", "--format", "$(RELEASE) $(FILENAME)", "Created-By: Packages"]);
        let output = run(&mut list, "apt-get")?;
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let Some((release, file)) = line.split_once(' ') else { continue };
            let file = Path::new(file);
            let bytes = fs::read(file).map_err(|error| store::Error::io(file, error))?;
            read_index(&String::from_utf8_lossy(&bytes), suites.own(release), &mut entries);
        }
        if !entries.iter().any(|entry| entry.own) {
            return Err(apt_error(format!("reading the index of {suite}"), path, &output));
        }
        Ok(Self { part, suites, entries })
    }

    /// The newest package of this name in the suite itself.
    fn newest(&self, name: &str) -> Option<&Entry> {
        let own = self.entries.iter().filter(|entry| entry.own && entry.name == name);
        own.max_by(|a, b| compare_versions(&a.version, &b.version))
    }

    fn need(&self, name: &str) -> Result<&Entry> {
        self.newest(name).ok_or_else(|| {
            let mut candidates: Vec<String> = Vec::new();
            if name.starts_with("linux-image-") {
                candidates.extend(self.kernels().into_iter().rev().map(|kernel| kernel.package));
            } else if self.entries.iter().any(|entry| entry.name == name) {
                // A suite that is laid over another need not have its own.
                candidates.extend(self.suites.main.first().map(|base| format!("one in {base}")));
            }
            let (suite, package) = (self.suites.wanted.clone(), name.to_owned());
            Error::UnknownPackage { suite, package, near: near(name, &candidates) }
        })
    }

    /// The kernel itself behind a name that may be a metapackage's.
    fn kernel(&self, name: &str) -> Result<&Entry> {
        let mut entry = self.need(name)?;
        // Two steps lead from linux-image-amd64 to the image; a circle must not hold us.
        for _ in 0..4 {
            match depends_on(entry).into_iter().find(|(name, _)| name.starts_with("linux-image-")) {
                Some((name, _)) => entry = self.need(name)?,
                None => break,
            }
        }
        Ok(entry)
    }

    /// The packages that hold a kernel's image and modules, itself first. The archive removes old ones piecemeal.
    fn kernel_parts<'e>(&'e self, kernel: &'e Entry) -> Result<Vec<&'e Entry>> {
        let mut parts = vec![kernel];
        for (name, version) in depends_on(kernel) {
            if name.starts_with("linux-binary-") || name.starts_with("linux-modules-") {
                let found = self.entries.iter().filter(|entry| entry.own && entry.name == name);
                let found = found.filter(|entry| version.is_none_or(|version| version == entry.version));
                let newest = found.max_by(|a, b| compare_versions(&a.version, &b.version));
                parts.push(newest.ok_or_else(|| Error::Gone {
                    suite: self.suites.wanted.clone(),
                    package: kernel.name.clone(),
                    needs: name.to_owned(),
                })?);
            }
        }
        Ok(parts)
    }

    /// All kernels of the suite that can be fetched, without metapackages, the oldest first.
    fn kernels(&self) -> Vec<Available> {
        let names: BTreeSet<&str> = self.entries.iter().filter(|entry| entry.own).map(|e| &*e.name).collect();
        let numbered = |name: &&str| {
            let release = name.strip_prefix("linux-image-").filter(|release| release.ends_with("-amd64"));
            release.is_some_and(|release| release.starts_with(|c: char| c.is_ascii_digit()))
        };
        let images = names.into_iter().filter(numbered).filter_map(|name| self.newest(name));
        let real = images.filter(|e| !depends_on(e).iter().any(|(name, _)| name.starts_with("linux-image-")));
        let whole = real.filter_map(|entry| Some((entry, self.kernel_parts(entry).ok()?)));
        let mut kernels: Vec<Available> = whole
            .map(|(entry, parts)| Available {
                package: entry.name.clone(),
                version: entry.version.clone(),
                size: parts.iter().map(|part| part.size).sum(),
            })
            .collect();
        kernels
            .sort_by(|a, b| compare_versions(&a.version, &b.version).then_with(|| a.package.cmp(&b.package)));
        kernels
    }

    /// Downloads what the subject needs and says where the packages are, in the order in which to unpack them.
    fn download(
        &self,
        kind: Kind,
        main: &Entry,
        into: &Path,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Vec<PathBuf>> {
        let state = self.part.path();
        let debs = into.join("debs");
        fs::create_dir_all(debs.join("partial")).map_err(|error| store::Error::io(&debs, error))?;
        let mut command = apt(state);
        let doing = format!("downloading {} {}", main.name, main.version);
        if kind == Kind::Kernel {
            let parts = self.kernel_parts(main)?;
            progress(&fetching(parts.len(), parts.iter().map(|part| part.size).sum()));
            // Alone: what it depends on is for installing it.
            command.arg("download").current_dir(&debs);
            command.args(parts.iter().map(|part| format!("{}={}", part.name, part.version)));
        } else {
            command.arg("-o").arg(format!("Dir::Cache::archives={}", debs.display()));
            command.args(["install", "--download-only"]);
            if self.suites.is_overlay() {
                command.args(["-t", &self.suites.wanted]);
            }
            command.arg(format!("{}={}", main.name, main.version));
            let extra: &[&str] = match kind {
                // Its own BIOS, which it takes SeaBIOS in place of, and the smallest screen: none is used.
                Kind::Bochs => &["bochsbios", "vgabios", "bochs-term"],
                // The shell of a domain 0.
                Kind::Xen => &["busybox-static"],
                Kind::Qemu | Kind::Kernel => &[],
            };
            command.args(extra.iter().filter(|name| self.entries.iter().any(|entry| entry.name == **name)));
            // Asked first what it would fetch, for the count.
            let mut plan = Command::new(command.get_program());
            plan.args(command.get_args()).arg("--print-uris").env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
            let output = run(&mut plan, "apt-get")?;
            if !output.status.success() {
                return Err(apt_error(doing, state, &output));
            }
            let text = String::from_utf8_lossy(&output.stdout);
            let lines = text.lines().filter(|line| line.starts_with('\''));
            let sizes: Vec<u64> =
                lines.filter_map(|line| line.split_whitespace().nth(2)?.parse().ok()).collect();
            progress(&fetching(sizes.len(), sizes.iter().sum()));
        }
        let output = run(&mut command, "apt-get")?;
        if !output.status.success() {
            return Err(apt_error(doing, state, &output));
        }
        let read = fs::read_dir(&debs).map_err(|error| store::Error::io(&debs, error))?;
        let mut found: Vec<PathBuf> = read.flatten().map(|entry| entry.path()).collect();
        found.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
        found.sort();
        if found.is_empty() {
            return Err(apt_error(doing, state, &output));
        }
        Ok(found)
    }

    /// What a package file is, by the name that apt gave it: `NAME_VERSION_ARCHITECTURE.deb`, colons as `%3a`.
    fn package(&self, deb: &Path) -> Package {
        let stem = deb.file_stem().unwrap_or_default().to_string_lossy();
        let mut words = stem.split('_');
        let name = words.next().unwrap_or_default().to_owned();
        let version = words.next().unwrap_or("?").replace("%3a", ":");
        let architecture = words.next().unwrap_or_default();
        let known = self.entries.iter().find(|entry| {
            entry.name == name && entry.version == version && entry.architecture == architecture
        });
        Package {
            sha256: known.map_or_else(|| "unknown".to_owned(), |entry| entry.sha256.clone()),
            name,
            version,
        }
    }
}

/// The first choices of what a package depends on, each with the version that it must have exactly.
fn depends_on(entry: &Entry) -> Vec<(&str, Option<&str>)> {
    entry
        .depends
        .split(',')
        .filter_map(|clause| {
            let choice = clause.split('|').next()?.trim();
            let name = choice.split([' ', '(', ':']).next()?;
            let version = choice.split_once("(= ").and_then(|(_, rest)| rest.strip_suffix(')'));
            Some((name, version))
        })
        .collect()
}

/// Up to six names that look like this one: those that share most of its beginning, then of its end.
fn near(name: &str, candidates: &[String]) -> Vec<String> {
    let same = |pairs: &mut dyn Iterator<Item = (char, char)>| pairs.take_while(|(a, b)| a == b).count();
    let likeness = |other: &str| {
        (same(&mut name.chars().zip(other.chars())), same(&mut name.chars().rev().zip(other.chars().rev())))
    };
    let mut sorted: Vec<&String> = candidates.iter().collect();
    sorted.sort_by_key(|candidate| std::cmp::Reverse(likeness(candidate)));
    sorted.into_iter().take(6).cloned().collect()
}

fn fetching(packages: usize, bytes: u64) -> String {
    format!("fetching {packages} packages, {}", megabytes(bytes))
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}

/// apt's settings: the machine's own, proxies for one, but for what would touch the machine.
fn configuration(path: &Path) -> String {
    let path = path.display();
    format!(
        r#"Dir::State "{path}/state";
Dir::State::status "{path}/status";
Dir::Cache "{path}/cache";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "{path}/sources.list.d";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
#clear APT::Default-Release;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
#clear APT::Architectures;
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Get::Assume-Yes "true";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::GzipIndexes "false";
Acquire::Retries "3";
"#
    )
}

/// A tool of apt in the private state. Its words are in English, as they are read here.
fn tool(name: &str, state: &Path) -> Command {
    let mut command = Command::new(name);
    command.arg("-c").arg(state.join("apt.conf")).env("LC_ALL", "C.UTF-8");
    command
}

fn apt(state: &Path) -> Command {
    let mut command = tool("apt-get", state);
    command.arg("-q");
    command
}

fn run(command: &mut Command, tool: &'static str) -> Result<Output> {
    command.stdin(Stdio::null()).output().map_err(|error| missing_tool(tool, error))
}

fn missing_tool(tool: &'static str, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::NoTool { tool },
        _ => Error::Store(store::Error::CannotRun { path: PathBuf::from(tool), error }),
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The last lines worth reading, each indented.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let last = lines.iter().skip(lines.len().saturating_sub(6));
    last.map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

fn is_full(text: &str) -> bool {
    ["No space left on device", "enough free space in", "Disk quota exceeded"]
        .iter()
        .any(|words| text.contains(words))
}

fn apt_error(doing: String, place: &Path, output: &Output) -> Error {
    let text = said(output);
    if is_full(&text) {
        return Error::Store(store::Error::DiskFull { path: place.parent().unwrap_or(place).to_owned() });
    }
    // Warnings and errors come at the end of the other stream, and tell more than the steps do.
    let worse = String::from_utf8_lossy(&output.stderr);
    Error::Apt { doing, said: last_lines(if worse.trim().is_empty() { &text } else { &worse }) }
}

/// Suites that the archive does not have, by apt's `The repository 'ADDRESS SUITE Release' does not have …`.
fn missing_suites(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| line.contains("does not have a Release file"));
    let names = lines.filter_map(|line| line.split('\'').nth(1)?.split_whitespace().nth(1));
    names.map(str::to_owned).collect()
}

/// The machine's sources: names and texts of the files that its apt reads.
fn machine_sources() -> Result<Vec<(String, String)>> {
    let mut command = Command::new("apt-config");
    command.args(["shell", "LIST", "Dir::Etc::sourcelist/f", "PARTS", "Dir::Etc::sourceparts/d"]);
    let output = run(&mut command, "apt-config")?;
    if !output.status.success() {
        return Err(apt_error("asking apt for its sources".to_owned(), Path::new("/"), &output));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let value = |name: &str| {
        let line =
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("='")?.strip_suffix('\''));
        line.map(PathBuf::from)
    };
    let mut paths: Vec<PathBuf> = value("LIST").into_iter().filter(|path| path.is_file()).collect();
    if let Some(parts) = value("PARTS") {
        let found = fs::read_dir(&parts).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut found: Vec<PathBuf> = found
            .filter(|path| {
                path.extension().is_some_and(|extension| extension == "list" || extension == "sources")
            })
            .collect();
        found.sort();
        paths.append(&mut found);
    }
    let mut files = Vec::new();
    for path in paths {
        let bytes = fs::read(&path).map_err(|error| store::Error::io(&path, error))?;
        files.push((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
    }
    Ok(files)
}

fn write(path: &Path, text: &str) -> Result<()> {
    Ok(fs::write(path, text).map_err(|error| store::Error::io(path, error))?)
}

/// An empty tree laid out as Debian's is now: older packages put libraries and modules into `lib`, newer ones into
/// `usr/lib`, and here both are the same folder.
fn make_root(root: &Path) -> Result<()> {
    for name in ["lib", "lib64", "bin", "sbin"] {
        let folder = root.join("usr").join(name);
        fs::create_dir_all(&folder).map_err(|error| store::Error::io(&folder, error))?;
        let link = root.join(name);
        #[cfg(unix)]
        std::os::unix::fs::symlink(Path::new("usr").join(name), &link)
            .map_err(|error| store::Error::io(&link, error))?;
    }
    Ok(())
}

/// Unpacks a package's files into a tree, as files of whoever calls and with no right to become somebody else.
///
/// # Errors
/// If the package is cut off or damaged, the disk is full, or dpkg-deb or tar is missing.
pub fn unpack(deb: &Path, root: &Path) -> Result<()> {
    let mut opener = Command::new("dpkg-deb");
    opener.arg("--fsys-tarfile").arg(deb).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut opened = opener.spawn().map_err(|error| missing_tool("dpkg-deb", error))?;
    let mut tar = Command::new("tar");
    tar.arg("-x").arg("-C").arg(root).args([
        "--no-same-owner",
        "--no-same-permissions",
        "--keep-directory-symlink",
    ]);
    tar.env("LC_ALL", "C.UTF-8");
    if let Some(stream) = opened.stdout.take() {
        tar.stdin(stream);
    }
    let unpacked = tar.output().map_err(|error| missing_tool("tar", error));
    let opened = opened.wait_with_output().map_err(|error| missing_tool("dpkg-deb", error))?;
    let unpacked = unpacked?;
    if opened.status.success() && unpacked.status.success() {
        return Ok(());
    }
    let text = format!("{}{}", said(&opened), said(&unpacked));
    if is_full(&text) {
        // The tree is in a part of the store, both of which the reader has not heard of.
        let path = root.ancestors().nth(2).unwrap_or(root).to_owned();
        return Err(Error::Store(store::Error::DiskFull { path }));
    }
    let package = deb.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Err(Error::BadPackage { package, said: last_lines(&text) })
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

/// Bytes in the files below a folder; links are not followed.
fn size_of(folder: &Path) -> u64 {
    let mut size = 0;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(data) if data.is_dir() => size += size_of(&entry.path()),
            Ok(data) => size += data.len(),
            Err(_) => {}
        }
    }
    size
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "\
Package: linux-image-amd64
Version: 7.2.13-1
Depends: linux-base-amd64 (= 7.2.13-1), linux-image-7.2.13-amd64 (= 7.2.13-1)

Package: linux-image-7.2.13-amd64
Version: 7.2.13-1
Architecture: amd64
Depends: dracut | linux-initramfs-tool, linux-binary-7.2.13-amd64 (= 7.2.13-1), linux-modules-7.2.13-amd64 (= 7.2.13-1)
Size: 10
SHA256: aa11

Package: linux-binary-7.2.13-amd64
Version: 7.2.13-1
Size: 200

Package: linux-modules-7.2.13-amd64
Version: 7.2.13-1
Size: 3000

Package: linux-modules-7.2.13-amd64
Version: 7.2.13-2
Size: 50000

Package: linux-image-6.19.1-amd64
Version: 6.19.1-1
Depends: linux-binary-6.19.1-amd64 (= 6.19.1-1), linux-modules-6.19.1-amd64 (= 6.19.1-1)

Package: linux-binary-6.19.1-amd64
Version: 6.19.1-1

Package: linux-image-6.12.9-amd64
Version: 6.12.9-1
Depends: kmod
Size: 7

Package: linux-image-6.12.9-amd64-unsigned
Version: 6.12.9-1

Package: linux-image-6.12-amd64
Version: 6.12.9-1
Depends: linux-image-6.12.9-amd64 (= 6.12.9-1)
";

    fn with_archive(test: &str, check: impl Fn(&Archive)) {
        let folder = std::env::temp_dir().join(format!("nsvm-lab-{test}-{}", std::process::id()));
        let store = Store::open(&folder).unwrap();
        let mut entries = Vec::new();
        read_index(INDEX, true, &mut entries);
        read_index("Package: bochs\nVersion: 3.0\n", false, &mut entries);
        let part = Part::new(&store).unwrap();
        check(&Archive { part, suites: Suites::of("trixie-backports"), entries });
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn kernels_are_found_behind_metapackages_and_only_where_whole() {
        with_archive("kernels", |archive| {
            let kernels = archive.kernels();
            let found: Vec<_> = kernels.iter().map(|k| (&*k.package, &*k.version, k.size)).collect();
            assert_eq!(
                found,
                [("linux-image-6.12.9-amd64", "6.12.9-1", 7), ("linux-image-7.2.13-amd64", "7.2.13-1", 3210)]
            );
            for (asked, got) in [
                ("linux-image-amd64", "linux-image-7.2.13-amd64"),
                ("linux-image-6.12-amd64", "linux-image-6.12.9-amd64"),
                ("linux-image-6.12.9-amd64", "linux-image-6.12.9-amd64"),
            ] {
                assert_eq!(archive.kernel(asked).unwrap().name, got);
            }
            let old = archive.kernel("linux-image-6.19.1-amd64").unwrap();
            let error = archive.kernel_parts(old).unwrap_err();
            assert!(
                matches!(&error, Error::Gone { needs, .. } if needs == "linux-modules-6.19.1-amd64"),
                "{error}"
            );
        });
    }

    #[test]
    fn what_a_suite_has_not_is_refused_with_what_is_near() {
        with_archive("near", |archive| {
            let near = |name: &str| match archive.kernel(name) {
                Err(Error::UnknownPackage { near, .. }) => near,
                other => panic!("{other:?}"),
            };
            assert_eq!(near("linux-image-7.2.12-amd64")[0], "linux-image-7.2.13-amd64");
            assert_eq!(near("linux-image-6.12.8-amd64")[0], "linux-image-6.12.9-amd64");
            assert_eq!(near("bochs"), ["one in trixie"]);
            assert!(near("xen").is_empty());
        });
    }

    #[test]
    fn a_package_file_is_told_by_its_name() {
        with_archive("names", |archive| {
            let package = archive.package(Path::new("d/linux-image-7.2.13-amd64_7.2.13-1_amd64.deb"));
            assert_eq!((&*package.name, &*package.sha256), ("linux-image-7.2.13-amd64", "aa11"));
            assert_eq!(archive.package(Path::new("zlib1g_1%3a1.2.13_amd64.deb")).version, "1:1.2.13");
        });
    }

    #[test]
    fn apts_words_are_understood() {
        let text = "Err:1 mirror://x.example/debian forky-backports Release\n\
                    E: The repository 'mirror://x.example/debian forky-backports Release' does not have a Release file.\n\
                    E: The repository 'mirror://x.example/security forky-security Release' does not have a Release file.";
        assert_eq!(missing_suites(text), ["forky-backports", "forky-security"]);
        assert!(is_full("E: You don't have enough free space in /x/archives/."));
        assert!(is_full("tar: y: Cannot write: No space left on device"));
        assert!(!is_full(text));
        assert_eq!(last_lines("1\n2\n\n3\n4\n5\n6\n7\n"), "  2\n  3\n  4\n  5\n  6\n  7");
    }

    #[test]
    fn suites_that_an_archive_lacks_are_left_out_unless_they_are_needed() {
        let mut suites = Suites::of("trixie-backports");
        assert!(suites.without("trixie-security") && suites.without("trixie-updates"));
        assert!(!suites.without("trixie-updates"), "it is gone already");
        assert!(!suites.without("trixie") && !suites.without("trixie-backports"));
        assert_eq!((suites.main.join(" "), &suites.security), ("trixie trixie-backports".to_owned(), &None));
        assert!(suites.own("trixie-backports") && !suites.own("trixie"));
        let trixie = Suites::of("trixie");
        assert!(trixie.own("trixie-security") && trixie.own("trixie-updates") && !trixie.own("sid"));
    }
}
