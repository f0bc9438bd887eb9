//! Remarks about the input.

use super::place::Place;
use std::fmt;

/// Something about the input that the reader of a verdict should know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remark {
    /// What it is.
    pub kind: RemarkKind,
    /// Where it was met.
    pub place: Place,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

/// The remarks that readers make.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RemarkKind {
    /// A label that this version does not know; its value was left out.
    UnknownLabel {
        /// The label.
        label: String,
    },
    /// A field was shown twice with the same value.
    Duplicate {
        /// The field.
        name: &'static str,
    },
    /// A field was shown with different values: it counts as unknown.
    Contradiction {
        /// The field.
        name: &'static str,
        /// The value shown first.
        first: u64,
        /// The value that differs from it.
        second: u64,
    },
    /// Lines of two dumps are mixed, as where two CPUs print at once: fields of which nothing tells whose they
    /// are count as unknown.
    DumpsMixed {
        /// How many; the remark stands at the first.
        count: u64,
    },
    /// KVM's own copy of a register differs from the VMCB's; the VMCB's was taken.
    CopyDiffers {
        /// The register.
        name: &'static str,
        /// What the save area shows.
        saved: u64,
        /// What KVM's list of general registers shows.
        copy: u64,
    },
    /// More digits than the field has: it counts as unknown.
    NumberTooLong {
        /// The field.
        name: &'static str,
        /// Digits found.
        digits: usize,
        /// Digits expected.
        expected: usize,
    },
    /// Fewer digits than the kernel prints, so that some may have been cut off: it counts as unknown.
    NumberTooShort {
        /// The field.
        name: &'static str,
        /// Digits found.
        digits: usize,
        /// Digits expected.
        expected: usize,
    },
    /// Not a number: the field counts as unknown.
    NotANumber {
        /// The field.
        name: &'static str,
        /// What stands there, shortened.
        text: String,
    },
    /// A number that does not fit into the field: it counts as unknown.
    OutOfRange {
        /// The field.
        name: &'static str,
        /// Size of the field in bytes.
        size: u16,
    },
    /// A label without a value.
    NoValue {
        /// The field.
        name: &'static str,
    },
    /// The input ends within or right after this number, so that digits may be missing: the field
    /// counts as unknown.
    MaybeCut {
        /// The field.
        name: &'static str,
    },
    /// The line ends with this number where it does not usually end, or others of its length were cut, so that
    /// digits may be missing: the field counts as unknown.
    LineMaybeCut {
        /// The field.
        name: &'static str,
    },
    /// The debug key asked for the dump, and it does not stop the virtual CPU: the dump shows what the last #VMEXIT wrote and what Xen
    /// has written since for the next VMRUN.
    XenMayHaveChanged,
    /// The registers that VMRUN leaves to VMLOAD may be newer in the CPU than in the dump.
    VmsaveStateMaybeStale,
    /// Which VMCB of a nested VMRUN Xen checked.
    XenChecked {
        /// Its own words for the VMCB.
        vmcb: &'static str,
        /// The VMCB, as AMD's and KVM's people call it.
        meaning: &'static str,
    },
    /// The dump does not begin where dumps begin.
    BeginsAt {
        /// The first field shown.
        name: &'static str,
    },
    /// The dump ends before its usual end.
    EndsAfter {
        /// The last field shown.
        name: &'static str,
    },
    /// Values stood on the line after their label, as mail programs wrap them, and were joined to it.
    WrapJoined {
        /// How many; the remark stands at the first.
        count: u64,
    },
    /// The save area shown is the decrypted VMSA; the VMCB's own save area is not used by such a guest.
    VmsaShown,
    /// The guest's registers are in an encrypted VMSA that the dump does not show.
    VmsaNotShown,
    /// The guest's registers are in an encrypted VMSA, and the save area that this kernel prints is not
    /// that one: it was left out.
    SaveAreaMeaningless,
    /// Bytes of the page are missing from a hex dump.
    BytesMissing {
        /// Offset in the page of the first one.
        first: u16,
        /// How many.
        count: u16,
    },
    /// The hex dump repeats a row over more pages than are handed out; the pages between are left out.
    RepeatTooLong {
        /// Pages left out.
        pages: u64,
    },
    /// Pages of which little is shown are no longer handed out of this input.
    SparsePagesLeftOut,
    /// A register dump shows the guest's view: only what must be the same in the VMCB was taken.
    GuestView,
    /// Lines of two register dumps mingle, or may: nothing was taken of them.
    DumpsMingle,
    /// The CPU was in system management mode.
    SystemManagementMode,
    /// KVM gave up on an instruction or an event: no refusal by VMRUN.
    KvmInternalError {
        /// Its number for the reason.
        suberror: u32,
    },
    /// KVM said that VMRUN failed.
    EntryFailed {
        /// The exit code.
        code: i64,
    },
    /// KVM's nested state shows only a part of the VMCB.
    NestedState {
        /// VMRUN has been accepted but not yet carried out, so EVENTINJ is as VMRUN found it.
        pending: bool,
    },
    /// The hex dump has no offsets, so its groups are taken for numbers, as `od` prints them.
    NumbersAssumed,
    /// More stands behind a nested state in the same hex dump, and is not read.
    BehindNestedState,
    /// Nothing in the hex dump tells whether its groups are printed low byte first or high byte first: bytes
    /// that are not the same in both orders count as unknown.
    ByteOrderUnknown,
    /// A line was longer than lines are read; the rest was skipped.
    LineTooLong,
    /// More lines than are kept for quoting.
    LinesNotKept {
        /// How many were read but not kept.
        count: u64,
    },
    /// More remarks than are kept.
    RemarksNotKept {
        /// How many were dropped.
        count: u64,
    },
}

impl fmt::Display for RemarkKind {
    #[expect(clippy::too_many_lines, reason = "one message per kind of remark")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownLabel { label } => write!(f, "`{label}` is no label that this version knows; left out"),
            Self::Duplicate { name } => write!(f, "`{name}` is shown twice, with the same value"),
            Self::Contradiction { name, first, second } => {
                write!(f, "`{name}` is shown as {first:#x} and as {second:#x}; taken as unknown")
            }
            Self::DumpsMixed { count } => write!(
                f,
                "lines of two dumps may be mixed here; {count} fields may be of either and are taken as unknown"
            ),
            Self::CopyDiffers { name, saved, copy } => write!(
                f,
                "`{name}` is {saved:#x} in the save area and {copy:#x} among the general registers; the save area was taken"
            ),
            Self::NumberTooLong { name, digits, expected } => {
                write!(f, "`{name}` has {digits} digits where {expected} are printed; taken as unknown")
            }
            Self::NumberTooShort { name, digits, expected } => write!(
                f,
                "`{name}` has {digits} digits where {expected} are printed, so some may be cut off; taken as unknown"
            ),
            Self::NotANumber { name, text } => write!(f, "`{name}`: `{text}` is not its number; taken as unknown"),
            Self::OutOfRange { name, size } => {
                write!(f, "`{name}` does not fit into its {size} bytes; taken as unknown")
            }
            Self::NoValue { name } => write!(f, "`{name}` has no value"),
            Self::MaybeCut { name } => {
                write!(f, "the input ends with the value of `{name}`, which may be cut off; taken as unknown")
            }
            Self::LineMaybeCut { name } => {
                write!(f, "the value of `{name}` may have lost its end with the line's; taken as unknown")
            }
            Self::XenMayHaveChanged => f.write_str(
                "Xen's debug key does not stop the vCPU: the dump shows what the last #VMEXIT wrote and what Xen has \
                 written since for the next VMRUN",
            ),
            Self::VmsaveStateMaybeStale => f.write_str(
                "FS, GS, LDTR, TR and the registers of SYSCALL are as the last VMSAVE wrote them; the CPU may hold newer \
                 ones, which VMRUN does not look at",
            ),
            Self::XenChecked { vmcb, meaning } => write!(f, "Xen says `{vmcb}`: it checked {meaning}"),
            Self::BeginsAt { name } => write!(f, "the dump begins with `{name}`: what comes before it is missing"),
            Self::EndsAfter { name } => write!(f, "the dump ends after `{name}`: the rest is missing"),
            Self::WrapJoined { count: 1 } => f.write_str("a value stands on the line after its label; joined"),
            Self::WrapJoined { count } => {
                write!(f, "{count} values stand on the line after their label; joined")
            }
            Self::VmsaShown => {
                f.write_str("the save area shown is the guest's decrypted VMSA, not the save area of the VMCB")
            }
            Self::VmsaNotShown => {
                f.write_str("the guest's registers are in an encrypted VMSA, which the dump does not show")
            }
            Self::SaveAreaMeaningless => f.write_str(
                "the guest's registers are in an encrypted VMSA; the save area that this kernel prints is not used and was left out",
            ),
            Self::BytesMissing { first, count } => {
                write!(f, "{count} of the page's 4096 bytes are not shown, the first at {first:#05x}")
            }
            Self::RepeatTooLong { pages } => write!(f, "a repeated row covers {pages} more pages; left out"),
            Self::SparsePagesLeftOut => f.write_str(
                "the input has very many pages of which it shows only a few rows; further ones are left out",
            ),
            Self::GuestView => f.write_str(
                "a register dump shows the guest's view, not the VMCB; what KVM may have changed there (CR2, CR3, DR6, \
                 DR7, FS, GS, LDTR, TR, some bits of others) is left unknown, and if the guest's registers are \
                 encrypted (SEV-ES) or the host is Intel's, the dump tells nothing",
            ),
            Self::DumpsMingle => f.write_str(
                "a register dump breaks off where another begins, or lines of two mingle; nothing was taken",
            ),
            Self::SystemManagementMode => {
                f.write_str("the CPU is in system management mode; its registers are the SMI handler's")
            }
            Self::KvmInternalError { suberror } => write!(
                f,
                "KVM stopped with internal error {suberror}, which is its own emulation's, no refusal by VMRUN"
            ),
            Self::EntryFailed { code } => write!(f, "KVM told QEMU that VMRUN failed with exit code {code}"),
            Self::NestedState { pending } => write!(
                f,
                "KVM keeps of this VMCB only a part of the control area{}; what stands where the save area is are \
                 the registers of the VMCB's owner, not its guest's, and was left out",
                if *pending { ", with EVENTINJ as VMRUN found it" } else { "" }
            ),
            Self::NumbersAssumed => f.write_str(
                "nothing tells the byte order of the groups; read as od prints them, as numbers: highest address first",
            ),
            Self::BehindNestedState => f.write_str(
                "what stands behind KVM's nested state in a hex dump is not read; turn it into bytes (xxd -r) first",
            ),
            Self::ByteOrderUnknown => f.write_str(
                "nothing tells the byte order of the groups; bytes that differ in the two orders are taken as unknown",
            ),
            Self::LineTooLong => f.write_str("the line is too long; the rest of it was skipped"),
            Self::LinesNotKept { count } => write!(f, "{count} more lines were read but are not kept for quoting"),
            Self::RemarksNotKept { count } => write!(f, "{count} more remarks were dropped"),
        }
    }
}
