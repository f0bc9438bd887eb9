//! The rules compiled for one virtual CPU, and the stored form of the result.

pub(crate) mod accepted_events;
pub(crate) mod compiled;
pub(crate) mod policy;
pub(crate) mod stored;
