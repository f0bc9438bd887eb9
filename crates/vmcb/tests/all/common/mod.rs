//! What vmcb's tests share: the rows of `cases/`, and generators.
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(unused_imports, reason = "each test uses a part of it")]
#![allow(unreachable_pub, reason = "a module that several tests include is public to each")]

pub mod frozen;
pub mod generate;
pub mod random;
pub mod reference;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use vmcb::{Environment, Limits, Verdict};
pub use vmcb_cases::{BadRow, Case, Expected, Reader, fact, number, read_all};

/// The check under test. `vmcb::check` is inlined into each caller; this is the only one here.
#[inline(never)]
pub fn check(vmcb: &[u8; 4096], limits: &Limits, environment: &Environment<'_>) -> Verdict {
    vmcb::check(vmcb, limits, environment)
}

/// The directory of the rows.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cases")
}

/// The errors, a line each.
pub fn lines(errors: &[BadRow]) -> String {
    errors.iter().map(|error| format!("{error}\n")).collect()
}

/// All rows of all files, in the order of the files' names.
///
/// # Panics
/// With `file:line` and what is wrong there, for all rows that are wrong.
pub fn cases() -> &'static [Case] {
    static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| match read_all(&directory()) {
        Ok(rows) => rows.cases,
        Err(errors) => panic!("bad rows:\n{}", lines(&errors)),
    });
    &CASES
}
