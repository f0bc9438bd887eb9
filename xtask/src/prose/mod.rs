//! `cargo xtask prose`: counts the patterns that the writing guide replaces, and draws samples of sentences.
//!
//! The count of each file is recorded in `xtask/prose.txt` and may only fall.

mod count;
mod lexer;
mod patterns;
mod sample;
mod sentences;

use crate::workspace::Workspace;
use anyhow::{Context as _, Result, bail};
use lexopt::prelude::*;
use sentences::Amounts;

/// Files without text that people write here.
const LEFT_OUT: &[(&str, &str)] = &[
    ("docs/rules/", "generated"),
    ("docs/lab.md", "generated"),
    ("docs/peers.md", "generated"),
    ("docs/formats.md", "generated"),
    ("cases/", "data"),
    ("crates/vmcb-cases/cases/", "data"),
    ("golden/", "recorded output"),
    ("results/", "measurements"),
    ("samples/", "text of others"),
    ("crates/vmcb-dump/tests/fixtures/", "text of others"),
];

const HELP: &str = "\
Counts the writing guide's patterns in each file, and compares the counts with xtask/prose.txt

Usage: cargo xtask prose [FILE...]
       cargo xtask prose --record
       cargo xtask prose --sample SEED [--doc N] [--messages N] [--markdown N]

A higher count than the recorded one is an error, and so is a lower one that is not recorded.
xtask/prose-patterns.txt lists the patterns, and xtask/prose-allowed.txt the allowed uses.

Options:
  --record       Write the counts to xtask/prose.txt. Refused if the count of a recorded file rose. A new file may
                 have patterns if the sum of all counts does not rise (its text was moved)
  --sample SEED  Print a random sample of sentences with their places, for rating
  --doc N        Number of sentences from doc comments in the sample [default: 30]
  --messages N   Number of messages in the sample [default: 15]
  --markdown N   Number of sentences from Markdown in the sample [default: 15]

Examples:
  cargo xtask prose README.md        list the patterns in a file
  cargo xtask prose --sample 7       draw 60 sentences
";

/// Runs the verb.
pub(crate) fn run(workspace: &Workspace, parser: &mut lexopt::Parser) -> Result<()> {
    let mut amounts = Amounts { doc: 30, messages: 15, markdown: 15 };
    let (mut record, mut seed, mut files) = (false, None, Vec::new());
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => {
                print!("{HELP}");
                return Ok(());
            }
            Long("record") => record = true,
            Long("sample") => seed = Some(parser.value()?.parse::<u64>()?),
            Long("doc") => amounts.doc = parser.value()?.parse()?,
            Long("messages") => amounts.messages = parser.value()?.parse()?,
            Long("markdown") => amounts.markdown = parser.value()?.parse()?,
            Value(file) => files.push(file.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    match seed {
        Some(seed) => {
            let all = sentences::all(&texts(workspace)?)?;
            print!("{}", sample::draw(all, seed, &amounts));
            Ok(())
        }
        None if files.is_empty() => count::compare(&texts(workspace)?, record),
        None => count::list(&files),
    }
}

/// Compares the counts with the recorded ones.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    count::compare(&texts(workspace)?, false)
}

/// Returns the paths of all files with text that people write.
fn texts(workspace: &Workspace) -> Result<Vec<String>> {
    let is_text = |path: &String| {
        (path.ends_with(".rs") || path.ends_with(".md"))
            && !LEFT_OUT.iter().any(|(prefix, _)| path.starts_with(prefix))
    };
    let files: Vec<_> = workspace.files()?.into_iter().filter(is_text).collect();
    if files.is_empty() {
        bail!("git lists no file");
    }
    Ok(files)
}

/// Reads a file.
fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}
