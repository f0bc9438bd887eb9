//! Checks the commands and figures in README.md, and that the tests that ARCHITECTURE.md names exist.

use super::Report;
use crate::syntax;
use crate::workspace::Workspace;
use anyhow::{Context as _, Result};
use std::path::Path;
use syn::visit::{self, Visit};

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}

/// CI runs the README's commands, and the README's figures are those of the benchmark.
pub(super) fn readme_commands_and_figures(_: &Workspace) -> Result<Report> {
    let mut report = Report::default();
    let readme = read("README.md")?;
    let mut require = |condition: bool, problem: String| {
        if !condition {
            report.problems.push(problem);
        }
    };
    require(
        read(".ci/run")?.contains("README.md"),
        ".ci/run does not take its commands from README.md".to_owned(),
    );
    for command in ["cargo run --release -p nsvm -- check samples/", "cargo test --workspace"] {
        require(readme.contains(command), format!("README.md does not contain `{command}`"));
    }
    let benchmark = read("xtask/probes/benches/instructions.rs")?;
    for name in ["CHECK", "EVENT"] {
        let prefix = format!("const {name}: u64 = ");
        let figure = benchmark
            .lines()
            .find_map(|line| line.strip_prefix(&prefix)?.strip_suffix(';'))
            .with_context(|| format!("the benchmark has no figure `{name}`"))?;
        require(
            readme.contains(&format!("| {figure} |")),
            format!("README.md does not contain the figure {figure} of `{name}` in the benchmark"),
        );
    }
    report.summary = "2 commands, 2 figures".to_owned();
    Ok(report)
}

/// Each invariant in ARCHITECTURE.md names a test, and the test exists and runs.
pub(super) fn invariants_name_tests(_: &Workspace) -> Result<Report> {
    let mut report = Report::default();
    let architecture = read("ARCHITECTURE.md")?;
    let invariants: Vec<_> = architecture.split("**Invariant").skip(1).collect();
    if invariants.len() < 8 {
        report.problems.push(format!("ARCHITECTURE.md has {} invariants, fewer than 8", invariants.len()));
    }
    for invariant in &invariants {
        let paragraph = invariant.split("\n\n").next().unwrap_or(invariant);
        let tests: Vec<_> =
            paragraph.split("Test: `").skip(1).filter_map(|rest| rest.split('`').next()).collect();
        if tests.is_empty() {
            report.problems.push(format!("ARCHITECTURE.md: an invariant names no test:{paragraph}"));
        }
        for test in tests {
            if let Some(fault) = fault_of_test(test)? {
                report.problems.push(format!("ARCHITECTURE.md names `{test}`, but {fault}"));
            }
        }
    }
    report.summary = format!("{} invariants", invariants.len());
    Ok(report)
}

/// Returns the reason why `FILE::FUNCTION` is not a test that runs, or `None` if it is one. In a file of `xtask/`, it may
/// be any function, because the checks are functions there.
fn fault_of_test(test: &str) -> Result<Option<String>> {
    let Some((file, name)) = test.split_once("::") else {
        return Ok(Some("it names no function".to_owned()));
    };
    if !Path::new(file).is_file() {
        return Ok(Some(format!("{file} does not exist")));
    }
    if name.starts_with("compile_fail") {
        let line = format!("/// ```{name}");
        let exists = read(file)?.lines().any(|found| found.trim() == line);
        return Ok((!exists).then(|| format!("{file} has no such example")));
    }
    let functions = Functions::of(&syntax::parse(Path::new(file))?);
    Ok(functions.fault(name, !file.starts_with("xtask/")).map(str::to_owned))
}

/// A function, and whether the test harness runs it.
struct Function {
    name: String,
    is_test: bool,
    /// Whether it has an `#[ignore]` attribute that no `cfg_attr` limits.
    is_ignored: bool,
}

#[derive(Default)]
struct Functions(Vec<Function>);

impl Functions {
    /// Finds the functions of a file, also those in modules and in `impl` blocks.
    fn of(file: &syn::File) -> Self {
        let mut functions = Self::default();
        functions.visit_file(file);
        functions
    }

    fn add(&mut self, name: &syn::Ident, attributes: &[syn::Attribute]) {
        let has = |wanted: &str| attributes.iter().any(|attribute| attribute.path().is_ident(wanted));
        self.0.push(Function { name: name.to_string(), is_test: has("test"), is_ignored: has("ignore") });
    }

    /// Returns the reason why no function with this name is a test that runs.
    fn fault(&self, name: &str, must_be_test: bool) -> Option<&'static str> {
        let named: Vec<_> = self.0.iter().filter(|function| function.name == name).collect();
        let tests: Vec<_> = named.iter().filter(|function| function.is_test).collect();
        if named.is_empty() {
            Some("the file has no such function")
        } else if !must_be_test {
            None
        } else if tests.is_empty() {
            Some("the function is not a `#[test]`")
        } else if tests.iter().all(|function| function.is_ignored) {
            Some("the test is ignored on every machine")
        } else {
            None
        }
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.add(&function.sig.ident, &function.attrs);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.add(&function.sig.ident, &function.attrs);
        visit::visit_impl_item_fn(self, function);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_that_do_not_run_are_found() {
        let text = "mod tests { #[test] fn good() {}\n// fn comment() {}\nfn helper() {}\n#[test] #[ignore] fn never() {}\n\
                    #[test] #[cfg_attr(has_l0, ignore = \"slow\")] fn on_l0() {} }";
        let functions = Functions::of(&syntax::parse_text(text).unwrap());
        assert_eq!(functions.fault("good", true), None);
        assert_eq!(functions.fault("on_l0", true), None);
        assert_eq!(functions.fault("helper", false), None);
        assert!(functions.fault("goo", true).is_some() && functions.fault("comment", false).is_some());
        assert!(functions.fault("helper", true).is_some() && functions.fault("never", true).is_some());
    }
}
