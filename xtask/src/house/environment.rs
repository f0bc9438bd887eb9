//! Checks that CONTRIBUTING.md documents each environment variable that code or a test reads.

use super::Report;
use crate::tokens::{self, Kind, Scope, Token};
use crate::workspace::Workspace;
use anyhow::{Context as _, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};

const DOCUMENT: &str = "CONTRIBUTING.md";

/// The heading above the table.
const HEADING: &str = "## Environment variables";

/// Prefixes of variables that belong to this repository.
const OURS: &[&str] = &["NSVM_", "VMCB_"];

/// Variables that cargo and rustup set for programs that they run, in addition to those with the prefix `CARGO_`.
const CARGO: &[&str] = &["CARGO", "OUT_DIR", "TARGET", "RUSTC", "RUSTC_LINKER"];

/// Variables that a library reads for our programs.
const LIBRARIES: &[(&str, &str)] = &[
    ("CLICOLOR", "anstream"),
    ("CLICOLOR_FORCE", "anstream"),
    ("COLUMNS", "clap"),
    ("NO_COLOR", "anstream"),
    ("SNAPSHOTS", "snapbox"),
    ("TMPDIR", "std::env::temp_dir"),
];

/// The variables that the code of a file names. Each entry has its line.
#[derive(Default)]
struct Uses {
    /// Variables that it reads.
    read: Vec<(String, usize)>,
    /// Our variables in other places, such as those that it sets for a program.
    named: Vec<(String, usize)>,
    /// Reads whose variable is neither a literal nor a constant of the file.
    unclear: Vec<usize>,
}

/// Compares the variables in the code with the rows of the table, in both directions.
pub(super) fn check(workspace: &Workspace) -> Result<Report> {
    let text = std::fs::read_to_string(DOCUMENT).with_context(|| format!("cannot read {DOCUMENT}"))?;
    let rows = rows(&text);
    ensure!(!rows.is_empty(), "{DOCUMENT} has no table below `{HEADING}`");
    let mut report = Report::default();
    let mut used: BTreeMap<String, String> = BTreeMap::new();
    let mut read: BTreeSet<String> = LIBRARIES.iter().map(|(name, _)| (*name).to_owned()).collect();
    for path in workspace.files()? {
        let uses = if path.ends_with(".rs") {
            uses(&tokens::read(&path, Scope::WithTests)?)
        } else if path.starts_with(".ci/") {
            Uses { named: names_in_script(&std::fs::read_to_string(&path)?), ..Uses::default() }
        } else {
            continue;
        };
        for line in uses.unclear {
            let advice = "name the variable with a literal or a constant of this file";
            report.problems.push(format!("{path}:{line}: this reads an environment variable: {advice}"));
        }
        read.extend(uses.read.iter().map(|(name, _)| name.clone()));
        for (name, line) in uses.read.into_iter().chain(uses.named) {
            used.entry(name).or_insert_with(|| format!("{path}:{line}"));
        }
    }
    for (name, place) in used.iter().filter(|(name, _)| !rows.contains(*name)) {
        report.problems.push(format!("{place} uses `{name}`: add it to the table in {DOCUMENT}"));
    }
    for (name, library) in LIBRARIES.iter().filter(|(name, _)| !rows.contains(*name)) {
        report.problems.push(format!("{library} reads `{name}`: add it to the table in {DOCUMENT}"));
    }
    for name in rows.difference(&read) {
        report.problems.push(format!("{DOCUMENT}: no code reads `{name}`"));
    }
    report.summary = format!("{} variables", rows.len());
    Ok(report)
}

/// Returns the variables in the first column of the table.
fn rows(document: &str) -> BTreeSet<String> {
    let section = document.split(HEADING).nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

fn is_variable(name: &str) -> bool {
    name.len() > 1
        && name.chars().all(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_')
}

fn is_ours(name: &str) -> bool {
    is_variable(name) && OURS.iter().any(|prefix| name.len() > prefix.len() && name.starts_with(prefix))
}

fn is_of_cargo(name: &str) -> bool {
    name.starts_with("CARGO_") || CARGO.contains(&name)
}

/// Finds the variables in a file's tokens.
fn uses(tokens: &[Token]) -> Uses {
    let mut uses = Uses::default();
    let is = |index: Option<usize>, mark: char| {
        index.and_then(|index| tokens.get(index)).is_some_and(|token| token.kind == Kind::Punctuation(mark))
    };
    let add_read = |uses: &mut Uses, name: Option<String>, line: usize| match name {
        Some(name) if is_of_cargo(&name) => {}
        Some(name) => uses.read.push((name, line)),
        None => uses.unclear.push(line),
    };
    for (index, token) in tokens.iter().enumerate() {
        match &token.kind {
            Kind::Text(text) if is_ours(text) => uses.named.push((text.clone(), token.line)),
            Kind::Word(word) if matches!(word.as_str(), "var" | "var_os") => {
                let in_env = index >= 3
                    && is(index.checked_sub(1), ':')
                    && tokens[index - 3].kind == Kind::Word("env".to_owned());
                let called = is(Some(index + 1), '(');
                // This excludes methods and definitions of functions.
                let other = is(index.checked_sub(1), '.')
                    || index >= 1 && tokens[index - 1].kind == Kind::Word("fn".to_owned());
                if in_env || called && !other {
                    let name = if called { argument(tokens, index + 2) } else { None };
                    add_read(&mut uses, name, token.line);
                }
            }
            Kind::Word(word) if matches!(word.as_str(), "env" | "option_env") && is(Some(index + 1), '!') => {
                add_read(&mut uses, argument(tokens, index + 3), token.line);
            }
            _ => {}
        }
    }
    uses
}

/// Returns the text of the argument that begins here, if it is a literal or a constant of the file.
fn argument(tokens: &[Token], index: usize) -> Option<String> {
    match &tokens.get(index)?.kind {
        Kind::Text(text) => Some(text.clone()),
        Kind::Word(name) => {
            let is_definition = |pair: &[Token]| {
                pair[0].kind == Kind::Word("const".to_owned()) && pair[1].kind == Kind::Word(name.clone())
            };
            let at = tokens.windows(2).position(is_definition)?;
            let value = tokens[at..].iter().position(|token| token.kind == Kind::Punctuation('='))?;
            match &tokens.get(at + value + 1)?.kind {
                Kind::Text(text) => Some(text.clone()),
                _ => None,
            }
        }
        _ => None,
    }
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

    fn found(text: &str) -> Uses {
        uses(&tokens::parse(text, Scope::WithTests).unwrap())
    }

    fn names(found: &[(String, usize)]) -> Vec<&str> {
        found.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn variables_are_found_in_code() {
        let text = "const QEMU: &str = \"NSVM_QEMU\"; fn f() { std::env::var_os(\"HOME\"); env::var(QEMU);\n\
                    option_env!(\"PROFILES\"); env!(\"CARGO_MANIFEST_DIR\"); g(\"NSVM_GOLDEN\", \"PATH\") }";
        let found = found(text);
        assert_eq!(names(&found.read), ["HOME", "NSVM_QEMU", "PROFILES"]);
        assert_eq!(names(&found.named), ["NSVM_QEMU", "NSVM_GOLDEN"]);
        assert_eq!(found.unclear, [0; 0]);
    }

    #[test]
    fn names_of_cargo_are_compared_exactly() {
        let text = "fn f() { env::var(\"TARGET\"); env::var(\"TARGETS\"); env::var(\"CARGO_HOME\"); env::var(\"HOSTNAME\"); }";
        assert_eq!(names(&found(text).read), ["TARGETS", "HOSTNAME"]);
    }

    #[test]
    fn a_read_without_a_visible_name_is_reported() {
        let text =
            "fn f(n: &str) { env::var(n); }\nfn g() { X.map(env::var_os); }\nfn h() { var(N); self.var(n); }";
        assert_eq!(found(text).unclear, [1, 2, 3]);
    }

    #[test]
    fn only_the_first_column_of_the_table_counts() {
        let text = "`A_A`\n## Environment variables\n| variable | by |\n| --- | --- |\n| `HOME`, `PATH` | `TERM` |\n\n## Text\n| `NO` |";
        assert_eq!(rows(text), ["HOME", "PATH"].map(str::to_owned).into());
    }

    #[test]
    fn variables_are_found_in_scripts() {
        assert_eq!(names_in_script("export NSVM_GOLDEN=1\necho $HOME"), [("NSVM_GOLDEN".to_owned(), 1)]);
    }
}
