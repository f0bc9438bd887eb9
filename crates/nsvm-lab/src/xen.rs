//! Xen as a hypervisor under test: a domain 0 that starts one guest with hardware virtualization, so that Xen itself
//! executes VMRUN.
//!
//! Xen is an image of multiboot with two modules, the kernel of domain 0 and its [`initramfs`]. Domain 0 runs without
//! VMRUN; the guest, of type PVH, has the same kernel and no device model. All that they say comes by the first serial
//! port, lines of ours beginning with `nsvm: `, and at the end domain 0 powers the machine off.

use crate::kvm::{Cpio, Error, load};
use crate::store::Subject;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What Xen is started with. SMAP stays off since IRET of a paravirtualized kernel faults with it on QEMU before 9.1.
pub const OPTIONS: &str = "xen console=com1 com1=115200,8n1 dom0_mem=512M dom0_max_vcpus=1 smap=0";

/// What domain 0's kernel is started with.
pub const KERNEL_OPTIONS: &str = "vmlinuz console=hvc0 quiet";

/// Memory of the machine in MiB.
pub const MEMORY: u32 = 1024;

/// The modules by which domain 0's programs reach Xen.
const MODULES: [&str; 5] = ["xen-privcmd", "xenfs", "xen-evtchn", "xen-gntdev", "xen-gntalloc"];

const PROGRAMS: [&str; 5] = ["xl", "xenstored", "xenconsoled", "xenconsole", "xen-init-dom0"];

/// Libraries of theirs by how the names begin.
const LIBRARIES: [&str; 10] = [
    "libxen",
    "libxlutil",
    "libxl",
    "libc.so.",
    "libgcc_s.so.",
    "libyajl.so.",
    "libuuid.so.",
    "libz.so.",
    "liblzma.so.",
    "libzstd.so.",
];

/// Xen's image, unpacked.
///
/// # Errors
/// Where it cannot be read.
pub fn image(xen: &Subject) -> Result<Vec<u8>, Error> {
    let path = xen.xen().unwrap_or_else(|| xen.root.join("boot"));
    let failed = |source| Error::Read { path: path.clone(), source };
    let mut gzip = Command::new("gzip");
    let done = gzip.arg("-dc").arg(&path).stdin(Stdio::null()).output().map_err(failed)?;
    if done.status.success() {
        return Ok(done.stdout);
    }
    Err(Error::Damaged { path, reason: String::from_utf8_lossy(&done.stderr).into_owned() })
}

/// The initramfs of domain 0, in which that of the guest is: Xen's programs, their libraries, a shell.
///
/// `kernel` is the image of both, `modules` its folder `lib/modules/VERSION`.
///
/// # Errors
/// Where a part of it is missing or cannot be read.
pub fn initramfs(xen: &Subject, kernel: &Path, modules: &Path) -> Result<Vec<u8>, Error> {
    let root = &xen.root;
    let busybox = read(&root.join("bin/busybox")).or_else(|_| read(&root.join("usr/bin/busybox")))?;
    let mut guest = archive(&["proc"], &busybox, include_bytes!("../xen/guest"))?;
    guest.entry("dev/zero", 0o020_666, (1, 5), &[])?;
    let guest = guest.finish()?;
    let folders = ["proc", "sys", "lib", "lib64", "run", "var", "etc", "etc/xen", "usr", "usr/lib"];
    let mut dom0 = archive(&folders, &busybox, include_bytes!("../xen/dom0"))?;
    dom0.entry("etc/xen/xl.conf", 0o100_644, (0, 0), &[])?;
    dom0.entry("guest.cfg", 0o100_644, (0, 0), include_bytes!("../xen/guest.cfg"))?;
    dom0.entry("guest", 0o100_644, (0, 0), &guest)?;
    dom0.entry("vmlinuz", 0o100_644, (0, 0), &read(kernel)?)?;
    let mut list = String::new();
    for (name, bytes) in load(modules, &MODULES)? {
        let path = format!("lib/{name}.ko");
        dom0.entry(&path, 0o100_644, (0, 0), &bytes)?;
        list.push_str(&format!("/{path}\n"));
    }
    dom0.entry("modules", 0o100_644, (0, 0), list.as_bytes())?;
    // They start one another by these paths.
    let version = version(root)?;
    for folder in [version.clone(), format!("{version}/bin")] {
        dom0.entry(&folder, 0o040_755, (0, 0), &[])?;
    }
    for name in PROGRAMS {
        let path = format!("{version}/bin/{name}");
        dom0.entry(&path, 0o100_755, (0, 0), &read(&root.join(&path))?)?;
    }
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    let older = root.join("lib/x86_64-linux-gnu");
    for folder in [&libraries, &older].into_iter().filter(|folder| folder.is_dir()) {
        for path in files(folder)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if LIBRARIES.iter().any(|start| name.starts_with(start)) && name.contains(".so") {
                dom0.entry(&format!("lib/{name}"), 0o100_755, (0, 0), &read(&path)?)?;
            }
            if name == "ld-linux-x86-64.so.2" {
                dom0.entry(&format!("lib64/{name}"), 0o100_755, (0, 0), &read(&path)?)?;
            }
        }
    }
    dom0.finish()
}

/// What both have: folders, a console, a shell and process 1.
fn archive(folders: &[&str], busybox: &[u8], init: &[u8]) -> Result<Cpio, Error> {
    let mut archive = Cpio::default();
    for folder in ["dev", "bin"].iter().chain(folders) {
        archive.entry(folder, 0o040_755, (0, 0), &[])?;
    }
    archive.entry("dev/console", 0o020_600, (5, 1), &[])?;
    archive.entry("dev/null", 0o020_666, (1, 3), &[])?;
    archive.entry("bin/busybox", 0o100_755, (0, 0), busybox)?;
    archive.entry("init", 0o100_755, (0, 0), init)?;
    Ok(archive)
}

/// Where Xen's programs are: `usr/lib/xen-4.17`, in which is `bin`.
fn version(root: &Path) -> Result<String, Error> {
    let folder = root.join("usr/lib");
    let found = files(&folder)?.into_iter().find(|path| path.join("bin/xl").is_file());
    let name = found.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let name = name.ok_or_else(|| Error::Read {
        path: folder.join("xen-*/bin/xl"),
        source: std::io::ErrorKind::NotFound.into(),
    })?;
    Ok(format!("usr/lib/{name}"))
}

/// What a folder holds, in order.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::Read { path: folder.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        found.push(entry.map_err(failed)?.path());
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}
