//! The golden master: output and exit status of several hundred commands, compared byte for byte.

use crate::common::{nsvm, root};
use std::process::Output;
use vmcb::{Cpu, Limits, Policy, Rule};

/// A CPU with every feature that a rule needs.
const EVERYTHING: &str = "EPYC-Genoa-v2,phys-bits=52,+shstk,+avic,+x2avic,+sme,+sev,+sev-es,+sev-snp,\
    +sev-64bit-host,+restricted-injection,+alternate-injection,+prevent-host-ibs,+ibs-virt-guest-ctl,\
    +pmc-virt-guest-ctl,+smt-protection,+secure-avic,+allowed-sev-features,c-bit=51,sev-asid-max=509,\
    sev-asid-min=100,lmsle-unsupported=on";

/// CPUs. The first of them the first that has a witness of a rule is used.
const WITNESS_CPUS: [&str; 7] = [
    "EPYC-Turin,phys-bits=48,+shstk,lmsle-unsupported=on",
    "Opteron_G2,phys-bits=40,lmsle-unsupported=off",
    "EPYC-Rome,phys-bits=43,lmsle-unsupported=off",
    "EPYC-Genoa-v2,phys-bits=52,+avic,+x2avic,+sme,c-bit=51",
    "EPYC-Genoa-v2,phys-bits=40,+sev-es,+secure-avic,+avic,-lm,lmsle-unsupported=off",
    "EPYC-Milan-v3,phys-bits=48,+sev,sev-asid-max=509,sev-asid-min=100,c-bit=47,+sev-es,+sev-snp",
    EVERYTHING,
];

/// The smallest VMCB that breaks this rule.
fn witness(id: &str) -> Vec<u8> {
    let rule = Rule::from_id(id).unwrap_or_else(|| panic!("no rule has the id `{id}`"));
    let limits = |name| Limits::compile(&Cpu::parse(name).expect("a model that exists"), Policy::VirtualCpu);
    let found = WITNESS_CPUS.into_iter().find_map(|name| rule.witness(&limits(name)));
    found.unwrap_or_else(|| panic!("no CPU has a witness of `{id}`")).vmcb().to_vec()
}

/// Runs a command. `< FILE` and `< witness:RULE` in a header set its input.
fn run(words: &[&str], input: &str) -> Output {
    let input = match input.strip_prefix("witness:") {
        Some(id) => witness(id),
        None if input.is_empty() => Vec::new(),
        None => std::fs::read(root().join(input)).unwrap_or_else(|error| panic!("{input}: {error}")),
    };
    nsvm(words).stdin(input).assert().get_output().clone()
}

#[test]
fn answers_are_those_of_the_golden_master() {
    let files = ["check.txt", "witnesses.txt", "explain.txt", "tools.txt", "help.txt"];
    let commands: usize =
        files.iter().map(|file| crate::replay::replay(&root().join("golden").join(file), &run)).sum();
    assert_eq!(commands, 475);
}
