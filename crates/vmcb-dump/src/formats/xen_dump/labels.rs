//! The labels of Xen's `svm_vmcb_dump` as data: which field each one shows, and how it is printed.

use vmcb::layout::{Field, vmcb_field as f};

/// How a value is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// Hexadecimal with all digits of the field.
    Fixed,
    /// Hexadecimal with `0x` and as many digits as the value has, zero being `0`; old versions of Xen padded it to
    /// so many digits.
    Free(usize),
    /// The same, and some versions leave out the `0x`.
    Bare(usize),
    Decimal,
}

/// One field as a dump shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    /// The name that [`Seen`](crate::Seen) gives.
    pub(crate) name: &'static str,
    pub(crate) offset: u16,
    pub(crate) size: u16,
    pub(crate) form: Form,
}

/// What a label shows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shows {
    One(Slot),
    /// Some bits of another field of the line once more: where they stand in it, and how many.
    Again {
        of: Field,
        shift: u32,
        bits: u32,
    },
    /// The machine address of the VMCB.
    Address,
    /// Nothing of the VMCB.
    Nothing,
    /// A segment: selector, attributes, limit and base.
    Segment([Slot; 4]),
}

/// What stands between a label and its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mark {
    Equals,
    Space,
    Colon,
}

/// A row of [`LABELS`].
#[derive(Clone, Copy)]
pub(crate) struct Label {
    /// As printed.
    pub(crate) text: &'static str,
    pub(crate) mark: Mark,
    pub(crate) shows: Shows,
    /// Which line of the dump, counted in the order of printing.
    pub(crate) line: u8,
    /// The line may begin with it.
    pub(crate) leads: bool,
    /// The line may end after its value.
    pub(crate) ends: bool,
    /// No other text has it, so that a dump may be recognised by it.
    pub(crate) own: bool,
}

impl Label {
    const fn leads(self) -> Self {
        Self { leads: true, ..self }
    }

    const fn ends(self) -> Self {
        Self { ends: true, ..self }
    }

    const fn own(self) -> Self {
        Self { own: true, ..self }
    }

    const fn again(text: &'static str, mark: Mark, line: u8, of: Field, shift: u32, bits: u32) -> Self {
        Self {
            text,
            mark,
            shows: Shows::Again { of, shift, bits },
            line,
            leads: false,
            ends: false,
            own: false,
        }
    }
}

const fn row(line: u8, text: &'static str, shows: Shows) -> Label {
    Label { text, mark: Mark::Equals, shows, line, leads: false, ends: false, own: false }
}

const fn slot(name: &'static str, field: Field, size: u16, form: Form) -> Slot {
    Slot { name, offset: field.offset, size, form }
}

/// A field of 8 bytes, its number being padded or not.
const fn free(line: u8, text: &'static str, field: Field) -> Label {
    row(line, text, Shows::One(slot(text, field, field.size, Form::Free(2 * field.size as usize))))
}

const fn wide(line: u8, text: &'static str, field: Field, form: Form) -> Label {
    row(line, text, Shows::One(slot(text, field, 8, form)))
}

const fn fixed(line: u8, text: &'static str, field: Field) -> Label {
    wide(line, text, field, Form::Fixed)
}

const fn decimal(line: u8, text: &'static str, field: Field) -> Label {
    row(line, text, Shows::One(slot(text, field, field.size, Form::Decimal)))
}

const fn event(text: &'static str) -> Label {
    Label { mark: Mark::Space, ..fixed(EVENT, text, f::eventinj) }.leads().own()
}

macro_rules! segment {
    ($line:expr, $text:literal, $name:literal, $field:expr) => {
        Label {
            text: $text,
            mark: Mark::Colon,
            shows: Shows::Segment([
                Slot { name: concat!($name, ".selector"), offset: $field.offset, size: 2, form: Form::Fixed },
                Slot {
                    name: concat!($name, ".attrib"),
                    offset: $field.offset + 2,
                    size: 2,
                    form: Form::Fixed,
                },
                Slot {
                    name: concat!($name, ".limit"),
                    offset: $field.offset + 4,
                    size: 4,
                    form: Form::Fixed,
                },
                Slot { name: concat!($name, ".base"), offset: $field.offset + 8, size: 8, form: Form::Fixed },
            ]),
            line: $line,
            leads: true,
            ends: true,
            own: false,
        }
    };
}

/// The line of EVENTINJ, with the words that repeat parts of it.
const EVENT: u8 = 7;

/// The line of ASID and of nested paging, of which some versions print the one first and some the other.
pub(crate) const NP_LINE: u8 = 10;

/// The label of the dump's last line.
pub(crate) const LAST: &str = "TR";

/// The names that the parts of a segment had in old versions.
pub(crate) const PARTS: [&str; 4] = ["sel=", "attr=", "limit=", "base="];

/// The words behind `np_ctrl` and the bit that each stands for.
pub(crate) const NP_WORDS: [(&str, u32); 6] =
    [("NP", 0), ("SEV", 1), ("SEV_ES", 2), ("GMET", 3), ("NP_SSS", 4), ("VTE", 5)];

/// How many of [`NP_WORDS`] every version prints that prints any.
pub(crate) const NP_WORDS_ALWAYS: usize = 3;

/// Fields that only VMSAVE writes and VMRUN does not read, from and to which offset.
pub(crate) const VMSAVE: [(u16, u16); 4] = [
    (f::fs.offset, f::gdtr.offset),
    (f::ldtr.offset, f::idtr.offset),
    (f::tr.offset, f::tr.offset + 16),
    (f::star.offset, f::sysenter_eip.offset + 8),
];

/// Labels of versions that bring the VMCB up to date by VMSAVE before they dump the VMCB in use: the names came
/// after it.
pub(crate) const SYNCS: [&str; 3] = ["event_inj", "exit_int_info", "int_stat"];

/// The bit of the interrupt state that some versions printed in the place of the whole.
pub(crate) const SHADOW: &str = "interrupt_shadow";

/// Every label, of all versions from 2006 on.
///
/// `tlb_control` is one byte in all of them (05Ch), as in the manual.
pub(crate) static LABELS: &[Label] = &[
    row(1, "Size of VMCB", Shows::Nothing).leads().own(),
    row(1, "paddr", Shows::Address),
    row(1, "address", Shows::Nothing).ends(),
    row(1, "vaddr", Shows::Nothing).ends(),
    free(2, "cr_intercepts", f::intercept_cr).leads().own(),
    free(2, "dr_intercepts", f::intercept_dr),
    free(2, "exception_intercepts", f::intercept_exceptions).ends(),
    free(3, "general1_intercepts", f::intercept_misc1).leads().own(),
    free(3, "general2_intercepts", f::intercept_misc2).ends(),
    decimal(4, "pause_filter_threshold", f::pause_filter_threshold).leads(),
    decimal(4, "pause_filter_count", f::pause_filter_count).ends(),
    wide(5, "iopm_base_pa", f::iopm_base_pa, Form::Bare(16)).leads().own(),
    free(5, "msrpm_base_pa", f::msrpm_base_pa),
    free(5, "tsc_offset", f::tsc_offset).ends(),
    row(6, "tlb_control", Shows::One(slot("tlb_control", f::tlb_control, 1, Form::Free(8)))).leads().own(),
    wide(6, "vintr", f::int_ctl, Form::Free(16)),
    free(6, "int_stat", f::interrupt_state).ends(),
    free(6, SHADOW, f::interrupt_state).ends(),
    event("event_inj"),
    event("eventinj"),
    Label::again("valid?", Mark::Space, EVENT, f::eventinj, 31, 1),
    Label::again("ec?", Mark::Space, EVENT, f::eventinj, 11, 1),
    Label::again("type", Mark::Space, EVENT, f::eventinj, 8, 3),
    Label::again("vector", Mark::Space, EVENT, f::eventinj, 0, 8).ends(),
    free(8, "exitcode", f::exitcode).leads(),
    free(8, "exit_int_info", f::exitintinfo).ends(),
    free(8, "exitintinfo", f::exitintinfo).ends(),
    free(9, "exitinfo1", f::exitinfo1).leads(),
    free(9, "exitinfo2", f::exitinfo2).ends(),
    row(NP_LINE, "asid", Shows::One(slot("asid", f::guest_asid, 4, Form::Free(3)))).leads().ends(),
    row(NP_LINE, "guest_asid", Shows::One(slot("guest_asid", f::guest_asid, 4, Form::Free(3)))).ends(),
    wide(NP_LINE, "np_ctrl", f::nested_ctl, Form::Free(16)).leads().own(),
    wide(NP_LINE, "np_enable", f::nested_ctl, Form::Bare(16)).leads().own(),
    free(11, "vmsa_pa", f::vmsa_pa).leads(),
    free(11, "ghcb_msr", f::ghcb).ends(),
    Label::again("virtual vmload/vmsave", Mark::Equals, 13, f::virt_ext, 1, 1).leads().own(),
    free(13, "virt_ext", f::virt_ext).ends(),
    decimal(14, "cpl", f::cpl).leads(),
    free(14, "efer", f::efer),
    free(14, "star", f::star),
    free(14, "lstar", f::lstar).ends(),
    fixed(15, "CR0", f::cr0).leads(),
    fixed(15, "CR2", f::cr2).ends(),
    fixed(16, "CR3", f::cr3).leads(),
    fixed(16, "CR4", f::cr4).ends(),
    fixed(17, "RSP", f::rsp).leads(),
    fixed(17, "RIP", f::rip).ends(),
    fixed(18, "RAX", f::rax).leads(),
    fixed(18, "RFLAGS", f::rflags).ends(),
    fixed(19, "DR6", f::dr6).leads(),
    fixed(19, "DR7", f::dr7).ends(),
    fixed(20, "CSTAR", f::cstar).leads(),
    fixed(20, "SFMask", f::sfmask).ends(),
    fixed(21, "KernGSBase", f::kernel_gs_base).leads().own(),
    fixed(21, "PAT", f::g_pat).ends(),
    fixed(22, "SSP", f::ssp).leads(),
    fixed(22, "S_CET", f::s_cet),
    fixed(22, "ISST", f::isst_addr).ends(),
    fixed(23, "H_CR3", f::n_cr3).leads().own().ends(),
    free(23, "CleanBits", f::clean).ends(),
    segment!(24, "CS", "cs", f::cs),
    segment!(25, "DS", "ds", f::ds),
    segment!(26, "SS", "ss", f::ss),
    segment!(27, "ES", "es", f::es),
    segment!(28, "FS", "fs", f::fs),
    segment!(29, "GS", "gs", f::gs),
    segment!(30, "GDTR", "gdtr", f::gdtr),
    segment!(31, "LDTR", "ldtr", f::ldtr),
    segment!(32, "IDTR", "idtr", f::idtr),
    segment!(33, "TR", "tr", f::tr),
];

/// Labels that are the end of another one, so that a line whose beginning is missing may show them wrongly.
pub(crate) const TAILS: [&str; 3] = ["star", "CR3", "TR"];

/// No label is longer.
const MAX_LABEL: usize = 24;

/// The labels sorted by text, for look-ups.
pub(crate) struct Index(Vec<(&'static [u8], usize)>);

impl Index {
    pub(crate) fn new() -> Self {
        let mut sorted: Vec<_> =
            LABELS.iter().enumerate().map(|(row, label)| (word(label.text.as_bytes()), row)).collect();
        sorted.sort_unstable();
        Self(sorted)
    }

    /// The label that `text` begins with, and its length with what stands before the value. A label that ends the
    /// line counts even if a mail program moved its `=` to the next one.
    pub(crate) fn find(&self, text: &[u8]) -> Option<(&'static Label, usize)> {
        let head = text.get(..text.len().min(MAX_LABEL + 8)).unwrap_or_default();
        let first = word(head);
        let found = self.0.binary_search_by_key(&first, |&(text, _)| text).ok()?;
        let label = LABELS.get(self.0.get(found)?.1)?;
        let rest = head.strip_prefix(label.text.as_bytes())?;
        let spaces = rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let next = rest.get(spaces).copied();
        let name = label.text.len();
        match (label.mark, next) {
            (Mark::Colon, Some(b':')) if spaces == 0 => Some((label, name + 1)),
            (Mark::Equals, Some(b'=')) => {
                let after = rest.get(spaces + 1..).unwrap_or_default();
                // `=` as a mail in quoted-printable writes it.
                let coded = after.strip_prefix(b"3D").is_some_and(|rest| {
                    rest.starts_with(b"0x")
                        || rest.first().is_none_or(|&byte| byte.is_ascii_whitespace() || byte == b'=')
                });
                Some((label, name + spaces + 1 + if coded { 2 } else { 0 }))
            }
            (Mark::Space, Some(_)) if spaces > 0 => Some((label, name + spaces)),
            (Mark::Equals | Mark::Space, None) if text.len() == name + spaces => Some((label, name)),
            _ => None,
        }
    }
}

/// The text up to the first separator.
fn word(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|&byte| byte.is_ascii_whitespace() || matches!(byte, b'=' | b':'));
    text.get(..end.unwrap_or(text.len())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_label_is_found_by_its_text() {
        let index = Index::new();
        for label in LABELS {
            let text = match label.mark {
                Mark::Equals => format!("{} = 0x10", label.text),
                Mark::Space => format!("{} 0x10", label.text),
                Mark::Colon => format!("{}: 0010", label.text),
            };
            let (found, length) = index.find(text.as_bytes()).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(found.text, label.text);
            assert_eq!(text[length..].trim_start().trim_start_matches("0x").trim_start_matches('0'), "10");
            assert!(label.text.len() < MAX_LABEL);
        }
        assert_eq!(index.find(b"efer =3D 0x1").map(|found| found.1), Some(8));
        assert_eq!(index.find(b"RFLAGS=3D0x1").map(|found| found.1), Some(9));
        assert_eq!(index.find(b"np_enable =3D").map(|found| found.1), Some(13));
        for text in [
            "efer: 0x1",
            "efer 0x1",
            "xefer = 1",
            "eferx = 1",
            "event_inj",
            "CS 0010",
            "CS : 0010",
            "Size of x = 1",
        ] {
            assert!(index.find(text.as_bytes()).is_none() || text == "event_inj", "{text}");
        }
    }

    /// No two lines show the same bytes, except where versions name or place a field differently.
    #[test]
    fn fields_lie_apart() {
        let mut taken: Vec<(u16, u16, u8)> = Vec::new();
        for label in LABELS {
            let slots = match label.shows {
                Shows::One(slot) => vec![slot],
                Shows::Segment(parts) => parts.to_vec(),
                _ => continue,
            };
            for slot in slots {
                for &(from, to, line) in &taken {
                    let apart = slot.offset >= to || slot.offset + slot.size <= from;
                    let renamed = line == label.line && from == slot.offset && to == slot.offset + slot.size;
                    assert!(apart || renamed, "{}", slot.name);
                }
                taken.push((slot.offset, slot.offset + slot.size, label.line));
            }
        }
    }
}
