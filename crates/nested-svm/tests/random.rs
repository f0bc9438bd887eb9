//! Random trials.
use nested_svm::model::trial::Trial;

#[test]
fn explore() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let steps = number("NSVM_TRIAL_STEPS", 200_000);
    let which = number("NSVM_TRIAL_ORACLES", 7);
    for seed in number("NSVM_TRIAL_SEED", 1)..number("NSVM_TRIAL_LAST", 6) {
        let mut trial = Trial::new(seed);
        trial.check_memory = which & 1 != 0;
        trial.check_events = which & 2 != 0;
        trial.check_masking = which & 4 != 0;
        trial.migrates = number("NSVM_TRIAL_MIGRATES", 1) != 0;
        trial.switches_roots = number("NSVM_TRIAL_ROOTS", 1) != 0;
        let start = std::time::Instant::now();
        match trial.run(steps) {
            Ok(()) => println!("seed {seed}: ok"),
            Err(finding) => println!("seed {seed}: {finding}"),
        }
        println!("{:?} {:?}", start.elapsed(), trial.counters());
    }
}
