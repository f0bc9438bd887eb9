//! The virtual CPU: features, models, CPUID, and the masks and ranges that follow from them.

pub(crate) mod bounds;
pub(crate) mod feature;
pub(crate) mod gates;
pub(crate) mod models;
pub(crate) mod reserved;
pub(crate) mod virtual_cpu;
