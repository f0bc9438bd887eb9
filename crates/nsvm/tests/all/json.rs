//! `--format json`: every line fits the schema, and says what the text for people says.

use crate::common::{MILAN, file, legal, put, run, stdout};
use jsonschema::Validator;
use serde_json::Value;
use std::collections::BTreeSet;

fn schema() -> Value {
    let text =
        std::fs::read_to_string(crate::common::root().join("schema/nsvm.schema.json")).expect("the schema");
    serde_json::from_str(&text).expect("the schema is JSON")
}

fn validator() -> Validator {
    jsonschema::draft202012::new(&schema()).expect("the schema is one")
}

/// The lines of a run, each checked.
fn lines(arguments: &[&str]) -> Vec<Value> {
    let validator = validator();
    let text = stdout(&run(&[&["check", "--format", "json"], arguments].concat()));
    text.lines()
        .map(|line| {
            let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if let Err(error) = validator.validate(&value) {
                panic!("{error}\n{line}");
            }
            value
        })
        .collect()
}

fn of<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["type"] == kind).collect()
}

#[test]
fn every_line_of_every_sample_fits_the_schema() {
    let mut seen = BTreeSet::new();
    for entry in std::fs::read_dir(crate::common::root().join("samples")).expect("samples") {
        let path = entry.expect("an entry").path();
        for cpu in ["any", "EPYC-Milan-v3,phys-bits=48", "EPYC-Genoa,+sev-es,+sev-snp,+shstk"] {
            let as_ = ["--who", "--as", "kvm@6.5/bochs@2.8"];
            let lines = lines(&[&[path.to_str().unwrap(), "--cpu", cpu], &as_[..]].concat());
            assert_eq!(lines.last().unwrap()["type"], "summary", "{}", path.display());
            seen.extend(lines.iter().map(|line| line["type"].as_str().unwrap().to_owned()));
        }
    }
    let all = ["error", "finding", "note", "prediction", "remark", "summary", "undecided", "verdict"];
    assert!(seen.iter().eq(all.iter()), "the samples show every type: {seen:?}");
}

#[test]
fn pages_fit_the_schema() {
    let mut page = [0xFF; 4096];
    for seed in 0..8_u64 {
        let path = file(&format!("json{seed}.bin"), &page);
        for host in ["unknown", "smm=1,memenc=1,snp=1,rax=0x1001,u-cet=5,pdptes=1:2:3:4"] {
            let cpu = "EPYC-Genoa,+sev,+sev-es,+sev-snp,+shstk,+secure-avic,phys-bits=52";
            lines(&[&path, "--host", host, "--cpu", cpu, "--vmsa", &path, "--phase", "after"]);
            lines(&[&path, "--host", host, "--phase", "before", "--policy", "fixed-vectors"]);
        }
        for (index, byte) in page.iter_mut().enumerate() {
            *byte = ((index as u64 * (seed + 3) * 2_654_435_761) >> 11) as u8;
        }
    }
}

#[test]
fn the_schema_is_closed() {
    let validator = validator();
    let lines =
        lines(&["samples/kvm-7.2-dmesg-refused-event-moved.txt", "samples/nothing-of-this-name", "--who"]);
    for line in &lines {
        let keys: Vec<String> = line.as_object().unwrap().keys().cloned().collect();
        for key in keys {
            let mut less = line.clone();
            less.as_object_mut().unwrap().remove(&key);
            assert!(!validator.is_valid(&less), "`{key}` may be missing from {line}");
        }
        let mut more = line.clone();
        more["of-tomorrow"] = Value::Null;
        assert!(!validator.is_valid(&more), "{line}");
    }
    // Every object that the schema describes is closed.
    fn walk(value: &Value) {
        if value.get("properties").is_some() {
            assert_eq!(value["additionalProperties"], false, "{value}");
        }
        match value {
            Value::Object(map) => map.values().for_each(walk),
            Value::Array(items) => items.iter().for_each(walk),
            _ => {}
        }
    }
    walk(&schema());
}

#[test]
fn a_finding_has_its_place_and_values() {
    let lines = lines(&["samples/kvm-6.1-dmesg-refused-cs-l-d.txt"]);
    let findings = of(&lines, "finding");
    assert_eq!(findings.len(), 1);
    let finding = findings[0];
    assert_eq!(finding["rule"], "sav-cs-l-and-d");
    assert_eq!(finding["standing"], "broken");
    assert_eq!(finding["inferred"], false);
    let fields = finding["fields"].as_array().unwrap();
    let primary: Vec<&Value> = fields.iter().filter(|field| field["primary"] == true).collect();
    assert_eq!(primary.len(), 1);
    assert_eq!(primary[0]["name"], "CS.attributes");
    assert_eq!(primary[0]["value"], "0xe9b");
    assert_eq!(primary[0]["offset"], "0x412");
    // The place is that of the digits in the file.
    let place = &primary[0]["place"];
    let text = std::fs::read_to_string(crate::common::root().join(place["file"].as_str().unwrap())).unwrap();
    let line = text.lines().nth(place["line"].as_u64().unwrap() as usize - 1).unwrap();
    let columns = |key: &str| place[key].as_u64().unwrap() as usize - 1;
    assert_eq!(&line[columns("column")..columns("end_column")], "0e9b");
    let verdict = of(&lines, "verdict")[0];
    assert_eq!(verdict["decision"], "refused");
    assert_eq!(verdict["by"], "rules");
    assert_eq!(verdict["machine"], "refused");
    assert_eq!(verdict["exit_code"], "0xffffffffffffffff");
    assert_eq!(verdict["broken"], serde_json::json!(["sav-cs-l-and-d"]));
    let undecided: Vec<&str> =
        verdict["undecided"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    let listed: Vec<&str> =
        of(&lines, "undecided").iter().map(|line| line["rule"].as_str().unwrap()).collect();
    assert_eq!(undecided, listed);
}

#[test]
fn columns_are_counted_in_characters() {
    let path = file(
        "wide.txt",
        "Grüße: kvm_amd: asid:               0\nGrüße: kvm_amd: tlb_ctl:            0\n".as_bytes(),
    );
    let lines = lines(&[&path]);
    let finding = of(&lines, "finding")[0];
    assert_eq!(finding["rule"], "ctl-asid-zero");
    assert_eq!(finding["place"]["column"], 37);
    assert_eq!(finding["place"]["end_column"], 38);
}

#[test]
fn an_inferred_finding_says_so() {
    let lines = lines(&["samples/kvm-7.2-dmesg-refused-event-moved.txt"]);
    let finding = of(&lines, "finding")[0];
    assert_eq!(finding["inferred"], true);
    assert_eq!(finding["fields"][0]["name"], "EXITINTINFO");
    assert_eq!(finding["fields"][0]["offset"], "0x088");
    assert_eq!(of(&lines, "verdict")[0]["inferred"], serde_json::json!(["evt-exc-vector-reserved"]));
}

#[test]
fn text_and_json_agree() {
    let samples = [
        "samples/kvm-6.1-dmesg-refused-cs-l-d.txt",
        "samples/kvm-7.2-dmesg-refused-event-moved.txt",
        "samples/ftrace-kvm_nested-7.2.txt",
        "samples/kvm-dmesg-dump_vmcb-npf.txt",
    ];
    for sample in samples {
        let text = stdout(&run(&["check", sample]));
        let lines = lines(&[sample]);
        let said: Vec<String> = of(&lines, "verdict")
            .iter()
            .map(|verdict| {
                format!("{sample}:{}: {}", verdict["place"]["line"], verdict["text"].as_str().unwrap())
            })
            .collect();
        assert_eq!(crate::common::verdicts(&text), said);
        let errors = text.lines().filter(|line| line.starts_with("error[")).count();
        let broken = of(&lines, "finding").iter().filter(|finding| finding["standing"] != "required").count();
        assert_eq!(errors, broken, "{sample}");
    }
}

#[test]
fn offsets_of_pages_are_those_of_the_file() {
    let mut second = legal();
    put(&mut second, 0x58, 0);
    let path = file("offsets.bin", &[legal(), second].concat());
    let lines = lines(&[&path, "--cpu", MILAN, "--phase", "before"]);
    let finding = of(&lines, "finding")[0];
    assert_eq!(finding["rule"], "ctl-asid-zero");
    assert_eq!(finding["vmcb"], 2);
    assert_eq!(finding["fields"][0]["place"]["offset"], 0x1058);
    assert_eq!(of(&lines, "verdict")[1]["place"]["offset"], 0x1000);
}

#[test]
fn errors_are_lines_too() {
    let lines = lines(&["Cargo.lock", "samples"]);
    let errors = of(&lines, "error");
    assert_eq!(errors.len(), 2);
    assert_eq!(errors[1]["file"], "samples");
    let summary = of(&lines, "summary")[0];
    assert_eq!((&summary["files"], &summary["unreadable"]), (&2.into(), &2.into()));
}

#[test]
fn the_list_of_rules_fits_the_schema() {
    let validator = validator();
    let text = stdout(&run(&["rules", "--format", "json"]));
    assert_eq!(text.lines().count(), vmcb::Rule::ALL.len());
    for line in text.lines() {
        let mut value: Value = serde_json::from_str(line).expect("JSON");
        assert!(validator.is_valid(&value), "{line}");
        value.as_object_mut().unwrap().remove("mend");
        assert!(!validator.is_valid(&value), "{line}");
    }
}

#[test]
fn decoded_words_fit_the_schema() {
    let validator = validator();
    let decoded = |arguments: &[&str]| -> Vec<Value> {
        let text = stdout(&run(&[&["decode", "--format", "json"], arguments].concat()));
        let lines = text.lines().map(|line| serde_json::from_str(line).expect("JSON"));
        let lines: Vec<Value> = lines.collect();
        for line in &lines {
            assert!(validator.is_valid(line), "{line}");
            let mut less = line.clone();
            less.as_object_mut().unwrap().remove("type");
            assert!(!validator.is_valid(&less), "{line}");
        }
        lines
    };
    let event = &decoded(&["80000b0d"])[0];
    assert_eq!((&event["field"], &event["value"]), (&"eventinj".into(), &"0x80000b0d".into()));
    assert_eq!(
        event["parts"][2],
        serde_json::json!({
            "bits": "7:0", "name": "VECTOR", "value": "0xd", "meaning": "13 (#GP, general protection)"
        })
    );
    assert!(event["said"][0].as_str().unwrap().ends_with("any guest without Restricted Injection: accepted"));
    // Words that cannot be read are errors, and the others are still answered.
    let lines = decoded(&["nonsense", "-1"]);
    assert_eq!((&lines[0]["type"], &lines[1]["type"]), (&"error".into(), &"decoded".into()));
    // Every field that there is, with all bits: the text has the same parts.
    let help = stdout(&run(&["decode", "--help"]));
    let mut fields = 0;
    for field in help.lines().filter_map(|line| line.trim().strip_prefix("- ")?.split(':').next()) {
        if ["human", "json", "auto", "always", "never"].contains(&field) {
            continue;
        }
        fields += 1;
        let line = &decoded(&["--field", field, "0xffffffffffffffff"])[0];
        let text = stdout(&run(&["decode", "--field", field, "0xffffffffffffffff"]));
        assert_eq!(line["field"], field);
        let parts = line["parts"].as_array().unwrap().len() + line["said"].as_array().unwrap().len();
        assert_eq!(text.lines().count(), 1 + parts, "{line}\n{text}");
    }
    assert!(fields > 15, "{fields}");
}

/// Lines of another verb, each checked.
fn lines_of(arguments: &[&str]) -> Vec<Value> {
    let validator = validator();
    let text = stdout(&run(&[arguments, &["--format", "json"]].concat()));
    let lines = text.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    let lines: Vec<Value> = lines.collect();
    for line in &lines {
        if let Err(error) = validator.validate(line) {
            panic!("{arguments:?}: {error}\n{line}");
        }
        for key in line.as_object().unwrap().keys() {
            let mut less = line.clone();
            less.as_object_mut().unwrap().remove(key);
            assert!(!validator.is_valid(&less), "`{key}` may be missing from {line}");
        }
    }
    lines
}

#[test]
fn vectors_and_cpus_fit_the_schema() {
    let vectors = lines_of(&["vectors", "--cpu", "EPYC-Milan"]);
    assert_eq!(vectors.len(), 32);
    assert_eq!(vectors[21]["injected"]["other"], "refused");
    assert_eq!(vectors[21]["cpuid"], "CPUID 7.0 ECX[7]");
    assert_eq!(
        (&vectors[5]["injected"]["bits_64"], &vectors[5]["injected"]["other"]),
        (&"refused".into(), &"accepted".into())
    );
    assert_eq!(lines_of(&["vectors"])[29]["injected"]["other"], "undecided");
    let cpus = lines_of(&["cpus"]);
    assert_eq!(of(&cpus, "feature").len(), vmcb::Feature::ALL.len());
    assert!(of(&cpus, "model").iter().any(|model| model["name"] == "EPYC-Genoa-v2"));
    assert_eq!(of(&cpus, "setting").len(), 4);
    for cpu in ["any", "EPYC-Genoa-v2,+sev,c-bit=51,sev-asid-max=509,sev-asid-min=1,phys-bits=52"] {
        let line = &lines_of(&["cpu", cpu])[0];
        assert_eq!(line["vectors"].as_array().unwrap().len(), 32);
    }
}

#[test]
fn a_comparison_fits_the_schema() {
    let sev =
        "EPYC-Genoa-v2,+shstk,+sev,+sev-es,+sev-snp,c-bit=51,sev-asid-max=509,sev-asid-min=100,phys-bits=52";
    let lines = lines_of(&["compare", "EPYC-Rome", "EPYC-Milan,phys-bits=48", sev]);
    let kinds: BTreeSet<_> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert!(kinds.iter().eq(&["comparison", "difference", "migration", "open", "safe-cpu"]), "{kinds:?}");
    let kinds: BTreeSet<_> =
        of(&lines, "difference").iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert!(kinds.iter().eq(&["reason", "verdict"]), "{kinds:?}");
    assert_eq!(lines.last().unwrap()["type"], "comparison");
}
