//! The body of the fuzz target that runs a trial of the engine on the model CPU.

use nested_svm::model::trial::Trial;

/// Runs the trial that the bytes describe.
///
/// # Panics
/// Panics if the trial finds a fault of the engine.
pub fn trial(bytes: &[u8]) {
    let mut trial = Trial::from_bytes(bytes);
    // The ledger of events does not know yet which events the engine puts back where they came from.
    trial.check_events = false;
    if let Err(finding) = trial.run(u64::MAX) {
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
