//! Measures a scan beside `memchr` over the same bytes and `grep -c` over the same file, in one run:
//! `cargo run --release -p vmcb-scan --example speed -- [MEGABYTES]`.
//!
//! Two figures each: by the clock, and by the time that the one thread had the CPU, which other work on the machine
//! disturbs less. The fastest of several rounds counts.

mod generate;

use std::fs::File;
use std::process::Command;
use std::time::{Duration, Instant};
use vmcb_scan::{Options, scan, scan_bytes};

const ROUNDS: u32 = 7;

/// How long this thread had the CPU, where the kernel tells.
fn on_cpu() -> Duration {
    // The kernel adds it up when a thread gives way, else only at its ticks: as far apart as a round takes.
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

/// By the clock, and on the CPU.
fn best(mut what: impl FnMut()) -> (Duration, Duration) {
    let mut best = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        let (began, before) = (Instant::now(), on_cpu());
        what();
        best = (best.0.min(began.elapsed()), best.1.min(on_cpu() - before));
    }
    best
}

fn main() -> std::io::Result<()> {
    let megabytes = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(256_u64);
    let all = Options::default().jobs;
    for (kind, dense) in [("dense", true), ("sparse", false)] {
        let mut text = Vec::new();
        generate::Trace::new(1, dense).write(&mut text, megabytes << 20)?;
        let file = std::env::temp_dir().join(format!("nsvm-speed-{}-{kind}", std::process::id()));
        std::fs::write(&file, &text)?;
        let lines = memchr::memchr_iter(b'\n', &text).count();
        println!("{kind}: {} bytes, {lines} lines, {} bytes a line", text.len(), text.len() / lines.max(1));
        let rate = |time: Duration| text.len() as f64 / time.as_secs_f64() / 1e9;
        let say = |name: &str, (clock, cpu): (Duration, Duration)| {
            println!("  {name:<28} {:>7.2} GB/s {:>7.2} GB/s on the CPU", rate(clock), rate(cpu));
        };
        let options = |jobs, events| Options { jobs, events, ..Options::default() };
        let memory = |jobs, events| best(|| assert!(scan_bytes(&text, &options(jobs, events)).lines > 0));
        say("scan, one core", memory(1, false));
        say("scan --events, one core", memory(1, true));
        let read = |jobs| {
            best(|| {
                let report = File::open(&file).and_then(|file| scan(file, &options(jobs, false), |_| {}));
                assert!(report.is_ok_and(|report| report.lines > 0));
            })
        };
        say("scan of the file, one core", read(1));
        let absent = || assert!(std::hint::black_box(memchr::memchr(0xFE, &text)).is_none());
        say("memchr of an absent byte", best(absent));
        for (name, (clock, _)) in [
            ("scan, all cores", memory(all, false)),
            ("scan --events, all cores", memory(all, true)),
            ("scan of the file, all cores", read(all)),
            (
                "grep -c kvm_nested",
                best(|| {
                    let grep = Command::new("grep")
                        .args(["-c", "kvm_nested"])
                        .arg(&file)
                        .env("LC_ALL", "C")
                        .output();
                    assert!(grep.is_ok_and(|output| !output.stdout.is_empty()), "grep is there");
                }),
            ),
        ] {
            println!("  {name:<28} {:>7.2} GB/s", rate(clock));
        }
        std::fs::remove_file(&file)?;
    }
    Ok(())
}
