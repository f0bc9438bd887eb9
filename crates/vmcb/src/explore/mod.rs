//! What follows from the rules as a whole: witnesses, and the rules in which two CPUs differ.

pub(crate) mod compare;
mod mutations;
pub(crate) mod witness;
