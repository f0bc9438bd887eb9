//! All integration tests of the lab, in one binary, which is cheaper to link.

mod boots;
mod browser;
mod command;
mod fetch;
mod kvm;
mod linux;
mod report;
mod results;
mod sample;
mod sets;
mod xen;
