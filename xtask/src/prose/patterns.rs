//! The patterns that the writing guide replaces, as lists of words.

use anyhow::{Context as _, Result, bail};

/// The list, one pattern per line.
const LIST: &str = include_str!("../../prose-patterns.txt");

/// A pattern.
#[derive(Debug)]
pub(super) struct Pattern {
    /// The pattern as it is written in the list.
    pub(super) term: String,
    pub(super) replacement: String,
    words: Vec<Word>,
    /// The pattern does not count if one of these words follows it.
    unless_before: Vec<String>,
    place: Place,
}

/// The part of a sentence in which a pattern counts.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Anywhere,
    Start,
}

#[derive(Debug)]
enum Word {
    /// One of these words.
    OneOf(Vec<String>),
    /// Any one word.
    Any,
}

/// Reads the list of patterns.
///
/// A line is `PATTERN | REPLACEMENT` or `PATTERN | REPLACEMENT | unless before: WORD WORD...`. In the pattern `a/b` is
/// one of two words, `*` is any word, and `^` at the start limits the pattern to the start of a sentence.
pub(super) fn list() -> Result<Vec<Pattern>> {
    let lines = LIST.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| parse(line).with_context(|| format!("xtask/prose-patterns.txt: `{line}`"))).collect()
}

fn parse(line: &str) -> Result<Pattern> {
    let mut parts = line.split(" | ").map(str::trim);
    let (Some(term), Some(replacement)) = (parts.next(), parts.next()) else {
        bail!("a line has a pattern and a replacement");
    };
    let unless_before = match parts.next() {
        None => Vec::new(),
        Some(part) => {
            let words = part.strip_prefix("unless before:").context("expected `unless before:`")?;
            words.split_whitespace().map(str::to_owned).collect()
        }
    };
    let (place, pattern) = match term.strip_prefix('^') {
        Some(rest) => (Place::Start, rest),
        None => (Place::Anywhere, term),
    };
    let words = pattern.split_whitespace().map(|word| match word {
        "*" => Word::Any,
        word => Word::OneOf(word.split('/').map(str::to_owned).collect()),
    });
    Ok(Pattern {
        term: term.to_owned(),
        replacement: replacement.to_owned(),
        words: words.collect(),
        unless_before,
        place,
    })
}

/// Returns the words of a sentence in lower case. Code in backticks is one word that matches nothing.
pub(super) fn words(sentence: &str) -> Vec<String> {
    let mut text = String::new();
    for (index, part) in sentence.split('`').enumerate() {
        text.push_str(if index % 2 == 0 { part } else { " \u{0} " });
    }
    let is_part = |letter: char| letter.is_alphanumeric() || matches!(letter, '\'' | '-' | '_' | '\u{0}');
    text.split_whitespace()
        // Punctuation ends a word, and separates the words around it.
        .flat_map(|word| word.split_inclusive(|letter| !is_part(letter)))
        .flat_map(|part| {
            let word = part.trim_end_matches(|letter| !is_part(letter));
            let mark = if word.len() < part.len() { Some("\u{1}".to_owned()) } else { None };
            [(!word.is_empty()).then(|| word.to_lowercase()), mark].into_iter().flatten()
        })
        .collect()
}

impl Pattern {
    /// Counts the pattern in the words of a sentence.
    pub(super) fn count(&self, words: &[String]) -> usize {
        let starts = match self.place {
            Place::Start => 0..words.len().min(1),
            Place::Anywhere => 0..words.len(),
        };
        starts.filter(|start| self.matches(&words[*start..])).count()
    }

    fn matches(&self, words: &[String]) -> bool {
        let fits = |(wanted, word): (&Word, &String)| match wanted {
            Word::Any => word.chars().all(char::is_alphanumeric),
            Word::OneOf(choices) => choices.contains(word),
        };
        words.len() >= self.words.len()
            && self.words.iter().zip(words).all(fits)
            && !words.get(self.words.len()).is_some_and(|next| self.unless_before.contains(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(line: &str, sentence: &str) -> usize {
        parse(line).unwrap().count(&words(sentence))
    }

    #[test]
    fn patterns_match_words() {
        assert_eq!(count("nobody | name it", "Nobody answers; nobody, and `nobody`."), 2);
        assert_eq!(
            count("is/are no | is not a | unless before: longer", "It is no page, is no longer there."),
            1
        );
        assert_eq!(count("^what | x", "What it is: what."), 1);
        assert_eq!(count("at most * of them | up to", "Shows at most 10 of them."), 1);
        assert_eq!(count("so far | x", "So, far away."), 0);
    }

    #[test]
    fn the_list_can_be_read() {
        assert!(list().unwrap().len() > 20);
    }
}
