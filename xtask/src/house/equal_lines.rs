//! Finds places that share many equal lines.

use super::Report;
use crate::syntax;
use crate::workspace::{Workspace, is_test_file};
use anyhow::{Context as _, Result};
use std::collections::HashMap;

/// Number of equal lines in a row that is an error.
const LIMIT: usize = 12;

/// A line that counts, with its place.
struct Line {
    file: usize,
    number: usize,
    text: String,
}

/// Compares all Rust code outside tests.
pub(super) fn check(workspace: &Workspace) -> Result<Report> {
    let mut lines = Vec::new();
    let mut files = Vec::new();
    for path in workspace.rust_files()?.into_iter().filter(|path| !is_test_file(path)) {
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        lines.extend(counted(&text, files.len()).with_context(|| path.clone())?);
        files.push(path);
    }
    let problems = runs(&lines).iter().map(|run| describe(run, &lines, &files)).collect();
    let summary = format!("{} lines in {} files", lines.len(), files.len());
    Ok(Report { problems, summary, ..Report::default() })
}

/// Returns the lines of a file that count: no tests, no imports, no blank lines, no lines of punctuation only.
fn counted(text: &str, file: usize) -> Result<Vec<Line>> {
    // The mark by which generators show that a file is not written by hand.
    if text.lines().take(5).any(|line| line.contains("@generated")) {
        return Ok(Vec::new());
    }
    let skipped = syntax::Lines::of(&syntax::parse_text(text)?);
    let lines = text.lines().enumerate().map(|(index, text)| (index + 1, text.trim()));
    Ok(lines
        .filter(|(number, _)| !skipped.tests.contains(number) && !skipped.imports.contains(number))
        .filter(|(_, text)| text.contains(char::is_alphanumeric))
        .map(|(number, text)| Line { file, number, text: text.to_owned() })
        .collect())
}

/// Two runs of equal lines: the indices at which they begin, and their length.
struct Run {
    first: usize,
    second: usize,
    length: usize,
}

/// Returns all maximal runs of equal lines. It skips two runs that begin fewer than [`LIMIT`] lines apart, because they
/// may overlap.
fn runs(lines: &[Line]) -> Vec<Run> {
    let mut windows: HashMap<Vec<&str>, Vec<usize>> = HashMap::new();
    for (start, window) in lines.windows(LIMIT).enumerate() {
        if window[0].file == window[LIMIT - 1].file {
            windows.entry(window.iter().map(|line| line.text.as_str()).collect()).or_default().push(start);
        }
    }
    // Whether the lines at these indices are equal and belong to the runs that begin at `first` and `second`.
    let extends = |first: usize, second: usize, left: usize, right: usize| {
        lines[left].text == lines[right].text
            && lines[left].file == lines[first].file
            && lines[right].file == lines[second].file
    };
    let mut found = Vec::new();
    for starts in windows.values() {
        for (index, first) in starts.iter().copied().enumerate() {
            for second in starts[index + 1..].iter().copied() {
                let begins_earlier = first > 0 && extends(first, second, first - 1, second - 1);
                if begins_earlier || second - first < LIMIT {
                    continue;
                }
                let same = |offset: &usize| extends(first, second, first + offset, second + offset);
                let length = (0..lines.len() - second).take_while(same).count();
                found.push(Run { first, second, length });
            }
        }
    }
    found.sort_by_key(|run| (run.first, run.second));
    found
}

fn describe(run: &Run, lines: &[Line], files: &[String]) -> String {
    let place = |start: usize| {
        let (first, last) = (&lines[start], &lines[start + run.length - 1]);
        format!("{}:{}-{}", files[first.file], first.number, last.number)
    };
    format!(
        "{} equal lines: {} and {}; move them to one place that both use",
        run.length,
        place(run.first),
        place(run.second)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(files: &[&str]) -> Vec<usize> {
        let lines: Vec<_> =
            files.iter().enumerate().flat_map(|(file, text)| counted(text, file).unwrap()).collect();
        runs(&lines).iter().map(|run| run.length).collect()
    }

    fn functions(count: usize) -> String {
        (0..count).map(|number| format!("fn f{number}() {{}}\n")).collect()
    }

    #[test]
    fn twelve_lines_are_an_error_and_eleven_are_not() {
        let (twelve, eleven) = (functions(12), functions(11));
        assert_eq!(lengths(&[&twelve, &format!("fn other() {{}}\n\n{twelve}")]), [12]);
        assert_eq!(lengths(&[&eleven, &eleven]), [0; 0]);
        assert_eq!(lengths(&[&functions(30), &format!("{}fn end() {{}}", functions(20))]), [20]);
    }

    #[test]
    fn imports_and_tests_do_not_count() {
        let imports: String = (0..12).map(|number| format!("use a::b{number};\n")).collect();
        assert_eq!(lengths(&[&imports, &imports]), [0; 0]);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", functions(12));
        assert_eq!(lengths(&[&tests, &tests]), [0; 0]);
    }

    #[test]
    fn runs_in_one_file_count() {
        let text = format!("mod a {{\n{0}}}\nmod b {{\n{0}}}\n", functions(13));
        assert_eq!(lengths(&[&text]), [13]);
    }
}
