//! Predictions of `nsvm check --as`, compared with what the implementations did.

use super::common::{check, file, results};
use nsvm_lab::case::{Case, Set};
use nsvm_lab::outcome::{Answer, Seen};
use nsvm_lab::protocol::{case_flag, memory};
use nsvm_lab::results::Section;
use nsvm_lab::subject::KVM_ON_L0;
use nsvm_lab::{sets, verdict};
use serde_json::Value;
use std::collections::BTreeMap;

/// The stack of a section, as `--as` takes it; nothing for subjects that predictions do not exist for.
fn stack(section: &Section) -> Option<String> {
    let head = &section.head;
    // Kernels are named `6.1.0-56-amd64 (6.1.192-2)`.
    let package = head.version.split_once(" (").and_then(|(_, rest)| rest.strip_suffix(')'));
    let version = package.unwrap_or(head.version.split(' ').next()?);
    match (head.subject.as_str(), &head.below) {
        // They answer by the rulebook itself.
        ("model" | "l0", _) => None,
        (KVM_ON_L0, _) => Some(format!("kvm@{version}/hardware")),
        (top, None) => Some(format!("{top}@{version}")),
        (top, Some(below)) => {
            let (name, rest) = below.split_once(' ')?;
            Some(format!("{top}@{version}/{name}@{}", rest.split(',').next()?))
        }
    }
}

/// Lines as `cpuid -r` prints them.
fn cpuid(section: &Section) -> String {
    let line = |entry: &vmcb::CpuidEntry| {
        format!(
            "   {:#010x} {:#04x}: eax={:#010x} ebx={:#010x} ecx={:#010x} edx={:#010x}\n",
            entry.leaf, entry.subleaf, entry.eax, entry.ebx, entry.ecx, entry.edx
        )
    };
    section.head.cpuid.iter().map(line).collect()
}

/// RAM of the virtual machine in which KVM ran the payload. `--as` takes every address to be memory.
const MEMORY: u64 = 64 << 20;

fn kills(section: &Section, case: &Case) -> bool {
    sets::killer(&section.head.subject, &section.head.version, &case.id).is_some()
}

/// Facts about the host of every case, as `--host` takes them. They are what the payload did.
const HOST: &str = "hsave-pa-zero=0,memenc=0,snp=0,ibs-fetch=0,ibs-op=0,u-cet=0,rax=0x7000,pdptes=0:0:0:0";

/// Whether the facts of `HOST` hold for the case, and all that VMRUN reads is memory. No case with PDPTEs is plain.
fn is_plain(set: &Set, case: &Case) -> bool {
    let page = set.page(case);
    let field = |offset: usize| u64::from_le_bytes(page[offset..offset + 8].try_into().expect("8 bytes"));
    let (cr0, cr4, efer) = (field(0x558), field(0x548), field(0x4D0));
    let legacy_pae = cr0 >> 31 & 1 == 1 && cr4 >> 5 & 1 == 1 && efer >> 10 & 1 == 0;
    case.rax == memory::VMCB
        && set.flags(case) & (case_flag::SVME_OFF | case_flag::HSAVE_ZERO) == 0
        && case.meaningless.is_none()
        && field(0x48) < MEMORY
        && (page[0x90] & 1 == 0 || field(0xB0) < MEMORY)
        && !legacy_pae
        // Bochs traps after VMRUN if RFLAGS.TF is set, which is not a matter of checks.
        && !case.id.ends_with("rflags#8")
}

/// Every rule that some case breaks alone, then cases from all over the set.
fn chosen<'a>(set: &'a Set, section: &Section) -> Vec<&'a Case> {
    let limits = verdict::limits(&section.head.cpuid);
    let head = &section.head;
    let asked =
        |case: &Case| section.outcomes.get(&case.id).is_some_and(|seen| seen.answer() != Answer::Skipped);
    let stable = |case: &Case| sets::unstable(&head.subject, &head.version, &case.id).is_none();
    let usable: Vec<&Case> =
        set.cases.iter().filter(|case| is_plain(set, case) && asked(case) && stable(case)).collect();
    let mut by_rule: BTreeMap<String, usize> = BTreeMap::new();
    let mut chosen: Vec<&Case> = usable
        .iter()
        .copied()
        .filter(|case| {
            let broken = verdict::expected(set, case, &limits).broken();
            let key = broken.iter().map(|rule| rule.id()).collect::<Vec<_>>().join(",");
            let count = by_rule.entry(key.clone()).or_default();
            *count += 1;
            !key.is_empty() && *count <= 6
        })
        .collect();
    chosen.extend(usable.iter().copied().step_by(usable.len() / 150));
    chosen
}

/// Returns what `nsvm check --as` predicts for each case.
fn predictions(name: &str, stack: &str, set: &Set, section: &Section, cases: &[&Case]) -> Vec<Value> {
    let pages: Vec<u8> = cases.iter().flat_map(|case| set.page(case)).collect();
    let path = file(&format!("{name}.bin"), &pages);
    let cpu = format!("cpuid:{}", file(&format!("{name}.cpuid"), cpuid(section).as_bytes()));
    let (_, output) = check(&[
        "--format", "json", "--phase", "before", "--cpu", &cpu, "--host", HOST, "--as", stack, &path,
    ]);
    let lines = output.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    lines.filter(|line: &Value| line["type"] == "prediction").collect()
}

/// Checks a prediction against what the subject did. Returns the predicted answer.
fn compare(name: &str, section: &Section, case: &Case, prediction: &Value) -> String {
    let outcome = &section.outcomes[&case.id];
    let answer = prediction["answer"].as_str().expect("an answer");
    let came_true = match answer {
        // How a guest ends that VMRUN enters is not predicted. What kills a subject is listed.
        "accepts" => outcome.answer() == Answer::Accepted || kills(section, case),
        "refuses" => matches!(outcome.answer(), Answer::Refused(_)),
        "stops" => outcome.answer() == Answer::Broken,
        _ => true,
    };
    assert!(came_true, "{name}: {}: `{outcome}` and not {}", case.id, prediction["text"]);
    // If KVM reported nothing and left the save area as the layer below wrote it, that layer refused.
    if prediction["layer"] == 2 {
        assert!(matches!(outcome.seen, Seen::Invalid | Seen::Invalid32), "{name}: {}", case.id);
    }
    answer.to_owned()
}

/// At least 200 cases of each subject, with every outcome of a rule among them.
#[test]
fn what_is_predicted_is_what_was_measured() {
    let set = sets::set("full").expect("the set");
    let mut subjects = 0;
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    for (name, results) in results() {
        for section in &results.sections {
            let Some(stack) = stack(section) else { continue };
            subjects += 1;
            let cases = chosen(&set, section);
            assert!(cases.len() >= 200, "{name}: {} cases", cases.len());
            let predictions = predictions(&name, &stack, &set, section, &cases);
            assert_eq!(predictions.len(), cases.len(), "{name}");
            for (case, prediction) in cases.iter().zip(&predictions) {
                *answers.entry(compare(&name, section, case, prediction)).or_default() += 1;
            }
        }
    }
    assert!(subjects >= 20, "{subjects} subjects");
    assert!(["accepts", "refuses", "stops"].iter().all(|answer| answers[*answer] > 0), "{answers:?}");
    let decided = answers["accepts"] + answers["refuses"] + answers["stops"];
    assert!(decided > 9 * answers.get("unknown").copied().unwrap_or(0), "{answers:?}");
}
