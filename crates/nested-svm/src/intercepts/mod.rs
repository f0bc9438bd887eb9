//! Which exits of L2 L1 intercepts.

pub(crate) mod cause;
pub(crate) mod maps;
