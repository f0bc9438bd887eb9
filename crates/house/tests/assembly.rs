//! The machine code of the accepting paths: no loop, no call but the cold one, no panic.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::path::Path;
use std::process::Command;

/// The release assembly of a package of this workspace.
fn assembly(package: &str) -> String {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    // A directory of its own: the one of the running test is locked.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("assembly").join(package);
    let status = Command::new(env!("CARGO"))
        .current_dir(manifest)
        .args(["rustc", "--quiet", "--package", package, "--release", "--lib", "--target-dir"])
        .arg(&target)
        .args(["--", "--emit", "asm", "-C", "codegen-units=1", "-C", "debuginfo=0"])
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the probes compile");
    let mut files: Vec<_> = std::fs::read_dir(target.join("release/deps"))
        .expect("the build has a directory")
        .map(|entry| entry.expect("it can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "s"))
        .filter(|path| path.to_string_lossy().contains(&package.replace('-', "_")))
        .collect();
    files.sort_by_key(|path| path.metadata().and_then(|meta| meta.modified()).ok());
    std::fs::read_to_string(files.last().expect("one file was emitted")).expect("it is text")
}

/// The instructions and labels of the function whose symbol contains `name`.
fn function<'a>(assembly: &'a str, name: &str) -> Vec<&'a str> {
    assembly
        .lines()
        .skip_while(|line| !(line.contains(name) && line.ends_with(':')))
        .take_while(|line| !line.trim_start().starts_with(".size"))
        .map(str::trim)
        .filter(|line| !line.starts_with('.') || line.ends_with(':'))
        .collect()
}

/// What is not allowed on an accepting path.
fn faults(code: &[&str], cold: &[&str]) -> Vec<String> {
    let mut seen = Vec::new();
    let mut faults = Vec::new();
    for line in code {
        if let Some(label) = line.strip_suffix(':') {
            seen.push(label);
        } else if line.starts_with("call") {
            if !cold.iter().any(|name| line.contains(name)) {
                faults.push(format!("a call: {line}"));
            }
        } else if line.starts_with('j') {
            let target = line.split_whitespace().nth(1).unwrap_or("");
            let cold_tail = cold.iter().any(|name| line.contains(name));
            // Back to the epilogue, which returns without another jump, is no loop.
            let loops = seen.contains(&target) && !returns(code, target);
            if loops || !(target.starts_with(".L") || cold_tail) {
                faults.push(format!("a loop or a jump elsewhere: {line}"));
            }
        }
    }
    faults
}

/// Whether the code from this label on returns before it jumps.
fn returns(code: &[&str], label: &str) -> bool {
    code.iter()
        .skip_while(|line| line.strip_suffix(':') != Some(label))
        .find(|line| line.starts_with("ret") || line.starts_with('j'))
        .is_some_and(|line| line.starts_with("ret"))
}

#[test]
fn the_accepting_paths_are_straight_line() {
    let assembly = assembly("nsvm-house");
    let check = function(&assembly, "nsvm_house11probe_check");
    assert!(check.len() > 100, "the whole rulebook is inlined into the probe: {} lines", check.len());
    assert_eq!(faults(&check, &["4vmcb4eval5check4name"]), [""; 0]);
    let event = function(&assembly, "nsvm_house11probe_event");
    assert!((5..20).contains(&event.len()), "{event:#?}");
    assert_eq!(faults(&event, &[]), [""; 0]);
}

#[test]
fn the_test_sees_loops_and_calls() {
    assert_eq!(faults(&[".L1:", "addl $1, %eax", "jne\t.L1"], &[]).len(), 1);
    assert_eq!(faults(&[".L1:", "popq %rbx", "retq", "jmp\t.L1"], &[]).len(), 0);
    assert_eq!(faults(&["callq\tpanic_bounds_check"], &["name"]).len(), 1);
    assert_eq!(
        faults(&["callq\t*_ZN4vmcb4eval5check4name17h00E@GOTPCREL(%rip)"], &["4vmcb4eval5check4name"]).len(),
        0
    );
    assert_eq!(faults(&["jmp\tmemcpy@PLT"], &[]).len(), 1);
}

/// Nothing in the library can panic: the compiler left no path to a panic in it.
#[test]
fn the_library_has_no_panic_path() {
    let assembly = assembly("vmcb");
    assert!(assembly.contains("4vmcb"), "this is the library's assembly");
    assert_eq!(assembly.lines().filter(|line| panics(line)).collect::<Vec<_>>(), [""; 0]);
}

/// Whether a line of assembly leads to a panic.
fn panics(line: &str) -> bool {
    ["panicking", "_fail@", "unwrap_failed", "expect_failed"].iter().any(|mark| line.contains(mark))
}

/// Nor can the nested engine: what is generic in it is compiled for the memory and tables of an L0, so it is looked at
/// where one uses it.
#[test]
fn the_nested_engine_has_no_panic_path() {
    let assembly = assembly("nested-svm");
    assert!(assembly.contains("10nested_svm"), "this is the library's assembly");
    assert_eq!(assembly.lines().filter(|line| panics(line)).collect::<Vec<_>>(), [""; 0]);

    let assembly = self::assembly("nsvm-house");
    let mut functions = 0;
    let mut name = "";
    for line in assembly.lines() {
        if let Some(symbol) = line.strip_suffix(':').filter(|symbol| symbol.starts_with("_ZN")) {
            name = symbol;
            functions += u32::from(symbol.contains("10nested_svm"));
        }
        assert!(!(name.contains("10nested_svm") && panics(line)), "{name}: {line}");
    }
    for part in ["5vmrun", "4exit", "6shadow"] {
        assert!(assembly.contains("10nested_svm") && assembly.contains(part), "{part} is compiled here");
    }
    assert!(functions > 5, "{functions} functions of the engine");
}
