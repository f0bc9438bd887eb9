//! The state of one virtual CPU, and what a call of the engine works on.

pub(crate) mod environment;
pub(crate) mod nested;
pub(crate) mod world;
