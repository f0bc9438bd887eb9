#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod case;
pub mod outcome;
pub mod protocol;
pub mod sets;
pub mod verdict;
