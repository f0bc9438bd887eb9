#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod case;
pub mod fetch;
pub mod outcome;
pub mod protocol;
pub mod store;
