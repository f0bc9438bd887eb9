//! KVM's own words for its refusals, as kept results have them: the reader of traces knows each, and the rule that it
//! takes each for is one that the rulebook finds broken.

use nsvm_lab::case::Case;
use nsvm_lab::{sets, verdict};
use std::collections::BTreeMap;

/// The rules that the reader of traces takes a condition for.
fn rules(condition: &str) -> &'static [&'static str] {
    let line = format!("lab-1 [000] 1.0: kvm_nested_vmenter_failed: {condition}\n");
    let (found, error) = vmcb_dump::read_all(line.as_bytes());
    assert!(error.is_none(), "{condition}: {error:?}");
    found.iter().flat_map(|found| &found.refusals).map(|refusal| refusal.rules).next().unwrap_or_default()
}

#[test]
fn kvm_refuses_for_the_rule_that_it_names() {
    let set = sets::set("full").expect("there is a set `full`");
    let cases: BTreeMap<&str, &Case> = set.cases.iter().map(|case| (case.id.as_str(), case)).collect();
    // KVM's own habits: what it refuses by this condition although the rulebook does not.
    let mut habits: BTreeMap<&str, usize> = BTreeMap::new();
    let mut named = 0;
    for (_, results) in super::common::results() {
        for section in &results.sections {
            let limits = verdict::limits(&section.head.cpuid);
            for (id, outcome) in &section.outcomes {
                let (Some(condition), Some(case)) = (&outcome.by, cases.get(id.as_str())) else { continue };
                let rules = rules(condition);
                assert!(!rules.is_empty(), "{id}: the reader does not know `{condition}`");
                let judged = verdict::expected(&set, case, &limits);
                let met = judged.broken().union(judged.undecided());
                if met.iter().any(|rule| rules.contains(&rule.id())) {
                    named += 1;
                } else {
                    *habits.entry(rules[0]).or_default() += 1;
                }
            }
        }
    }
    assert!(named > 10_000, "only {named} refusals have a condition");
    // Each is a difference that the list of expected ones explains.
    let known = ["ctl-vnmi-without-nmi-intercept", "sav-cr3-mbz-long", "sav-efer-mbz", "sav-pdpte-reserved"];
    let unknown: Vec<_> = habits.iter().filter(|(rule, _)| !known.contains(rule)).collect();
    assert!(unknown.is_empty(), "KVM names a rule that is not broken: {unknown:?}");
}
