#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod page;
mod predict;
mod table;
pub mod variants;
mod version;

pub use page::page;
pub use predict::{Answer, Ground, Layer, Prediction, Says, predict, predict_known};
pub use table::{Check, Evidence, HABITS, Habit, Implementation, Row, STILL_BROKEN_IN_VMCB02, TABLE, ids};
pub use variants::{Facts, Predicate};
pub use version::{BadVersion, Version, Versions};
