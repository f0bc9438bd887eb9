//! Runs a list of named steps, and reports how long each of them took.

use crate::workspace::Workspace;
use anyhow::{Result, bail, ensure};
use lexopt::prelude::*;
use std::time::{Duration, Instant};

/// A step of a tier.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) headline: &'static str,
    pub(crate) run: fn(&Workspace) -> Result<Outcome>,
}

/// How a step ended, if it did not fail.
pub(crate) enum Outcome {
    Passed,
    /// The step passed, and this is worth a line in the summary.
    Noted(String),
    /// This machine cannot run the step, for this reason.
    Skipped(String),
}

/// A list of steps that a verb runs.
pub(crate) struct Tier {
    /// The verb.
    pub(crate) name: &'static str,
    /// The purpose of the tier, for the help text.
    pub(crate) summary: &'static str,
    pub(crate) steps: &'static [Step],
    /// Whether the steps after a failed one still run.
    pub(crate) goes_on: bool,
}

/// The selection of steps on the command line.
struct Selection {
    from: Option<String>,
    only: Vec<String>,
    keep_going: bool,
}

enum Status {
    Passed,
    Skipped,
    Failed,
}

struct Line {
    name: &'static str,
    status: Status,
    time: Duration,
    remark: String,
}

impl Tier {
    /// Runs the steps that the command line selects.
    pub(crate) fn run(&self, workspace: &Workspace, parser: &mut lexopt::Parser) -> Result<()> {
        let Some(selection) = self.selection(parser)? else { return Ok(()) };
        let lines = self.run_steps(workspace, &selection);
        self.summarize(&lines)
    }

    /// Parses the rest of the command line. Returns `None` if the help or the list of steps was printed.
    fn selection(&self, parser: &mut lexopt::Parser) -> Result<Option<Selection>> {
        let mut selection = Selection { from: None, only: Vec::new(), keep_going: self.goes_on };
        let (mut list, mut selects) = (false, false);
        while let Some(argument) = parser.next()? {
            match argument {
                Short('h') | Long("help") => {
                    print!("{}", self.help());
                    return Ok(None);
                }
                Long("list") => {
                    list = true;
                    continue;
                }
                Long("from") => selection.from = Some(self.known(parser.value()?.string()?)?),
                Long("only") => selection.only.push(self.known(parser.value()?.string()?)?),
                Long("keep-going") => selection.keep_going = true,
                other => return Err(other.unexpected().into()),
            }
            selects = true;
        }
        if list {
            ensure!(!selects, "`--list` cannot be combined with other options");
            self.list();
            return Ok(None);
        }
        Ok(Some(selection))
    }

    /// Checks the name of a step.
    fn known(&self, name: String) -> Result<String> {
        if self.steps.iter().any(|step| step.name == name) {
            return Ok(name);
        }
        bail!("unknown step `{name}`: `cargo xtask {} --list` lists all steps", self.name)
    }

    fn list(&self) {
        for step in self.steps {
            println!("{:15} {}", step.name, step.headline);
        }
    }

    fn run_steps(&self, workspace: &Workspace, selection: &Selection) -> Vec<Line> {
        let mut lines = Vec::new();
        let skipped = self
            .steps
            .iter()
            .skip_while(|step| selection.from.as_ref().is_some_and(|from| *from != step.name));
        let wanted =
            |step: &&Step| selection.only.is_empty() || selection.only.iter().any(|name| name == step.name);
        for step in skipped.filter(wanted) {
            println!("\n== {}: {}", step.name, step.headline);
            let start = Instant::now();
            let result = (step.run)(workspace);
            let time = start.elapsed();
            let (status, word, remark) = match result {
                Ok(Outcome::Passed) => (Status::Passed, "passed", String::new()),
                Ok(Outcome::Noted(note)) => (Status::Passed, "passed", note),
                Ok(Outcome::Skipped(reason)) => (Status::Skipped, "skipped", reason),
                Err(error) => (Status::Failed, "FAILED", format!("{error:#}")),
            };
            println!("== {}: {word} after {}{}", step.name, shown(time), colon(&remark));
            let failed = matches!(status, Status::Failed);
            lines.push(Line { name: step.name, status, time, remark });
            if failed && !selection.keep_going {
                break;
            }
        }
        lines
    }

    /// Prints a table of all steps that ran.
    fn summarize(&self, lines: &[Line]) -> Result<()> {
        ensure!(!lines.is_empty(), "`--from` and `--only` select no step");
        let count = |wanted: fn(&Status) -> bool| lines.iter().filter(|line| wanted(&line.status)).count();
        let (passed, skipped, failed) = (
            count(|status| matches!(status, Status::Passed)),
            count(|status| matches!(status, Status::Skipped)),
            count(|status| matches!(status, Status::Failed)),
        );
        println!("\n| step | result | time | remark |\n| --- | --- | --- | --- |");
        for line in lines {
            let word = match line.status {
                Status::Passed => "passed",
                Status::Skipped => "skipped",
                Status::Failed => "FAILED",
            };
            let remark = line.remark.lines().next().unwrap_or_default();
            println!("| {} | {word} | {} | {remark} |", line.name, shown(line.time));
        }
        let total: Duration = lines.iter().map(|line| line.time).sum();
        let left = self.steps.len() - lines.len();
        let rest = if left > 0 { format!(", {left} not run") } else { String::new() };
        println!(
            "\ncargo xtask {}: {passed} passed, {skipped} skipped, {failed} failed{rest}, {}",
            self.name,
            shown(total)
        );
        if let Some(line) = lines.iter().find(|line| matches!(line.status, Status::Failed)) {
            bail!(
                "step `{0}` failed; run it again with `cargo xtask {1} --only {0}`, or continue with `--from {0}`",
                line.name,
                self.name
            );
        }
        Ok(())
    }

    fn help(&self) -> String {
        let first = self.steps.first().map_or("", |step| step.name);
        format!(
            "{summary}\n\n\
             Usage: cargo xtask {name} [--from STEP] [--only STEP]... [--keep-going]\n       \
             cargo xtask {name} --list\n\n\
             Options:\n  \
             --list        List the steps and do not run them\n  \
             --from STEP   Begin with this step\n  \
             --only STEP   Run this step only; may be repeated\n  \
             --keep-going  Run the steps after a failed one too\n\n\
             Examples:\n  \
             cargo xtask {name}\n  \
             cargo xtask {name} --only {first}\n",
            summary = self.summary,
            name = self.name,
        )
    }
}

fn colon(remark: &str) -> String {
    if remark.is_empty() { String::new() } else { format!(": {remark}") }
}

/// Returns a duration in minutes and seconds.
fn shown(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 {
        format!("{:.1} s", time.as_secs_f32())
    } else {
        format!("{} min {} s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_accepts_no_other_option() {
        let step = Step { name: "format", headline: "", run: |_| Ok(Outcome::Passed) };
        let tier = Tier { name: "ci", summary: "", steps: Box::leak(Box::new([step])), goes_on: false };
        let parsed = |arguments: &[&str]| tier.selection(&mut lexopt::Parser::from_args(arguments));
        assert!(parsed(&["--list"]).unwrap().is_none());
        assert_eq!(parsed(&["--only", "format"]).unwrap().unwrap().only, ["format"]);
        for wrong in [&["--list=5"][..], &["--list", "--only", "format"], &["--only", "x"], &["format"]] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }
}
