//! `cargo xtask house`: the rules of this repository that no compiler and no lint checks.

mod assembly;
mod core_only;
mod cycles;
mod dependencies;
mod documents;
mod environment;
mod equal_lines;
mod file_length;
mod rules;
mod unsafe_code;

use crate::workspace::Workspace;
use anyhow::{Result, bail};
use lexopt::prelude::*;
use std::time::Instant;

/// The result of a check.
#[derive(Default)]
pub(crate) struct Report {
    /// Violations. Each of them fails the check.
    pub(crate) problems: Vec<String>,
    /// What is worth a look but is not an error.
    pub(crate) notes: Vec<String>,
    /// The extent of the check, such as "12 crates".
    pub(crate) summary: String,
}

#[derive(Default)]
struct Options {
    crate_roots: Vec<String>,
}

struct Check {
    name: &'static str,
    summary: &'static str,
    /// Whether the check compiles for minutes. It runs only if the command line names it.
    is_slow: bool,
    run: fn(&Workspace, &Options) -> Result<Report>,
}

const CHECKS: &[Check] = &[
    Check {
        name: "cycles",
        summary: "no two modules use each other",
        is_slow: false,
        run: |workspace, options| cycles::check(workspace, &options.crate_roots),
    },
    Check {
        name: "equal-lines",
        summary: "no two places share 12 or more equal lines",
        is_slow: false,
        run: |workspace, _| equal_lines::check(workspace),
    },
    Check {
        name: "file-length",
        summary: "lists files with more than 600 lines",
        is_slow: false,
        run: |workspace, _| file_length::check(workspace),
    },
    Check {
        name: "dependencies",
        summary: "`vmcb` depends on nothing, and each dependency has a reason",
        is_slow: false,
        run: |workspace, _| dependencies::check(workspace),
    },
    Check {
        name: "core-only",
        summary: "`vmcb` and `nested-svm` use `core` alone, do not read the host, and have no alignment above 64",
        is_slow: false,
        run: |workspace, _| core_only::check(workspace),
    },
    Check {
        name: "rules",
        summary: "no rule is written outside `vmcb`",
        is_slow: false,
        run: |workspace, _| rules::no_rule_is_written_outside_vmcb(workspace),
    },
    Check {
        name: "implementations",
        summary: "`vmcb` names no implementation of VMRUN",
        is_slow: false,
        run: |workspace, _| rules::vmcb_names_no_implementation(workspace),
    },
    Check {
        name: "unsafe",
        summary: "unsafe code is in bare-metal programs only",
        is_slow: false,
        run: |workspace, _| unsafe_code::check(workspace),
    },
    Check {
        name: "readme",
        summary: "CI runs the README's commands, and the README's figures match the benchmark",
        is_slow: false,
        run: |workspace, _| documents::readme_commands_and_figures(workspace),
    },
    Check {
        name: "invariants",
        summary: "each invariant in ARCHITECTURE.md names a test that exists",
        is_slow: false,
        run: |workspace, _| documents::invariants_name_tests(workspace),
    },
    Check {
        name: "environment",
        summary: "CONTRIBUTING.md documents each environment variable",
        is_slow: false,
        run: |workspace, _| environment::check(workspace),
    },
    Check {
        name: "assembly",
        summary: "the accepting paths have no loop, no call and no panic (compiles for minutes)",
        is_slow: true,
        run: |workspace, _| assembly::check(workspace),
    },
];

/// Runs the checks that the command line names, or all that are fast.
pub(crate) fn run(workspace: &Workspace, parser: &mut lexopt::Parser) -> Result<()> {
    let mut options = Options::default();
    let mut wanted = Vec::new();
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => {
                print!("{}", help());
                return Ok(());
            }
            Long("crate-root") => {
                options.crate_roots.push(workspace.path_of_caller(&parser.value()?.string()?)?);
            }
            Value(name) => wanted.push(name.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    for name in &wanted {
        if !CHECKS.iter().any(|check| check.name == name) {
            bail!("unknown check `{name}`: `cargo xtask house --help` lists all checks");
        }
    }
    run_checks(workspace, &options, &wanted)
}

/// Runs all fast checks.
pub(crate) fn all(workspace: &Workspace) -> Result<()> {
    run_checks(workspace, &Options::default(), &[])
}

/// Runs one check.
pub(crate) fn named(workspace: &Workspace, name: &str) -> Result<()> {
    run_checks(workspace, &Options::default(), &[name.to_owned()])
}

fn run_checks(workspace: &Workspace, options: &Options, wanted: &[String]) -> Result<()> {
    let mut problems = 0;
    let is_wanted = |check: &&Check| match wanted.is_empty() {
        true => !check.is_slow,
        false => wanted.iter().any(|name| name == check.name),
    };
    for check in CHECKS.iter().filter(is_wanted) {
        let start = Instant::now();
        let report = (check.run)(workspace, options).unwrap_or_else(|error| Report {
            problems: vec![format!("{error:#}")],
            summary: "stopped".to_owned(),
            ..Report::default()
        });
        for problem in &report.problems {
            println!("error[{}]: {problem}", check.name);
        }
        for note in &report.notes {
            println!("note[{}]: {note}", check.name);
        }
        let (count, time) = (report.problems.len(), start.elapsed().as_secs_f32());
        println!("house {}: {} problems ({}, {time:.1} s)", check.name, count, report.summary);
        problems += count;
    }
    if problems > 0 {
        bail!("{problems} violations of the house rules");
    }
    Ok(())
}

fn help() -> String {
    let mut text = String::from("Usage: cargo xtask house [CHECK...] [--crate-root FILE]...\n\nChecks:\n");
    for check in CHECKS {
        text += &format!("  {:15} {}\n", check.name, check.summary);
    }
    text += "\nOptions:\n  \
             --crate-root FILE  `cycles` also checks the crate with this root file, which is not a cargo target\n\n\
             Examples:\n  \
             cargo xtask house\n  \
             cargo xtask house cycles equal-lines\n";
    text
}
