//! Verbs that are programs of their own: `nsvm lab` runs `nsvm-lab`, and `nsvm l0` runs `nsvm-l0`.
//!
//! Both compile bare-metal programs and start emulators. `nsvm` does not depend on them, so that whoever wants to check
//! a dump does not build them.

use nsvm_report::Error;
use std::env::{self, consts::EXE_SUFFIX};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs the program of `verb` with all arguments except the verb, and returns its exit status.
pub(crate) fn run(verb: &str, arguments: &[OsString]) -> Result<u8, Error> {
    let name = format!("nsvm-{verb}");
    let program = find(&name).ok_or_else(|| {
        Error::usage(
            format!("`nsvm {verb}` needs the program `{name}`, which is neither in the folder of `nsvm` nor in PATH"),
            "install it from a checkout of the repository: `cargo install --path crates/nsvm-lab`".to_owned(),
        )
    })?;
    let mut rest: Vec<&OsString> = arguments.iter().skip(1).collect();
    if let Some(at) = rest.iter().position(|argument| *argument == verb) {
        rest.remove(at);
    }
    let mut command = Command::new(&program);
    command.args(rest);
    let failed = |error| Error::usage(format!("{}: {error}", program.display()), None);
    replace(&mut command).map_err(failed)
}

/// Finds a program beside this one, or in PATH.
fn find(name: &str) -> Option<PathBuf> {
    let file = format!("{name}{EXE_SUFFIX}");
    let beside = env::current_exe().ok().and_then(|this| Some(this.parent()?.to_owned()));
    let path = env::var_os("PATH").unwrap_or_default();
    // An empty entry would name the current folder.
    let path = env::split_paths(&path).filter(|folder| !folder.as_os_str().is_empty()).collect::<Vec<_>>();
    let folders = beside.into_iter().chain(path);
    folders.map(|folder| folder.join(&file)).find(|program| is_executable(program))
}

/// Whether a file can be run. A file without an execute permission must not hide a program in a later folder.
#[cfg(unix)]
fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
}

/// Whether a file can be run: Windows has no permission for that.
#[cfg(not(unix))]
fn is_executable(file: &Path) -> bool {
    file.is_file()
}

/// Becomes the program, so that signals and the terminal are its own.
#[cfg(unix)]
fn replace(command: &mut Command) -> std::io::Result<u8> {
    use std::os::unix::process::CommandExt as _;
    Err(command.exec())
}

/// Runs the program and waits for it.
#[cfg(not(unix))]
fn replace(command: &mut Command) -> std::io::Result<u8> {
    let status = command.status()?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(3))
}
