//! Events as values: the double-fault rules, and the events that the engine holds.

pub(crate) mod codes;
pub(crate) mod delivery;
pub(crate) mod held;
