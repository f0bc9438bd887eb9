//! KVM as a subject: a kernel that boots in QEMU, or the machine's own `/dev/kvm`.
//!
//! The payload needs a program that gives it a virtual machine: the [runner](INIT). In an initramfs it is process 1
//! of the kernel under test, and its lines leave by port E9h; called as `kvm-runner IMAGE [SECONDS]` on a machine
//! whose KVM offers SVM it does the same there, and its lines go to standard output.
//!
//! Its lines are those of the [payload](crate::protocol), first to last as they are, and these, numbers in
//! hexadecimal:
//!
//! | line | says |
//! | --- | --- |
//! | `v RELEASE` | the kernel, before all else |
//! | `n TEXT` | why no conditions will come; the run goes on without them |
//! | `t CASE CONDITION` | what KVM printed as the reason of its refusal, right behind the case's own line |
//! | `k CASE REASON` | the virtual machine died of this case; a fresh one goes on behind it |
//! | `h CASE` | nothing came within the time limit; a fresh one goes on behind it |
//! | `e TEXT` | it cannot go on |
//!
//! A refusal without a `t` line, where no `n` line was, is not KVM's own: the machine below refused what KVM made of
//! the VMCB.

use object::LittleEndian;
use object::elf::FileHeader64;
use object::read::elf::{FileHeader as _, SectionHeader as _};
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The runner for KVM, a static Linux program. Nothing if this build's target or machine could not make it.
#[cfg(has_kvm_runner)]
pub const INIT: Option<&[u8]> = Some(include_bytes!(concat!(env!("OUT_DIR"), "/kvm-runner")));
/// The runner for KVM, which this build does not have.
#[cfg(not(has_kvm_runner))]
pub const INIT: Option<&[u8]> = None;

/// QEMU ends with this status when the runner has come to its end, with whatever result.
pub const EXIT_STATUS: i32 = 33;

/// The module that all of this is about; what it needs is asked of the modules themselves.
const MODULE: &str = "kvm-amd";
/// A module larger than this is none. Debian's largest has less than a tenth.
const LARGEST_MODULE: u64 = 256 << 20;
/// What a decompressor may take, in KiB; Debian's modules ask for 8 MiB or less.
const XZ_MEMORY: u32 = 128 << 10;

/// Why there is no initramfs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel does not have what is asked of it, as KVM for AMD's CPUs.
    #[error(
        "{}: no module {} is here; give the folder lib/modules/VERSION of a kernel that has it (a package for \
         cloud machines may not)",
        folder.display(),
        name.replace('_', "-")
    )]
    NoModule {
        /// Where it was looked for.
        folder: PathBuf,
        /// What is missing.
        name: String,
    },
    /// A module asks for another one that is not there.
    #[error("{}: no module {name}, which {by} needs; unpack the kernel's package again, whole", folder.display())]
    Missing {
        /// Where it was looked for.
        folder: PathBuf,
        /// What is missing.
        name: String,
        /// Who needs it.
        by: String,
    },
    /// A file or folder cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A module's file is not what its name says.
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and how to mend it.
        reason: String,
    },
    /// More than a cpio archive can name.
    #[error("{name} has {size} bytes: an initramfs holds files of less than 4 GiB")]
    TooLarge {
        /// The name in the archive.
        name: String,
        /// Its size.
        size: usize,
    },
}

/// An initramfs in which the runner is process 1.
///
/// `init` is [the runner](INIT), `modules` the folder `lib/modules/VERSION` of the kernel that will boot, `image` the
/// payload with its blob of cases. Two calls with the same input give the same bytes.
///
/// # Errors
/// Where the modules lack KVM for AMD's CPUs or something that it needs, or cannot be read.
pub fn initramfs(init: &[u8], modules: &Path, image: &[u8]) -> Result<Vec<u8>, Error> {
    let modules = load(modules, &[MODULE])?;
    let mut archive = Cpio::default();
    for folder in ["dev", "proc", "sys", "lib"] {
        archive.entry(folder, 0o040_755, (0, 0), &[])?;
    }
    // The kernel opens the first for process 1, Rust's library the second, before anything is mounted.
    archive.entry("dev/console", 0o020_600, (5, 1), &[])?;
    archive.entry("dev/null", 0o020_666, (1, 3), &[])?;
    archive.entry("init", 0o100_755, (0, 0), init)?;
    archive.entry("payload.img", 0o100_644, (0, 0), image)?;
    let mut list = String::new();
    for (name, bytes) in &modules {
        let path = format!("lib/{name}.ko");
        archive.entry(&path, 0o100_644, (0, 0), bytes)?;
        list.push_str(&format!("/{path}\n"));
    }
    archive.entry("modules", 0o100_644, (0, 0), list.as_bytes())?;
    archive.finish()
}

/// The kernel's command line. `limit` is the time that one case may take, in seconds, at least 1.
#[must_use]
pub fn command_line(limit: u32) -> String {
    // A crash reboots, and a reboot ends QEMU. Mitigations and the kernel's tests of itself only cost time here.
    format!(
        "console=ttyS0 quiet panic=-1 oops=panic mitigations=off cryptomgr.notests nsvm.limit={}",
        limit.max(1)
    )
}

/// Memory of the machine that the kernel boots in, in MiB.
pub const MEMORY: u32 = 1024;

/// What `qemu-system-x86_64` is called with to boot `kernel` with `initramfs`.
///
/// `limit` is the time that one case may take, in seconds, at least 1. `console` is where the lines go, as QEMU's
/// `-debugcon` names it: `stdio`, or `file:` and a path. `log` takes what the kernel says when it crashes. When all is
/// said QEMU ends with [`EXIT_STATUS`]; a kernel that crashes ends it with 0.
///
/// A kernel that hangs in itself ends nothing: the caller needs a time limit of its own, above this one.
#[must_use]
pub fn qemu_arguments(
    kernel: &Path,
    initramfs: &Path,
    limit: u32,
    console: &str,
    log: Option<&Path>,
) -> Vec<OsString> {
    let mut serial = OsString::from(if log.is_some() { "file:" } else { "none" });
    serial.push(log.unwrap_or(Path::new("")));
    let line = command_line(limit);
    let mut arguments: Vec<OsString> = Vec::new();
    for word in ["-accel", "tcg", "-M", "pc", "-cpu", "max", "-nodefaults", "-no-reboot"] {
        arguments.push(word.into());
    }
    for (option, value) in [
        ("-m", MEMORY.to_string().into()),
        ("-display", "none".into()),
        ("-monitor", "none".into()),
        ("-serial", serial),
        ("-debugcon", console.into()),
        ("-device", "isa-debug-exit,iobase=0xf4,iosize=4".into()),
        ("-kernel", kernel.into()),
        ("-initrd", initramfs.into()),
        ("-append", line.into()),
    ] {
        arguments.push(option.into());
        arguments.push(value);
    }
    arguments
}

/// Name and contents of these modules and of each that they need, what is needed before who needs it.
pub(crate) fn load(folder: &Path, names: &[&str]) -> Result<Vec<(String, Vec<u8>)>, Error> {
    Modules::open(folder)?.load_order(names)
}

/// A kernel's folder of modules.
struct Modules {
    folder: PathBuf,
    /// Their files by name, with `_` for `-`.
    files: HashMap<String, PathBuf>,
    /// Those that are part of the kernel itself.
    builtin: HashSet<String>,
    /// What each needs, by name; nothing if depmod has not been here.
    needs: Option<HashMap<String, Vec<String>>>,
}

/// Names differ in `-` and `_` between files and what modules say of each other.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// The module's name, if the path is one of a module.
fn module_name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let name =
        ["", ".xz", ".zst", ".gz"].iter().find_map(|end| file.strip_suffix(end)?.strip_suffix(".ko"))?;
    Some(normal(name))
}

impl Modules {
    fn open(folder: &Path) -> Result<Self, Error> {
        let mut files = HashMap::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            let failed = |source| Error::Read { path: next.clone(), source };
            for entry in fs::read_dir(&next).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let kind = entry.file_type().map_err(failed)?;
                // No link is followed: `build` and `source` lead out of here.
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if let Some(name) = entry.file_name().to_str().and_then(module_name)
                    && kind.is_file()
                {
                    files.insert(name, entry.path());
                }
            }
        }
        let builtin = text(&folder.join("modules.builtin"))?.unwrap_or_default();
        let needs = text(&folder.join("modules.dep"))?.map(|text| {
            text.lines()
                .filter_map(|line| {
                    let (path, needs) = line.split_once(':')?;
                    Some((module_name(path)?, needs.split_whitespace().filter_map(module_name).collect()))
                })
                .collect()
        });
        Ok(Self {
            folder: folder.to_owned(),
            files,
            builtin: builtin.lines().filter_map(module_name).collect(),
            needs,
        })
    }

    fn load_order(&self, names: &[&str]) -> Result<Vec<(String, Vec<u8>)>, Error> {
        /// A step of the walk: a module is begun, or what it needs is there.
        enum Step {
            Begin { name: String, by: Option<String> },
            End { name: String, bytes: Vec<u8> },
        }
        let mut order = Vec::new();
        let mut seen = HashSet::new();
        let first = |name: &&str| Step::Begin { name: normal(name), by: None };
        let mut steps: Vec<_> = names.iter().rev().map(first).collect();
        while let Some(step) = steps.pop() {
            let (name, by) = match step {
                Step::End { name, bytes } => {
                    order.push((name, bytes));
                    continue;
                }
                Step::Begin { name, by } => (name, by),
            };
            if self.builtin.contains(&name) || !seen.insert(name.clone()) {
                continue;
            }
            let Some(path) = self.files.get(&name) else {
                return Err(match by {
                    None => Error::NoModule { folder: self.folder.clone(), name },
                    Some(by) => Error::Missing { folder: self.folder.clone(), name, by },
                });
            };
            let bytes = contents(path)?;
            let needs = match &self.needs {
                Some(needs) => needs.get(&name).cloned().unwrap_or_default(),
                None => depends(&bytes).ok_or_else(|| Error::Damaged {
                    path: path.clone(),
                    reason: "no module for this architecture: its section .modinfo is not found".to_owned(),
                })?,
            };
            steps.push(Step::End { name: name.clone(), bytes });
            for need in needs.into_iter().rev() {
                steps.push(Step::Begin { name: need, by: Some(name.clone()) });
            }
        }
        Ok(order)
    }
}

/// A text that may be absent.
fn text(path: &Path) -> Result<Option<String>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { path: path.to_owned(), source }),
    }
}

/// The module as the kernel loads it: decompressed.
fn contents(path: &Path) -> Result<Vec<u8>, Error> {
    let file = fs::File::open(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let damaged = |reason: String| Error::Damaged { path: path.to_owned(), reason };
    let mut bytes = Vec::new();
    match path.extension().and_then(|end| end.to_str()) {
        Some("ko") => {
            file.take(LARGEST_MODULE)
                .read_to_end(&mut bytes)
                .map_err(|source| Error::Read { path: path.to_owned(), source })?;
        }
        Some("xz") => {
            let reader = std::io::BufReader::new(file);
            lzma_rust2::XzReader::new_mem_limit(reader, true, XZ_MEMORY)
                .take(LARGEST_MODULE)
                .read_to_end(&mut bytes)
                .map_err(|error| damaged(format!("damaged, unpack the kernel's package again: {error}")))?;
        }
        _ => {
            return Err(damaged("only .ko and .ko.xz are read; decompress it in place".to_owned()));
        }
    }
    if !bytes.starts_with(b"\x7fELF") {
        return Err(damaged("damaged, unpack the kernel's package again: no ELF file".to_owned()));
    }
    Ok(bytes)
}

/// What `depends=` in the section `.modinfo` of a 64-bit little-endian ELF file names. Nothing without that section.
fn depends(elf: &[u8]) -> Option<Vec<String>> {
    let header = FileHeader64::<LittleEndian>::parse(elf).ok()?;
    let sections = header.sections(LittleEndian, elf).ok()?;
    let (_, section) = sections.section_by_name(LittleEndian, b".modinfo")?;
    let information = section.data(LittleEndian, elf).ok()?;
    let needs = information.split(|&byte| byte == 0).filter_map(|entry| entry.strip_prefix(b"depends="));
    let needs = needs.flat_map(|names| names.split(|&byte| byte == b','));
    Some(needs.filter(|name| !name.is_empty()).map(|name| normal(&String::from_utf8_lossy(name))).collect())
}

/// A cpio archive in the format that kernels read, `newc`: an initramfs.
#[derive(Default, Debug)]
pub struct Cpio {
    bytes: Vec<u8>,
    entries: u32,
}

impl Cpio {
    /// Adds a file or a folder, whose folder was added before: its mode with its type (`0o100_755`), and of a device
    /// file the numbers.
    ///
    /// # Errors
    /// Where the contents have 4 GiB or more.
    pub fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), contents: &[u8]) -> Result<(), Error> {
        let size = u32::try_from(contents.len())
            .map_err(|_| Error::TooLarge { name: name.to_owned(), size: contents.len() })?;
        self.entries += 1;
        // Inode, mode, owner, group, links, time, size; the device it is on, the device it is; the name's length with
        // its zero, and a sum that this format does not use.
        let numbers =
            [self.entries, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name.len() as u32 + 1, 0];
        self.bytes.extend_from_slice(b"070701");
        for number in numbers {
            self.bytes.extend_from_slice(format!("{number:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// The archive.
    ///
    /// # Errors
    /// None: it adds an entry without contents.
    pub fn finish(mut self) -> Result<Vec<u8>, Error> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        Ok(self.bytes)
    }
}
