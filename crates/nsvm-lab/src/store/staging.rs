//! Folders that are being worked in.

use super::error::Error;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// Creates an empty folder in the folder of a store. Its name contains the process that works in it. If this process is
/// stopped, [`Store::remove_leftovers`](super::Store::remove_leftovers) removes it.
pub(crate) fn staging_dir(store: &Path) -> Result<TempDir, Error> {
    let pid = std::process::id();
    let start = start_of(pid).unwrap_or_default();
    fs::create_dir_all(store).map_err(|error| Error::io(store, error))?;
    let prefix = format!("part-{}-{pid}-{start}-", namespace());
    tempfile::Builder::new().prefix(&prefix).tempdir_in(store).map_err(|error| Error::io(store, error))
}

/// Whether the process that a part is named after still runs. Numbers of processes are used again, so the time of
/// its start must match too. Those of another container mean nothing here: its parts are left to fetches there.
pub(super) fn owner_lives(name: &str) -> bool {
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
