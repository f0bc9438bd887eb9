//! Single trace lines of KVM, for programs that read many of them.

mod arguments;
mod event;
mod exit_reason;
mod layout;
mod layouts;
mod line;
mod packed;
mod reason;
mod scanner;
mod table;
mod value;
mod walk;
mod wide;

pub use arguments::Arguments;
pub use event::Event;
pub use layouts::Layouts;
pub use line::{Columns, Line, lost_events};
pub use table::Slot;

pub(crate) use reason::{Reason, UNKNOWN, reason};
pub(crate) use scanner::Scanner;
pub(crate) use table::{Arg, Form};
pub(crate) use value::{switch, word_end};

/// The conditions that KVM prints in `kvm_nested_vmenter_failed`.
pub mod condition {
    pub use crate::refusal::{is_vmx, rules};
}
