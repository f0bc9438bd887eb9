//! The arguments that each event prints, in all versions of KVM, as tables.

use super::event::Event;
use super::packed::Packed;

impl Event {
    /// Its arguments, in the order of current kernels.
    pub(crate) const fn arguments(self) -> &'static [Arg] {
        match self {
            Self::Enter => ENTER,
            Self::Intercepts => INTERCEPTS,
            Self::Exit | Self::NestedExit => EXIT,
            Self::NestedExitInject => INJECT,
            Self::Entry => ENTRY,
            Self::NestedIntrExit
            | Self::EnterFailed
            | Self::InjectException
            | Self::InjectInterrupt
            | Self::Other => &[],
        }
    }
}

/// A value that an argument shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Slot {
    /// The virtual CPU's number.
    Vcpu,
    /// RIP: of an exit the guest's; of [`Event::Enter`] that of L1's VMRUN.
    Rip,
    /// Guest physical address of VMCB12.
    Vmcb,
    /// RIP in VMCB12, 64 bits.
    NestedRip,
    /// The field at 060h, 32 bits.
    IntCtl,
    /// EVENTINJ, its low 32 bits: of VMCB12; in [`Event::Entry`], of the VMCB that VMRUN is given.
    EventInj,
    /// ERRORCODE of EVENTINJ, 32 bits.
    EventInjError,
    /// NP_ENABLE, 0 or 1.
    NestedPaging,
    /// N_CR3 of VMCB12.
    NCr3,
    /// CR3 of VMCB12.
    Cr3,
    /// Intercepts of reads of CR0 to CR15.
    CrRead,
    /// Intercepts of writes of CR0 to CR15.
    CrWrite,
    /// Intercepts of exceptions.
    Exceptions,
    /// Intercepts at 00Ch.
    Misc1,
    /// Intercepts at 010h.
    Misc2,
    /// Intercepts at 014h.
    Misc3,
    /// EXITCODE, its low 32 bits.
    ExitCode,
    /// EXITINFO1.
    ExitInfo1,
    /// EXITINFO2.
    ExitInfo2,
    /// EXITINTINFO, its low 32 bits.
    ExitIntInfo,
    /// ERRORCODE of EXITINTINFO, 32 bits.
    ExitIntInfoError,
    /// The vector that KVM injects.
    Vector,
    /// The error code that KVM injects with an exception. Older kernels print 0 where there is none.
    ErrorCode,
    /// Of no use.
    Ignored,
}

pub(super) const SLOTS: usize = Slot::Ignored as usize + 1;

/// How a value is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// So many hexadecimal digits.
    Hex(u8),
    /// Hexadecimal, zeros in front left out, of at most so many digits.
    Free(u8),
    /// After `0x` so many digits as the kernel pads them; without it as many as trace-cmd's plugin prints.
    HexOrFree(u8),
    Decimal,
    /// `y` or `n`, `on` or `off`.
    Switch,
    /// An exit code by name or number.
    Reason,
    /// The first word of the intercepts: 8 digits, or 16 on old kernels for two words.
    Words,
    /// What only a VMX host prints.
    Vmx,
    /// Only the first word of a name of two.
    Prefix,
}

/// An argument of an event.
#[derive(Debug)]
pub(crate) struct Arg {
    pub(super) name: &'static [u8],
    start: Packed,
    /// The name ends in a mark of its own, so that the value may follow at once.
    marked: bool,
    /// What the field is called in remarks.
    pub(crate) label: &'static str,
    pub(crate) slot: Slot,
    pub(crate) form: Form,
    /// What a second value is.
    pub(crate) then: Option<&'static Arg>,
}

const fn arg(name: &'static str, label: &'static str, slot: Slot, form: Form) -> Arg {
    let bytes = name.as_bytes();
    assert!(bytes.len() <= 16);
    let marked = matches!(bytes[bytes.len() - 1], b':' | b'=');
    Arg { name: bytes, start: Packed::new(bytes), marked, label, slot, form, then: None }
}

const fn twice(first: Arg, then: &'static Arg) -> Arg {
    Arg { then: Some(then), ..first }
}

static MISC2: Arg = twice(arg("intercept2:", "intercepts (2nd word)", Slot::Misc2, Form::Hex(8)), &MISC3);
static MISC3: Arg = arg("intercept3:", "intercepts (3rd word)", Slot::Misc3, Form::Hex(8));
static INFO2: Arg = arg("info2", "info2", Slot::ExitInfo2, Form::HexOrFree(16));
const WORDS: Form = Form::Words;

static ENTER: &[Arg] = &[
    arg("rip:", "rip", Slot::Rip, Form::Hex(16)),
    arg("vmcb:", "vmcb", Slot::Vmcb, Form::Hex(16)),
    arg("nested_rip:", "nested_rip", Slot::NestedRip, Form::Hex(16)),
    arg("int_ctl:", "int_ctl", Slot::IntCtl, Form::Hex(8)),
    arg("event_inj:", "event_inj", Slot::EventInj, Form::Hex(8)),
    arg("nested_npt=", "nested_npt", Slot::NestedPaging, Form::Switch),
    arg("nested_cr3:", "nested_cr3", Slot::NCr3, Form::Hex(16)),
    arg("guest_cr3:", "guest_cr3", Slot::Cr3, Form::Hex(16)),
    arg("nrip:", "nrip", Slot::NestedRip, Form::Hex(16)),
    arg("npt:", "nested_npt", Slot::NestedPaging, Form::Switch),
    arg("nested_npt:", "nested_npt", Slot::NestedPaging, Form::Switch),
    arg("guest", "guest_cr3", Slot::Cr3, Form::Prefix),
    arg("cr3:", "guest_cr3", Slot::Cr3, Form::Hex(16)),
    arg("vmcs:", "vmcs", Slot::Ignored, Form::Vmx),
    arg("nested_ept=", "nested_ept", Slot::Ignored, Form::Vmx),
    arg("nested_ept:", "nested_ept", Slot::Ignored, Form::Vmx),
    arg("nested_eptp:", "nested_eptp", Slot::Ignored, Form::Vmx),
];

static INTERCEPTS: &[Arg] = &[
    arg("cr_read:", "cr_read", Slot::CrRead, Form::Hex(4)),
    arg("cr_write:", "cr_write", Slot::CrWrite, Form::Hex(4)),
    arg("excp:", "excp", Slot::Exceptions, Form::Hex(8)),
    twice(arg("intercepts:", "intercepts", Slot::Misc1, WORDS), &MISC2),
    twice(arg("intercept:", "intercepts", Slot::Misc1, WORDS), &MISC2),
    twice(arg("intercept1:", "intercepts", Slot::Misc1, WORDS), &MISC2),
    twice(arg("intercept2:", "intercepts (2nd word)", Slot::Misc2, Form::Hex(8)), &MISC3),
    arg("intercept3:", "intercepts (3rd word)", Slot::Misc3, Form::Hex(8)),
];

static EXIT: &[Arg] = &[
    arg("vcpu", "vcpu", Slot::Vcpu, Form::Decimal),
    arg("reason", "reason", Slot::ExitCode, Form::Reason),
    arg("rip", "rip", Slot::Rip, Form::Free(16)),
    arg("info1", "info1", Slot::ExitInfo1, Form::HexOrFree(16)),
    arg("info2", "info2", Slot::ExitInfo2, Form::HexOrFree(16)),
    arg("intr_info", "intr_info", Slot::ExitIntInfo, Form::Hex(8)),
    arg("error_code", "error_code", Slot::ExitIntInfoError, Form::Hex(8)),
    arg("requests", "requests", Slot::Ignored, Form::Hex(16)),
    twice(arg("info", "info1", Slot::ExitInfo1, Form::Free(16)), &INFO2),
    arg("rip:", "rip", Slot::Rip, Form::Hex(16)),
    arg("reason:", "reason", Slot::ExitCode, Form::Reason),
    arg("ext_inf1:", "ext_inf1", Slot::ExitInfo1, Form::Hex(16)),
    arg("ext_inf2:", "ext_inf2", Slot::ExitInfo2, Form::Hex(16)),
    arg("ext_int:", "ext_int", Slot::ExitIntInfo, Form::Hex(8)),
    arg("ext_int_err:", "ext_int_err", Slot::ExitIntInfoError, Form::Hex(8)),
    arg("int_info", "int_info", Slot::ExitIntInfo, Form::Free(8)),
    arg("int_info_err", "int_info_err", Slot::ExitIntInfoError, Form::Free(8)),
];

static INJECT: &[Arg] = &[
    arg("reason:", "reason", Slot::ExitCode, Form::Reason),
    arg("ext_inf1:", "ext_inf1", Slot::ExitInfo1, Form::Hex(16)),
    arg("ext_inf2:", "ext_inf2", Slot::ExitInfo2, Form::Hex(16)),
    arg("ext_int:", "ext_int", Slot::ExitIntInfo, Form::Hex(8)),
    arg("ext_int_err:", "ext_int_err", Slot::ExitIntInfoError, Form::Hex(8)),
    arg("reason", "reason", Slot::ExitCode, Form::Reason),
    arg("info1", "info1", Slot::ExitInfo1, Form::Free(16)),
    arg("info2", "info2", Slot::ExitInfo2, Form::Free(16)),
    arg("int_info", "int_info", Slot::ExitIntInfo, Form::Free(8)),
    arg("int_info_err", "int_info_err", Slot::ExitIntInfoError, Form::Free(8)),
];

static ENTRY: &[Arg] = &[
    arg("vcpu", "vcpu", Slot::Vcpu, Form::Decimal),
    arg("rip", "rip", Slot::Rip, Form::Free(16)),
    arg("intr_info", "intr_info", Slot::EventInj, Form::Hex(8)),
    arg("error_code", "error_code", Slot::EventInjError, Form::Hex(8)),
];

impl Arg {
    /// Whether the name stands at the start of `rest`. Keys compare inline where the text is long enough.
    #[inline]
    pub(super) fn begins(&self, rest: &[u8], head: Option<u128>) -> bool {
        let same = match head {
            Some(head) => self.start.is_in(head),
            None => rest.starts_with(self.name),
        };
        same && (self.marked || rest.get(self.name.len()).is_none_or(|&byte| byte <= b' '))
    }
}
