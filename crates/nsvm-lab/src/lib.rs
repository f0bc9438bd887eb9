#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod case;
pub mod driver;
pub mod image;
pub mod machine;
pub mod observe;
pub mod fetch;
pub mod outcome;
pub mod protocol;
pub mod store;
pub mod report;
pub mod results;
