//! Builds the packages of `bare/` with the cargo that runs the calling build script.
//!
//! The inner cargo has its own workspace, lockfile and target directory, so it does not wait for the outer cargo. Only the
//! KVM runner needs crates from a registry. The inner cargo keeps the toolchain, the job limit and the compiler wrapper of
//! the outer build. It removes `RUSTFLAGS`, `CARGO_PROFILE_*` and Clippy's wrapper, and it overrides the user's
//! `[profile.release]`. All of them are meant for hosted code.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

/// The target of the bare-metal programs.
const BARE: &str = "x86_64-unknown-none";
/// The target of the KVM runner.
const LINUX: &str = "x86_64-unknown-linux-gnu";
/// Why a variable is set.
const BY_CARGO: &str = "cargo sets this variable for build scripts";

/// The settings of the profile `release`, which `kvm-runner` inherits. The user's configuration has precedence over a manifest,
/// and these arguments have precedence over the configuration. `codegen-units`, `lto` and `panic` are those of
/// `bare/Cargo.toml`, and the others are cargo's defaults.
const RELEASE: &[&str] = &[
    "opt-level=3",
    "debug-assertions=false",
    "overflow-checks=false",
    "incremental=false",
    "codegen-units=1",
    "lto=\"fat\"",
    "panic=\"abort\"",
];

/// Builds these packages for the bare machine. Returns the folder that holds the programs, or nothing if the toolchain
/// lacks the target; then cargo prints a warning.
///
/// # Panics
/// If a package does not compile.
#[must_use]
pub fn bare(packages: &[&str]) -> Option<PathBuf> {
    watch_sources();
    if !has_target() {
        println!("cargo::warning=the bare-metal programs are left out: run `rustup target add {BARE}`");
        return None;
    }
    let mut cargo = cargo(BARE, "release", "");
    for package in packages {
        cargo.args(["--package", package]);
    }
    let done = run(&mut cargo).unwrap_or_else(|error| panic!("{error}"));
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{packages:?} do not compile:\n{errors}\n{cargo:?}");
    Some(target_dir().join(BARE).join("release"))
}

/// Builds the KVM runner, a static Linux program. Returns its path.
///
/// # Errors
/// Returns a one-line reason if the runner cannot be built.
pub fn kvm_runner() -> Result<PathBuf, String> {
    watch_sources();
    let target = env::var_os("TARGET").expect(BY_CARGO).to_string_lossy().into_owned();
    if target != LINUX {
        return Err(format!("it is made for {LINUX} only, not for {target}"));
    }
    // The runner is process 1 of an initramfs that holds no libraries.
    let mut cargo = cargo(LINUX, "kvm-runner", "-Ctarget-feature=+crt-static");
    cargo.args(["--package", "kvm-runner"]);
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        cargo.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER", linker);
    }
    let done = run(&mut cargo)?;
    if done.status.success() {
        return Ok(target_dir().join(LINUX).join("kvm-runner").join("kvm-runner"));
    }
    // A warning of cargo has one line. The linker's own message names the cause.
    let text = String::from_utf8_lossy(&done.stderr);
    let mut lines = text.lines().map(str::trim);
    let first = lines.find(|line| line.contains("cannot find") || line.starts_with("error"));
    let first = first.unwrap_or("cargo failed");
    let hint = if text.contains("cannot find") { " (libc6-dev has the static C library)" } else { "" };
    Err(format!("{first}{hint}"))
}

/// The folder of the bare workspace.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bare")
}

fn target_dir() -> PathBuf {
    Path::new(&env::var_os("OUT_DIR").expect(BY_CARGO)).join("bare")
}

/// Returns the command of the inner cargo. `flags` replaces all rustc flags from the environment and from the user's
/// configuration. Those flags are for hosted code, and a linker argument among them would break the images.
fn cargo(target: &str, profile: &str, flags: &str) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").expect(BY_CARGO));
    // Cargo reads `.cargo/config.toml` from the current directory.
    cargo.current_dir(workspace()).args(["build", "--locked", "--target", target, "--profile", profile]);
    cargo.arg("--target-dir").arg(target_dir());
    for setting in RELEASE {
        cargo.args(["--config", &format!("profile.release.{setting}")]);
    }
    let is_profile = |name: &OsString| name.to_string_lossy().starts_with("CARGO_PROFILE_");
    let profiles = env::vars_os().map(|(name, _)| name).filter(is_profile);
    let hosted = ["RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER"].map(OsString::from);
    for name in hosted.into_iter().chain(profiles) {
        cargo.env_remove(name);
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags);
    // The outer cargo has locked its own build directory, which the user may have configured.
    cargo.env("CARGO_BUILD_BUILD_DIR", target_dir());
    cargo
}

fn run(command: &mut Command) -> Result<Output, String> {
    command.output().map_err(|error| format!("{command:?}: {error}"))
}

/// Whether the toolchain has the standard library of the bare target.
fn has_target() -> bool {
    let mut rustc = Command::new(env::var_os("RUSTC").expect(BY_CARGO));
    let asked = run(rustc.args(["--print", "target-libdir", "--target", BARE]));
    let libraries = match &asked {
        Ok(done) => PathBuf::from(String::from_utf8_lossy(&done.stdout).trim()),
        Err(error) => panic!("{error}"),
    };
    let found = fs::read_dir(&libraries).is_ok_and(|mut entries| entries.next().is_some());
    if !found {
        // rustup lists the installed targets in this file, so adding one runs the build script again. Cargo also runs
        // the script again if the watched file does not exist.
        let components = libraries.ancestors().nth(2).map(|rustlib| rustlib.join("components"));
        let watched = components.filter(|file| file.exists()).unwrap_or(libraries);
        println!("cargo::rerun-if-changed={}", watched.display());
    }
    found
}

/// Makes cargo run the build script again if a source of a bare-metal program changes.
fn watch_sources() {
    let bare = workspace();
    let entries = fs::read_dir(&bare).unwrap_or_else(|error| panic!("{}: {error}", bare.display()));
    let own = entries.filter_map(|entry| Some(entry.ok()?.path()));
    // A build in the workspace itself changes its target directory.
    let own = own.filter(|path| !path.ends_with("target"));
    let root = bare.join("..");
    let libraries = ["crates/vmcb", "crates/nested-svm"].map(|library| root.join(library));
    let libraries = libraries.iter().flat_map(|library| [library.join("src"), library.join("Cargo.toml")]);
    for path in own.chain(libraries).chain([root.join("Cargo.toml")]) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
}
