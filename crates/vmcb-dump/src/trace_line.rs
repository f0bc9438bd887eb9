//! One trace line of KVM, read without allocating.
//!
//! tracefs, `trace-cmd report` and `perf script` put columns before an event's name, each its own; the kernel
//! prints the arguments, and has printed them in several ways since 2.6.3x. trace-cmd and perf print some events
//! by a plugin of their own instead.

use crate::exit_reason;
use crate::number::digit;
use crate::trace_layout::{Layout, Slots};
use memchr::{memchr, memmem, memrchr};
use std::fmt;
use std::ops::Range;
use vmcb::ExitCode;

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
static EVENTS: [Name; 11] = [
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
struct Name {
    text: &'static [u8],
    /// Its first bytes.
    start: Packed,
    /// Its last bytes, where it has more than 16.
    end: Packed,
    event: Event,
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

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
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

const SLOTS: usize = Slot::Ignored as usize + 1;

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

/// The first 16 bytes of a text, which are compared at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packed {
    key: u128,
    mask: u128,
}

impl Packed {
    pub(crate) const fn new(text: &[u8]) -> Self {
        let (mut key, mut mask, mut index) = (0, 0, 0);
        while index < text.len() && index < 16 {
            key |= (text[index] as u128) << (index * 8);
            mask |= 0xFF << (index * 8);
            index += 1;
        }
        Self { key, mask }
    }

    /// Whether the bytes of `head` begin with them.
    #[inline]
    pub(crate) const fn is_in(self, head: u128) -> bool {
        head & self.mask == self.key
    }
}

/// An argument of an event.
#[derive(Debug)]
pub(crate) struct Arg {
    name: &'static [u8],
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
    fn begins(&self, rest: &[u8], head: Option<u128>) -> bool {
        let same = match head {
            Some(head) => self.start.is_in(head),
            None => rest.starts_with(self.name),
        };
        same && (self.marked || rest.get(self.name.len()).is_none_or(|&byte| byte <= b' '))
    }
}

/// Walks over the arguments of one event, which may go on in further lines.
#[derive(Debug)]
pub(crate) struct Scanner {
    table: &'static [Arg],
    /// Position in the table of the argument that should come next.
    expected: usize,
    /// The argument whose value is awaited.
    pub(crate) pending: Option<&'static Arg>,
    /// `guest` of a `guest cr3:` that some versions printed.
    guest: bool,
    /// An argument of VMX stood there.
    pub(crate) vmx: bool,
}

impl Scanner {
    #[inline]
    pub(crate) fn new(event: Event) -> Self {
        Self { table: event.arguments(), expected: 0, pending: None, guest: false, vmx: false }
    }

    /// No value comes any more for the argument that waits for one, and another event's arguments may come.
    pub(crate) fn change(&mut self, event: Event) {
        *self = Self { vmx: self.vmx, ..Self::new(event) };
    }

    /// The argument whose name stands at the start of `rest`.
    #[inline]
    fn argument(&mut self, rest: &[u8]) -> Option<&'static Arg> {
        if !rest.first()?.is_ascii_lowercase() {
            return None;
        }
        let head = rest.first_chunk().map(|bytes| u128::from_le_bytes(*bytes));
        let guest = self.guest;
        let fits = |arg: &&Arg| arg.begins(rest, head) && (guest || arg.name != b"cr3:");
        if let Some(arg) = self.table.get(self.expected).filter(fits) {
            self.expected += 1;
            return Some(arg);
        }
        let index = self.table.iter().position(|arg| fits(&arg))?;
        self.expected = index + 1;
        self.table.get(index)
    }

    /// The next argument that has a value; `at` is then where the value begins. `None` at the end of the line.
    #[inline]
    pub(crate) fn next(&mut self, text: &[u8], at: &mut usize) -> Option<&'static Arg> {
        loop {
            // Whatever ends a word separates words, so that each round goes on.
            while text.get(*at).is_some_and(|&byte| byte <= b' ') {
                *at += 1;
            }
            let rest = text.get(*at..).filter(|rest| !rest.is_empty())?;
            if let Some(arg) = self.pending.take_if(|arg| arg.form == Form::Reason) {
                return Some(arg);
            }
            if let Some(arg) = self.argument(rest) {
                *at += arg.name.len();
                match arg.form {
                    Form::Prefix => self.guest = true,
                    Form::Vmx => {
                        self.vmx = true;
                        self.pending = None;
                    }
                    _ => self.pending = Some(arg),
                }
                continue;
            }
            if let Some(arg) = self.pending.take() {
                return Some(arg);
            }
            *at = word_end(text, *at);
        }
    }

    /// Whether a line that begins with `message` goes on with the arguments.
    pub(crate) fn goes_on(&mut self, message: &[u8]) -> bool {
        let expected = self.expected;
        let named = self.argument(message).is_some();
        self.expected = expected;
        let word = message.split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
        let hex = !word.is_empty() && word.iter().all(u8::is_ascii_hexdigit);
        named
            || self.pending.is_some_and(|arg| match arg.form {
                Form::Switch => switch(word).is_some(),
                Form::Decimal => hex,
                Form::Reason => {
                    word.starts_with(b"0x")
                        || word.starts_with(b"(")
                        || word == UNKNOWN
                        || exit_reason::by_name(word).is_some()
                }
                _ if arg.slot as u8 >= Slot::CrRead as u8 => hex || word.starts_with(b"0x"),
                _ => word.starts_with(b"0x"),
            })
    }
}

/// The end of the word that begins at `at`.
#[inline]
pub(crate) fn word_end(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    at + rest.iter().position(|&byte| byte <= b' ').unwrap_or(rest.len())
}

/// The value of a `y`, `n`, `on` or `off`.
pub(crate) fn switch(word: &[u8]) -> Option<u64> {
    match word {
        b"y" | b"on" => Some(1),
        b"n" | b"off" => Some(0),
        _ => None,
    }
}

/// An exit code as trace lines print it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reason {
    /// The low half of EXITCODE.
    Code(u32),
    /// A name that only VMX has.
    Vmx,
    Unknown,
}

/// What the plugin of trace-cmd and perf prints before the number of a reason without a name: `UNKNOWN (1027)`.
pub(crate) const UNKNOWN: &[u8] = b"UNKNOWN";

/// Reads a reason, and where it ends.
#[inline]
pub(crate) fn reason(text: &[u8], at: usize) -> (Reason, usize) {
    let end = word_end(text, at);
    let word = text.get(at..end).unwrap_or_default();
    if word.len() == 2 && text.get(end..).is_some_and(|rest| rest.starts_with(b" excp")) {
        let end = end + " excp".len();
        let code = text.get(at..end).and_then(exit_reason::by_name);
        return (code.map_or(Reason::Unknown, Reason::Code), end);
    }
    if let Some(code) = exit_reason::by_name(word) {
        return (Reason::Code(code), end);
    }
    if let Some(digits) = word.strip_prefix(b"0x") {
        let (value, used) = hex(digits);
        // The kernel prints what its field holds: 32 bits, in newer ones 64.
        let whole = used == digits.len() && (1..=16).contains(&used);
        let code = (value >> 32 == 0 || ExitCode::from_bits(value).is_failure()).then_some(value as u32);
        return (code.filter(|_| whole).map_or(Reason::Unknown, Reason::Code), end);
    }
    if word == UNKNOWN || word.starts_with(b"(") {
        // A mail program may have put the number on the next line.
        let open = if word == UNKNOWN { end + 1 } else { at };
        let number = text.get(open..).and_then(|rest| rest.strip_prefix(b"(")).unwrap_or_default();
        let close = memchr(b')', number.get(..number.len().min(11)).unwrap_or_default());
        if let Some(digits) = close.and_then(|close| number.get(..close)) {
            let code = decimal(digits).filter(|_| !digits.is_empty());
            return (code.map_or(Reason::Unknown, Reason::Code), open + digits.len() + 2);
        }
        return (Reason::Unknown, end);
    }
    let vmx = word.first().is_some_and(u8::is_ascii_uppercase)
        && word.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_')
        && !word.starts_with(b"EXIT_");
    (if vmx { Reason::Vmx } else { Reason::Unknown }, end)
}

/// The number that `text` begins with, and its digits; more than 16 make no number.
#[inline]
pub(crate) fn hex(text: &[u8]) -> (u64, usize) {
    let (mut value, mut used) = (0, 0);
    while used < 16
        && let Some(number) = text.get(used..).and_then(<[u8]>::first_chunk).and_then(|eight| digits(*eight))
    {
        value = value << 32 | u64::from(number);
        used += 8;
    }
    while used < 17
        && let Some(digit) = text.get(used).and_then(|&byte| digit(byte))
    {
        value = value << 4 | u64::from(digit);
        used += 1;
    }
    (value, used)
}

/// The value of eight hexadecimal digits, all at once.
#[inline]
pub(crate) fn digits(bytes: [u8; 8]) -> Option<u32> {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let text = u64::from_be_bytes(bytes);
    let values = nibbles(text);
    let letters = (values + EACH * 6) >> 4 & EACH;
    // Written again they are what was read, in small letters; the letters after f would be more than 15.
    let again = values + EACH * u64::from(b'0') + letters * u64::from(b'a' - b'9' - 1);
    let read = text | (text >> 6 & EACH) << 5;
    ((again ^ read) | (values & (EACH * 0xF0)) == 0).then(|| joined(values))
}

/// The same of eight that are known to be digits.
#[inline(always)]
pub(crate) fn value_of(digits: [u8; 8]) -> u32 {
    joined(nibbles(u64::from_be_bytes(digits)))
}

/// What each of eight digits is worth, in a byte each.
#[inline(always)]
const fn nibbles(text: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    // Letters have bit 6.
    (text & (EACH * 0x0F)) + (text >> 6 & EACH) * 9
}

#[inline(always)]
const fn joined(nibbles: u64) -> u32 {
    let pairs = (nibbles | nibbles >> 4) & 0x00FF_00FF_00FF_00FF;
    let fours = (pairs | pairs >> 8) & 0x0000_FFFF_0000_FFFF;
    (fours | fours >> 16) as u32
}

/// A decimal number of at most 32 bits; an empty one is 0.
#[inline]
pub(crate) fn decimal(digits: &[u8]) -> Option<u32> {
    if digits.len() > 9 {
        return long_decimal(digits);
    }
    let mut value = 0;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u32::from(digit);
    }
    Some(value)
}

#[cold]
fn long_decimal(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?.parse().ok()
}

/// What stands before an event's name. What a tool does not print is empty or `None`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Columns<'a> {
    /// The task's name.
    pub task: &'a [u8],
    /// Its number: of KVM's events, that of the thread that runs the virtual CPU.
    pub pid: Option<u32>,
    /// The CPU that it ran on.
    pub cpu: Option<u32>,
    /// tracefs' flags, `d..2.` and the like.
    pub flags: &'a [u8],
    /// Seconds, as printed.
    pub time: &'a [u8],
}

/// A trace line.
///
/// # Examples
/// ```
/// use vmcb_dump::trace::{Event, Line, Slot};
/// let text = b"CPU 0/KVM-1234 [003] d..2. 54.665919: kvm_nested_vmenter: rip: 0x0000000000100142 \
///     vmcb: 0x000000000010a000 nested_rip: 0x00000000001003b0 int_ctl: 0x00000000 event_inj: 0x80000b0e";
/// let line = Line::parse(text).expect("a trace line");
/// assert_eq!(line.event(), Event::Enter);
/// assert_eq!(line.columns().pid, Some(1234));
/// assert_eq!(line.arguments().get(Slot::EventInj), Some(0x8000_0b0e));
/// assert_eq!(line.arguments().get(Slot::NCr3), None);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    event: Event,
    text: &'a [u8],
    name: usize,
    arguments: usize,
}

impl<'a> Line<'a> {
    /// The event of a line, which may be anything: `None` if it is no trace line of KVM.
    #[must_use]
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        // A task may be called kvm_something.
        memmem::find_iter(text, b"kvm_").find_map(|name| Self::parse_at(text, name))
    }

    /// The same where it is known that a `kvm_` stands at `name`.
    #[must_use]
    // In a register each, and not by way of memory: this is asked of each line of a trace.
    #[inline(always)]
    pub fn parse_at(text: &'a [u8], name: usize) -> Option<Self> {
        let rest = text.get(name + "kvm_".len()..)?;
        let word = |at: usize| rest.get(at..)?.first_chunk().map(|bytes| u128::from_le_bytes(*bytes));
        let head = word(0);
        let known = EVENTS.iter().find(|known| match head {
            Some(head) => {
                let length = known.text.len();
                known.start.is_in(head)
                    && (length <= 16 || word(length - 16).is_some_and(|last| known.end.is_in(last)))
            }
            None => rest.starts_with(known.text),
        });
        let (event, length) = match known {
            Some(known) => (known.event, known.text.len()),
            None => (Event::Other, other(rest)?),
        };
        Some(Self { event, text, name, arguments: name + "kvm_".len() + length })
    }

    /// The event.
    #[must_use]
    pub const fn event(&self) -> Event {
        self.event
    }

    /// The bytes of the event's name.
    #[must_use]
    pub fn name(&self) -> Range<usize> {
        self.name..self.arguments.saturating_sub(1)
    }

    /// The same event of a line that was looked for in a longer text, if its name stands in the line.
    #[inline]
    pub(crate) fn within(self, line: Range<usize>) -> Option<Self> {
        let (name, arguments) = (self.name.checked_sub(line.start)?, self.arguments - line.start);
        let text = self.text.get(line)?;
        (arguments <= text.len()).then_some(Self { text, name, arguments, ..self })
    }

    /// The whole line.
    #[must_use]
    pub const fn text(&self) -> &'a [u8] {
        self.text
    }

    /// Where the arguments begin.
    pub(crate) const fn start(&self) -> usize {
        self.arguments
    }

    /// The condition of [`Event::EnterFailed`]: the bytes after the name, without spaces around.
    #[must_use]
    pub fn condition(&self) -> &'a [u8] {
        self.text.get(self.arguments..).unwrap_or_default().trim_ascii()
    }

    /// The numbers of the task and of the CPU, as in [`Self::columns`].
    #[must_use]
    #[inline]
    pub fn ids(&self) -> (Option<u32>, Option<u32>) {
        let (columns, _) = self.task();
        (columns.pid, columns.cpu)
    }

    /// What stands before the name.
    #[must_use]
    pub fn columns(&self) -> Columns<'a> {
        let (mut columns, after) = self.task();
        let mut words = after.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let last = words.next_back().and_then(|word| word.strip_suffix(b":"));
        columns.time = last.unwrap_or_default();
        columns.flags = words.next().unwrap_or_default();
        columns
    }

    /// The columns up to the CPU, and what stands after it.
    #[inline]
    fn task(&self) -> (Columns<'a>, &'a [u8]) {
        let head = self.text.get(..self.name).unwrap_or_default();
        let head = head.strip_suffix(b"kvm:").unwrap_or(head);
        let mut columns = Columns::default();
        let bracket = memrchr(b']', head).and_then(|close| {
            let open = memrchr(b'[', head.get(..close)?)?;
            let digits = head.get(open + 1..close)?;
            Some((open, close, decimal(digits).filter(|_| !digits.is_empty())?))
        });
        let Some((open, close, cpu)) = bracket else { return (columns, b"") };
        columns.cpu = Some(cpu);
        let mut task = head.get(..open).unwrap_or_default().trim_ascii_end();
        // tracefs' option record-tgid: `(  1234)`.
        if let Some(group) = task.strip_suffix(b")").and_then(|task| memrchr(b'(', task)) {
            task = task.get(..group).unwrap_or_default().trim_ascii_end();
        }
        let digits = task.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let (before, number) = task.split_at(task.len() - digits);
        if let Some((b'-' | b' ' | b'/', before)) = before.split_last() {
            columns.pid = decimal(number).filter(|_| digits > 0);
            // perf prints `4321/4322` where it is asked for both.
            let slashed = before.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
            let cut = if task.get(before.len()) == Some(&b'/') { slashed } else { 0 };
            columns.task = before.get(..before.len() - cut).unwrap_or_default().trim_ascii();
        }
        (columns, head.get(close + 1..).unwrap_or_default())
    }

    /// The arguments. What a line does not show whole, shows twice with different values, or shows as no
    /// number, is not known.
    #[must_use]
    #[inline]
    pub fn arguments(&self) -> Arguments {
        let mut found = Arguments::NONE;
        self.read(&mut found);
        found
    }

    /// The same into `found`, which holds nothing yet.
    pub(crate) fn read(&self, found: &mut Arguments) {
        match self.event {
            Event::InjectInterrupt | Event::InjectException => self.injected(found),
            event if event.arguments().is_empty() => {}
            _ => {
                self.walk(found, &mut Layout::default(), Slots::default());
            }
        }
    }

    /// `irq 54`, `IRQ 0x36 [reinjected]`, `Soft/INTn 0x80`; `#GP (0x18)`, `#UD [reinjected]`, `0x1f (0x0)`.
    fn injected(&self, found: &mut Arguments) {
        let mut words = self.condition().split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let first = words.next().unwrap_or_default();
        let prefixed = |word: &[u8]| {
            let digits = word.strip_prefix(b"0x")?;
            let (value, used) = hex(digits);
            (used == digits.len() && (1..=8).contains(&used)).then_some(value)
        };
        let vector = match first {
            b"irq" => words.next().filter(|word| !word.is_empty()).and_then(decimal).map(u64::from),
            b"IRQ" => words.next().and_then(prefixed),
            b"Soft/INTn" => {
                found.soft = true;
                words.next().and_then(prefixed)
            }
            name => prefixed(name).or_else(|| exit_reason::exception(name)),
        };
        if let Some(vector) = vector.filter(|&vector| vector <= 0xFF) {
            found.learn(Slot::Vector, vector);
        }
        for word in words {
            if word == b"[reinjected]" {
                found.reinjected = true;
            } else if let Some(code) = word.strip_prefix(b"(").and_then(|word| word.strip_suffix(b")"))
                && let Some(code) = prefixed(code)
            {
                found.learn(Slot::ErrorCode, code);
            }
        }
    }
}

/// The length of the name of another event that `rest` begins with, and of the colon after it.
fn other(rest: &[u8]) -> Option<usize> {
    let length = memchr(b':', rest.get(..rest.len().min(48))?)?;
    let word = rest.get(..length)?;
    // `kvm_amd:` and its like begin messages of the kernel log.
    let named = !matches!(word, b"amd" | b"intel")
        && !word.is_empty()
        && word.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_');
    named.then_some(length + 1)
}

/// A hexadecimal number with or without `0x`, if `fits` takes its digits, and its length.
#[inline]
pub(crate) fn number(rest: &[u8], fits: impl Fn(usize, bool) -> bool) -> Option<(u64, usize)> {
    let digits = rest.strip_prefix(b"0x");
    let (value, used) = hex(digits.unwrap_or(rest));
    let length = used + if digits.is_some() { 2 } else { 0 };
    let ends = match rest.get(length) {
        None => true,
        Some(&byte) => byte <= b' ' || byte == b'[',
    };
    (ends && used <= 16 && fits(used, digits.is_some())).then_some((value, length))
}

/// What the arguments of one line show.
#[derive(Clone, Copy, Debug)]
pub struct Arguments {
    /// Those that are not known are those of lines before.
    values: [u64; SLOTS],
    known: u32,
    /// Shown with different values.
    doubtful: u32,
    /// The line is one of VMX.
    pub(crate) vmx: bool,
    soft: bool,
    reinjected: bool,
}

impl PartialEq for Arguments {
    fn eq(&self, other: &Self) -> bool {
        let marks = |one: &Self| (one.vmx, one.soft, one.reinjected);
        marks(self) == marks(other) && self.shown().eq(other.shown())
    }
}

impl Eq for Arguments {}

impl Arguments {
    pub(crate) const NONE: Self =
        Self { values: [0; SLOTS], known: 0, doubtful: 0, vmx: false, soft: false, reinjected: false };

    /// Nothing is shown.
    #[must_use]
    pub const fn none() -> Self {
        Self::NONE
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        let Self { values: _, known, doubtful, vmx, soft, reinjected } = self;
        (*known, *doubtful) = (0, 0);
        (*vmx, *soft, *reinjected) = (false, false, false);
    }

    /// Forgets what is not wanted.
    #[inline]
    pub(crate) const fn keep(&mut self, wanted: Slots) {
        self.known &= wanted.bits();
    }

    /// A value, if the line shows it.
    #[must_use]
    #[inline]
    pub fn get(&self, slot: Slot) -> Option<u64> {
        (self.known & !self.doubtful & 1 << slot as u8 != 0)
            .then(|| self.values.get(slot as usize).copied())
            .flatten()
    }

    /// What the line shows, slot by slot.
    fn shown(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let known = self.known & !self.doubtful;
        self.values.iter().copied().enumerate().filter(move |&(slot, _)| known & 1 << slot != 0)
    }

    /// The exit code. Trace lines show its low half; [`ExitCode::from_low_half`] says what that means.
    #[must_use]
    pub fn exit_code(&self) -> Option<ExitCode> {
        self.get(Slot::ExitCode).map(|low| ExitCode::from_low_half(low as u32))
    }

    /// Whether the line is one of VMX, whose numbers mean other things.
    #[must_use]
    pub const fn is_vmx(&self) -> bool {
        self.vmx
    }

    /// Whether KVM injects a software interrupt.
    #[must_use]
    pub const fn is_soft(&self) -> bool {
        self.soft
    }

    /// Whether KVM says that it injects this again.
    #[must_use]
    pub const fn is_reinjected(&self) -> bool {
        self.reinjected
    }

    /// A value that no other may contradict.
    #[inline]
    pub(crate) fn set(&mut self, slot: Slot, value: u64) {
        if let Some(place) = self.values.get_mut(slot as usize) {
            *place = value;
            self.known |= 1 << slot as u8;
        }
    }

    #[inline]
    pub(crate) fn learn(&mut self, slot: Slot, value: u64) {
        let bit = 1 << slot as u8;
        let Some(place) = self.values.get_mut(slot as usize) else { return };
        if self.known & bit == 0 {
            *place = value;
            self.known |= bit;
        } else if *place != value {
            self.doubtful |= bit;
        }
    }
}

/// Whether a line says that the tracer lost events, and of which CPU: `CPU:3 [LOST 17 EVENTS]` of tracefs,
/// `CPU:3 [17 EVENTS DROPPED]` of trace-cmd. `Some(None)` where it names no CPU.
#[must_use]
pub fn lost_events(line: &[u8]) -> Option<Option<u32>> {
    let open = memchr(b'[', line)?;
    let text = line.get(open..)?;
    let lost = text.starts_with(b"[LOST ") && memmem::find(text, b" EVENTS]").is_some();
    if !lost && memmem::find(text, b"EVENTS DROPPED]").is_none() {
        return None;
    }
    let head = line.get(..open)?.trim_ascii_end();
    let digits = head.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (before, number) = head.split_at(head.len() - digits);
    Some(if before.ends_with(b"CPU:") && digits > 0 { decimal(number) } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(text: &str, slot: Slot) -> Option<u64> {
        Line::parse(text.as_bytes()).expect("a trace line").arguments().get(slot)
    }

    #[test]
    fn eight_digits_at_once_are_eight_digits() {
        for byte in 0..=255 {
            for place in 0..8 {
                let mut bytes = *b"09afAF5c";
                bytes[place] = byte;
                let one_by_one =
                    bytes.iter().try_fold(0, |value, &byte| Some(value << 4 | u32::from(digit(byte)?)));
                assert_eq!(digits(bytes), one_by_one, "{byte:#x} at {place}");
            }
        }
        assert_eq!(hex(b"0123456789abcdef"), (0x0123_4567_89AB_CDEF, 16));
        assert_eq!(hex(b"0123456789abcdef0").1, 17);
        assert_eq!(hex(b"81000000 1"), (0x8100_0000, 8));
        assert_eq!(hex(b"1f"), (0x1F, 2));
    }

    #[test]
    fn columns_of_every_tool() {
        for (head, task, pid, cpu, flags, time) in [
            ("          kvmrun-130     [000] .....    25.887778: ", "kvmrun", 130, 0, ".....", "25.887778"),
            (
                "qemu-system-x86-3456  (   3456) [012] d..2. 54.6: ",
                "qemu-system-x86",
                3456,
                12,
                "d..2.",
                "54.6",
            ),
            (" CPU 0/KVM-1234  [003] 123.456789: ", "CPU 0/KVM", 1234, 3, "", "123.456789"),
            ("qemu [kvm]  1234 [001]   123.456789: kvm:", "qemu [kvm]", 1234, 1, "", "123.456789"),
            ("CPU 1/KVM 4321/4322 [001]   123.45: kvm:", "CPU 1/KVM", 4322, 1, "", "123.45"),
            ("a-b-7 [005] 1.0: ", "a-b", 7, 5, "", "1.0"),
        ] {
            let text = format!("{head}kvm_exit: reason npf rip 0x0");
            let line = Line::parse(text.as_bytes()).expect(head);
            let columns = line.columns();
            assert_eq!(columns.task, task.as_bytes(), "{head}");
            assert_eq!((columns.pid, columns.cpu), (Some(pid), Some(cpu)), "{head}");
            assert_eq!((columns.flags, columns.time), (flags.as_bytes(), time.as_bytes()), "{head}");
            assert_eq!(line.arguments().get(Slot::ExitCode), Some(0x400));
        }
        let task = Line::parse(b"kvm_stat-12 [001] 1.0: kvm_exit: reason npf rip 0x0").expect("a trace line");
        assert_eq!((task.event(), task.columns().pid), (Event::Exit, Some(12)));
        for head in ["", "   ", "[   12.345678] ", "] ", "[] ", "[1x] ", "[99999999999] "] {
            let text = format!("{head}kvm_exit: reason npf rip 0x0");
            assert_eq!(Line::parse(text.as_bytes()).expect(head).columns(), Columns::default(), "{head}");
        }
    }

    #[test]
    fn exits_of_every_kernel() {
        let new = "kvm_exit: vcpu 3 reason npf rip 0x1003b0 info1 0x0000000200000006 \
            info2 0x0000000000104000 intr_info 0x80000b0e error_code 0x00000002 requests 0x0000000000000000";
        assert_eq!(get(new, Slot::Vcpu), Some(3));
        assert_eq!(get(new, Slot::ExitInfo1), Some(0x2_0000_0006));
        assert_eq!(get(new, Slot::ExitInfo2), Some(0x10_4000));
        assert_eq!(get(new, Slot::ExitIntInfo), Some(0x8000_0B0E));
        assert_eq!(get(new, Slot::ExitIntInfoError), Some(2));
        let old = "kvm_exit: reason read_rt rip 0xffffffff81000000 info 1f 0";
        assert_eq!(get(old, Slot::ExitCode), Some(0x69));
        assert_eq!((get(old, Slot::ExitInfo1), get(old, Slot::ExitInfo2)), (Some(0x1F), Some(0)));
        let nested = "kvm_nested_vmexit: rip: 0x0000000000001000 reason: GP excp ext_inf1: 0x0000000000000018 \
            ext_inf2: 0x0000000000000000 ext_int: 0x80000b0d ext_int_err: 0x00000018";
        assert_eq!(get(nested, Slot::ExitCode), Some(0x4D));
        assert_eq!(get(nested, Slot::ExitIntInfo), Some(0x8000_0B0D));
        let plugin =
            "kvm_nested_vmexit_inject: reason EXIT_VMMCALL info1 0 info2 1f int_info 80000b0e int_info_err 2";
        assert_eq!(get(plugin, Slot::ExitCode), Some(0x81));
        assert_eq!(get(plugin, Slot::ExitInfo2), Some(0x1F));
        assert_eq!(get(plugin, Slot::ExitIntInfo), Some(0x8000_0B0E));
    }

    #[test]
    fn reasons() {
        for (printed, code) in [
            ("npf", Some(0x400)),
            ("invalid_guest_state", Some(u32::MAX)),
            ("0xffffffff", Some(u32::MAX)),
            ("0xffffffffffffffff", Some(u32::MAX)),
            ("0xfffffffffffffffe", Some(u32::MAX - 1)),
            ("0x403", Some(0x403)),
            ("UNKNOWN (1027)", Some(0x403)),
            ("EXIT_NPF", Some(0x400)),
            // trace-cmd's plugin prints this for every code that it does not know.
            ("EXIT_ERR", None),
            ("UNKNOWN", None),
            ("UNKNOWN (", None),
            ("UNKNOWN ()", None),
            ("0x", None),
            ("0xfffffffff", None),
            ("0x4g", None),
            ("0xfffffffffffffffff", None),
            ("QQ excp", None),
            ("write_rt", Some(0x6D)),
            ("XF excp", Some(0x53)),
        ] {
            let text = format!("kvm_exit: vcpu 0 reason {printed} rip 0x1 info1 0x0000000000000001");
            assert_eq!(get(&text, Slot::ExitCode), code.map(u64::from), "{printed}");
            assert_eq!(get(&text, Slot::ExitInfo1), Some(1), "{printed}");
            assert!(!Line::parse(text.as_bytes()).unwrap().arguments().is_vmx(), "{printed}");
        }
        for name in ["EPT_VIOLATION", "HLT", "EXCEPTION_NMI FAILED_VMENTRY"] {
            let text = format!("kvm_exit: vcpu 0 reason {name} rip 0x1");
            let arguments = Line::parse(text.as_bytes()).unwrap().arguments();
            assert!(arguments.is_vmx() && arguments.exit_code().is_none(), "{name}");
        }
    }

    #[test]
    fn injections() {
        for (text, vector, soft, again, code) in [
            ("kvm_inj_virq: irq 54", Some(54), false, false, None),
            ("kvm_inj_virq: IRQ 0x36", Some(0x36), false, false, None),
            ("kvm_inj_virq: Soft/INTn 0x80 [reinjected]", Some(0x80), true, true, None),
            ("kvm_inj_virq: irq 256", None, false, false, None),
            ("kvm_inj_virq: irq", None, false, false, None),
            ("kvm_inj_exception: #GP (0x18)", Some(13), false, false, Some(0x18)),
            ("kvm_inj_exception: #UD [reinjected]", Some(6), false, true, None),
            ("kvm_inj_exception: 0x1f (0x0)", Some(31), false, false, Some(0)),
            ("kvm_inj_exception: #ZZ", None, false, false, None),
        ] {
            let arguments = Line::parse(text.as_bytes()).expect(text).arguments();
            assert_eq!(arguments.get(Slot::Vector), vector, "{text}");
            assert_eq!((arguments.is_soft(), arguments.is_reinjected()), (soft, again), "{text}");
            assert_eq!(arguments.get(Slot::ErrorCode), code, "{text}");
        }
        let entry =
            "kvm_entry: vcpu 1, rip 0x1000 intr_info 0x80000b0e error_code 0x00000002[immediate exit]";
        assert_eq!((get(entry, Slot::Vcpu), get(entry, Slot::EventInj)), (Some(1), Some(0x8000_0B0E)));
        assert_eq!(get(entry, Slot::EventInjError), Some(2));
        assert_eq!(get("kvm_entry: vcpu 1, rip 0xfff0[immediate exit]", Slot::Rip), Some(0xFFF0));
        assert_eq!(get("kvm_entry: vcpu 1", Slot::Vcpu), Some(1));
    }

    #[test]
    fn what_is_cut_or_contradicts_itself_is_unknown() {
        for text in [
            "kvm_nested_vmenter: event_inj: 0x8000031",
            "kvm_nested_vmenter: event_inj: 0x80000310f",
            "kvm_nested_vmenter: event_inj: 0x8000031g",
            "kvm_nested_vmenter: event_inj:",
            "kvm_nested_vmenter: event_inj: int_ctl: 0x80000310",
            "kvm_nested_vmenter: event_inj: 0x80000310 event_inj: 0x80000311 event_inj: 0x80000310",
            "kvm_nested_vmenter: event_inj: 0x80000310;",
        ] {
            assert_eq!(get(text, Slot::EventInj), None, "{text}");
        }
        assert_eq!(get("kvm_nested_intercepts: intercepts: 81000000", Slot::Misc1), None);
        assert_eq!(get("kvm_nested_intercepts: intercepts: 81000000 00000003", Slot::Misc2), Some(3));
        let old = "kvm_nested_intercepts: intercept: 0000000381000000";
        assert_eq!((get(old, Slot::Misc1), get(old, Slot::Misc2)), (Some(0x8100_0000), Some(3)));
        for text in ["kvm_amd: x", "kvm_", "kvm_exit", "kvm_exit reason", "kvm_Exit: x", "kvm_: x", ""] {
            assert!(Line::parse(text.as_bytes()).is_none(), "{text}");
        }
        assert_eq!(Line::parse(b"kvm_mmu_get_page: sp gfn 0").unwrap().event(), Event::Other);
    }

    #[test]
    fn lost() {
        assert_eq!(lost_events(b"CPU:3 [LOST 17 EVENTS]"), Some(Some(3)));
        assert_eq!(lost_events(b"CPU:12 [17 EVENTS DROPPED]"), Some(Some(12)));
        assert_eq!(lost_events(b"CPU:0 [EVENTS DROPPED]"), Some(Some(0)));
        assert_eq!(lost_events(b"[LOST 17 EVENTS]"), Some(None));
        for text in ["CPU:3 [LOST 17", "", "[", "a [001] LOST 3 EVENTS", "CPU:1 [FOUND 3 EVENTS]"] {
            assert_eq!(lost_events(text.as_bytes()), None, "{text}");
        }
    }
}
