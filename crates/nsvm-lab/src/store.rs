//! The subjects that are here: trees in the cache, and programs of the machine itself.
//!
//! A tree is built in a folder `part-…`, gets its [`subject.txt`](SHEET) last, and is then renamed to
//! `KIND/VERSION@SUITE`. So a fetch that was interrupted leaves a part, never something that looks complete.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering as Atomic};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The file of a tree that says what it is. It ends with a line `end`; without it the tree is damaged.
pub const SHEET: &str = "subject.txt";

/// What [`Subject::suite`] says of a program of the machine itself.
pub const INSTALLED: &str = "installed";

const HEAD: &str = "nsvm-lab subject 1";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
/// How long a program may take to tell its version.
const PATIENCE: Duration = Duration::from_secs(20);

/// What sort of subject.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Kind {
    /// QEMU's `qemu-system-x86_64`.
    Qemu,
    /// Bochs.
    Bochs,
    /// A Linux kernel with its KVM modules.
    Kernel,
    /// Xen, with its tools and what a domain 0 of them needs.
    Xen,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Qemu, Self::Bochs, Self::Kernel, Self::Xen];

    /// Its name: `qemu`, `bochs`, `kernel`, `xen`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Bochs => "bochs",
            Self::Kernel => "kernel",
            Self::Xen => "xen",
        }
    }

    /// The program's name in PATH; none for what QEMU boots.
    #[must_use]
    pub fn program(self) -> Option<&'static str> {
        match self {
            Self::Qemu => Some("qemu-system-x86_64"),
            Self::Bochs => Some("bochs"),
            Self::Kernel | Self::Xen => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
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

/// A package that a tree was made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its whole version, with the epoch.
    pub version: String,
    /// SHA-256 of the .deb in hexadecimal, as the suite's signed index gives it.
    pub sha256: String,
}

/// A version of QEMU, Bochs or Linux that can be run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subject {
    /// What it is.
    pub kind: Kind,
    /// Its version: of the main package without the epoch, or what an installed program says.
    pub version: String,
    /// The suite it came from, or [`INSTALLED`].
    pub suite: String,
    /// Where its files are; absolute. `/` for an installed program.
    pub root: PathBuf,
    /// The main package, such as `linux-image-6.1.0-50-amd64`; empty for an installed program.
    pub package: String,
    /// When it was fetched, such as `2026-01-31T12:00:00Z`; empty for an installed program.
    pub fetched: String,
    /// Bytes in its files; 0 for an installed program.
    pub size: u64,
    /// What its tree was made of, the main package included.
    pub packages: Vec<Package>,
    /// The program itself, if it is the machine's.
    pub program: Option<PathBuf>,
}

impl fmt::Display for Subject {
    /// Its name, which [`Store::find`] reads: `bochs:3.0+dfsg-1@trixie`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}@{}", self.kind, self.folder_version(), self.suite)
    }
}

impl Subject {
    /// The program of a QEMU or Bochs that the machine has, having asked it for its version.
    ///
    /// # Errors
    /// If it cannot be executed, or answers like something else.
    pub fn of_program(kind: Kind, path: &Path) -> Result<Self, Error> {
        let path = std::path::absolute(path).map_err(|error| Error::io(path, error))?;
        let mut subject = Self {
            kind,
            version: String::new(),
            suite: INSTALLED.to_owned(),
            root: PathBuf::from("/"),
            package: String::new(),
            fetched: String::new(),
            size: 0,
            packages: Vec::new(),
            program: Some(path),
        };
        subject.version = subject.ask()?;
        Ok(subject)
    }

    /// The release of a kernel, such as `6.1.0-50-amd64`; nothing for others.
    #[must_use]
    pub fn release(&self) -> Option<&str> {
        self.package.strip_prefix("linux-image-")
    }

    /// Its version as the folder has it: several kernels of one version differ in their release.
    fn folder_version(&self) -> String {
        match self.release() {
            Some(release) => format!("{release}_{}", self.version),
            None => self.version.clone(),
        }
    }

    /// Where its tree is in the store, relative to it.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        Path::new(self.kind.name()).join(format!("{}@{}", self.folder_version(), self.suite))
    }

    /// The program, before loader and arguments; nothing for what QEMU boots.
    #[must_use]
    pub fn program(&self) -> Option<PathBuf> {
        match (&self.program, self.kind) {
            (Some(program), _) => Some(program.clone()),
            (None, Kind::Qemu) => Some(self.root.join("usr/bin/qemu-system-x86_64")),
            // `usr/bin/bochs` is a script of Debian's; the program is beside it where there is one.
            (None, Kind::Bochs) => {
                let binary = self.root.join("usr/bin/bochs-bin");
                Some(if binary.exists() { binary } else { self.root.join("usr/bin/bochs") })
            }
            (None, Kind::Kernel | Kind::Xen) => None,
        }
    }

    /// The program ready to get its own arguments: run by the tree's loader with the tree's libraries, and told
    /// where the tree's modules and firmware are. For what QEMU boots a command that cannot be run.
    #[must_use]
    pub fn command(&self) -> Command {
        let program = self.program().unwrap_or_else(|| self.root.join("no-program"));
        if self.program.is_some() {
            return Command::new(program);
        }
        let libraries = self.root.join(LIBRARIES);
        // Not lib64/ld-linux…: that one is an absolute link in some suites, into the machine.
        let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
        command.arg("--inhibit-cache").arg("--library-path").arg(self.library_path()).arg(program);
        match self.kind {
            Kind::Qemu => {
                command.env("QEMU_MODULE_DIR", libraries.join("qemu"));
                for firmware in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
                    command.arg("-L").arg(self.root.join(firmware));
                }
            }
            Kind::Bochs => {
                command.env("LTDL_LIBRARY_PATH", libraries.join("bochs/plugins"));
                command.env("BXSHARE", self.root.join("usr/share/bochs"));
            }
            Kind::Kernel | Kind::Xen => {}
        }
        command
    }

    /// Its folders of libraries, joined by colons. Some packages keep theirs one folder deeper and name them by an
    /// absolute path that would lead into the machine.
    fn library_path(&self) -> std::ffi::OsString {
        let libraries = self.root.join(LIBRARIES);
        let mut folders = vec![libraries.clone(), self.root.join("usr/lib")];
        let deeper = fs::read_dir(&libraries).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut deeper: Vec<PathBuf> = deeper.filter(|path| path.is_dir() && holds_libraries(path)).collect();
        deeper.sort();
        folders.append(&mut deeper);
        let mut joined = std::ffi::OsString::new();
        for (index, folder) in folders.iter().enumerate() {
            if index > 0 {
                joined.push(":");
            }
            joined.push(folder);
        }
        joined
    }

    /// BIOS and VGA BIOS for Bochs' `romimage` and `vgaromimage`, if they are there. Where Bochs' own BIOS is
    /// missing it is SeaBIOS, which Debian accepts in its place.
    #[must_use]
    pub fn bochs_firmware(&self) -> Option<(PathBuf, PathBuf)> {
        let first = |names: &[&str]| names.iter().map(|name| self.root.join(name)).find(|path| path.exists());
        let bios = first(&["usr/share/bochs/BIOS-bochs-latest", "usr/share/seabios/bios.bin"])?;
        let vga = first(&[
            "usr/share/bochs/VGABIOS-lgpl-latest",
            "usr/share/bochs/VGABIOS-lgpl-latest.bin",
            "usr/share/vgabios/vgabios.bin",
            "usr/share/seabios/vgabios-stdvga.bin",
        ])?;
        Some((bios, vga))
    }

    /// A kernel's `vmlinuz` and the folder of its modules, the one named after the release.
    #[must_use]
    pub fn kernel(&self) -> Option<(PathBuf, PathBuf)> {
        if self.kind != Kind::Kernel {
            return None;
        }
        let release = self.release()?;
        let modules = ["usr/lib/modules", "lib/modules"].map(|folder| self.root.join(folder).join(release));
        let modules = modules.into_iter().find(|path| path.is_dir())?;
        // From 6.19 on Debian keeps the image with the modules.
        let images = [modules.join("vmlinuz"), self.root.join("boot").join(format!("vmlinuz-{release}"))];
        let image = images.into_iter().find(|path| path.is_file())?;
        Some((image, modules))
    }

    /// Xen itself, packed by gzip: an image of multiboot.
    #[must_use]
    pub fn xen(&self) -> Option<PathBuf> {
        if self.kind != Kind::Xen {
            return None;
        }
        let mut found = fs::read_dir(self.root.join("boot")).into_iter().flatten().flatten();
        found.find_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            (name.starts_with("xen-") && name.ends_with(".gz")).then(|| entry.path())
        })
    }

    /// Starts the program and returns the version that it tells, such as `10.0.2`.
    ///
    /// # Errors
    /// If it cannot be executed, is silent, or is something else. A kernel is never executed: [`Error::NotOne`].
    pub fn ask(&self) -> Result<String, Error> {
        let path = self.program().unwrap_or_else(|| self.root.clone());
        let (argument, mark) = match self.kind {
            Kind::Qemu => ("--version", "QEMU emulator version "),
            // Bochs knows no --version, and prints its banner before anything else.
            Kind::Bochs => ("--help", "Bochs x86 Emulator "),
            Kind::Kernel | Kind::Xen => {
                return Err(Error::NotOne { path, kind: self.kind, said: String::new() });
            }
        };
        let mut command = self.command();
        command.arg(argument);
        let said = output_in_time(&mut command, &path)?;
        let version = said.lines().find_map(|line| line.trim().strip_prefix(mark));
        match version.and_then(|rest| rest.split([' ', '(', ',']).next()).filter(|word| !word.is_empty()) {
            Some(version) => Ok(version.to_owned()),
            None => {
                let line = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
                Err(Error::NotOne { path, kind: self.kind, said: line.chars().take(200).collect() })
            }
        }
    }

    /// The text of its sheet.
    fn sheet(&self) -> String {
        let mut text = format!("{HEAD}\n");
        let run = match self.kernel() {
            Some((image, modules)) => {
                let inside =
                    |path: &Path| path.strip_prefix(&self.root).unwrap_or(path).display().to_string();
                format!("image {}, modules {}", inside(&image), inside(&modules))
            }
            None => self.run_line(),
        };
        let Self { kind, version, suite, package, fetched, size, .. } = self;
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "kind: {kind}\nversion: {version}\nsuite: {suite}\nmain: {package}\nfetched: {fetched}\nsize: {size}\nrun: {run}\n"
        );
        for Package { name, version, sha256 } in &self.packages {
            let _ = writeln!(text, "package: {name} {version} {sha256}");
        }
        text.push_str("end\n");
        text
    }

    /// How to run it from a shell, with TREE for the folder.
    fn run_line(&self) -> String {
        let command = self.command();
        let mut words: Vec<String> = Vec::new();
        for (name, value) in command.get_envs() {
            let value = value.unwrap_or_default().to_string_lossy();
            words.push(format!("{}={value}", name.to_string_lossy()));
        }
        words.push(command.get_program().to_string_lossy().into_owned());
        words.extend(command.get_args().map(|argument| argument.to_string_lossy().into_owned()));
        words.join(" ").replace(&*self.root.to_string_lossy(), "TREE")
    }

    /// Reads the sheet of a tree.
    fn read(root: &Path) -> Result<Self, Error> {
        let path = root.join(SHEET);
        let text = fs::read_to_string(&path).map_err(|error| Error::io(&path, error))?;
        let damaged = |line: usize, what: String| Error::Damaged { path: path.clone(), line, what };
        let mut fields: [Option<&str>; 6] = [None; 6];
        const NAMES: [&str; 6] = ["kind", "version", "suite", "main", "fetched", "size"];
        let mut packages = Vec::new();
        let mut ended = false;
        let mut count = 0;
        for (index, line) in text.lines().enumerate() {
            count = index + 1;
            if ended {
                return Err(damaged(count, "something follows `end`".to_owned()));
            }
            if index == 0 {
                if line != HEAD {
                    return Err(damaged(count, format!("should be `{HEAD}`")));
                }
            } else if line == "end" {
                ended = true;
            } else if let Some(rest) = line.strip_prefix("package: ") {
                let mut words = rest.split(' ').map(str::to_owned);
                match (words.next(), words.next(), words.next(), words.next()) {
                    (Some(name), Some(version), Some(sha256), None) => {
                        packages.push(Package { name, version, sha256 })
                    }
                    _ => return Err(damaged(count, "a package has a name, a version and a sum".to_owned())),
                }
            } else if let Some((name, value)) = line.split_once(": ") {
                // Others, `run` too, are for people.
                if let Some(place) = NAMES.iter().position(|known| *known == name) {
                    fields[place] = Some(value);
                }
            } else {
                return Err(damaged(count, "should be `NAME: VALUE`".to_owned()));
            }
        }
        if !ended {
            return Err(damaged(count, "it is cut off: no `end`".to_owned()));
        }
        let field = |place: usize| {
            fields[place].map(str::to_owned).ok_or_else(|| damaged(count, format!("no `{}`", NAMES[place])))
        };
        let size = field(5)?;
        Ok(Self {
            kind: field(0)?.parse().map_err(|error: Error| damaged(count, error.to_string()))?,
            version: field(1)?,
            suite: field(2)?,
            root: root.to_owned(),
            package: field(3)?,
            fetched: field(4)?,
            size: size.parse().map_err(|_| damaged(count, format!("`{size}` is no size in bytes")))?,
            packages,
            program: None,
        })
    }
}

fn holds_libraries(folder: &Path) -> bool {
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.into_iter().any(|name| {
        let name = name.to_string_lossy();
        name.starts_with("lib") && name.contains(".so")
    })
}

/// What the program prints first, to either stream. It is killed when it takes too long or prints without end.
fn output_in_time(command: &mut Command, path: &Path) -> Result<String, Error> {
    const ENOUGH: u64 = 1 << 16;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| Error::CannotRun { path: path.to_owned(), error })?;
    let mut streams: Vec<Box<dyn Read + Send>> = Vec::new();
    streams.extend(child.stdout.take().map(|stream| Box::new(stream) as _));
    streams.extend(child.stderr.take().map(|stream| Box::new(stream) as _));
    let mut said = vec![String::new(); streams.len()];
    let (sender, receiver) = mpsc::channel();
    for (index, stream) in streams.into_iter().enumerate() {
        let sender = sender.clone();
        // Not joined: what the program started itself may hold the stream open for ever.
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // What was read before an error counts; nobody listens any more if it took too long.
            let _ = stream.take(ENOUGH).read_to_end(&mut bytes);
            let _ = sender.send((index, bytes));
        });
    }
    let end = Instant::now() + PATIENCE;
    let mut in_time = true;
    for _ in 0..said.len() {
        match receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok((index, bytes)) => said[index] = String::from_utf8_lossy(&bytes).into_owned(),
            Err(_) => in_time = false,
        }
    }
    // It has ended, or there is nothing more to learn from it.
    let _ = child.kill();
    let _ = child.wait();
    if in_time { Ok(said.concat()) } else { Err(Error::Silent { path: path.to_owned() }) }
}

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
    /// Folders whose sheet is missing, cut off or wrong, each with what is wrong.
    pub damaged: Vec<(PathBuf, Error)>,
}

impl Store {
    /// Where the cache is by the environment: `NSVM_LAB_CACHE`, else `nsvm-lab` in `XDG_CACHE_HOME`, else in
    /// `.cache` at home.
    ///
    /// # Errors
    /// If none of them is set.
    pub fn default_root() -> Result<PathBuf, Error> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        set("NSVM_LAB_CACHE")
            .or_else(|| set("XDG_CACHE_HOME").map(|folder| folder.join("nsvm-lab")))
            .or_else(|| set("HOME").map(|folder| folder.join(".cache/nsvm-lab")))
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
                        listing
                            .damaged
                            .push((tree.clone(), Error::Damaged { path: tree.join(SHEET), line: 1, what }));
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
        let part = Part::new(self)?;
        let grave = part.path().join("removed");
        match fs::rename(tree, &grave) {
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io(tree, error)),
            Ok(()) => {}
        }
        fs::remove_dir_all(&grave).map_err(|error| Error::io(&grave, error))
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

    /// Gives a finished tree its sheet and its place. If another fetch was faster its tree stays and this one is
    /// dropped; a damaged one is replaced.
    pub(crate) fn keep(&self, mut subject: Subject) -> Result<Subject, Error> {
        let sheet = subject.root.join(SHEET);
        // The files must be on the disk before the sheet says so, whatever happens to the power.
        sync(&subject.root)?;
        let mut file = File::create(&sheet).map_err(|error| Error::io(&sheet, error))?;
        file.write_all(subject.sheet().as_bytes()).map_err(|error| Error::io(&sheet, error))?;
        file.sync_all().map_err(|error| Error::io(&sheet, error))?;
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

/// Programs of the machine itself that PATH leads to, each asked for its version.
#[must_use]
pub fn installed() -> Vec<Result<Subject, Error>> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let programs = Kind::ALL.into_iter().filter_map(|kind| {
        let name = kind.program()?;
        let program = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file())?;
        Some((kind, program))
    });
    programs.map(|(kind, program)| Subject::of_program(kind, &program)).collect()
}

/// Writes all that a file system still holds back; only the one that the folder is on.
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

/// The entries of a folder in order; none if there is no such folder.
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

/// Whether a text begins with this, and not in the middle of a number: `6.1` begins `6.1.0`, not `6.12`.
fn begins(text: &str, start: &str) -> bool {
    let Some(rest) = text.strip_prefix(start) else { return false };
    let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    !(digit(start.chars().next_back()) && digit(rest.chars().next()))
}

/// A folder that is being worked in. It goes when this goes, and by [`Store::remove_leftovers`] if this process
/// was stopped before.
pub(crate) struct Part(PathBuf);

impl Part {
    /// A new one, empty. Its name tells who works in it.
    pub(crate) fn new(store: &Store) -> Result<Self, Error> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let pid = std::process::id();
        let start = start_of(pid).unwrap_or_default();
        let name = format!("part-{}-{pid}-{start}-{}", namespace(), COUNT.fetch_add(1, Atomic::Relaxed));
        fs::create_dir_all(&store.root).map_err(|error| Error::io(&store.root, error))?;
        let path = store.root.join(name);
        fs::create_dir(&path).map_err(|error| Error::io(&path, error))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // What cannot be removed now is tried again by the next fetch.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Whether the process that a part is named after still runs. Numbers of processes are used again, so the time of
/// its start must match too. Those of another container mean nothing here: its parts are left to fetches there.
fn owner_lives(name: &str) -> bool {
    let mut words = name.split('-');
    let (Some(space), Some(pid), Some(start)) = (words.next(), words.next(), words.next()) else {
        return false;
    };
    let Ok(pid) = pid.parse() else { return false };
    space != namespace() || start_of(pid).is_some_and(|now| now == start)
}

/// The number of the process namespace; 0 where there is none.
fn namespace() -> String {
    let link = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let digits: String = link.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    if digits.is_empty() { "0".to_owned() } else { digits }
}

/// When a process started, in ticks since boot; nothing if there is no such process.
fn start_of(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; the start is field 22, and field 3 is next.
    let after = stat.rsplit_once(')')?.1;
    after.split_whitespace().nth(19).map(str::to_owned)
}

/// Now, as `2026-01-31T12:00:00Z`.
pub(crate) fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    date(seconds)
}

fn date(seconds: u64) -> String {
    let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}T{:02}:{:02}:{:02}Z", days + 1, rest / 3600, rest / 60 % 60, rest % 60)
}

/// The order of Debian's versions (Debian Policy, section 5.6.12): epoch, upstream version, revision, each by
/// alternating runs of other characters and of digits, where `~` sorts before the end.
#[must_use]
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    fn split(version: &str) -> (u64, &str, &str) {
        let (epoch, rest) = version.split_once(':').unwrap_or(("0", version));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        (epoch.parse().unwrap_or(0), upstream, revision)
    }
    let (a, b) = (split(a), split(b));
    a.0.cmp(&b.0).then_with(|| compare_runs(a.1, b.1)).then_with(|| compare_runs(a.2, b.2))
}

fn compare_runs(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    let weight = |c: Option<&u8>| match c {
        Some(b'~') => -1,
        None | Some(b'0'..=b'9') => 0,
        Some(c) if c.is_ascii_alphabetic() => i32::from(*c),
        Some(c) => i32::from(*c) + 256,
    };
    while !a.is_empty() || !b.is_empty() {
        let digits = |c: Option<&u8>| c.is_none_or(u8::is_ascii_digit);
        while !digits(a.first()) || !digits(b.first()) {
            let order = weight(a.first()).cmp(&weight(b.first()));
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (a.get(1..).unwrap_or_default(), b.get(1..).unwrap_or_default());
        }
        fn number(text: &[u8]) -> (&[u8], &[u8]) {
            let end = text.iter().position(|c| !c.is_ascii_digit()).unwrap_or(text.len());
            let (digits, rest) = text.split_at(end);
            let zeros = digits.iter().take_while(|c| **c == b'0').count();
            (&digits[zeros..], rest)
        }
        let ((first, a_rest), (second, b_rest)) = (number(a), number(b));
        // Without leading zeros the longer number is the larger one.
        let order = first.len().cmp(&second.len()).then_with(|| first.cmp(second));
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (a_rest, b_rest);
    }
    Ordering::Equal
}
