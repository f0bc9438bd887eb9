//! Counts patterns per file, and compares the counts with the recorded ones.

use super::patterns::{self, Pattern};
use super::{read, sentences};
use anyhow::{Context as _, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// The recorded counts.
const RECORD: &str = "xtask/prose.txt";

/// Uses that are right.
const ALLOWED: &str = "xtask/prose-allowed.txt";

/// A use of a pattern.
struct Hit {
    line: usize,
    term: String,
    replacement: String,
    sentence: String,
}

/// An allowed use: the term, and the file or `*` for all files.
type Allowed = BTreeSet<(String, String)>;

fn allowed() -> Result<Allowed> {
    let mut found = Allowed::new();
    for line in read(ALLOWED)?.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let parts: Vec<_> = line.split(" | ").map(str::trim).collect();
        let [term, file, reason] = *parts else { bail!("{ALLOWED}: `{line}` is not `TERM | FILE | REASON`") };
        if reason.is_empty() {
            bail!("{ALLOWED}: `{line}` has no reason");
        }
        found.insert((term.to_owned(), file.to_owned()));
    }
    Ok(found)
}

/// Returns all uses in a file that are not allowed.
fn hits(file: &str, patterns: &[Pattern], allowed: &Allowed) -> Result<Vec<Hit>> {
    let mut found = Vec::new();
    for sentence in sentences::of(file, &read(file)?)? {
        let words = patterns::words(&sentence.text);
        for pattern in patterns {
            let is_allowed = |file: &str| allowed.contains(&(pattern.term.clone(), file.to_owned()));
            if is_allowed(file) || is_allowed("*") {
                continue;
            }
            for _ in 0..pattern.count(&words) {
                found.push(Hit {
                    line: sentence.line,
                    term: pattern.term.clone(),
                    replacement: pattern.replacement.clone(),
                    sentence: sentence.text.clone(),
                });
            }
        }
        if words.len() > 3 && sentence.text.matches("; ").count() >= 2 {
            found.push(Hit {
                line: sentence.line,
                term: "two semicolons".to_owned(),
                replacement: "split the sentence".to_owned(),
                sentence: sentence.text.clone(),
            });
        }
    }
    Ok(found)
}

/// Prints all uses in these files.
pub(super) fn list(files: &[String]) -> Result<()> {
    let (patterns, allowed) = (patterns::list()?, allowed()?);
    for file in files {
        let hits = hits(file, &patterns, &allowed)?;
        print!("{}", describe(file, &hits));
        println!("{file}: {} patterns", hits.len());
    }
    Ok(())
}

fn describe(file: &str, hits: &[Hit]) -> String {
    let mut text = String::new();
    for hit in hits {
        let _ = writeln!(
            text,
            "{file}:{}: `{}`: write: {}\n    {}",
            hit.line, hit.term, hit.replacement, hit.sentence
        );
    }
    text
}

/// Compares the counts of all files with the recorded ones, or records them.
pub(super) fn compare(files: &[String], record: bool) -> Result<()> {
    let (patterns, allowed) = (patterns::list()?, allowed()?);
    let recorded = recorded()?;
    let mut counts = BTreeMap::new();
    let (mut higher, mut lower) = (Vec::new(), Vec::new());
    for file in files {
        let hits = hits(file, &patterns, &allowed)?;
        let before = recorded.get(file).copied().unwrap_or(0);
        let line = format!("{file} has {} patterns, {before} are recorded", hits.len());
        if hits.len() > before && !(record && recorded.is_empty()) {
            if !record {
                print!("{}", describe(file, &hits));
            }
            higher.push((!recorded.contains_key(file), line));
        } else if hits.len() < before {
            lower.push(line);
        }
        if !hits.is_empty() {
            counts.insert(file.clone(), hits.len());
        }
    }
    lower.extend(recorded.keys().filter(|file| !files.contains(file)).map(|file| format!("{file} is gone")));
    let total: usize = counts.values().sum();
    // Text that moved to a new file is not new.
    let moved = record && total <= recorded.values().sum() && higher.iter().all(|(is_new, _)| *is_new);
    let higher: Vec<_> = higher.into_iter().filter(|_| !moved).map(|(_, line)| line).collect();
    for line in higher.iter().chain(&lower) {
        println!("{line}");
    }
    if !higher.is_empty() {
        bail!("{} files have more patterns than recorded: replace those that you added", higher.len());
    }
    if record {
        return write(&counts, total);
    }
    if !lower.is_empty() {
        bail!("{} counts fell: run `cargo xtask prose --record` and commit {RECORD}", lower.len());
    }
    println!("{total} patterns in {} of {} files, as recorded", counts.len(), files.len());
    Ok(())
}

fn recorded() -> Result<BTreeMap<String, usize>> {
    let mut found = BTreeMap::new();
    let text = std::fs::read_to_string(RECORD).unwrap_or_default();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (count, file) = line.trim().split_once(' ').with_context(|| format!("{RECORD}: `{line}`"))?;
        found.insert(file.to_owned(), count.parse().with_context(|| format!("{RECORD}: `{line}`"))?);
    }
    Ok(found)
}

fn write(counts: &BTreeMap<String, usize>, total: usize) -> Result<()> {
    let mut text = format!(
        "# Number of the writing guide's patterns per file. A number may only fall: `cargo xtask prose --record`.\n\
         # Total: {total}\n"
    );
    for (file, count) in counts {
        let _ = writeln!(text, "{count:4} {file}");
    }
    std::fs::write(RECORD, text).with_context(|| format!("cannot write {RECORD}"))?;
    println!("{total} patterns in {} files are recorded in {RECORD}", counts.len());
    Ok(())
}
