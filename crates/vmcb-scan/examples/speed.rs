//! Measures a scan beside `memchr` over the same bytes and `grep -c` over the same file, in one run:
//! `cargo run --release -p vmcb-scan --example speed -- [MEGABYTES]`.
//!
//! Two figures each: by the clock, and by the time that the one thread had the CPU, which other work on the machine
//! disturbs less. Each round measures all of them, and the fastest of several counts: how fast memory is changes with
//! what other machines on the same hardware do.

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

/// What is measured, and the fastest by the clock and on the CPU.
struct Measure<'a> {
    name: &'static str,
    what: Box<dyn FnMut() + 'a>,
    clock: Duration,
    cpu: Duration,
    /// All that it costs is what this thread had of the CPU.
    one_thread: bool,
}

impl<'a> Measure<'a> {
    fn new(name: &'static str, one_thread: bool, what: impl FnMut() + 'a) -> Self {
        let what = Box::new(what);
        Self { name, what, clock: Duration::MAX, cpu: Duration::MAX, one_thread }
    }

    fn round(&mut self) {
        let (began, before) = (Instant::now(), on_cpu());
        (self.what)();
        self.clock = self.clock.min(began.elapsed());
        self.cpu = self.cpu.min(on_cpu() - before);
    }
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
        let options = |jobs, events| Options { jobs, events, ..Options::default() };
        let memory = |jobs, events| assert!(scan_bytes(&text, &options(jobs, events)).lines > 0);
        let read = |jobs| {
            let report = File::open(&file).and_then(|file| scan(file, &options(jobs, false), |_| {}));
            assert!(report.is_ok_and(|report| report.lines > 0));
        };
        let grep = || {
            let grep = Command::new("grep").args(["-c", "kvm_nested"]).arg(&file).env("LC_ALL", "C").output();
            assert!(grep.is_ok_and(|output| !output.stdout.is_empty()), "grep is there");
        };
        let mut measures = [
            Measure::new("scan, one core", true, || memory(1, false)),
            Measure::new("memchr of an absent byte", true, || {
                assert!(std::hint::black_box(memchr::memchr(0xFE, &text)).is_none());
            }),
            Measure::new("scan --events, one core", true, || memory(1, true)),
            Measure::new("scan of the file, one core", true, || read(1)),
            Measure::new("scan, all cores", false, || memory(all, false)),
            Measure::new("scan --events, all cores", false, || memory(all, true)),
            Measure::new("scan of the file, all cores", false, || read(all)),
            Measure::new("grep -c kvm_nested", false, grep),
        ];
        for _ in 0..ROUNDS {
            measures.iter_mut().for_each(Measure::round);
        }
        let rate = |time: Duration| text.len() as f64 / time.as_secs_f64() / 1e9;
        for Measure { name, clock, cpu, one_thread, .. } in &measures {
            print!("  {name:<28} {:>7.2} GB/s", rate(*clock));
            println!(
                "{}",
                if *one_thread { format!(" {:>7.2} GB/s on the CPU", rate(*cpu)) } else { String::new() }
            );
        }
        let [scan, memchr, ..] = &measures;
        println!("  scan has {:.0} % of memchr's rate", 100.0 * rate(scan.clock) / rate(memchr.clock));
        drop(measures);
        std::fs::remove_file(&file)?;
    }
    Ok(())
}
