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
        trial.displaces_events = number("NSVM_TRIAL_DISPLACES", 1) != 0;
        let start = std::time::Instant::now();
        if number("NSVM_TALLY", 0) != 0 {
            let mut tally = std::collections::BTreeMap::new();
            while trial.counters().steps < steps {
                if let Err(finding) = trial.run(steps - trial.counters().steps) {
                    let text: String = finding.description.chars().skip(6).take(45).collect();
                    let entry = tally.entry(text).or_insert((0, finding.to_string()));
                    entry.0 += 1;
                }
            }
            for (text, (count, first)) in tally {
                println!("seed {seed} {count} x {text}");
                println!("  first: {first}");
            }
            continue;
        }
        match trial.run(steps) {
            Ok(()) => println!("seed {seed}: ok"),
            Err(finding) => println!("seed {seed}: {finding}"),
        }
        println!("{:?} {:?}", start.elapsed(), trial.counters());
    }
}
