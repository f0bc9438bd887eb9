//! What the bare-metal programs share: the way into 64-bit mode, exceptions, ports, a serial port and the symbols that
//! compiled code needs.
//!
//! A program defines the symbol `stack_top` and two functions: `main`, see [`boot`], and `unexpected_fault`, see
//! [`exceptions`].
//!
//! UNSAFETY: machine code, port I/O and a machine without an operating system. Nothing here is linked into a hosted
//! program.
#![no_std]

pub mod boot;
pub mod cpu;
pub mod exceptions;
pub mod msr;
pub mod port;
pub mod serial;
mod symbols;
