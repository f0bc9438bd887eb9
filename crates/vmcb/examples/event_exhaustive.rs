//! All 2^32 low words of EVENTINJ: bits 30:12 never matter.
//!
//! The manual calls them reserved and states no check, so a word and the same word without them have
//! the same answer. In 64-bit mode, where most rules on events can be broken, the verdicts are compared:
//! the rules are asked, word by word. In the other modes the yes or no is.
//! Run in release: `cargo run --release -p vmcb --example event_exhaustive`.

use std::process::ExitCode;
use std::time::Instant;
use vmcb::{Cpu, Event, GuestMode, Limits, Policy, Verdict, check_event};

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
    let verdict = |word: u32| check_event(Event::from_bits(word.into()), mode, limits);
    // The verdict on each word without bits 30:12, by V and bits 11:0.
    let place = |word: u32| (word >> 31 << 12 | word & 0xFFF) as usize;
    let meant: Vec<Verdict> = (0..0x2000).map(|index| verdict(index >> 12 << 31 | index & 0xFFF)).collect();
    let compare_verdicts = mode == GuestMode::BITS_64;
    let part = |from: u32, to: u32| {
        let (mut accepted, mut differ) = (0, 0);
        for word in from..=to {
            let expected = &meant[place(word & MEANT)];
            let answer = limits.accepts_event(Event::from_bits(word.into()), mode);
            accepted += u64::from(answer);
            let same = answer == expected.is_accepted() && (!compare_verdicts || verdict(word) == *expected);
            differ += u64::from(!same);
        }
        (accepted, differ)
    };
    // The words with V take the time: two threads share them.
    std::thread::scope(|scope| {
        let upper = scope.spawn(|| part(0xC000_0000, u32::MAX));
        let (accepted, differ) = part(0, 0xBFFF_FFFF);
        match upper.join() {
            Ok((more, other)) => (accepted + more, differ + other),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
