//! What ARCHITECTURE.md says of the tree as a whole, mostly about what is absent.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The Rust files below a directory, with their text; comments are left in.
fn sources(below: &str) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut directories = vec![root().join(below)];
    while let Some(directory) = directories.pop() {
        for entry in
            fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        {
            let path = entry.expect("a directory can be listed").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("sources are text");
                files.push((path.display().to_string(), text));
            }
        }
    }
    assert!(!files.is_empty(), "{below} has sources");
    files
}

/// The lines of a source that are code.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.starts_with("//"))
}

fn offences(files: &[(String, String)], marks: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in files {
        for line in code(text) {
            if marks.iter().any(|mark| line.contains(mark)) {
                found.push(format!("{path}: {line}"));
            }
        }
    }
    found
}

#[test]
fn vmcb_is_core_only_and_depends_on_nothing() {
    let manifest = read("crates/vmcb/Cargo.toml");
    assert!(!manifest.contains("\n[dependencies]"), "vmcb has no dependency");
    let lib = read("crates/vmcb/src/lib.rs");
    assert!(lib.contains("#![no_std]") && lib.contains("#![forbid(unsafe_code)]"));
    let files = sources("crates/vmcb/src");
    assert_eq!(offences(&files, &["extern crate alloc", "alloc::"]), [""; 0], "vmcb does not allocate");
    let std: Vec<_> = offences(&files, &["extern crate std"]);
    assert_eq!(std.len(), 1, "std is for vmcb's unit tests only: {std:?}");
    assert!(lib.contains("#[cfg(test)]\nextern crate std;"));
}

#[test]
fn nested_svm_is_core_only() {
    let manifest = read("crates/nested-svm/Cargo.toml");
    let needed = manifest.split("[dependencies]").nth(1).and_then(|rest| rest.split("\n[").next());
    for line in needed.expect("it has dependencies").lines().filter(|line| !line.is_empty()) {
        assert!(line.starts_with("vmcb") || line.contains("optional = true"), "{line}");
    }
    let lib = read("crates/nested-svm/src/lib.rs");
    assert!(lib.contains("#![no_std]") && lib.contains("#![forbid(unsafe_code)]"));
    assert!(lib.contains("#[cfg(any(test, feature = \"model\"))]\nextern crate std;"));
    let files: Vec<_> = sources("crates/nested-svm/src")
        .into_iter()
        .filter(|(path, _)| !path.contains("src/model/") && !path.ends_with("vm_memory.rs"))
        .collect();
    assert_eq!(offences(&files, &["extern crate alloc", "alloc::", "target_arch", "core::arch"]), [""; 0]);
    let std = offences(&files, &["std::", "extern crate std"]);
    assert_eq!(std.len(), 1, "std is for tests and the model only: {std:?}");
}

#[test]
fn vmcb_asks_no_host() {
    let marks = ["target_arch", "__cpuid", "core::arch", "asm!", "std::fs", "std::time", "std::env"];
    assert_eq!(offences(&sources("crates/vmcb/src"), &marks), [""; 0]);
}

/// Nobody outside `vmcb` decides what is legal. A reader or the command would need masks of registers or
/// the ids of rules for that; the one table of ids outside is KVM's own words for its conditions.
#[test]
fn no_rule_is_written_outside_vmcb() {
    let ids: Vec<_> = vmcb::Rule::ALL.iter().map(|rule| format!("\"{}\"", rule.id())).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    let elsewhere = [
        "crates/vmcb-dump/src",
        "crates/vmcb-scan/src",
        "crates/nsvm/src",
        "crates/nsvm-report/src",
        "crates/nsvm-lab/src",
        "crates/nested-svm/src",
        "crates/nsvm-l0/src",
        "bare/l0/src",
    ];
    for below in elsewhere {
        let files: Vec<_> =
            sources(below).into_iter().filter(|(path, _)| !path.ends_with("refusal.rs")).collect();
        assert_eq!(offences(&files, &ids), [""; 0]);
        assert_eq!(offences(&files, &["EFER_SVME", "0x8000_0011", "0x1f01", ".literal("]), [""; 0]);
    }
}

/// KVM's words for its conditions lead to rules that exist.
#[test]
fn every_rule_that_a_reader_names_exists() {
    let named: Vec<_> = vmcb_dump::refusal_rules().collect();
    assert!(named.len() > 10, "{named:?}");
    for id in named {
        // Habits that are no rules of the manual.
        let habits = ["ctl-tlb-control-reserved", "sav-efer-lma-without-lme", "evt-reserved-bits"];
        assert!(vmcb::Rule::from_id(id).is_some() || habits.contains(&id), "{id}");
    }
}

/// What implementations check is not the rulebook's business: hypervisors link no emulator's habits.
#[test]
fn vmcb_knows_no_peers() {
    let peers = ["KVM", "QEMU", "Bochs", "Xen", "VirtualBox", "Hyper-V"];
    for folder in ["crates/vmcb/src/rules", "crates/vmcb/src/limits", "crates/vmcb/src/eval"] {
        assert_eq!(offences(&sources(folder), &peers), [""; 0]);
    }
}

/// The crate roots of the programs that may have unsafe code: those without an operating system, and the KVM runner.
const BARE: [&str; 6] = [
    "bare/common/src/lib.rs",
    "bare/payload/src/main.rs",
    "bare/boot-sector/src/main.rs",
    "bare/l0/src/main.rs",
    "bare/l1/src/main.rs",
    "bare/kvm-runner/src/main.rs",
];

#[test]
fn unsafe_code_runs_on_subjects_only() {
    for below in ["crates", "bare/interface", "fuzz/src", "fuzz/fuzz_targets"] {
        let elsewhere = sources(below).into_iter().filter(|(path, _)| !path.ends_with("tests/invariants.rs"));
        assert_eq!(offences(&elsewhere.collect::<Vec<_>>(), &["unsafe "]), [""; 0]);
    }
    for program in BARE {
        assert!(read(program).contains("UNSAFETY: "), "{program} does not say why it has unsafe code");
    }
}

/// Crates of this workspace beside those whose names begin with vmcb.
const OURS: [&str; 7] =
    ["nsvm", "nsvm-report", "nsvm-lab", "nsvm-l0", "nested-svm", "bare-build", "bare-interface"];

/// Every dependency has its line of reason.
#[test]
fn each_dependency_has_a_reason_in_the_architecture() {
    let architecture = read("ARCHITECTURE.md");
    let mut names = BTreeSet::new();
    let crates = [
        "vmcb-dump",
        "vmcb-scan",
        "vmcb-cases",
        "vmcb-implementations",
        "nested-svm",
        "nsvm-l0",
        "nsvm-lab",
        "nsvm",
        "nsvm-report",
        "house",
    ];
    for manifest in crates.map(|name| format!("crates/{name}/Cargo.toml")) {
        names.extend(dependencies(&read(manifest)));
    }
    names.extend(dependencies(&read("crates/vmcb/Cargo.toml")));
    names.extend(dependencies(&read("fuzz/Cargo.toml")));
    assert!(names.len() > 5, "{names:?}");
    for name in names.iter().filter(|name| !name.starts_with("vmcb") && !OURS.contains(&name.as_str())) {
        assert!(architecture.contains(&format!("| {name} |")), "ARCHITECTURE.md gives no reason for {name}");
    }
    let table = architecture.split("## Dependencies").nth(1).expect("there is a table");
    for row in table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| crate")) {
        let name = row.split('|').nth(1).expect("a row has cells").trim();
        assert!(name == "---" || names.contains(name), "no crate depends on {name}");
    }
}

/// The names in the dependency tables of a manifest.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line.trim_matches(['[', ']']).ends_with("dependencies");
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            names.extend(line.split(['=', '.', ' ']).next().map(str::to_owned));
        }
    }
    names
}

/// README's commands are what CI runs, and its figures stand in the benchmark.
#[test]
fn readme_commands_and_figures_are_true() {
    let readme = read("README.md");
    let ci = read(".ci/run");
    assert!(ci.contains("README.md"), "CI takes its test command from the README");
    assert!(readme.contains("cargo run --release -p nsvm -- check samples/"), "the first command");
    assert!(readme.contains("cargo test --workspace"), "the second command");
    let bench = read("crates/house/benches/instructions.rs");
    for name in ["CHECK", "EVENT"] {
        let figure = bench
            .lines()
            .find_map(|line| line.strip_prefix(&format!("const {name}: u64 = ")))
            .and_then(|rest| rest.strip_suffix(';'))
            .expect("the benchmark records its figures");
        assert!(readme.contains(&format!("| {figure} |")), "README does not state {figure} for {name}");
    }
}

/// Each invariant names its test, and the test exists.
#[test]
fn each_invariant_names_a_test_that_exists() {
    let architecture = read("ARCHITECTURE.md");
    let invariants: Vec<_> = architecture.split("**Invariant").skip(1).collect();
    assert!(invariants.len() >= 8, "{} invariants", invariants.len());
    for invariant in invariants {
        let paragraph = invariant.split("\n\n").next().unwrap_or(invariant);
        let tests: Vec<_> =
            paragraph.split("Test: `").skip(1).filter_map(|rest| rest.split('`').next()).collect();
        assert!(!tests.is_empty(), "no test is named: {paragraph}");
        for test in tests {
            let (file, function) = test.split_once("::").unwrap_or((test, ""));
            let text = read(file);
            assert!(text.contains(function), "{file} has no {function}");
        }
    }
}
