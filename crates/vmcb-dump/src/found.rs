//! What a reader returns: a VMCB with the places of its fields, and remarks about the input.

mod notes;
mod place;
mod remark;
mod vmcb;

pub(crate) use self::notes::Notes;
pub use self::place::{Line, Place};
pub use self::remark::{Remark, RemarkKind};
pub use self::vmcb::{Found, Refusal, Refuser, Seen, VmType};
