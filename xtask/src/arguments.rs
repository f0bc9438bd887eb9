//! The command line of verbs that have no options.

use anyhow::Result;
use lexopt::prelude::*;

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
}
