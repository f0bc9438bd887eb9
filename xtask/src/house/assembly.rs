//! Checks the machine code of the accepting paths: no loop, no call except the cold one, no panic.

use super::Report;
use crate::workspace::{Workspace, cargo, run, target_folder};
use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};

/// Compiles the probes once, with the assembly of every crate of this workspace that they use.
pub(super) fn check(_: &Workspace) -> Result<Report> {
    let folder = compile()?;
    let probes = read(&folder, "nsvm_probes")?;
    let mut report = Report { summary: "3 crates".to_owned(), ..Report::default() };
    report.problems.extend(accepting_paths_are_straight_line(&probes)?);
    report.problems.extend(no_panic_path(&read(&folder, "vmcb")?, "vmcb"));
    report.problems.extend(no_panic_path(&read(&folder, "nested_svm")?, "nested-svm"));
    report.problems.extend(nested_engine_has_no_panic_path(&probes)?);
    Ok(report)
}

/// Compiles the probes in release with assembly. Returns the folder of the assembly.
fn compile() -> Result<PathBuf> {
    ensure!(
        cfg!(all(target_arch = "x86_64", target_os = "linux")),
        "this check reads the code of x86-64 Linux"
    );
    // A separate folder, because the flags differ. All crates get the flags, so one build is enough.
    let target = target_folder()?.join("assembly");
    let folder = target.join("release/deps");
    remove_assembly(&folder)?;
    run(cargo()
        .args(["build", "--locked", "--package", "nsvm-probes", "--release", "--lib", "--target-dir"])
        .arg(&target)
        // Cargo writes the assembly into the build directory, which the user may have configured.
        .env("CARGO_BUILD_BUILD_DIR", &target)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", "--emit asm -C codegen-units=1 -C debuginfo=0"))?;
    Ok(folder)
}

/// Removes the assembly of earlier builds, so that each crate has exactly one file.
fn remove_assembly(folder: &Path) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        let fingerprints = folder.with_file_name(".fingerprint");
        std::fs::remove_dir_all(&fingerprints).with_context(|| fingerprints.display().to_string())?;
    }
    Ok(())
}

/// Reads the assembly of a crate.
fn read(folder: &Path, name: &str) -> Result<String> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if file.strip_prefix(name).is_some_and(|rest| rest.starts_with('-') && rest.ends_with(".s")) {
            return std::fs::read_to_string(&path).with_context(|| path.display().to_string());
        }
    }
    anyhow::bail!("{}: no assembly of `{name}`", folder.display())
}

/// Returns the instructions and labels of the function whose symbol contains `name`.
fn function<'a>(assembly: &'a str, name: &str) -> Vec<&'a str> {
    assembly
        .lines()
        .skip_while(|line| !(line.contains(name) && line.ends_with(':')))
        .take_while(|line| !line.trim_start().starts_with(".size"))
        .map(str::trim)
        .filter(|line| !line.starts_with('.') || line.ends_with(':'))
        .collect()
}

/// Returns what is not allowed on an accepting path.
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
            // A jump back to the epilogue, which returns without another jump, is not a loop.
            let loops = seen.contains(&target) && !returns(code, target);
            if loops || !(target.starts_with(".L") || cold_tail) {
                faults.push(format!("a loop or a jump out of the function: {line}"));
            }
        }
    }
    faults
}

/// Returns whether the code after a label returns before it jumps.
fn returns(code: &[&str], label: &str) -> bool {
    code.iter()
        .skip_while(|line| line.strip_suffix(':') != Some(label))
        .find(|line| line.starts_with("ret") || line.starts_with('j'))
        .is_some_and(|line| line.starts_with("ret"))
}

fn accepting_paths_are_straight_line(assembly: &str) -> Result<Vec<String>> {
    let check = function(assembly, "nsvm_probes11probe_check");
    ensure!(check.len() > 100, "not all rules are inlined into `probe_check`: it has {} lines", check.len());
    let mut problems = faults(&check, &["5check4name"]);
    let event = function(assembly, "nsvm_probes11probe_event");
    ensure!((5..20).contains(&event.len()), "`probe_event` has {} lines:\n{}", event.len(), event.join("\n"));
    problems.extend(faults(&event, &[]));
    Ok(problems)
}

/// Returns whether a line of assembly leads to a panic.
fn panics(line: &str) -> bool {
    ["panicking", "_fail@", "unwrap_failed", "expect_failed"].iter().any(|mark| line.contains(mark))
}

fn no_panic_path(assembly: &str, name: &str) -> Vec<String> {
    assembly
        .lines()
        .filter(|line| panics(line))
        .map(|line| format!("{name} can panic: {}", line.trim()))
        .collect()
}

/// Generic code of the engine is compiled for the memory and tables of an L0, so this looks at it in the probes.
fn nested_engine_has_no_panic_path(assembly: &str) -> Result<Vec<String>> {
    let mut functions = 0;
    let mut name = "";
    let mut problems = Vec::new();
    for line in assembly.lines() {
        if let Some(symbol) = line.strip_suffix(':').filter(|symbol| symbol.starts_with("_ZN")) {
            name = symbol;
            functions += u32::from(symbol.contains("10nested_svm"));
        }
        if name.contains("10nested_svm") && panics(line) {
            problems.push(format!("{name} can panic: {}", line.trim()));
        }
    }
    for part in ["5vmrun", "4exit", "6shadow"] {
        ensure!(assembly.contains(part), "the probes contain no code of {part}");
    }
    ensure!(functions > 5, "the probes contain {functions} functions of the engine, fewer than 6");
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::faults;

    #[test]
    fn loops_and_calls_are_found() {
        assert_eq!(faults(&[".L1:", "addl $1, %eax", "jne\t.L1"], &[]).len(), 1);
        assert_eq!(faults(&[".L1:", "popq %rbx", "retq", "jmp\t.L1"], &[]).len(), 0);
        assert_eq!(faults(&["callq\tpanic_bounds_check"], &["name"]).len(), 1);
        assert_eq!(
            faults(&["callq\t*_ZN4vmcb5check4name17h00E@GOTPCREL(%rip)"], &["4vmcb5check4name"]).len(),
            0
        );
        assert_eq!(faults(&["jmp\tmemcpy@PLT"], &[]).len(), 1);
    }
}
