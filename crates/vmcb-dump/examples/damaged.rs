//! Writes dumps at random, damages them and holds what the readers make of them against what was written:
//! `cargo run --release -p vmcb-dump --example damaged -- ROUNDS [SEED] [--format NAME]`.
//! With `--two` each round writes two dumps into one text and damages neither.

#[path = "../tests/generate/mod.rs"]
mod generate;

use generate::{WRITERS, check};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Rounds that a thread takes at a time.
const BATCH: u64 = 1000;

struct Arguments {
    rounds: u64,
    seed: u64,
    format: Option<String>,
    two: bool,
}

fn arguments() -> Option<Arguments> {
    let (mut numbers, mut format, mut two) = (Vec::new(), None, false);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--format" {
            format = Some(words.next()?);
        } else if word == "--two" {
            two = true;
        } else {
            numbers.push(word.parse().ok()?);
        }
    }
    match *numbers.as_slice() {
        [rounds] => Some(Arguments { rounds, seed: 1, format, two }),
        [rounds, seed] => Some(Arguments { rounds, seed, format, two }),
        _ => None,
    }
}

fn main() -> ExitCode {
    let usage = || {
        let names: Vec<_> = WRITERS.iter().map(|(name, _)| *name).collect();
        eprintln!("usage: damaged ROUNDS [SEED] [--format NAME | --two]; formats: {}", names.join(", "));
        ExitCode::from(3)
    };
    let Some(arguments) = arguments() else {
        return usage();
    };
    let start = Instant::now();
    if arguments.two {
        let two = |seed| check::two(seed).map(|()| check::Round { told: 0, read: 0, reflowed: false });
        let Outcome { rounds, failure, .. } = all(&two, arguments.rounds, arguments.seed);
        println!("two dumps: {rounds} rounds, {:.0?}", start.elapsed());
        let Some((seed, what)) = failure else {
            return ExitCode::SUCCESS;
        };
        println!("seed {seed}: {what}");
        return ExitCode::FAILURE;
    }
    let wanted = |name: &str| arguments.format.as_deref().is_none_or(|format| format == name);
    let writers: Vec<_> = WRITERS.iter().filter(|(name, _)| wanted(name)).collect();
    if writers.is_empty() {
        return usage();
    }
    let each = arguments.rounds.div_ceil(writers.len() as u64);
    let mut failed = false;
    for (name, write) in writers {
        let result = all(&|seed| check::round(name, *write, seed), each, arguments.seed);
        let share = |[told, read]: [u64; 2]| read as f64 * 100.0 / told.max(1) as f64;
        println!(
            "{name}: {} rounds, {:.1} % of {} bits read; where nothing was lost, {:.2} %",
            result.rounds,
            share(result.bits),
            result.bits[0],
            share(result.reflowed),
        );
        if let Some((seed, what)) = result.failure {
            println!("{name}: seed {seed}: {what}");
            failed = true;
        }
    }
    println!("{:.0?}", start.elapsed());
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[derive(Default)]
struct Outcome {
    rounds: u64,
    /// Bits that were told, and that were read.
    bits: [u64; 2],
    /// The same of the rounds that only put the text into another form.
    reflowed: [u64; 2],
    /// The seed and what is wrong.
    failure: Option<(u64, String)>,
}

fn add(sums: &mut [u64; 2], more: [u64; 2]) {
    sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

/// All rounds, on all cores; ends at the first failure.
fn all(round: &(dyn Fn(u64) -> Result<check::Round, String> + Sync), rounds: u64, seed: u64) -> Outcome {
    let next = AtomicU64::new(0);
    let all = Mutex::new(Outcome::default());
    let work = || loop {
        let from = next.fetch_add(BATCH, Ordering::Relaxed);
        let mut own = Outcome::default();
        for index in from..(from + BATCH).min(rounds) {
            let seed = seed.wrapping_add(index);
            match round(seed) {
                Ok(round) => {
                    add(&mut own.bits, [round.told, round.read]);
                    if round.reflowed {
                        add(&mut own.reflowed, [round.told, round.read]);
                    }
                    own.rounds += 1;
                }
                Err(what) => {
                    own.failure = Some((seed, what));
                    next.store(rounds, Ordering::Relaxed);
                    break;
                }
            }
        }
        let Ok(mut all) = all.lock() else { return };
        all.rounds += own.rounds;
        add(&mut all.bits, own.bits);
        add(&mut all.reflowed, own.reflowed);
        if all.failure.is_none() {
            all.failure = own.failure;
        }
        if next.load(Ordering::Relaxed) >= rounds {
            return;
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    all.into_inner().unwrap_or_default()
}
