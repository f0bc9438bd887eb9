//! The form of serialized values is stable: names, not positions.

use vmcb::{Cpu, Environment, Feature, Limits, Policy, Verdict, check};

#[test]
fn a_verdict_is_stored_by_the_ids_of_its_rules() {
    let limits = Limits::compile(&Cpu::parse("EPYC-Milan,phys-bits=48").unwrap(), Policy::VirtualCpu);
    let refused = check(&[0; 4096], &limits, &Environment::real_host().with_vmcb_address(0x1000));
    let json = serde_json::to_string(&refused).unwrap();
    let ids = "ctl-vmrun-intercept-clear\",\"ctl-asid-zero\",\"sav-efer-svme-clear";
    assert_eq!(json, format!("{{\"broken\":[\"{ids}\"],\"unstated\":[],\"unknown\":[],\"inferred\":false}}"));
    assert_eq!(serde_json::from_str::<Verdict>(&json).unwrap(), refused);
    let unknown = json.replace("ctl-asid-zero", "ctl-asid-one");
    let error = serde_json::from_str::<Verdict>(&unknown).unwrap_err().to_string();
    assert!(error.starts_with("no rule has this id"), "{error}");
}

#[test]
fn names_are_strings() {
    let values = (Feature::Shstk, Policy::VirtualCpu);
    let json = serde_json::to_string(&values).unwrap();
    assert_eq!(json, "[\"shstk\",\"virtual-cpu\"]");
    assert_eq!(serde_json::from_str::<(Feature, Policy)>(&json).unwrap(), values);
    assert!(serde_json::from_str::<Feature>("7").is_err());
}
