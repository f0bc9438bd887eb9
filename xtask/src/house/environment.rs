//! Checks that CONTRIBUTING.md documents each environment variable that code or a test reads.

use super::Report;
use crate::tokens::{self, Kind, Scope, Token};
use crate::workspace::Workspace;
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;

const DOCUMENT: &str = "CONTRIBUTING.md";

/// Prefixes of variables that belong to this repository.
const OURS: &[&str] = &["NSVM_", "VMCB_"];

/// Variables that cargo and rustup set for programs that they run.
const CARGO: &[&str] =
    &["CARGO", "OUT_DIR", "TARGET", "HOST", "RUSTC", "RUSTFLAGS", "RUSTUP_TOOLCHAIN", "PROFILE"];

/// Compares the variables in the code with those in the document, in both directions.
pub(super) fn check(workspace: &Workspace) -> Result<Report> {
    let document = std::fs::read_to_string(DOCUMENT).with_context(|| format!("cannot read {DOCUMENT}"))?;
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    for path in workspace.files()? {
        let found = if path.ends_with(".rs") {
            names(&tokens::read(&path, Scope::WithTests)?)
        } else if path.starts_with(".ci/") {
            names_in_script(&std::fs::read_to_string(&path)?)
        } else {
            continue;
        };
        for (name, line) in found {
            variables.entry(name).or_insert_with(|| format!("{path}:{line}"));
        }
    }
    let mut report = Report { summary: format!("{} variables", variables.len()), ..Report::default() };
    for (name, place) in &variables {
        if !document.contains(&format!("`{name}`")) {
            report.problems.push(format!("{place} reads `{name}`: document it in {DOCUMENT}"));
        }
    }
    for name in document.split('`').skip(1).step_by(2).filter(|name| is_ours(name)) {
        if !variables.contains_key(name) {
            report.problems.push(format!("{DOCUMENT}: no code reads `{name}`"));
        }
    }
    Ok(report)
}

fn is_variable(name: &str) -> bool {
    name.len() > 1
        && name.chars().all(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_')
}

fn is_ours(name: &str) -> bool {
    is_variable(name) && OURS.iter().any(|prefix| name.len() > prefix.len() && name.starts_with(prefix))
}

/// Returns our variables in all string literals, and others that are read by `env::var` or `env::var_os`.
fn names(tokens: &[Token]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let Kind::Text(text) = &token.kind else { continue };
        let reads = index >= 2
            && matches!(&tokens[index - 2].kind, Kind::Word(word) if matches!(word.as_str(), "var" | "var_os" | "set"));
        let of_cargo = CARGO.iter().any(|name| text.starts_with(name));
        if is_ours(text) || (reads && is_variable(text) && !of_cargo) {
            found.push((text.clone(), token.line));
        }
    }
    found
}

fn names_in_script(text: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let words = line.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
        found.extend(words.filter(|word| is_ours(word)).map(|word| (word.to_owned(), index + 1)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_found_in_code() {
        let text = "fn f() { std::env::var_os(\"HOME\"); env::var(\"CARGO_MANIFEST_DIR\"); g(\"NSVM_GOLDEN\", \"PATH\") }";
        let names: Vec<_> = names(&tokens::parse(text, Scope::WithTests).unwrap())
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, ["HOME", "NSVM_GOLDEN"]);
    }

    #[test]
    fn variables_are_found_in_scripts() {
        assert_eq!(names_in_script("export NSVM_GOLDEN=1\necho $HOME"), [("NSVM_GOLDEN".to_owned(), 1)]);
    }
}
