//! What the tests of `nsvm`, `nsvm-lab` and `nsvm-l0` share: files, and the outcome of a command.

use snapbox::cmd::{Command, OutputAssert};
use std::path::{Path, PathBuf};

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace")
}

/// Removes the variables that change colors and line widths from the command's environment.
pub(crate) fn plain(command: Command) -> Command {
    ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS"].into_iter().fold(command, Command::env_remove)
}

pub(crate) fn stdout(assert: &OutputAssert) -> String {
    String::from_utf8(assert.get_output().stdout.clone()).expect("the output is UTF-8")
}

pub(crate) fn stderr(assert: &OutputAssert) -> String {
    String::from_utf8(assert.get_output().stderr.clone()).expect("the output is UTF-8")
}

pub(crate) fn status(assert: &OutputAssert) -> i32 {
    assert.get_output().status.code().expect("it ends by itself")
}

/// Writes a file of this test run into a separate folder. Returns its path.
pub(crate) fn file(name: &str, bytes: &[u8]) -> String {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(std::process::id().to_string());
    std::fs::create_dir_all(&folder).expect("a folder for files");
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("a file");
    path.to_str().expect("a name in UTF-8").to_owned()
}
