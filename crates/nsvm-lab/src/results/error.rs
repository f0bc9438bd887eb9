//! Errors of reading, writing and merging.

/// Why results cannot be read, written or merged.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// The text is not what it should be.
    #[error("{file}:{line}: {what}")]
    Text {
        /// The file's name.
        file: String,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong, and how to mend it.
        what: String,
    },
    /// Two files contradict each other.
    #[error(transparent)]
    Contradiction(Box<Contradiction>),
}

/// Two files that cannot be parts of one run.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{subject}: {what}: `{first}` in {first_file}, `{second}` in {second_file}; \
     run one of them again, or do not merge them"
)]
pub struct Contradiction {
    /// The section's [label](super::Head::label).
    pub subject: String,
    /// What they tell about: `case flip.long64.cr4#17`, `CPUID`.
    pub what: String,
    /// What one file says.
    pub first: String,
    /// Its name.
    pub first_file: String,
    /// What the other file says.
    pub second: String,
    /// Its name.
    pub second_file: String,
}
