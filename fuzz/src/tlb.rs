//! The body of the fuzz target that runs a trial of the engine on the model CPU.
//!
//! A fault needs several steps, so run it with long inputs from the start:
//! `cargo +nightly fuzz run tlb -- -len_control=0 -max_len=16384`.

use nested_svm::model::trial::Trial;

/// Runs the trial that the bytes describe.
///
/// # Panics
/// Panics if the trial finds a bug in the engine.
pub fn trial(bytes: &[u8]) {
    if let Err(finding) = Trial::from_bytes(bytes).run(u64::MAX) {
        panic!("{finding}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::bytes;

    #[test]
    fn random_trials_find_no_fault() {
        for seed in 0..200 {
            trial(&bytes(seed, 4_000));
        }
    }
}
