//! The rules and everything that derives from them.

mod agreement;
mod common;
mod cpu;
mod event_injection;
mod limits;
mod registry;
mod text;
mod view;
mod witness;
