//! Progress of a scan.

use super::words::human_bytes;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// Progress on stderr. It is shown on a terminal only, after a second.
pub(super) struct Bar<'a> {
    file: &'a str,
    bar: ProgressBar,
}

impl<'a> Bar<'a> {
    pub(super) fn new(file: &'a str, size: Option<u64>) -> Self {
        let of = match size {
            Some(size) if size > 0 => " of {decimal_total_bytes} ({percent} %)",
            _ => "",
        };
        let template = format!("{{prefix}}: {{decimal_bytes}}{of}, {{decimal_bytes_per_sec}}");
        let style = ProgressStyle::with_template(&template).expect("the template is valid");
        let bar = ProgressBar::with_draw_target(size, ProgressDrawTarget::hidden());
        Self { file, bar: bar.with_style(style).with_prefix(file.to_owned()) }
    }

    pub(super) fn update(&self, bytes: u64) {
        if self.bar.is_hidden() && self.bar.elapsed() >= Duration::from_secs(1) {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_position(bytes);
    }

    /// Removes the progress. If it was shown or the input was large, prints the time and memory that it took.
    pub(super) fn end(&self, bytes: Option<u64>) {
        let drawn = !self.bar.is_hidden();
        self.bar.finish_and_clear();
        if let Some(bytes) = bytes.filter(|&bytes| drawn || bytes >= LARGE) {
            eprintln!("note: {}", took(self.file, bytes, self.bar.elapsed(), peak()));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_inputs_report_time_and_memory() {
        let two = Duration::from_secs(2);
        assert_eq!(
            took("a", 10_000_000_000, Duration::from_millis(12_500), Some(12_345_678)),
            "a: 10.0 GB in 12.5 s, 800.0 MB/s; 12.3 MB of memory at most"
        );
        assert_eq!(took("-", 512, two, None), "-: 512 bytes in 2.0 s, 256 bytes/s");
        assert!(!cfg!(target_os = "linux") || peak().is_some_and(|peak| peak > 1_000_000));
    }
}
