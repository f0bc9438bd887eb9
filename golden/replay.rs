//! Replays the golden master: the tests of the programs include this file.
//!
//! Each file of `golden/` holds commands and their answers. To add a command, append its header line. To accept changed
//! answers, run the tests `golden` with `NSVM_GOLDEN=record` and read the difference.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Output;

/// Begins the header of each command. No output contains it.
const HEADER: &str = "%%% nsvm ";

/// The header's command with its answer, as the file records it.
fn answer(line: &str, run: &dyn Fn(&[&str], &str) -> Output) -> String {
    let (command, input) = line.split_once(" < ").unwrap_or((line, ""));
    let words: Vec<&str> = command.split_whitespace().collect();
    let output = run(&words, input);
    let status = output.status.code().expect("the command ends by itself");
    let mut text = format!("{HEADER}{line}\n%% status {status}\n");
    text.push_str(&String::from_utf8(output.stdout).expect("the output is UTF-8"));
    if !output.stderr.is_empty() {
        let errors = String::from_utf8(output.stderr).expect("messages are UTF-8");
        write!(text, "%% stderr\n{errors}").expect("a string grows");
    }
    if !text.ends_with('\n') {
        text.push_str("\n%% no newline at the end\n");
    }
    text
}

/// Runs every command of the file, and panics if an answer changed. `run` gets the words of a command and what follows
/// `<` in its header. Returns the number of commands.
pub(crate) fn replay(path: &Path, run: &dyn Fn(&[&str], &str) -> Output) -> usize {
    let recorded = std::fs::read_to_string(path).expect("a golden file is UTF-8");
    let mut text = String::new();
    let mut changed = Vec::new();
    let parts: Vec<&str> = recorded.split(HEADER).skip(1).collect();
    for part in &parts {
        let line = part.lines().next().unwrap_or_default();
        let now = answer(line, run);
        if now.strip_prefix(HEADER) != Some(part) {
            let differs = now.lines().skip(1).zip(part.lines().skip(1)).find(|(new, old)| new != old);
            let (new, old) = differs.unwrap_or(("(another length)", ""));
            changed.push(format!("{HEADER}{line}\n  was: {old}\n  now: {new}"));
        }
        text.push_str(&now);
    }
    if std::env::var_os("NSVM_GOLDEN").is_some_and(|wish| wish == "record") {
        std::fs::write(path, &text).expect("a golden file can be written");
    }
    assert!(
        changed.is_empty(),
        "{}: {} of {} answers changed:\n{}\nNSVM_GOLDEN=record accepts them",
        path.display(),
        changed.len(),
        parts.len(),
        changed.iter().take(20).cloned().collect::<Vec<_>>().join("\n")
    );
    parts.len()
}
