//! The rules and everything that derives from them.

mod agreement;
mod common;
mod cpu;
mod event_injection;
mod limits;
mod registry;
mod view;
mod witness;
