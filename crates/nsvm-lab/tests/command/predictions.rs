//! Predictions of `nsvm check --as`, compared with what the implementations did.

use super::common::{check, file, results};
use nsvm_lab::case::Case;
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

/// 200 cases and more of each subject: every outcome of a rule is among them.
#[test]
fn what_is_predicted_is_what_was_measured() {
    let set = sets::set("full").expect("the set");
    let host = "hsave-pa-zero=0,memenc=0,snp=0,ibs-fetch=0,ibs-op=0,u-cet=0,rax=0x7000,pdptes=0:0:0:0";
    let field = |page: &[u8; 4096], offset: usize| {
        u64::from_le_bytes(page[offset..offset + 8].try_into().expect("8 bytes"))
    };
    // What `--host` says is what the payload did, and all that VMRUN reads is memory: PDPTEs are read of no case.
    let plain = |case: &&Case| {
        let page = set.page(case);
        let (cr0, cr4, efer) = (field(&page, 0x558), field(&page, 0x548), field(&page, 0x4D0));
        let legacy_pae = cr0 >> 31 & 1 == 1 && cr4 >> 5 & 1 == 1 && efer >> 10 & 1 == 0;
        case.rax == memory::VMCB
            && set.flags(case) & (case_flag::SVME_OFF | case_flag::HSAVE_ZERO) == 0
            && case.meaningless.is_none()
            && field(&page, 0x48) < MEMORY
            && (page[0x90] & 1 == 0 || field(&page, 0xB0) < MEMORY)
            && !legacy_pae
            // Bochs traps after VMRUN where RFLAGS.TF is set: no matter of checks.
            && !case.id.ends_with("rflags#8")
    };
    let mut subjects = 0;
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    for (name, results) in results() {
        for section in &results.sections {
            let Some(stack) = stack(section) else { continue };
            subjects += 1;
            // Every rule that some case breaks alone, then cases from all over the set.
            let limits = verdict::limits(&section.head.cpuid);
            let mut by_rule: BTreeMap<String, usize> = BTreeMap::new();
            let usable: Vec<_> = set
                .cases
                .iter()
                .filter(plain)
                .filter(|case| {
                    section.outcomes.get(&case.id).is_some_and(|seen| seen.answer() != Answer::Skipped)
                })
                .filter(|case| {
                    sets::unstable(&section.head.subject, &section.head.version, &case.id).is_none()
                })
                .collect();
            let mut chosen: Vec<_> = usable
                .iter()
                .filter(|case| {
                    let broken = verdict::expected(&set, case, &limits).broken();
                    let key = broken.iter().map(|rule| rule.id()).collect::<Vec<_>>().join(",");
                    let count = by_rule.entry(key.clone()).or_default();
                    *count += 1;
                    !key.is_empty() && *count <= 6
                })
                .collect();
            chosen.extend(usable.iter().step_by(usable.len() / 150));
            assert!(chosen.len() >= 200, "{name}: {} cases", chosen.len());
            let pages: Vec<u8> = chosen.iter().flat_map(|case| set.page(case)).collect();
            let path = file(&format!("{name}.bin"), &pages);
            let cpu = format!("cpuid:{}", file(&format!("{name}.cpuid"), cpuid(section).as_bytes()));
            let (_, output) = check(&[
                "--format", "json", "--phase", "before", "--cpu", &cpu, "--host", host, "--as", &stack, &path,
            ]);
            let predictions: Vec<Value> = output
                .lines()
                .map(|line| serde_json::from_str(line).expect("JSON"))
                .filter(|line: &Value| line["type"] == "prediction")
                .collect();
            assert_eq!(predictions.len(), chosen.len(), "{name}");
            for (case, prediction) in chosen.iter().zip(&predictions) {
                let outcome = &section.outcomes[&case.id];
                let answer = prediction["answer"].as_str().expect("an answer");
                let came_out = match answer {
                    // How a guest ends that VMRUN lets in is not predicted; of what kills a subject there is a list.
                    "accepts" => outcome.answer() == Answer::Accepted || kills(section, case),
                    "refuses" => matches!(outcome.answer(), Answer::Refused(_)),
                    "stops" => outcome.answer() == Answer::Broken,
                    _ => true,
                };
                *answers.entry(answer.to_owned()).or_default() += 1;
                assert!(came_out, "{name}: {}: `{outcome}` and not {}", case.id, prediction["text"]);
                // Where KVM said nothing and left the save area as the layer below wrote it, that one refused.
                if prediction["layer"] == 2 {
                    assert!(matches!(outcome.seen, Seen::Invalid | Seen::Invalid32), "{name}: {}", case.id);
                }
            }
        }
    }
    assert!(subjects >= 20, "{subjects} subjects");
    assert!(["accepts", "refuses", "stops"].iter().all(|answer| answers[*answer] > 0), "{answers:?}");
    let decided = answers["accepts"] + answers["refuses"] + answers["stops"];
    assert!(decided > 9 * answers.get("unknown").copied().unwrap_or(0), "{answers:?}");
}
