//! The golden master: output and exit status of several hundred commands, compared byte for byte.
//!
//! Each file of `golden/` holds commands and their answers. To add a command, append its header line; to accept changed
//! answers, run this test with `NSVM_GOLDEN=record` and read the difference.

mod common;

use common::{nsvm, root};
use std::fmt::Write as _;
use std::path::Path;
use vmcb::{Cpu, Limits, Policy, Rule};

/// Begins the header of each command. No output contains it.
const HEADER: &str = "%%% nsvm ";

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

/// The header's command with its answer, as the file records it. `< FILE` and `< witness:RULE` set the input.
fn answer(line: &str) -> String {
    let (command, input) = line.split_once(" < ").unwrap_or((line, ""));
    let words: Vec<&str> = command.split_whitespace().collect();
    let input = match input.strip_prefix("witness:") {
        Some(id) => witness(id),
        None if input.is_empty() => Vec::new(),
        None => std::fs::read(root().join(input)).unwrap_or_else(|error| panic!("{input}: {error}")),
    };
    let output = nsvm(&words).stdin(input).assert().get_output().clone();
    let status = output.status.code().expect("the command ends by itself");
    let mut text = format!("{HEADER}{line}\n%% status {status}\n");
    text.push_str(&String::from_utf8(output.stdout).expect("the output is UTF-8"));
    if !output.stderr.is_empty() {
        let errors = String::from_utf8(output.stderr).expect("messages are UTF-8");
        write!(text, "%% stderr\n{errors}").expect("a string grows");
    }
    if !text.ends_with('\n') {
        text.push_str("\n%% no newline at the end\n");
    }
    text
}

/// Runs every command of the file, and returns how many there are and the first answers that changed.
fn replay(path: &Path) -> (usize, Vec<String>) {
    let recorded = std::fs::read_to_string(path).expect("a golden file is UTF-8");
    let mut text = String::new();
    let mut changed = Vec::new();
    let parts: Vec<&str> = recorded.split(HEADER).skip(1).collect();
    for part in &parts {
        let line = part.lines().next().unwrap_or_default();
        let now = answer(line);
        if now.strip_prefix(HEADER) != Some(part) {
            let differs = now.lines().skip(1).zip(part.lines().skip(1)).find(|(new, old)| new != old);
            let (new, old) = differs.unwrap_or(("(another length)", ""));
            changed.push(format!("{HEADER}{line}\n  was: {old}\n  now: {new}"));
        }
        text.push_str(&now);
    }
    if std::env::var_os("NSVM_GOLDEN").is_some_and(|wish| wish == "record") {
        std::fs::write(path, &text).expect("a golden file can be written");
    }
    (parts.len(), changed)
}

#[test]
fn answers_are_those_of_the_golden_master() {
    let mut commands = 0;
    let mut changed = Vec::new();
    for entry in std::fs::read_dir(root().join("golden")).expect("golden/ is there") {
        let path = entry.expect("it can be listed").path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let (count, differences) = replay(&path);
            commands += count;
            changed.extend(differences);
        }
    }
    assert!(commands >= 200, "{commands} commands");
    assert!(
        changed.is_empty(),
        "{} of {commands} answers changed:\n{}\nNSVM_GOLDEN=record accepts them",
        changed.len(),
        changed.iter().take(20).cloned().collect::<Vec<_>>().join("\n")
    );
}
