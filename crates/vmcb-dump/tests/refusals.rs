//! The table of conditions of KVM and Xen names only rules that exist.

#[test]
fn every_rule_that_a_reader_names_exists() {
    let named: Vec<_> = vmcb_dump::refusal_rules().collect();
    assert!(named.len() > 10, "{named:?}");
    for id in named {
        // Checks of KVM that are not rules of the manual.
        let own = ["ctl-tlb-control-reserved", "sav-efer-lma-without-lme", "evt-reserved-bits"];
        assert!(vmcb::Rule::from_id(id).is_some() || own.contains(&id), "{id}");
    }
}
