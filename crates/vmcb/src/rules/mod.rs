//! The rules: one row each, and what the conditions of a row mean.

pub(crate) mod literal;
pub(crate) mod mode;
pub(crate) mod predicate;
pub(crate) mod set;
pub(crate) mod state;
pub(crate) mod table;
