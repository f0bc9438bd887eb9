//! The labels of KVM's `dump_vmcb` as data: which field each one shows, and how it is printed.

use crate::number::Form;
use vmcb::layout::{Field, Page, vmcb_field as c, vmsa_field as v};

/// What a label shows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shows {
    /// One field.
    One(Slot),
    /// The intercept words from 00Ch on: two or three of 8 digits, or one of 16 on old kernels.
    Intercepts,
    /// A segment in four parts: `s:`, `a:`, `l:` and `b:`.
    Segment([Slot; 4]),
}

/// One field as a dump shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    /// The name that [`Seen`](crate::Seen) gives.
    pub(crate) name: &'static str,
    pub(crate) page: Page,
    pub(crate) offset: u16,
    pub(crate) size: u16,
    pub(crate) form: Form,
}

/// A row of [`LABELS`].
pub(crate) struct Label {
    /// As printed, without the colon.
    pub(crate) text: &'static str,
    pub(crate) shows: Shows,
}

const fn slot(name: &'static str, page: Page, offset: u16, size: u16, form: Form) -> Slot {
    Slot { name, page, offset, size, form }
}

/// `size` bytes of a field from byte `from` on, in hexadecimal.
const fn part(text: &'static str, field: Field, from: u16, size: u16) -> Label {
    Label { text, shows: Shows::One(slot(text, field.page, field.offset + from, size, Form::Hex)) }
}

const fn hex(text: &'static str, field: Field) -> Label {
    part(text, field, 0, field.size)
}

const fn decimal(text: &'static str, field: Field) -> Label {
    Label { text, shows: Shows::One(slot(text, field.page, field.offset, field.size, Form::Decimal)) }
}

macro_rules! segment {
    ($name:literal, $field:expr) => {
        Label {
            text: $name,
            shows: Shows::Segment([
                slot(concat!($name, ".selector"), $field.page, $field.offset, 2, Form::Hex),
                slot(concat!($name, ".attrib"), $field.page, $field.offset + 2, 2, Form::Hex),
                slot(concat!($name, ".limit"), $field.page, $field.offset + 4, 4, Form::Hex),
                slot(concat!($name, ".base"), $field.page, $field.offset + 8, 8, Form::Hex),
            ]),
        }
    };
}

/// The slots of the intercept words.
pub(crate) const INTERCEPTS: [Slot; 3] = [
    slot("intercepts", Page::Vmcb, c::intercept_misc1.offset, 4, Form::Hex),
    slot("intercepts (2nd word)", Page::Vmcb, c::intercept_misc2.offset, 4, Form::Hex),
    slot("intercepts (3rd word)", Page::Vmcb, c::intercept_misc3.offset, 4, Form::Hex),
];

/// Every label, in the order in which the newest kernel prints them, with the names that older kernels
/// gave them beside.
pub(crate) static LABELS: &[Label] = &[
    part("cr_read", c::intercept_cr, 0, 2),
    part("cr_write", c::intercept_cr, 2, 2),
    part("dr_read", c::intercept_dr, 0, 2),
    part("dr_write", c::intercept_dr, 2, 2),
    hex("exceptions", c::intercept_exceptions),
    Label { text: "intercepts", shows: Shows::Intercepts },
    decimal("pause filter count", c::pause_filter_count),
    decimal("pause filter threshold", c::pause_filter_threshold),
    hex("iopm_base_pa", c::iopm_base_pa),
    hex("msrpm_base_pa", c::msrpm_base_pa),
    hex("tsc_offset", c::tsc_offset),
    decimal("asid", c::guest_asid),
    decimal("tlb_ctl", c::tlb_control),
    decimal("erap_ctl", c::erap_control),
    hex("int_ctl", c::int_ctl),
    hex("int_vector", c::v_intr_vector),
    part("int_state", c::interrupt_state, 0, 4),
    Label {
        text: "exit_code",
        shows: Shows::One(slot("exit_code", Page::Vmcb, c::exitcode.offset, 8, Form::HexHalfOrWhole)),
    },
    hex("exit_info1", c::exitinfo1),
    hex("exit_info2", c::exitinfo2),
    part("exit_int_info", c::exitintinfo, 0, 4),
    part("exit_int_info_err", c::exitintinfo, 4, 4),
    decimal("nested_ctl", c::nested_ctl),
    decimal("misc_ctl", c::nested_ctl),
    hex("nested_cr3", c::n_cr3),
    hex("avic_vapic_bar", c::avic_apic_bar),
    hex("ghcb", c::ghcb),
    part("event_inj", c::eventinj, 0, 4),
    part("event_inj_err", c::eventinj, 4, 4),
    decimal("lbr_ctl", c::virt_ext),
    decimal("virt_ext", c::virt_ext),
    decimal("misc_ctl2", c::virt_ext),
    hex("next_rip", c::nrip),
    hex("avic_backing_page", c::avic_backing_page),
    hex("avic_logical_id", c::avic_logical_table),
    hex("avic_physical_id", c::avic_physical_table),
    hex("vmsa_pa", c::vmsa_pa),
    hex("allowed_sev_features", c::allowed_sev_features),
    hex("guest_sev_features", c::guest_sev_features),
    segment!("es", c::es),
    segment!("cs", c::cs),
    segment!("ss", c::ss),
    segment!("ds", c::ds),
    segment!("fs", c::fs),
    segment!("gs", c::gs),
    segment!("gdtr", c::gdtr),
    segment!("ldtr", c::ldtr),
    segment!("idtr", c::idtr),
    segment!("tr", c::tr),
    decimal("vmpl", c::vmpl),
    decimal("cpl", c::cpl),
    hex("efer", c::efer),
    hex("cr0", c::cr0),
    hex("cr2", c::cr2),
    hex("cr3", c::cr3),
    hex("cr4", c::cr4),
    hex("dr6", c::dr6),
    hex("dr7", c::dr7),
    hex("rip", c::rip),
    hex("rflags", c::rflags),
    hex("rsp", c::rsp),
    hex("rax", c::rax),
    hex("s_cet", c::s_cet),
    hex("ssp", c::ssp),
    hex("isst_addr", c::isst_addr),
    hex("star", c::star),
    hex("lstar", c::lstar),
    hex("cstar", c::cstar),
    hex("sfmask", c::sfmask),
    hex("kernel_gs_base", c::kernel_gs_base),
    hex("sysenter_cs", c::sysenter_cs),
    hex("sysenter_esp", c::sysenter_esp),
    hex("sysenter_eip", c::sysenter_eip),
    hex("gpat", c::g_pat),
    hex("dbgctl", c::dbgctl),
    hex("br_from", c::br_from),
    hex("br_to", c::br_to),
    hex("excp_from", c::last_excp_from),
    hex("excp_to", c::last_excp_to),
    // From here on only a VMSA has the field; without one KVM prints its own copy of the register.
    hex("sev_features", v::sev_features),
    hex("pl0_ssp", v::pl0_ssp),
    hex("pl1_ssp", v::pl1_ssp),
    hex("pl2_ssp", v::pl2_ssp),
    hex("pl3_ssp", v::pl3_ssp),
    hex("u_cet", v::u_cet),
    hex("rbx", v::rbx),
    hex("rcx", v::rcx),
    hex("rdx", v::rdx),
    hex("rsi", v::rsi),
    hex("rdi", v::rdi),
    hex("rbp", v::rbp),
    hex("r8", v::r8),
    hex("r9", v::r9),
    hex("r10", v::r10),
    hex("r11", v::r11),
    hex("r12", v::r12),
    hex("r13", v::r13),
    hex("r14", v::r14),
    hex("r15", v::r15),
    hex("xcr0", v::xcr0),
    hex("xss", v::xss),
];

/// The label that the kernel prints without a colon.
const WITHOUT_COLON: &str = "sev_features";

/// No label is longer.
const MAX_LABEL: usize = 24;

/// The labels sorted by text, for look-ups, and of each row the first that shows the same field.
pub(crate) struct Index {
    sorted: Vec<(&'static [u8], usize)>,
    firsts: Vec<usize>,
}

impl Index {
    pub(crate) fn new() -> Self {
        let mut sorted: Vec<_> =
            LABELS.iter().enumerate().map(|(row, label)| (label.text.as_bytes(), row)).collect();
        sorted.sort_unstable();
        let firsts = LABELS.iter().enumerate().map(|(row, label)| {
            let same = |other: &Label| {
                matches!((other.shows, label.shows),
                (Shows::One(one), Shows::One(two)) if (one.page, one.offset) == (two.page, two.offset))
            };
            LABELS.iter().position(same).unwrap_or(row)
        });
        Self { sorted, firsts: firsts.collect() }
    }

    /// The first row that shows what this one shows: kernels renamed some fields.
    pub(crate) fn first(&self, row: usize) -> usize {
        self.firsts.get(row).copied().unwrap_or(row)
    }

    /// The label that `text` begins with: its row in [`LABELS`] and its length with the colon.
    pub(crate) fn find(&self, text: &[u8]) -> Option<(usize, usize)> {
        // Every label begins so, most lines of a log do not.
        if !text.first()?.is_ascii_lowercase() {
            return None;
        }
        let head = text.get(..text.len().min(MAX_LABEL))?;
        let (name, length) = match memchr::memchr(b':', head) {
            Some(end) => (head.get(..end)?, end + 1),
            None if matches!(head.strip_prefix(WITHOUT_COLON.as_bytes())?, [] | [b' ', ..]) => {
                (WITHOUT_COLON.as_bytes(), WITHOUT_COLON.len())
            }
            None => return None,
        };
        let found = self.sorted.binary_search_by_key(&name, |&(text, _)| text).ok()?;
        Some((self.sorted.get(found)?.1, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field that two labels of one kernel's layout show would be learned twice.
    #[test]
    fn each_label_is_found_and_shows_bytes_of_its_own() {
        let index = Index::new();
        let renamed = ["misc_ctl", "lbr_ctl", "misc_ctl2"];
        let mut taken: Vec<(Page, u16, u16)> = Vec::new();
        for (row, label) in LABELS.iter().enumerate() {
            let text = format!("{}:            0010", label.text);
            assert_eq!(index.find(text.as_bytes()), Some((row, label.text.len() + 1)), "{}", label.text);
            assert!(label.text.len() < MAX_LABEL);
            if renamed.contains(&label.text) {
                continue;
            }
            let slots = match label.shows {
                Shows::One(slot) => vec![slot],
                Shows::Intercepts => INTERCEPTS.to_vec(),
                Shows::Segment(parts) => parts.to_vec(),
            };
            for slot in slots {
                for &(page, from, to) in &taken {
                    assert!(
                        page != slot.page || slot.offset >= to || slot.offset + slot.size <= from,
                        "{} overlaps",
                        slot.name
                    );
                }
                taken.push((slot.page, slot.offset, slot.offset + slot.size));
            }
        }
        assert_eq!(index.find(b"sev_features    0000000000000081").map(|found| found.1), Some(12));
        assert_eq!(index.find(b"sev_features_new 1"), None);
        assert_eq!(index.find(b"usb 1-1: new device"), None);
    }
}
