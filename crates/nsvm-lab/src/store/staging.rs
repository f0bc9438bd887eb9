//! Folders that are being worked in.

use super::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder that is being worked in. It is removed when this value is dropped, and by [`Store::remove_leftovers`](super::Store::remove_leftovers) if this process
/// was stopped before.
pub(crate) struct StagingDir(PathBuf);

impl StagingDir {
    /// Creates an empty one in the folder of a store. Its name contains the process that works in it.
    pub(crate) fn new(store: &Path) -> Result<Self, Error> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let pid = std::process::id();
        let start = start_of(pid).unwrap_or_default();
        let name = format!("part-{}-{pid}-{start}-{}", namespace(), COUNT.fetch_add(1, Ordering::Relaxed));
        fs::create_dir_all(store).map_err(|error| Error::io(store, error))?;
        let path = store.join(name);
        fs::create_dir(&path).map_err(|error| Error::io(&path, error))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for StagingDir {
    fn drop(&mut self) {
        // What cannot be removed now is tried again by the next fetch.
        let _ = fs::remove_dir_all(&self.0);
    }
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
