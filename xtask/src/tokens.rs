//! The tokens of a Rust source file, without comments, doc comments and test-only items.

use crate::syntax;
use anyhow::{Context as _, Result};
use proc_macro2::{TokenStream, TokenTree};
use std::collections::BTreeSet;

/// A token with its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) line: usize,
    pub(crate) kind: Kind,
}

/// The kinds of tokens. Brackets are punctuation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Word(String),
    /// A string literal, with its value.
    Text(String),
    /// Another literal, as it is written.
    Literal(String),
    Punctuation(char),
}

/// Which code of a file is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    WithTests,
    WithoutTests,
}

/// Reads a file's tokens.
pub(crate) fn read(path: &str, scope: Scope) -> Result<Vec<Token>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    parse(&text, scope).with_context(|| format!("cannot parse {path}"))
}

/// Splits a file's text into tokens.
pub(crate) fn parse(text: &str, scope: Scope) -> Result<Vec<Token>> {
    let skipped = match scope {
        Scope::WithTests => BTreeSet::new(),
        Scope::WithoutTests => syntax::Lines::of(&syntax::parse_text(text)?).tests,
    };
    // The parser of a file removes a byte-order mark and a `#!` line; no file here has one.
    let stream: TokenStream = text.parse().map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut tokens = Vec::new();
    flatten(stream, &mut tokens);
    tokens.retain(|token| !skipped.contains(&token.line));
    Ok(tokens)
}

fn flatten(stream: TokenStream, tokens: &mut Vec<Token>) {
    let mut stream = stream.into_iter().peekable();
    while let Some(token) = stream.next() {
        let line = token.span().start().line;
        let mut push = |kind| tokens.push(Token { line, kind });
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    proc_macro2::Delimiter::Brace => ('{', '}'),
                    proc_macro2::Delimiter::Bracket => ('[', ']'),
                    _ => ('(', ')'),
                };
                push(Kind::Punctuation(open));
                flatten(group.stream(), tokens);
                let line = group.span_close().start().line;
                tokens.push(Token { line, kind: Kind::Punctuation(close) });
            }
            TokenTree::Ident(name) => push(Kind::Word(name.to_string())),
            TokenTree::Literal(literal) => {
                let written = literal.to_string();
                match syn::parse_str::<syn::LitStr>(&written) {
                    Ok(text) => push(Kind::Text(text.value())),
                    Err(_) => push(Kind::Literal(written)),
                }
            }
            TokenTree::Punct(mark) => {
                // `///` and `//!` are `#[doc = "..."]` and `#![doc = "..."]` in a stream.
                if mark.as_char() == '#' {
                    stream.next_if(|next| matches!(next, TokenTree::Punct(mark) if mark.as_char() == '!'));
                    if stream.next_if(is_doc).is_some() {
                        continue;
                    }
                }
                push(Kind::Punctuation(mark.as_char()));
            }
        }
    }
}

fn is_doc(token: &TokenTree) -> bool {
    let TokenTree::Group(group) = token else { return false };
    let mut inner = group.stream().into_iter();
    let name = inner.next().is_some_and(|first| first.to_string() == "doc");
    name && inner.next().is_some_and(|second| second.to_string() == "=")
        && matches!(inner.next(), Some(TokenTree::Literal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_tests_are_left_out() {
        let text = "//! A.\n/// B.\n#[must_use]\nfn f() -> &'static str { /* C */ r\"D\" }\n#[cfg(test)]\nmod t {}\n";
        let tokens = parse(text, Scope::WithoutTests).unwrap();
        let texts: Vec<_> = tokens.iter().filter(|token| matches!(token.kind, Kind::Text(_))).collect();
        assert_eq!(texts, [&Token { line: 4, kind: Kind::Text("D".to_owned()) }]);
        assert!(tokens.iter().all(|token| token.line < 5));
        assert!(tokens.contains(&Token { line: 3, kind: Kind::Word("must_use".to_owned()) }));
    }
}
