//! What `nsvm scan` says: to people, as JSON, by its status.

use crate::common::{file, nsvm, run, status, stderr, stdout};
use serde_json::Value;
use snapbox::file as snapshot;
use std::collections::BTreeSet;

const SAMPLE: &str = "samples/tracecmd-kvm_nested_vmrun-eventinj.txt";

/// One of everything.
const ALL: &str = "\
q-7 [001] 1.0: kvm_entry: vcpu 3, rip 0x1 intr_info 0x8000031f error_code 0x00000000
q-7 [001] 1.0: kvm_inj_virq: IRQ 0x36 [reinjected]
q-7 [001] 1.0: kvm_nested_vmenter: rip: 0x0000000000000001 vmcb: 0x000000000010a000 nested_rip: 0x0000000000000000 int_ctl: 0x00000000 event_inj: 0x80000302 nested_npt=n guest_cr3: 0x0000000000104000
q-7 [001] 1.0: kvm_nested_vmexit: vcpu 3 reason npf rip 0x1 info1 0x0000000000000000 info2 0x0000000000000000 intr_info 0x80000302 error_code 0x00000000
q-7 [001] 1.0: kvm_nested_vmexit_inject: reason: npf ext_inf1: 0x0000000000000000 ext_inf2: 0x0000000000000000 ext_int: 0x00000000 ext_int_err: 0x00000000
q-7 [001] 1.0: kvm_nested_vmenter_failed: control->asid == 0
q-7 [001] 1.0: kvm_nested_vmexit_inject: reason: 0xffffffff ext_inf1: 0x0000000000000000 ext_inf2: 0x0000000000000000 ext_int: 0x00000000 ext_int_err: 0x00000000
CPU:1 [LOST 4 EVENTS]
";

#[test]
fn a_lost_event_is_explained() {
    run(&["scan", SAMPLE, "--events"]).code(1).stdout_eq(snapshot!["snapshots/scan-lost.txt"]).stderr_eq("");
}

#[test]
fn everything_is_counted() {
    nsvm(&["scan", "-", "--events"])
        .stdin(ALL)
        .assert()
        .code(1)
        .stdout_eq(snapshot!["snapshots/scan-all.txt"])
        .stderr_eq("");
}

#[test]
fn json_fits_the_schema() {
    let schema =
        std::fs::read_to_string(crate::common::root().join("schema/nsvm.schema.json")).expect("the schema");
    let schema: Value = serde_json::from_str(&schema).expect("JSON");
    let validator = jsonschema::draft202012::new(&schema).expect("a schema");
    let path = file("scan-all.txt", ALL.as_bytes());
    let output = run(&["scan", &path, "no-such-file", "--events", "--format", "json"]);
    assert_eq!(status(&output), 3);
    assert!(stderr(&output).contains("no such file"));
    let mut seen = BTreeSet::new();
    for line in stdout(&output).lines() {
        let mut value: Value = serde_json::from_str(line).expect("JSON");
        assert!(validator.is_valid(&value), "{line}");
        seen.insert(value["type"].as_str().expect("a type").to_owned());
        let keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        for key in keys {
            let mut less = value.clone();
            less.as_object_mut().unwrap().remove(&key);
            assert!(!validator.is_valid(&less), "`{key}` may be missing from {line}");
        }
        value["of-tomorrow"] = Value::Null;
        assert!(!validator.is_valid(&value), "{line}");
    }
    let all = [
        "error",
        "scan-condition",
        "scan-event",
        "scan-fate",
        "scan-finding",
        "scan-injected",
        "scan-problem",
        "scan-rule",
        "scan-summary",
        "scan-vcpu",
    ];
    assert!(seen.iter().eq(all.iter()), "{seen:?}");
}

#[test]
fn statuses() {
    let enter = |word: &str| format!("q-7 [001] 1.0: kvm_nested_vmenter: event_inj: {word} nested_npt=n\n");
    for (text, arguments, expected) in [
        (String::new(), &[][..], 0),
        (enter("0x80000036"), &[], 0),
        (enter("0x8000031f"), &[], 1),
        // #CP depends on the CPU, and with it named is decided.
        (enter("0x80000b15"), &[], 2),
        (enter("0x80000b15"), &["--cpu", "EPYC-Milan"], 1),
        (enter("0x80000b15"), &["--cpu", "EPYC-Milan,+shstk"], 0),
        ("q-7 [001] 1.0: kvm_exit: vcpu 0 reason EPT_VIOLATION rip 0x1\n".into(), &[], 3),
    ] {
        let output = nsvm(&[&["scan", "-"], arguments].concat()).stdin(text.as_bytes()).assert();
        assert_eq!(status(&output), expected, "{text} {arguments:?}\n{}", stdout(&output));
        assert_eq!(stderr(&output), "", "progress is for terminals");
    }
    assert_eq!(status(&run(&["scan"])), 3);
    assert_eq!(status(&run(&["scan", "samples"])), 3);
}

#[test]
fn threads_change_nothing() {
    let trace = std::fs::read(crate::common::root().join("samples/ftrace-kvm_nested-7.2.txt")).unwrap();
    let path = file("scan-many.txt", &trace.repeat(300));
    let said =
        |jobs: &str| stdout(&run(&["scan", &path, "--events", "--jobs", jobs, "--lines", "100"]).code(1));
    let one = said("1");
    assert_eq!(one, said("3"));
    assert!(one.contains("4500"), "{one}");
}
