//! What keeps the command from running: the environment's errors, never findings.

use crate::suggest;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An invalid argument.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
        /// What to do instead.
        help: Option<String>,
    },
    /// An input that cannot be read, or has no VMCB.
    #[error("{file}: {message}")]
    Input {
        /// The name of the file.
        file: String,
        /// What is wrong with it.
        message: String,
    },
    /// Writing the answer failed.
    #[error("the output cannot be written: {0}")]
    Output(#[from] std::io::Error),
}

impl Error {
    /// A wrong argument, and what to do instead.
    pub fn usage(message: impl Into<String>, help: impl Into<Option<String>>) -> Self {
        Self::Usage { message: message.into(), help: help.into() }
    }

    /// An unknown word, with suggestions of known words that are similar.
    pub fn unknown(what: &str, word: &str, known: impl IntoIterator<Item = String>) -> Self {
        Self::usage(format!("{what}: `{}`", suggest::shorten(word)), suggest::help(word, known))
    }

    /// Returns what to do instead.
    #[must_use]
    pub fn help(&self) -> Option<&str> {
        match self {
            Self::Usage { help, .. } => help.as_deref(),
            _ => None,
        }
    }
}
