//! What the host programs and the bare-metal programs agree on: addresses, formats and codes.
#![no_std]
#![forbid(unsafe_code)]

pub mod l0;
pub mod payload;
