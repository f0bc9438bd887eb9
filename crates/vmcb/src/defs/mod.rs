//! The VMCB and the VMSA: fields, registers, events, exceptions, exit codes. Nothing here reads a rule or a CPU.

pub(crate) mod bytes;
pub(crate) mod event;
pub(crate) mod exception;
pub(crate) mod exit_code;
pub(crate) mod known;
pub mod layout;
pub(crate) mod named;
pub(crate) mod phase;
pub(crate) mod register;
pub(crate) mod segment;
pub(crate) mod set;
pub(crate) mod view;
pub(crate) mod word;
