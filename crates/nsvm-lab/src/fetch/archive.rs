//! apt's state for one suite, and what the suite holds.

use super::apt::{apt, apt_error, configuration, machine_sources, missing_suites, run, said, tool, write};
use super::error::{Error, Result};
use super::index::{Entry, depends_on, read_index};
use super::sources::sources;
use super::suites::Suites;
use crate::store::{self, Kind, Package, Store, compare_versions, staging_dir};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A package that [`Fetcher::available`](super::Fetcher::available) found.
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
pub(super) struct Archive {
    part: TempDir,
    suites: Suites,
    entries: Vec<Entry>,
}

impl Archive {
    pub(super) fn new(store: &Store, suite: &str) -> Result<Self> {
        let files = machine_sources()?;
        let part = staging_dir(store.root())?;
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

    /// Returns the newest package of this name in the suite itself.
    pub(super) fn newest(&self, name: &str) -> Option<&Entry> {
        let own = self.entries.iter().filter(|entry| entry.own && entry.name == name);
        own.max_by(|a, b| compare_versions(&a.version, &b.version))
    }

    pub(super) fn need(&self, name: &str) -> Result<&Entry> {
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

    /// Returns the kernel of a name that may be a metapackage's.
    pub(super) fn kernel(&self, name: &str) -> Result<&Entry> {
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

    /// Returns the packages that hold a kernel's image and modules, the kernel's own first. The archive removes old ones
    /// one by one.
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

    /// Returns all kernels of the suite that can be fetched, without metapackages, the oldest first.
    pub(super) fn kernels(&self) -> Vec<Available> {
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

    /// Downloads what the subject needs. Returns the package files in the order in which to unpack them.
    pub(super) fn download(
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

    /// Identifies a package file by the name that apt gave it: `NAME_VERSION_ARCHITECTURE.deb`, with colons as `%3a`.
    pub(super) fn package(&self, deb: &Path) -> Package {
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

/// Returns up to six names that resemble this one: those that share most of its beginning, then of its end.
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

pub(super) fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
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
        let part = staging_dir(store.root()).unwrap();
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
}
