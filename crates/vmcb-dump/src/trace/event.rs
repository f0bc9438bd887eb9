//! The events of KVM that a trace shows, by name.

use super::packed::Packed;
use std::fmt;

/// The events that tell something of a VMCB or of an injected event.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[non_exhaustive]
pub enum Event {
    /// `kvm_nested_vmrun`, since Linux 6.4 `kvm_nested_vmenter`: L1's VMRUN, with fields of VMCB12.
    Enter,
    /// `kvm_nested_vmenter_failed`: KVM refused VMCB12; the argument is the condition in its source.
    EnterFailed,
    /// `kvm_nested_intercepts`: more fields of the VMCB12 of the line before.
    Intercepts,
    /// `kvm_exit`: #VMEXIT from any guest: of VMCB01 while L1 runs, of VMCB02 while L2 runs.
    Exit,
    /// `kvm_nested_vmexit`: the same #VMEXIT again, where it was L2's.
    NestedExit,
    /// `kvm_nested_vmexit_inject`: what L1 finds in VMCB12.
    NestedExitInject,
    /// `kvm_nested_intr_vmexit`: L2 is left because of an interrupt that L1 intercepts.
    NestedIntrExit,
    /// `kvm_inj_exception`: KVM writes an exception to EVENTINJ.
    InjectException,
    /// `kvm_inj_virq`: KVM writes an interrupt to EVENTINJ.
    InjectInterrupt,
    /// `kvm_entry`: VMRUN of any guest.
    Entry,
    /// Another event of KVM.
    Other,
}

/// The events by name, `kvm_` left out, the more frequent first.
pub(super) static EVENTS: [Name; 11] = [
    named("exit:", Event::Exit),
    named("entry:", Event::Entry),
    named("nested_vmexit:", Event::NestedExit),
    named("nested_vmenter:", Event::Enter),
    named("nested_intercepts:", Event::Intercepts),
    named("nested_vmexit_inject:", Event::NestedExitInject),
    named("inj_virq:", Event::InjectInterrupt),
    named("inj_exception:", Event::InjectException),
    named("nested_vmrun:", Event::Enter),
    named("nested_intr_vmexit:", Event::NestedIntrExit),
    named("nested_vmenter_failed:", Event::EnterFailed),
];

/// An event's name with the colon after it.
pub(super) struct Name {
    pub(super) text: &'static [u8],
    /// Its first bytes.
    pub(super) start: Packed,
    /// Its last bytes, where it has more than 16.
    pub(super) end: Packed,
    pub(super) event: Event,
}

const fn named(name: &'static str, event: Event) -> Name {
    let text = name.as_bytes();
    let (_, end) = text.split_at(text.len().saturating_sub(16));
    Name { text, start: Packed::new(text), end: Packed::new(end), event }
}

impl Event {
    /// The event's name in current kernels; `kvm_*` for [`Self::Other`].
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enter => "kvm_nested_vmenter",
            Self::EnterFailed => "kvm_nested_vmenter_failed",
            Self::Intercepts => "kvm_nested_intercepts",
            Self::Exit => "kvm_exit",
            Self::NestedExit => "kvm_nested_vmexit",
            Self::NestedExitInject => "kvm_nested_vmexit_inject",
            Self::NestedIntrExit => "kvm_nested_intr_vmexit",
            Self::InjectException => "kvm_inj_exception",
            Self::InjectInterrupt => "kvm_inj_virq",
            Self::Entry => "kvm_entry",
            Self::Other => "kvm_*",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
