//! What shows no VMCB, or one of another maker: recognised to be named.

use crate::error::Error;
use crate::text::Text;

/// First lines of what was recognised.
#[derive(Default)]
pub(crate) struct Foreign {
    vmx: Option<(u64, &'static str)>,
    qemu_log: Option<u64>,
    disabled: Option<u64>,
}

/// What a line shows.
#[derive(Clone, Copy)]
enum Shows {
    Vmx,
    VmxDisabled,
    QemuLog,
    Disabled,
}

/// How a line begins, what it holds besides, and what it then shows.
const MARKS: &[(&str, &str, Shows)] = &[
    ("VMCS ", "last attempted VM-entry", Shows::Vmx),
    ("kvm_intel: VMCS ", "last attempted VM-entry", Shows::Vmx),
    ("kvm_intel: CR0: actual=", "", Shows::Vmx),
    ("CR0: actual=", "", Shows::Vmx),
    ("PinBased=", "CPUBased=", Shows::Vmx),
    ("***", "*** VMCS Area", Shows::Vmx),
    ("set kvm_intel.dump_invalid_vmcs", "", Shows::VmxDisabled),
    ("kvm_intel: set kvm_intel.dump_invalid_vmcs", "", Shows::VmxDisabled),
    ("vmrun! ", "", Shows::QemuLog),
    ("vmexit(", ")!", Shows::QemuLog),
    ("set kvm_amd.dump_invalid_vmcb", "", Shows::Disabled),
];

impl Foreign {
    pub(crate) fn look(&mut self, line: &Text<'_>) {
        let message = line.text.get(line.start..).unwrap_or_default();
        let mark =
            MARKS.iter().find(|(start, holds, _)| message.starts_with(start) && message.contains(holds));
        let number = line.number;
        match mark.map(|&(_, _, shows)| shows) {
            None => {}
            Some(Shows::Vmx) => {
                self.vmx.get_or_insert((number, "a dump"));
            }
            Some(Shows::VmxDisabled) => {
                self.vmx.get_or_insert((number, "a message"));
            }
            Some(Shows::QemuLog) => {
                self.qemu_log.get_or_insert(number);
            }
            Some(Shows::Disabled) => {
                self.disabled.get_or_insert(number);
            }
        }
    }

    /// The error that this is at the end of an input, in which something was `found` or not.
    ///
    /// A VMX dump is an error in any case: what it shows was asked for and not judged. The others often
    /// stand beside a VMCB in one log, and are passed over then.
    pub(crate) fn error(&self, trace: Option<(u64, &'static str)>, found: bool) -> Option<Error> {
        let vmx = [self.vmx, trace].into_iter().flatten().min();
        if let Some((line, what)) = vmx {
            return Some(Error::Vmx { line, what });
        }
        if found {
            return None;
        }
        let log = self.qemu_log.map(|line| Error::QemuSvmLog { line });
        let disabled = self.disabled.map(|line| Error::KvmDumpDisabled { line });
        disabled.or(log)
    }
}
