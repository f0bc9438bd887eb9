//! What the bare-metal programs share.
//!
//! UNSAFETY: machine code, port I/O and a machine without an operating system. Nothing here is linked into a hosted
//! program.
#![no_std]

mod symbols;
