//! Patterns of names: of cases, subjects, versions.

use globset::{GlobBuilder, GlobMatcher};

/// Patterns of which one must match the whole text.
///
/// In a pattern, `*` is any text, `?` one byte, and `[ab]` and `[a-c]` one of these. A `/` is an ordinary character.
#[derive(Clone, Debug)]
pub struct Globs(Vec<GlobMatcher>);

/// More patterns than this in one column are a mistake.
const MOST_PATTERNS: usize = 256;

impl Globs {
    /// Parses patterns separated by commas. Braces contain alternatives: `a{b,c}` is `ab,ac`.
    ///
    /// # Errors
    /// Returns what is wrong with them.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut patterns = vec![String::new()];
        // The patterns before `start` are finished.
        let mut start = 0;
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                ',' => {
                    start = patterns.len();
                    patterns.push(String::new());
                }
                '{' => {
                    let (inside, after) =
                        rest.split_once('}').ok_or_else(|| format!("`{text}`: a brace is not closed"))?;
                    if inside.contains('{') {
                        return Err(format!("`{text}`: braces within braces"));
                    }
                    let begun = patterns.split_off(start);
                    let choices = inside.split(',');
                    patterns.extend(
                        choices.flat_map(|choice| begun.iter().map(move |begun| format!("{begun}{choice}"))),
                    );
                    rest = after;
                }
                '}' => return Err(format!("`{text}`: a brace is not opened")),
                c => patterns[start..].iter_mut().for_each(|pattern| pattern.push(c)),
            }
            if patterns.len() > MOST_PATTERNS {
                return Err(format!("`{text}`: more than {MOST_PATTERNS} patterns"));
            }
        }
        if patterns.iter().any(String::is_empty) {
            return Err(format!("`{text}`: an empty pattern"));
        }
        patterns.iter().map(|pattern| compile(pattern)).collect::<Result<_, _>>().map(Self)
    }

    /// Compiles the patterns of a table in this program.
    ///
    /// # Panics
    /// If a pattern is invalid.
    #[must_use]
    pub(crate) fn of(patterns: &[&str]) -> Self {
        let compiled: Result<_, String> = patterns.iter().map(|pattern| compile(pattern)).collect();
        Self(compiled.unwrap_or_else(|error| panic!("{error}")))
    }

    /// Whether one of them matches the whole text.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.0.iter().any(|pattern| pattern.is_match(text))
    }

    /// Returns the first pattern that matches none of the names. It is usually misspelled.
    pub fn unused<'a, I: Iterator<Item = &'a str>>(&self, names: impl Fn() -> I) -> Option<&str> {
        let unused = self.0.iter().find(|pattern| !names().any(|name| pattern.is_match(name)));
        unused.map(|pattern| pattern.glob().glob())
    }
}

fn compile(pattern: &str) -> Result<GlobMatcher, String> {
    // globset has more syntax: negated classes, and `**` for folders.
    if ["[!", "[^", "[]"].iter().any(|class| pattern.contains(class)) {
        return Err(format!("`{pattern}`: a class begins with `!`, `^` or `]`"));
    }
    let mut plain = pattern.to_owned();
    while plain.contains("**") {
        plain = plain.replace("**", "*");
    }
    let glob = GlobBuilder::new(&plain).backslash_escape(false).build();
    Ok(glob.map_err(|error| format!("`{pattern}`: {}", error.kind()))?.compile_matcher())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_texts() {
        let matches =
            |pattern: &str, text: &str| Globs::parse(pattern).is_ok_and(|globs| globs.matches(text));
        for (pattern, text) in [
            ("*", ""),
            ("a*", "a"),
            ("a*c", "abcbc"),
            ("a?c", "abc"),
            ("#[23]?", "#3f"),
            ("#1[9a-f]", "#1c"),
            ("a*b*", "axbx"),
            ("**a", "bca"),
            ("*ab*ab", "abxab"),
            ("x,a{,b}/{c,d*}", "ab/d/e"),
            ("a/**", "a/"),
            (r"a\*", r"a\b"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("a", "ab"),
            ("a*c", "abcb"),
            ("a?c", "ac"),
            ("*ab*ab", "ab"),
            ("#[23]?", "#2"),
            ("#1[9a-f]", "#18"),
            ("?", ""),
            ("a/**/b", "a/b"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
        // Many stars take no time, whatever the text is.
        assert!(!matches(&format!("{}b", "a*".repeat(40)), &"a".repeat(200)));
        for invalid in ["", "a,", "{a", "a}", "{{a}}", "[a", "[!a]", "[]", "[c-a]"] {
            assert!(Globs::parse(invalid).is_err(), "{invalid}");
        }
    }
}
