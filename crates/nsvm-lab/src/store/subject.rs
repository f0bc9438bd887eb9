//! A version of QEMU, Bochs, Linux or Xen: where its files are, and how it is run.

use super::kind::Kind;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What [`Subject::suite`] says of a program of the machine itself.
pub const INSTALLED: &str = "installed";

const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

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
    /// Its name, which [`Store::find`](super::Store::find) reads: `bochs:3.0+dfsg-1@trixie`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}@{}", self.kind, self.folder_version(), self.suite)
    }
}

impl Subject {
    /// The release of a kernel, such as `6.1.0-50-amd64`; nothing for others.
    #[must_use]
    pub fn release(&self) -> Option<&str> {
        self.package.strip_prefix("linux-image-")
    }

    /// Its version as the folder has it: several kernels of one version differ in their release.
    pub(super) fn folder_version(&self) -> String {
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
}

fn holds_libraries(folder: &Path) -> bool {
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.into_iter().any(|name| {
        let name = name.to_string_lossy();
        name.starts_with("lib") && name.contains(".so")
    })
}
