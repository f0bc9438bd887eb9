//! The text formats, one module for each.

mod foreign;
mod hex_dump;
mod kvm_dump;
pub(crate) mod kvm_nested_state;
mod kvm_trace;
mod qemu_log;
mod qemu_registers;
mod xen_checks;
mod xen_dump;

pub(crate) use foreign::Foreign;

use crate::format::Format;

/// Returns a reader of each text format. The more a format's lines look like other text, the later it is in the list.
pub(crate) fn all() -> Vec<Box<dyn Format>> {
    vec![
        Box::new(kvm_trace::KvmTrace::new()),
        Box::new(xen_checks::XenChecks::new()),
        Box::new(xen_dump::XenDump::new()),
        Box::new(kvm_dump::KvmDump::new()),
        Box::new(qemu_registers::QemuRegisters::new()),
        Box::new(qemu_log::QemuLog::new()),
        Box::new(hex_dump::HexDump::new()),
        Box::new(hex_dump::PlainHex::new()),
    ]
}
