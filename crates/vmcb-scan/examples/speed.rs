//! Measures a scan beside `memchr` over the same bytes and `grep -c` over the same file, in one run:
//! `cargo run --release -p vmcb-scan --example speed -- [MEGABYTES]`.

mod generate;

use std::process::Command;
use std::time::{Duration, Instant};
use vmcb_scan::{Options, scan};

/// Each is measured so often, and the fastest counts.
const ROUNDS: u32 = 7;

fn best(mut what: impl FnMut()) -> Duration {
    let time = |_| {
        let began = Instant::now();
        what();
        began.elapsed()
    };
    (0..ROUNDS).map(time).min().unwrap_or_default()
}

fn main() -> std::io::Result<()> {
    let megabytes = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(256_u64);
    for (kind, dense) in [("dense", true), ("sparse", false)] {
        let mut text = Vec::new();
        generate::Trace::new(1, dense).write(&mut text, megabytes << 20)?;
        let file = std::env::temp_dir().join(format!("nsvm-speed-{}-{kind}", std::process::id()));
        std::fs::write(&file, &text)?;
        let lines = memchr::memchr_iter(b'\n', &text).count();
        println!("{kind}: {} bytes, {lines} lines, {} bytes a line", text.len(), text.len() / lines.max(1));
        let say = |name: &str, time: Duration| {
            println!("  {name:<28} {:>7.2} GB/s", text.len() as f64 / time.as_secs_f64() / 1e9);
        };
        for (name, jobs, events) in [
            ("scan, one core", 1, false),
            ("scan --events, one core", 1, true),
            ("scan, all cores", Options::default().jobs, false),
            ("scan --events, all cores", Options::default().jobs, true),
        ] {
            let options = Options { jobs, events, ..Options::default() };
            say(
                name,
                best(|| assert!(scan(&text[..], &options, |_| {}).is_ok_and(|report| report.lines > 0))),
            );
        }
        say(
            "memchr of an absent byte",
            best(|| assert!(std::hint::black_box(memchr::memchr(0xFE, &text)).is_none())),
        );
        say(
            "grep -c kvm_nested",
            best(|| {
                let grep =
                    Command::new("grep").env("LC_ALL", "C").args(["-c", "kvm_nested"]).arg(&file).output();
                assert!(grep.is_ok_and(|output| !output.stdout.is_empty()), "grep is there");
            }),
        );
        std::fs::remove_file(&file)?;
    }
    Ok(())
}
