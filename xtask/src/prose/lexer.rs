//! Splits Rust source text into comments and string literals. A parser drops comments, so this does not use one.

/// A comment or a string literal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) line: usize,
    pub(super) kind: Kind,
    /// The text without the marks of the comment or the quotes.
    pub(super) text: String,
}

/// The kinds of pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Doc,
    Comment,
    Literal,
}

struct Lexer<'t> {
    rest: &'t str,
    line: usize,
    pieces: Vec<Piece>,
}

/// Returns all comments and string literals of a source file.
pub(super) fn pieces(text: &str) -> Vec<Piece> {
    let mut lexer = Lexer { rest: text, line: 1, pieces: Vec::new() };
    while !lexer.rest.is_empty() {
        lexer.step();
    }
    lexer.pieces
}

impl Lexer<'_> {
    /// Moves past this number of bytes.
    fn skip(&mut self, bytes: usize) {
        let (passed, rest) = self.rest.split_at(bytes.min(self.rest.len()));
        self.line += passed.matches('\n').count();
        self.rest = rest;
    }

    fn push(&mut self, kind: Kind, text: &str) {
        self.pieces.push(Piece { line: self.line, kind, text: text.to_owned() });
    }

    fn step(&mut self) {
        let rest = self.rest;
        if rest.starts_with("//") {
            self.line_comment(rest.lines().next().unwrap_or(rest));
        } else if rest.starts_with("/*") {
            self.block_comment();
        } else if let Some((prefix, hashes)) = raw_string(rest) {
            let inner = &rest[prefix..];
            let end = format!("\"{}", "#".repeat(hashes));
            let length = inner.find(&end).unwrap_or(inner.len());
            self.push(Kind::Literal, &inner[..length]);
            self.skip(prefix + length + end.len());
        } else if let Some(inner) = rest.strip_prefix('"') {
            let length = string_length(inner);
            self.push(Kind::Literal, &unescape(&inner[..length]));
            self.skip(length + 2);
        } else if rest.starts_with('\'') {
            self.skip(character_length(rest));
        } else if rest.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_') {
            // A name may end with the letter that begins a raw string, so it is passed as a whole.
            let end = rest.find(|letter: char| !(letter.is_alphanumeric() || letter == '_'));
            self.skip(end.unwrap_or(rest.len()));
        } else {
            self.skip(rest.chars().next().map_or(1, char::len_utf8));
        }
    }

    fn line_comment(&mut self, comment: &str) {
        let doc = (comment.starts_with("///") && !comment.starts_with("////")) || comment.starts_with("//!");
        let text = if doc { &comment[3..] } else { comment.trim_start_matches('/') };
        self.push(if doc { Kind::Doc } else { Kind::Comment }, text.strip_prefix(' ').unwrap_or(text));
        self.skip(comment.len());
    }

    fn block_comment(&mut self) {
        let (mut depth, mut at) = (0_u32, 0);
        let bytes = self.rest.as_bytes();
        while at < bytes.len() {
            match &bytes[at..] {
                [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
                [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
                _ => at += 1,
            }
            if depth == 0 {
                break;
            }
        }
        let text = self.rest.get(2..at.saturating_sub(2)).unwrap_or_default().to_owned();
        self.push(Kind::Comment, &text);
        self.skip(at);
    }
}

/// Returns the length up to the first character of a raw string's value, and its number of hashes.
fn raw_string(text: &str) -> Option<(usize, usize)> {
    let after = ["r", "br", "cr"].iter().find_map(|prefix| {
        let rest = text.strip_prefix(prefix)?;
        (rest.starts_with('#') || rest.starts_with('"')).then_some(rest)
    })?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].starts_with('"').then_some((text.len() - after.len() + hashes + 1, hashes))
}

/// Returns the length of a string literal's value, as it is written.
fn string_length(inner: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at,
            _ => {}
        }
    }
    inner.len()
}

/// Returns the length of a character literal, or of the mark of a lifetime.
fn character_length(text: &str) -> usize {
    let mut letters = text.char_indices().skip(1);
    match letters.next() {
        Some((_, '\\')) => text[2..].find('\'').map_or(1, |at| {
            // The escaped character may be the quote itself.
            if at == 0 { text[3..].find('\'').map_or(1, |at| at + 4) } else { at + 3 }
        }),
        Some(_) => match letters.next() {
            Some((at, '\'')) => at + 1,
            _ => 1,
        },
        None => 1,
    }
}

/// Replaces escapes by what they mean, as far as sentences need it.
fn unescape(written: &str) -> String {
    let mut text = String::new();
    let mut letters = written.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            text.push(letter);
            continue;
        }
        match letters.next() {
            Some('n') => text.push('\n'),
            Some('t') => text.push('\t'),
            // The literal continues after the indentation of the next line.
            Some('\n') => while letters.next_if(|next| next.is_whitespace()).is_some() {},
            Some(other) => text.push(other),
            None => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<(usize, Kind, String)> {
        pieces(text).into_iter().map(|piece| (piece.line, piece.kind, piece.text)).collect()
    }

    #[test]
    fn comments_and_strings_are_told_apart() {
        let text = "//! A\n/// B\n// C \"no string\"\nf(\"D // no comment\", r#\"E\"F\"#, '\"', '\\'', 'a'); /* G */";
        let expected = [
            (1, Kind::Doc, "A"),
            (2, Kind::Doc, "B"),
            (3, Kind::Comment, "C \"no string\""),
            (4, Kind::Literal, "D // no comment"),
            (4, Kind::Literal, "E\"F"),
            (4, Kind::Comment, " G "),
        ];
        assert_eq!(texts(text), expected.map(|(line, kind, text)| (line, kind, text.to_owned())));
    }

    #[test]
    fn lifetimes_and_names_are_no_strings() {
        assert_eq!(texts("fn f<'a>(x: &'a str) { for\"x\"; }").len(), 1);
        assert_eq!(texts("let x = 'x'; let r = \"a\\\n    b\";"), [(1, Kind::Literal, "ab".to_owned())]);
    }
}
