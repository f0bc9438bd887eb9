//! Random trials of the engine on the model CPU, which has a TLB and takes interrupts.
//!
//! `NSVM_TRIAL_STEPS` sets the total number of steps, and `NSVM_TRIAL_SEED` sets the first seed. A failure
//! message contains the seed. The same seed makes the same steps.

use nested_svm::model::trial::{Counters, Trial};
use std::env;

const SEEDS: u64 = 5;

fn number(variable: Result<String, env::VarError>, default: u64) -> u64 {
    variable.map_or(default, |text| text.parse().expect("the variable is a number"))
}

/// Runs trials with several seeds and returns how often things happened in each.
fn run() -> Vec<Counters> {
    let first = number(env::var("NSVM_TRIAL_SEED"), 1);
    let steps = number(env::var("NSVM_TRIAL_STEPS"), 1_000_000) / SEEDS;
    let trial = |seed| {
        let mut trial = Trial::new(seed);
        if let Err(finding) = trial.run(steps) {
            panic!("seed {seed}, {finding}");
        }
        trial.counters()
    };
    (first..first + SEEDS).map(trial).collect()
}

/// Accesses reach what the tables map, no event is lost or misrouted, and L1 never masks an interrupt of L0.
#[test]
fn trials_find_no_fault() {
    for counters in run() {
        assert_eq!(counters.missing().collect::<Vec<_>>(), [""; 0], "something never happened: {counters:?}");
    }
}

/// The same bytes make the same trial, whatever they are.
#[test]
fn bytes_are_a_trial() {
    for seed in 0..64_u8 {
        let bytes: Vec<u8> =
            (0..2_000_u32).map(|at| ((at * 167 + u32::from(seed) * 59) >> 3) as u8).collect();
        let run = || {
            let mut trial = Trial::from_bytes(&bytes);
            (trial.check_memory, trial.check_events, trial.check_masking) = (false, false, false);
            trial.run(u64::MAX).expect("nothing is checked");
            trial.counters()
        };
        let counters = run();
        assert!(counters.steps > 50, "{counters:?}");
        assert_eq!(run(), counters);
    }
}
