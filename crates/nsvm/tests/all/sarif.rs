//! `--format sarif`: held against the part of SARIF 2.1.0 that it uses (`sarif.schema.json`, written by hand from the
//! standard: the schema of OASIS is not in the repository).

use crate::common::{MILAN, file, legal, put, run, status, stdout};
use serde_json::Value;

fn sarif(arguments: &[&str]) -> (Value, i32) {
    let text = std::fs::read_to_string(crate::common::root().join("crates/nsvm/tests/all/sarif.schema.json"))
        .expect("the schema");
    let schema: Value = serde_json::from_str(&text).expect("JSON");
    let validator = jsonschema::draft202012::new(&schema).expect("a schema");
    let output = run(&[&["check", "--format", "sarif"], arguments].concat());
    let value: Value =
        serde_json::from_str(&stdout(&output)).unwrap_or_else(|error| panic!("{error}: {}", stdout(&output)));
    if let Err(error) = validator.validate(&value) {
        panic!("{error} at {}", error.instance_path());
    }
    let run = &value["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().expect("rules");
    for result in run["results"].as_array().expect("results") {
        // The index and the id are of the same rule.
        if let Some(index) = result["ruleIndex"].as_u64() {
            assert_eq!(rules[index as usize]["id"], result["ruleId"]);
        }
    }
    assert_eq!(run["invocations"][0]["exitCode"], status(&output));
    (value, status(&output))
}

fn results(value: &Value, level: &str, kind: &str) -> Vec<Value> {
    let results = value["runs"][0]["results"].as_array().expect("results").iter();
    results.filter(|result| result["level"] == level && result["kind"] == kind).cloned().collect()
}

#[test]
fn every_sample_fits() {
    for entry in std::fs::read_dir(crate::common::root().join("samples")).expect("samples") {
        let path = entry.expect("an entry").path();
        for cpu in ["any", "EPYC-Genoa,+sev-es,+sev-snp,+shstk"] {
            sarif(&[path.to_str().expect("UTF-8"), "--cpu", cpu, "--as", "bochs", "-v"]);
        }
    }
}

#[test]
fn a_finding_in_a_text_has_its_line_and_columns() {
    let (value, status) = sarif(&["samples/kvm-6.1-dmesg-refused-cs-l-d.txt"]);
    assert_eq!(status, 1);
    let errors = results(&value, "error", "fail");
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0]["ruleId"], "sav-cs-l-and-d");
    let location = &errors[0]["locations"][0]["physicalLocation"];
    assert_eq!(location["artifactLocation"]["uri"], "samples/kvm-6.1-dmesg-refused-cs-l-d.txt");
    assert_eq!(
        location["region"],
        serde_json::json!({ "startLine": 38, "startColumn": 38, "endColumn": 42 })
    );
    assert_eq!(errors[0]["relatedLocations"].as_array().expect("the others").len(), 3);
    let driver = &value["runs"][0]["tool"]["driver"];
    assert_eq!(driver["rules"].as_array().expect("rules").len(), vmcb::Rule::ALL.len() + nsvm::HABITS.len());
    assert!(driver["rules"][0]["help"]["markdown"].as_str().expect("text").starts_with("# "));
}

#[test]
fn a_finding_in_bytes_has_its_offset() {
    let mut second = legal();
    put(&mut second, 0x58, 0);
    let path = file("two words é.bin", &[legal(), second].concat());
    let (value, _) = sarif(&[&path, "--cpu", MILAN, "--phase", "before"]);
    let location = &results(&value, "error", "fail")[0]["locations"][0]["physicalLocation"];
    assert_eq!(location["region"], serde_json::json!({ "byteOffset": 0x1058, "byteLength": 1 }));
    let uri = location["artifactLocation"]["uri"].as_str().expect("a URI");
    assert!(uri.starts_with("file:///") && uri.ends_with("two%20words%20%C3%A9.bin"), "{uri}");
}

/// Undecided is `open`, for which the standard wants the level `none`.
#[test]
fn what_is_not_decided_is_open() {
    let sample = "samples/tracecmd-kvm_nested_vmrun-eventinj.txt";
    let (value, status) = sarif(&[sample]);
    assert_eq!(status, 2);
    let vmcbs = stdout(&run(&["check", sample, "--format", "json"])).matches("\"type\":\"verdict\"").count();
    let brief = results(&value, "none", "open").len();
    assert!(brief > 0 && brief <= vmcbs);
    let (value, _) = sarif(&[sample, "--verbose"]);
    let open = results(&value, "none", "open");
    assert!(open.len() > brief && open.iter().any(|result| result["ruleId"] == "ctl-asid-zero"));
    assert!(results(&value, "error", "fail").is_empty());
}

#[test]
fn a_file_that_cannot_be_read_is_a_notification() {
    let (value, status) =
        sarif(&["samples/nothing-of-this-name", "samples/kvm-6.1-dmesg-refused-cs-l-d.txt"]);
    assert_eq!(status, 3);
    let invocation = &value["runs"][0]["invocations"][0];
    assert_eq!(invocation["executionSuccessful"], false);
    let notification = &invocation["toolExecutionNotifications"][0];
    assert_eq!(notification["message"]["text"], "no such file");
    assert_eq!(results(&value, "error", "fail").len(), 1, "the other file is judged");
    // Nothing at all is still one run.
    let (value, status) = sarif(&["samples/nothing-of-this-name"]);
    assert_eq!((status, value["runs"][0]["results"].as_array().map(Vec::len)), (3, Some(0)));
}

/// What the documentation says of the size.
#[test]
fn the_size_is_bounded_by_the_input() {
    let mut page = legal();
    put(&mut page, 0x58, 0);
    let size = |pages: usize| {
        let path = file("size.bin", &page.repeat(pages));
        stdout(&run(&["check", &path, "--cpu", MILAN, "--phase", "before", "--format", "sarif"])).len()
    };
    let (none, some) = (size(0).max(size(1)), size(200));
    assert!(none < 200_000, "{none}");
    assert!((some - none) / 199 < 1500, "{}", (some - none) / 199);
}
