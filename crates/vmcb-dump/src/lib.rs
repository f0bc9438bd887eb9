#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod decode;
mod error;
mod exit_reason;
mod foreign;
mod found;
mod guest_view;
mod hex_dump;
mod kind;
mod kvm_dump;
mod kvm_labels;
mod kvm_nested_state;
mod kvm_trace;
mod lines;
mod number;
mod page;
mod prefix;
mod qemu_log;
mod qemu_registers;
mod reader;
mod refusal;
mod trace_layout;
mod trace_line;
mod xen_checks;
mod xen_dump;
mod xen_labels;

pub use error::Error;
pub use found::{Found, Line, Place, Refusal, Refuser, Remark, RemarkKind, Seen, VmType};
pub use kind::Kind;
pub use reader::{Reader, read_all};

/// Single trace lines of KVM, for those who read many of them.
pub mod trace {
    pub use crate::trace_layout::Layouts;
    pub use crate::trace_line::{Arguments, Columns, Event, Line, Slot, lost_events};

    /// The conditions that KVM prints in `kvm_nested_vmenter_failed`.
    pub mod condition {
        pub use crate::kvm_trace::is_vmx_condition as is_vmx;
        pub use crate::refusal::rules;
    }
}

/// Ids of the rules that a [`Refusal`] can name, each possibly more than once.
///
/// # Examples
/// ```
/// assert!(vmcb_dump::refusal_rules().any(|id| id == "ctl-asid-zero"));
/// ```
pub fn refusal_rules() -> impl Iterator<Item = &'static str> {
    refusal::all()
}

/// VMCBs that are complete.
type Out = std::collections::VecDeque<Found>;

/// What a format made of a line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// Nothing.
    No,
    /// It goes on with what is open, or is of no use to anyone else.
    Yes,
    /// A VMCB begins with it, so those of other formats have ended.
    Began,
}

/// A text format. To read another one, add a module with it and name it in `reader::formats`.
trait Format {
    /// Offers a line; VMCBs that it completes go to `out`.
    fn offer(&mut self, line: &lines::Text<'_>, out: &mut Out) -> Taken;

    /// Takes a line that is the rest of what is open, whatever else it looks like; `false` if it is not.
    fn claims(&mut self, _line: &lines::Text<'_>) -> bool {
        false
    }

    /// No further line belongs to what is open.
    fn finish(&mut self, out: &mut Out);

    /// Someone cut lines out here: no label that waits for its value gets one any more.
    fn cut(&mut self) {}

    /// The first line that shows VMX in this format, and what it is.
    fn vmx(&self) -> Option<(u64, &'static str)> {
        None
    }
}
