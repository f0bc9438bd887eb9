//! All integration tests of the readers, in one binary, which is cheaper to link.

mod common;
mod formats;
mod generate;
mod generated;
mod hex;
mod hostile;
mod kvm_dump;
mod kvm_trace;
mod layouts;
mod nested_state;
mod qemu;
mod samples;
mod xen;
