//! All 2^32 low words of EVENTINJ: bits 30:12 never matter.
//!
//! The manual calls them reserved and states no check, so a word and the same word without them have
//! the same answer. Run in release: `cargo run --release -p vmcb --example event_exhaustive`.

use std::process::ExitCode;
use std::time::Instant;
use vmcb::{Cpu, Event, GuestMode, Limits, Policy};

/// V, TYPE, VECTOR and EV: what the answer may depend on.
const MEANT: u32 = 0x8000_0FFF;

fn main() -> ExitCode {
    let mut differing = 0;
    for cpu in ["EPYC", "EPYC-Turin,+shstk,+sev,+sev-es,+sev-snp,+restricted-injection"] {
        let limits = match Cpu::parse(cpu) {
            Ok(cpu) => Limits::compile(&cpu, Policy::VirtualCpu),
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::from(3);
            }
        };
        let modes = [
            ("not 64-bit", GuestMode::OTHER),
            ("64-bit", GuestMode::BITS_64),
            ("SEV-ES, 64-bit", GuestMode::BITS_64.with_sev_es()),
            ("Restricted Injection", GuestMode::OTHER.with_restricted_injection()),
        ];
        for (name, mode) in modes {
            let begin = Instant::now();
            let (accepted, differ) = all_words(&limits, mode);
            differing += differ;
            let seconds = begin.elapsed().as_secs_f32();
            println!("{cpu}: {name}: {accepted} of 4294967296 accepted, {differ} differ, {seconds:.1} s");
        }
    }
    if differing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How many words are accepted, and how many differ from the same word without bits 30:12.
fn all_words(limits: &Limits, mode: GuestMode) -> (u64, u64) {
    let part = |from: u32, to: u32| {
        let (mut accepted, mut differ) = (0, 0);
        for word in from..=to {
            let answer = limits.accepts_event(Event::from_bits(word.into()), mode);
            accepted += u64::from(answer);
            let same = limits.accepts_event(Event::from_bits((word & MEANT).into()), mode);
            differ += u64::from(answer != same);
        }
        (accepted, differ)
    };
    std::thread::scope(|scope| {
        let upper = scope.spawn(|| part(1 << 31, u32::MAX));
        let (accepted, differ) = part(0, (1 << 31) - 1);
        match upper.join() {
            Ok((more, other)) => (accepted + more, differ + other),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
