//! What keeps the command from running: the environment's errors, never findings.

use crate::near;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// An argument that means nothing.
    #[error("{message}")]
    Usage { message: String, help: Option<String> },
    /// An input that cannot be read, or has no VMCB.
    #[error("{file}: {message}")]
    Input { file: String, message: String },
    /// Writing the answer failed.
    #[error("the output cannot be written: {0}")]
    Output(#[from] std::io::Error),
}

impl Error {
    pub(crate) fn usage(message: impl Into<String>, help: impl Into<Option<String>>) -> Self {
        Self::Usage { message: message.into(), help: help.into() }
    }

    /// A word that is not known, with those like it.
    pub(crate) fn unknown(what: &str, word: &str, known: impl IntoIterator<Item = String>) -> Self {
        Self::usage(format!("{what}: `{}`", near::shorten(word)), near::help(word, known))
    }

    pub(crate) fn help(&self) -> Option<&str> {
        match self {
            Self::Usage { help, .. } => help.as_deref(),
            _ => None,
        }
    }
}
