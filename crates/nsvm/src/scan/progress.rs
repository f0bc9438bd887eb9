//! Progress of a scan.

use super::words::human_bytes;
use std::cell::Cell;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// Progress on stderr. It is shown on a terminal only, after a second.
pub(super) struct Bar<'a> {
    file: &'a str,
    size: Option<u64>,
    began: Instant,
    drawn: Cell<Option<Instant>>,
    terminal: bool,
}

impl<'a> Bar<'a> {
    pub(super) fn new(file: &'a str, size: Option<u64>) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let terminal = std::io::stderr().is_terminal() && !dumb;
        Self { file, size, began: Instant::now(), drawn: Cell::new(None), terminal }
    }

    pub(super) fn update(&self, bytes: u64) {
        let elapsed = self.began.elapsed();
        let fresh = self.drawn.get().is_some_and(|drawn| drawn.elapsed() < Duration::from_millis(100));
        if !self.terminal || elapsed < Duration::from_secs(1) || fresh {
            return;
        }
        self.drawn.set(Some(Instant::now()));
        // A line wider than the terminal must be cut, or the next would not cover it.
        eprint!("\x1b[?7l\r\x1b[K{}\x1b[?7h", line(self.file, bytes, self.size, elapsed));
    }

    /// Removes the progress. If it was shown or the input was large, prints the time and memory that it took.
    pub(super) fn end(&self, bytes: Option<u64>) {
        let drawn = self.drawn.get().is_some();
        if drawn {
            eprint!("\r\x1b[K");
        }
        if let Some(bytes) = bytes.filter(|&bytes| drawn || bytes >= LARGE) {
            eprintln!("note: {}", took(self.file, bytes, self.began.elapsed(), peak()));
        }
    }
}

/// Size in bytes from which an input counts as large.
const LARGE: u64 = 1_000_000_000;

/// Returns the maximum of this process's memory in bytes, if the system reports it.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// `trace.txt: 10.0 GB in 8.3 s, 1.2 GB/s; 12.3 MB of memory at most`.
fn took(file: &str, bytes: u64, elapsed: Duration, peak: Option<u64>) -> String {
    let rate = (bytes as f64 / elapsed.as_secs_f64().max(0.001)) as u64;
    let memory = peak.map_or_else(String::new, |peak| format!("; {} of memory at most", human_bytes(peak)));
    let seconds = elapsed.as_secs_f64();
    format!("{file}: {} in {seconds:.1} s, {}/s{memory}", human_bytes(bytes), human_bytes(rate))
}

/// `trace.txt: 3.2 GB of 10.0 GB (32 %), 1.1 GB/s`.
fn line(file: &str, bytes: u64, size: Option<u64>, elapsed: Duration) -> String {
    let rate = (bytes as f64 / elapsed.as_secs_f64().max(0.001)) as u64;
    let of = match size {
        Some(size) if size > 0 => {
            format!(" of {} ({} %)", human_bytes(size), u128::from(bytes) * 100 / u128::from(size))
        }
        _ => String::new(),
    };
    format!("{file}: {}{of}, {}/s", human_bytes(bytes), human_bytes(rate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_how_far_and_how_fast() {
        let two = Duration::from_secs(2);
        assert_eq!(
            line("a", 3_200_000_000, Some(10_000_000_000), two),
            "a: 3.2 GB of 10.0 GB (32 %), 1.6 GB/s"
        );
        assert_eq!(line("-", 512, None, two), "-: 512 bytes, 256 bytes/s");
        assert_eq!(line("-", 1500, Some(0), two), "-: 1.5 kB, 750 bytes/s");
        assert_eq!(
            took("a", 10_000_000_000, Duration::from_millis(12_500), Some(12_345_678)),
            "a: 10.0 GB in 12.5 s, 800.0 MB/s; 12.3 MB of memory at most"
        );
        assert_eq!(took("-", 512, two, None), "-: 512 bytes in 2.0 s, 256 bytes/s");
        assert!(!cfg!(target_os = "linux") || peak().is_some_and(|peak| peak > 1_000_000));
    }
}
