//! A VMCB, its fields and its refusals.

use super::place::{Line, Place};
use super::remark::Remark;
use crate::kind::Kind;
use std::fmt;
use vmcb::layout::Page;
use vmcb::{KnownPage, Phase};

/// The kind of guest that the header of a newer `dump_vmcb` names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum VmType {
    /// A guest without memory encryption.
    Svm,
    /// SEV: memory encrypted, registers not.
    Sev,
    /// SEV-ES: registers in an encrypted VMSA.
    SevEs,
    /// SEV-SNP.
    SevSnp,
}

impl VmType {
    /// Whether the registers of such a guest are in a VMSA.
    #[must_use]
    pub const fn has_vmsa(self) -> bool {
        matches!(self, Self::SevEs | Self::SevSnp)
    }
}

impl fmt::Display for VmType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Svm => "SVM",
            Self::Sev => "SEV",
            Self::SevEs => "SEV-ES",
            Self::SevSnp => "SEV-SNP",
        })
    }
}

/// A field that the input showed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// The label that the input uses; the layout's name where it has none (raw pages, hex dumps).
    /// Segments are shown in four parts, such as `cs.attrib`.
    pub name: &'static str,
    /// The page that holds the field.
    pub page: Page,
    /// Offset from the start of the page, in bytes.
    pub offset: u16,
    /// Size in bytes, 1 to 8.
    pub size: u16,
    /// The bits, counted from bit 0 of the byte at `offset`.
    pub value: u64,
    /// Which bits of `value` are known.
    pub mask: u64,
    /// Where the value stands.
    pub place: Place,
}

/// The implementation that said that it refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Refuser {
    /// Linux KVM.
    Kvm,
    /// Xen.
    Xen,
}

impl fmt::Display for Refuser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "KVM",
            Self::Xen => "Xen",
        })
    }
}

/// What an implementation itself said when it refused a VMCB.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Who refused.
    pub by: Refuser,
    /// Its own words: of KVM the condition in its source that held, of Xen the text of its check.
    pub condition: String,
    /// Ids of the rules of which one is broken when this condition holds; empty when the condition is
    /// not known.
    pub rules: &'static [&'static str],
    /// Where the condition stands.
    pub place: Place,
}

/// A VMCB found in the input, as far as the input shows it.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Found {
    /// The form in which it was met.
    pub kind: Kind,
    /// What is known of the VMCB page.
    pub vmcb: Box<KnownPage>,
    /// What is known of the VMSA, if the input shows one.
    pub vmsa: Option<Box<KnownPage>>,
    /// Whether the VMCB is seen before VMRUN or after #VMEXIT.
    pub phase: Phase,
    /// Physical address of the VMCB, where the input tells it. For a nested VMRUN it is a guest
    /// physical address of the hypervisor that ran VMRUN.
    pub vmcb_address: Option<u64>,
    /// The address or file offset that a hex dump prints for the first byte of the page.
    pub printed_offset: Option<u64>,
    /// The kind of guest, where the header names it.
    pub vm_type: Option<VmType>,
    /// The virtual CPU, where the header names it.
    pub vcpu: Option<u32>,
    /// The CPU that tried VMRUN last, where the header names it.
    pub last_cpu: Option<u32>,
    /// What the header of `dump_vmcb` prints for the VMCB's pointer. The kernel hashes it: it tells
    /// dumps apart and is no address.
    pub label: Option<String>,
    /// The lines that it was read from; empty for raw pages.
    pub lines: Vec<Line>,
    /// Every field that was read, in the order of the input.
    pub fields: Vec<Seen>,
    /// Where it begins. In a text, the whole first line.
    pub place: Place,
    /// What an implementation said when it refused this VMCB: KVM stops at the first reason, Xen goes on.
    pub refusals: Vec<Refusal>,
    /// What a reader of the verdict should know about the input.
    pub remarks: Vec<Remark>,
}

impl Found {
    pub(crate) fn new(kind: Kind, phase: Phase, place: Place) -> Self {
        Self {
            kind,
            vmcb: Box::new(KnownPage::nothing()),
            vmsa: None,
            phase,
            vmcb_address: None,
            printed_offset: None,
            vm_type: None,
            vcpu: None,
            last_cpu: None,
            label: None,
            lines: Vec::new(),
            fields: Vec::new(),
            place,
            refusals: Vec::new(),
            remarks: Vec::new(),
        }
    }

    /// Takes a field over: into its page and into the list.
    pub(crate) fn learn(&mut self, seen: Seen) {
        let page = match seen.page {
            Page::Vmcb => &mut self.vmcb,
            Page::Vmsa => self.vmsa.get_or_insert_with(|| Box::new(KnownPage::nothing())),
        };
        page.learn(seen.offset, seen.size, seen.value, seen.mask);
        self.fields.push(seen);
    }

    /// The field that shows the byte at `offset` of `page`.
    #[must_use]
    pub fn seen_at(&self, page: Page, offset: u16) -> Option<&Seen> {
        self.fields
            .iter()
            .find(|seen| seen.page == page && seen.offset <= offset && offset - seen.offset < seen.size)
    }

    /// The text of a line that was kept.
    #[must_use]
    pub fn line(&self, number: u64) -> Option<&str> {
        let index = self.lines.binary_search_by_key(&number, |line| line.number).ok()?;
        self.lines.get(index).map(|line| line.text.as_str())
    }
}
