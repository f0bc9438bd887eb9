//! Patterns of names: of cases, subjects, versions.

/// Patterns of which one must match, with braces written out.
#[derive(Clone, Debug)]
pub struct Globs(Vec<String>);

/// More patterns than this in one column are a mistake.
const MOST_PATTERNS: usize = 256;

impl Globs {
    /// From patterns separated by commas.
    ///
    /// # Errors
    /// Says what is wrong with them.
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
        Ok(Self(patterns))
    }

    /// Whether one of them matches the whole text.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.0.iter().any(|pattern| matches(pattern, text))
    }

    /// A pattern that names nothing is misspelt.
    pub(crate) fn each_names_one_of<I: Iterator<Item = &'static str>>(
        &self,
        names: impl Fn() -> I,
        what: &str,
    ) -> Result<(), String> {
        match self.0.iter().find(|pattern| !names().any(|name| matches(pattern, name))) {
            Some(pattern) => Err(format!("`{pattern}` names no {what}")),
            None => Ok(()),
        }
    }
}

/// Whether a pattern matches the whole text: `*` is any text, `?` one character, `[ab]` and `[a-c]` one of these.
///
/// Takes at most the product of the two lengths in steps, whatever the pattern: lists of patterns may come from
/// strangers.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where the last `*` stands, and the text up to which it reaches so far.
    let mut star = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if let Some(length) = one(&pattern[p..], text[t]) {
            p += length;
            t += 1;
        } else {
            let Some((at, reach)) = star else { return false };
            star = Some((at, reach + 1));
            p = at + 1;
            t = reach + 1;
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

/// How long the part of the pattern is that takes this character; nothing if none does.
fn one(pattern: &[u8], letter: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', rest @ ..] => {
            let length = rest.iter().position(|&c| c == b']')?;
            let class = &rest[..length];
            let range = |range: &[u8]| range[1] == b'-' && (range[0]..=range[2]).contains(&letter);
            (class.contains(&letter) || class.windows(3).any(range)).then_some(length + 2)
        }
        [first, ..] if *first == letter => Some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_texts() {
        for (pattern, text) in [
            ("*", ""),
            ("a*", "a"),
            ("a*c", "abcbc"),
            ("#[23]?", "#3f"),
            ("#1[9a-f]", "#1c"),
            ("a*b*", "axbx"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("", "a"), ("a", "ab"), ("a*c", "abcb"), ("#[23]?", "#2"), ("#1[9a-f]", "#18"), ("?", "")]
        {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
        // A star that reaches further than it seems, and many of them: no time is lost.
        let many = "a*".repeat(40);
        assert!(!matches(&format!("{many}b"), &"a".repeat(200)));
    }
}
