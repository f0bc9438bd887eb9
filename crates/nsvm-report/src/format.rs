//! The forms in which reports are written.

/// Text for people, or JSON lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Text for people.
    Human,
    /// JSON lines. The schema is `schema/nsvm.schema.json` in the repository.
    Json,
}

/// The forms of a check's report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckFormat {
    /// Text for people.
    Human,
    /// JSON lines. The schema is `schema/nsvm.schema.json` in the repository.
    Json,
    /// SARIF 2.1.0, one object.
    Sarif,
}

/// What a check writes in addition to or instead of its report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Emit {
    /// A case row for each VMCB, for `cases/` and the lab.
    Case,
    /// An HTML page that explains the findings.
    Page,
}
