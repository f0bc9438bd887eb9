//! Unpacks packages into a tree.

use super::apt::{is_full, last_lines, missing_tool, said};
use super::error::{Error, Result};
use crate::store;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Creates an empty tree with the layout that Debian uses now. Older packages put libraries and modules into `lib`, newer
/// ones into `usr/lib`; here both are the same folder.
pub(super) fn make_root(root: &Path) -> Result<()> {
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

/// Unpacks a package's files into a tree. The files belong to the caller and have no set-user-ID bit.
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

/// Returns the number of bytes in the files below a folder; links are not followed.
pub(super) fn size_of(folder: &Path) -> u64 {
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
