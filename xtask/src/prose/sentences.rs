//! Finds sentences in Rust files and in Markdown.

use super::lexer::{self, Kind, Piece};
use super::read;
use crate::syntax;
use crate::workspace::is_test_file;
use anyhow::{Context as _, Result};

/// A sentence with its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sentence {
    pub(super) file: String,
    pub(super) line: usize,
    pub(super) source: Source,
    pub(super) text: String,
}

/// The kind of text that contains a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Doc,
    Comment,
    Message,
    Markdown,
}

/// Numbers of sentences in a sample.
pub(super) struct Amounts {
    pub(super) doc: usize,
    pub(super) messages: usize,
    pub(super) markdown: usize,
}

/// A paragraph: its lines with their numbers.
struct Paragraph {
    source: Source,
    lines: Vec<(usize, String)>,
}

/// Returns the sentences of all files.
pub(super) fn all(files: &[String]) -> Result<Vec<Sentence>> {
    let mut found = Vec::new();
    for file in files {
        found.extend(of(file, &read(file)?)?);
    }
    Ok(found)
}

/// Returns the sentences of a file.
pub(super) fn of(file: &str, text: &str) -> Result<Vec<Sentence>> {
    let paragraphs = if file.ends_with(".md") {
        let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.to_owned()));
        markdown(Source::Markdown, lines)
    } else {
        rust(file, text).with_context(|| file.to_owned())?
    };
    let mut found = Vec::new();
    for paragraph in &paragraphs {
        for (line, text) in split(&paragraph.lines) {
            found.push(Sentence { file: file.to_owned(), line, source: paragraph.source, text });
        }
    }
    Ok(found)
}

fn rust(file: &str, text: &str) -> Result<Vec<Paragraph>> {
    let tests = syntax::Lines::of(&syntax::parse_text(text)?).tests;
    let mut paragraphs = Vec::new();
    let mut block: Vec<(usize, String)> = Vec::new();
    let mut kind = None;
    for Piece { line, kind: next, text } in lexer::pieces(text) {
        let follows = kind == Some(next) && block.last().is_some_and(|(last, _)| last + 1 == line);
        if !follows || next == Kind::Literal {
            finish(&mut paragraphs, kind, &mut block);
        }
        kind = Some(next);
        if next == Kind::Literal {
            let is_message = !is_test_file(file) && !tests.contains(&line) && is_message(&text);
            if is_message {
                paragraphs.extend(message(line, &text));
            }
            kind = None;
        } else {
            block.push((line, text));
        }
    }
    finish(&mut paragraphs, kind, &mut block);
    Ok(paragraphs)
}

fn finish(paragraphs: &mut Vec<Paragraph>, kind: Option<Kind>, block: &mut Vec<(usize, String)>) {
    let lines = std::mem::take(block);
    match kind {
        Some(Kind::Doc) => paragraphs.extend(markdown(Source::Doc, lines)),
        Some(Kind::Comment) => paragraphs.extend(markdown(Source::Comment, lines)),
        _ => {}
    }
}

/// A message has at least three words of letters. Formats, assembly, CSS and scripts have other marks.
fn is_message(text: &str) -> bool {
    let is_word = |word: &&str| {
        let word = word.trim_end_matches([',', '.', ':', ';']);
        word.len() > 1 && word.chars().all(|letter| letter.is_ascii_alphabetic() || letter == '\'')
    };
    let words = text.split_whitespace().filter(is_word).count();
    let code = ["{\n", "</", "};", "=>", "\t", "();"].iter().any(|mark| text.contains(mark));
    words >= 3 && !code
}

/// Splits a message into paragraphs. Help texts contain headings and commands, which are left out.
fn message(line: usize, text: &str) -> Vec<Paragraph> {
    let is_text = |part: &&str| {
        let part = part.trim();
        let heading = part.ends_with(':') && part.chars().all(|letter| !letter.is_lowercase());
        !heading && !["nsvm ", "cargo ", "$ "].iter().any(|command| part.starts_with(command))
    };
    markdown(Source::Message, text.lines().filter(is_text).map(|part| (line, part.to_owned())))
}

/// Splits Markdown into paragraphs, items of lists and cells of tables. Code and headings are left out.
fn markdown(source: Source, lines: impl IntoIterator<Item = (usize, String)>) -> Vec<Paragraph> {
    let mut paragraphs = Vec::new();
    let mut current: Vec<(usize, String)> = Vec::new();
    let mut in_code = false;
    let finish = |current: &mut Vec<_>, paragraphs: &mut Vec<_>| {
        if !current.is_empty() {
            paragraphs.push(Paragraph { source, lines: std::mem::take(current) });
        }
    };
    for (number, line) in lines {
        let trimmed = line.trim();
        let fence = trimmed.starts_with("```");
        if fence || in_code || trimmed.is_empty() || trimmed.starts_with('#') || trimmed.starts_with("<!--") {
            finish(&mut current, &mut paragraphs);
            in_code ^= fence;
        } else if trimmed.starts_with('|') {
            finish(&mut current, &mut paragraphs);
            let cells = trimmed.trim_matches('|').split(" | ").map(str::trim);
            for cell in cells.filter(|cell| cell.contains(char::is_alphabetic)) {
                paragraphs.push(Paragraph { source, lines: vec![(number, cell.to_owned())] });
            }
        } else {
            let item = trimmed.strip_prefix("- ").or_else(|| trimmed.strip_prefix("* "));
            if item.is_some() {
                finish(&mut current, &mut paragraphs);
            }
            current.push((number, item.unwrap_or(trimmed).to_owned()));
        }
    }
    finish(&mut current, &mut paragraphs);
    paragraphs
}

/// Splits a paragraph into sentences, each with the line on which it begins.
fn split(lines: &[(usize, String)]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut sentence = String::new();
    let mut start = lines.first().map_or(0, |(number, _)| *number);
    for (number, line) in lines {
        for word in line.split_whitespace() {
            if sentence.is_empty() {
                start = *number;
            } else {
                sentence.push(' ');
            }
            sentence.push_str(word);
            if ends_sentence(word) {
                found.push((start, std::mem::take(&mut sentence)));
            }
        }
    }
    if !sentence.is_empty() {
        found.push((start, sentence));
    }
    found
}

/// Returns whether a word ends a sentence. An abbreviation does not.
fn ends_sentence(word: &str) -> bool {
    let word = word.trim_end_matches([')', '"', '*', '`']);
    let abbreviation =
        ["vol.", "e.g.", "i.e.", "rev.", "no.", "etc."].iter().any(|known| word.ends_with(known));
    word.ends_with(['.', '?', '!']) && !abbreviation
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(file: &str, text: &str) -> Vec<(usize, Source, String)> {
        let found = of(file, text).unwrap();
        found.into_iter().map(|sentence| (sentence.line, sentence.source, sentence.text)).collect()
    }

    #[test]
    fn rust_has_three_sources() {
        let text =
            "/// Returns one. See\n/// vol. 2.\nfn f() { g(\"no such file here\", \"x\"); // A comment.\n}\n";
        let expected = [
            (1, Source::Doc, "Returns one."),
            (1, Source::Doc, "See vol. 2."),
            (3, Source::Message, "no such file here"),
            (3, Source::Comment, "A comment."),
        ];
        assert_eq!(texts("a.rs", text), expected.map(|(line, source, text)| (line, source, text.to_owned())));
        assert_eq!(texts("tests/a.rs", "fn f() { g(\"no such file here\") }"), []);
    }

    #[test]
    fn markdown_has_paragraphs_items_and_cells() {
        let text =
            "# Title\nOne two.\nThree\n\n- four\n- five\n```\ncode\n```\n| six | seven |\n| --- | --- |\n";
        let texts: Vec<_> = texts("a.md", text).into_iter().map(|(line, _, text)| (line, text)).collect();
        let expected = [(2, "One two."), (3, "Three"), (5, "four"), (6, "five"), (10, "six"), (10, "seven")];
        assert_eq!(texts, expected.map(|(line, text)| (line, text.to_owned())));
    }
}
