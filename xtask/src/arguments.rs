//! Parts of the command line that several verbs share.

use anyhow::{Context as _, Result};
use lexopt::prelude::*;
use std::str::FromStr;

/// Parses the rest of the command line, which may only ask for help. Returns `false` if the help was printed.
pub(crate) fn none_or_help(parser: &mut lexopt::Parser, help: &str) -> Result<bool> {
    match parser.next()? {
        None => Ok(true),
        Some(Short('h') | Long("help")) => {
            print!("{help}");
            Ok(false)
        }
        Some(other) => Err(other.unexpected().into()),
    }
}

/// Parses the value of an option, which must be a number.
pub(crate) fn number<T: FromStr>(parser: &mut lexopt::Parser, option: &str) -> Result<T> {
    let text = parser.value()?.string()?;
    text.parse().ok().with_context(|| format!("invalid value `{text}` for `{option}`: expected a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_else_is_an_error() {
        let parsed = |arguments: &[&str]| none_or_help(&mut lexopt::Parser::from_args(arguments), "");
        assert!(parsed(&[]).is_ok_and(|runs| runs));
        assert!(parsed(&["--help"]).is_ok_and(|runs| !runs));
        assert!(parsed(&["--list"]).is_err() && parsed(&["file"]).is_err());
    }

    #[test]
    fn an_invalid_number_names_its_option() {
        let parsed = |value| {
            let mut parser = lexopt::Parser::from_args(["--sample", value]);
            parser.next().unwrap();
            number::<u64>(&mut parser, "--sample")
        };
        assert_eq!(parsed("7").unwrap(), 7);
        let error = format!("{:#}", parsed("abc").unwrap_err());
        assert_eq!(error, "invalid value `abc` for `--sample`: expected a number");
    }
}
