//! `cargo xtask prose`: counts the patterns that the writing guide replaces, and draws samples of sentences.
//!
//! The count of each file is recorded in `xtask/prose.txt` and may only fall.

mod count;
mod lexer;
mod patterns;
mod sample;
mod sentences;

use crate::arguments::number;
use crate::workspace::Workspace;
use anyhow::{Context as _, Result, bail, ensure};
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
    let Some(task) = task(parser)? else { return Ok(()) };
    match task {
        Task::Compare { record } => count::compare(&texts(workspace)?, record),
        Task::List(files) => {
            let files: Vec<_> =
                files.iter().map(|file| workspace.path_of_caller(file)).collect::<Result<_>>()?;
            count::list(&files)
        }
        Task::Sample(seed, amounts) => {
            let all = sentences::all(&texts(workspace)?)?;
            print!("{}", sample::draw(all, seed, &amounts));
            Ok(())
        }
    }
}

/// The form of the command line.
enum Task {
    Compare { record: bool },
    List(Vec<String>),
    Sample(u64, Amounts),
}

/// Parses the rest of the command line. Returns `None` if the help was printed.
fn task(parser: &mut lexopt::Parser) -> Result<Option<Task>> {
    let mut amounts = Amounts { doc: 30, messages: 15, markdown: 15 };
    let (mut record, mut seed, mut has_amount, mut files) = (false, None, false, Vec::new());
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => {
                print!("{HELP}");
                return Ok(None);
            }
            Long("record") => record = true,
            Long("sample") => seed = Some(number(parser, "--sample")?),
            Long("doc") => (amounts.doc, has_amount) = (number(parser, "--doc")?, true),
            Long("messages") => (amounts.messages, has_amount) = (number(parser, "--messages")?, true),
            Long("markdown") => (amounts.markdown, has_amount) = (number(parser, "--markdown")?, true),
            Value(file) => files.push(file.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let forms = usize::from(record) + usize::from(seed.is_some()) + usize::from(!files.is_empty());
    ensure!(forms < 2, "`FILE`, `--record` and `--sample` cannot be combined");
    ensure!(seed.is_some() || !has_amount, "`--doc`, `--messages` and `--markdown` need `--sample`");
    Ok(Some(match seed {
        Some(seed) => Task::Sample(seed, amounts),
        None if files.is_empty() => Task::Compare { record },
        None => Task::List(files),
    }))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_different_forms_are_an_error() {
        let parsed = |arguments: &[&str]| task(&mut lexopt::Parser::from_args(arguments));
        assert!(matches!(parsed(&[]), Ok(Some(Task::Compare { record: false }))));
        assert!(matches!(parsed(&["--record"]), Ok(Some(Task::Compare { record: true }))));
        assert!(matches!(parsed(&["README.md"]), Ok(Some(Task::List(_)))));
        assert!(matches!(parsed(&["--doc", "5", "--sample", "3"]), Ok(Some(Task::Sample(3, _)))));
        for wrong in [
            &["README.md", "--record"][..],
            &["--record", "--sample", "3"],
            &["--sample", "3", "README.md"],
            &["--doc", "5"],
            &["--sample", "abc"],
        ] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }
}
