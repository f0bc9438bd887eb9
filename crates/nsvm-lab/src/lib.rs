#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod case;
pub mod expected;
pub mod outcome;
pub mod protocol;
