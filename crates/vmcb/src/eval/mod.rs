//! The rules applied: to a complete page, to a page that is partly known, to an event.

pub(crate) mod check;
pub(crate) mod environment;
pub(crate) mod injection;
pub(crate) mod judge;
pub(crate) mod notes;
pub(crate) mod proof;
pub(crate) mod verdict;
