//! The table: what each implementation does with each rule. One row a line; everything else derives from it.
//!
//! To record a new observation, write its row *above* the older ones of that implementation: the first row
//! that names the rule and has the version counts. Then run `cargo xtask generate` for
//! `docs/peers.md`.

use crate::variants::{self as v, Predicate};
use crate::version::{Version, Versions};
use std::fmt;
use vmcb::Rule;

/// An implementation of VMRUN.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Implementation {
    /// Nested SVM of Linux's KVM; its versions are Linux's.
    Kvm,
    /// Bochs.
    Bochs,
    /// QEMU's own emulation, TCG.
    QemuTcg,
    /// VirtualBox's interpreter, IEM.
    VirtualBox,
    /// Nested SVM of Xen: `svm_vmcb_isvalid` on L1's VMCB.
    Xen,
}

impl Implementation {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Kvm, Self::Bochs, Self::QemuTcg, Self::VirtualBox, Self::Xen];

    /// Its name in files and on command lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Bochs => "bochs",
            Self::QemuTcg => "qemu-tcg",
            Self::VirtualBox => "virtualbox",
            Self::Xen => "xen",
        }
    }

    /// Its name for people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Kvm => "KVM",
            Self::Bochs => "Bochs",
            Self::QemuTcg => "QEMU TCG",
            Self::VirtualBox => "VirtualBox",
            Self::Xen => "Xen",
        }
    }

    /// The implementation with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|implementation| implementation.name() == name)
    }

    /// The versions that the table has rows of, as it spells them, each once: releases, branches, revisions.
    #[must_use]
    pub fn versions(self) -> Vec<&'static str> {
        let mut versions: Vec<&str> = Vec::new();
        for version in TABLE.iter().filter(|row| row.of == self).flat_map(|row| row.versions.split(' ')) {
            if version != "*" && !versions.contains(&version) {
                versions.push(version);
            }
        }
        versions
    }

    /// The highest version that was measured, else the first that was read in source.
    #[must_use]
    pub fn newest(self) -> Option<Version> {
        let of = |measured: bool| {
            let rows = TABLE.iter().filter(move |row| row.of == self);
            rows.filter(move |row| measured == matches!(row.evidence, Evidence::Measured { .. }))
                .flat_map(|row| row.versions.split(' '))
                .filter_map(|version| version.parse::<Version>().ok())
        };
        of(true).reduce(|a, b| if a < b { b } else { a }).or_else(|| of(false).next())
    }
}

/// What an implementation does with a rule.
#[derive(Clone, Copy, Debug)]
pub enum Check {
    /// It refuses where the conditions are met that the rulebook names.
    Same,
    /// It does not look.
    Absent,
    /// It refuses where this says so.
    Differs(Predicate),
    /// It goes on where the rulebook's conditions are met, and the machine stops.
    Stops,
    /// Nobody has looked.
    NotSeen,
}

/// How a row is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Evidence {
    /// It was run.
    Measured {
        /// The day, `2026-11-22`.
        date: &'static str,
        /// What ran below, where the implementation is a nested hypervisor; empty where it is an emulator.
        below: &'static str,
    },
    /// It was read.
    Source {
        /// Repository and revision.
        revision: &'static str,
    },
    /// It is not known.
    Unknown,
}

impl Evidence {
    /// What ran below where it was measured.
    #[must_use]
    pub fn below(self) -> Option<(Implementation, Version)> {
        let Self::Measured { below, .. } = self else { return None };
        Implementation::ALL.into_iter().find_map(|of| {
            let version = below.strip_prefix(of.title())?.trim_start();
            Some((of, version.parse().ok()?))
        })
    }
}

/// `measured 2026-11-24 on QEMU TCG 7.2.22`, `source, REPOSITORY REVISION`, `not known`.
impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Measured { date, below: "" } => write!(f, "measured {date}"),
            Self::Measured { date, below } => write!(f, "measured {date} on {below}"),
            Self::Source { revision } => write!(f, "source, {revision}"),
            Self::Unknown => f.write_str("not known"),
        }
    }
}

/// One observation.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Whose.
    pub of: Implementation,
    /// Of which [versions](Versions).
    pub versions: &'static str,
    /// Of which rules and habits: ids separated by spaces, a `*` at the end of one stands for any ending.
    pub ids: &'static str,
    /// What it does.
    pub check: Check,
    /// The same in words, one sentence without a full stop; empty where [`Check::Same`] says it all.
    pub does: &'static str,
    /// How it is known.
    pub evidence: Evidence,
}

impl Row {
    /// Whether it speaks of this rule or habit.
    #[must_use]
    pub fn names(&self, id: &str) -> bool {
        self.ids.split(' ').any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => id.starts_with(start),
            None => pattern == id,
        })
    }

    /// Its versions; `None` if they are misspelt, which a test of this crate excludes.
    pub(crate) fn versions(&self) -> Option<Versions> {
        self.versions.parse().ok()
    }

    /// The row that counts for this rule or habit of this version; `None` where there is no observation.
    #[must_use]
    pub fn find(of: Implementation, version: Version, id: &str) -> Option<&'static Self> {
        let mut rows = TABLE.iter().filter(|row| row.of == of && row.names(id));
        rows.find(|row| row.versions().is_some_and(|versions| versions.contain(version)))
    }

    /// All rows on this rule or habit that count for some version, in the order of the table.
    pub fn all(of: Implementation, id: &str) -> impl Iterator<Item = &'static Self> {
        TABLE.iter().filter(move |row| {
            row.of == of
                && row.names(id)
                && row.versions().is_some_and(|versions| {
                    let mut found = versions.corners().filter_map(|version| Self::find(of, version, id));
                    found.any(|found| std::ptr::eq(found, *row))
                })
        })
    }

    /// What it says, in words, without a full stop.
    #[must_use]
    pub fn in_words(&self) -> String {
        let start = match self.check {
            Same => "as the rulebook",
            Absent => "no check",
            Differs(_) => "differs",
            Stops => "no check, and the machine stops",
            NotSeen => "not known",
        };
        if self.does.is_empty() { start.to_owned() } else { format!("{start}: {}", self.does) }
    }
}

/// A check that some implementations make and the manual does not ask for.
#[derive(Clone, Copy, Debug)]
pub struct Habit {
    /// Its id.
    pub id: &'static str,
    /// Whether a VMCB has what is refused by habit.
    pub met: Predicate,
}

/// The checks that are no rules of the manual and have an id.
pub static HABITS: [Habit; 3] = [
    Habit { id: "ctl-tlb-control-reserved", met: v::tlb_control_reserved },
    Habit { id: "sav-efer-lma-without-lme", met: v::lma_without_lme },
    Habit { id: "evt-reserved-bits", met: v::event_reserved_bits },
];

/// All ids that the table knows: the rules in the order of the rulebook, then the habits.
pub fn ids() -> impl Iterator<Item = &'static str> {
    Rule::ALL.iter().map(|rule| rule.id()).chain(HABITS.iter().map(|habit| habit.id))
}

/// What can still be refused in the VMCB02 that KVM builds from a VMCB12 which it accepted: the save area's
/// registers and EVENTINJ are L1's; the maps, ASID, intercept of VMRUN, N_CR3, G_PAT, int_ctl's AVIC bits and
/// EFER.SVME are KVM's own, and VMCB02 has nested paging, so PDPTEs are not read.
///
/// # Source
/// KVM's `nested_vmcb02_prepare_save` and `nested_vmcb02_prepare_control`, read in the revisions [`TABLE`] names.
pub const STILL_BROKEN_IN_VMCB02: &str = "sav-efer-mbz sav-efer-long-mode-unsupported sav-efer-lma-without-lme \
    sav-cr0-* sav-cr3-* sav-cr4-mbz sav-lme-* sav-cs-l-and-d sav-dr6-high sav-dr7-high evt-*";

use Check::{Absent, Differs, NotSeen, Same, Stops};
use Implementation::{Bochs, Kvm, QemuTcg, VirtualBox, Xen};

const fn row(
    of: Implementation,
    versions: &'static str,
    ids: &'static str,
    check: Check,
    does: &'static str,
    evidence: Evidence,
) -> Row {
    Row { of, versions, ids, check, does, evidence }
}

const fn source(revision: &'static str) -> Evidence {
    Evidence::Source { revision }
}

const fn measured(date: &'static str, below: &'static str) -> Evidence {
    Evidence::Measured { date, below }
}

/// On a bare emulator.
const RUN: Evidence = measured("2026-11-24", "");
/// A Debian kernel's KVM on a CPU that QEMU emulates.
const RUN_ON_QEMU: Evidence = measured("2026-11-24", "QEMU TCG 7.2.22");
const KVM_7: Evidence = source("kvm-x86/linux 1a27afa0511e");
const KVM_6_1: Evidence = source("mjsmar/snpport-6.1.55 ccc893778f8e");
const BOCHS: Evidence = source("bochs-emu/Bochs 783b58fd6d9b");
const QEMU: Evidence = source("qemu/qemu 3b50303f9563");
/// 7.2.0 and the stable updates to 7.2.22, which Debian's package has as patches.
const QEMU_7_2: Evidence = source("Debian's qemu 1:7.2+dfsg-7+deb12u18");
/// Development trees, of which no release has these numbers: the versions of their rows are the revisions.
const VBOX: Evidence = source("VirtualBox/virtualbox 4908d8d1a85c");
const XEN: Evidence = source("xen-project/xen c447b7308b13");
const UNKNOWN: Evidence = Evidence::Unknown;

/// What implementations do. Of the rows of an implementation the first that fits counts.
#[rustfmt::skip]
pub static TABLE: &[Row] = &[
    // --- KVM ----------------------------------------------------------------------------------------------
    row(Kvm, "7.2.12 7.2.13 7.3.4", "evt-type-reserved evt-exc-vector-2 evt-exc-vector-above-31 evt-exc-vector-reserved evt-exc-vector-9 evt-exc-cp-without-shstk evt-exc-vc-without-seves", Same, "", RUN_ON_QEMU),
    row(Kvm, "7.2.12 7.2.13 7.3.4", "evt-exc-hv-without-restricted-injection", Absent, "vector 28 is always accepted", RUN_ON_QEMU),
    row(Kvm, "7.2.12 7.2.13 7.3.4", "evt-br-in-64-bit-mode evt-exc-impossible-for-guest-mode", Absent, "the guest's mode is not looked at", RUN_ON_QEMU),
    row(Kvm, "6.1.170 6.1.192 6.12.73 6.12.90 6.12.95 6.12.118 6.16.12 6.18.15", "evt-type-reserved evt-exc-* evt-br-in-64-bit-mode", Absent, "EVENTINJ is handed to the CPU below, which answers", RUN_ON_QEMU),
    row(Kvm, "6.1.170 6.1.192 6.12.73 6.12.90 6.12.95 6.12.118 6.16.12 6.18.15 7.2.12 7.2.13 7.3.4", "evt-reserved-bits", Absent, "bits 30:12 are ignored", RUN_ON_QEMU),
    row(Kvm, "6.1.170 6.1.192 6.12.73 6.12.90 6.12.95 6.12.118 6.16.12 6.18.15 7.2.12 7.2.13 7.3.4", "pre-svme-off", Same, "", RUN_ON_QEMU),
    row(Kvm, "6.1.170 6.1.192 6.12.73 6.12.90 6.12.95 6.12.118 6.16.12 6.18.15", "pre-vmcb-address", Same, "#GP(0) also where the page is no RAM", RUN_ON_QEMU),
    row(Kvm, "7.2.12 7.2.13 7.3.4", "pre-vmcb-address", Same, "a page that is no RAM stops the virtual machine with an internal error", RUN_ON_QEMU),
    row(Kvm, "6.1.170 6.1.192 6.12.73 6.12.90 6.12.95 6.12.118 6.16.12 6.18.15 7.2.12 7.2.13 7.3.4", "pre-hsave-pa-zero", Differs(v::hsave_pa_zero), "#GP(0) also without SEV-SNP", RUN_ON_QEMU),
    row(Kvm, "6.1.170 6.1.192 6.12.73 6.12.90 6.12.95 6.12.118 6.16.12 6.18.15 7.2.12 7.2.13 7.3.4", "ctl-vmrun-intercept-clear ctl-asid-zero ctl-iopm-beyond-maxphyaddr", Same, "", RUN_ON_QEMU),
    row(Kvm, "6.1.170 6.1.192 6.12.73 6.12.90 6.12.95 6.12.118 6.16.12 6.18.15 7.2.12 7.2.13 7.3.4", "ctl-msrpm-beyond-maxphyaddr", Differs(v::kvm_msrpm), "refuses also where the map is no RAM", RUN_ON_QEMU),
    row(Kvm, "6.1.192 6.12.90 6.12.95 6.12.118 7.2.12 7.2.13 7.3.4", "ctl-ncr3-mbz", Same, "", RUN_ON_QEMU),
    row(Kvm, "6.1.170 6.12.73 6.16.12 6.18.15", "ctl-ncr3-mbz", Absent, "N_CR3 is not looked at; L2 ends with a shutdown or a nested page fault", RUN_ON_QEMU),
    row(Kvm, "6.1.170 6.1.192 6.12.73 6.12.90 6.12.95 6.12.118 6.16.12 6.18.15 7.2.12 7.2.13 7.3.4", "ctl-gpat-invalid", Absent, "not looked at with the quirks that KVM has by default", RUN_ON_QEMU),
    row(Kvm, "6.1.170 6.1.192", "ctl-vnmi-without-nmi-intercept", Absent, "knows no VNMI", RUN_ON_QEMU),
    row(Kvm, "6.12.73 6.12.90 6.12.95 6.12.118 6.16.12 6.18.15 7.2.12 7.2.13 7.3.4", "ctl-vnmi-without-nmi-intercept", Differs(v::vnmi_on_any_cpu), "refuses also where the virtual CPU lacks VNMI", RUN_ON_QEMU),
    row(Kvm, "6.1.170 6.1.192 6.12.73 6.12.90 6.12.95 6.12.118 6.16.12 6.18.15 7.2.12 7.2.13 7.3.4", "ctl-tlb-control-reserved", Absent, "all values are accepted", RUN_ON_QEMU),
    row(Kvm, "6.1.170 6.1.192 6.12.73 6.12.90 6.12.95 6.12.118 6.16.12 6.18.15 7.2.12 7.2.13 7.3.4", "sav-efer-svme-clear sav-cr0-* sav-cr3-mbz-long sav-lme-* sav-dr6-high sav-dr7-high", Same, "", RUN_ON_QEMU),
    row(Kvm, "6.1.192 6.12.90 6.12.95 6.12.118 7.2.12 7.2.13 7.3.4", "sav-cs-l-and-d", Same, "", RUN_ON_QEMU),
    row(Kvm, "6.1.170 6.12.73 6.16.12 6.18.15", "sav-cs-l-and-d", Absent, "CS is handed to the CPU below", RUN_ON_QEMU),
    row(Kvm, "6.1.170 6.1.192 6.12.73 6.12.90 6.12.95 6.12.118 6.16.12 6.18.15 7.2.12 7.2.13 7.3.4", "sav-efer-mbz", Differs(v::kvm_efer), "refuses bits 7:1, MCOMMIT, INTWB and UAIE; accepts LMSLE; TCE depends on kernel and host", RUN_ON_QEMU),
    row(Kvm, "6.1.170 6.1.192 6.12.73 6.12.90 6.12.95 6.12.118 6.16.12 6.18.15 7.2.12 7.2.13 7.3.4", "sav-cr4-mbz", Differs(v::kvm_cr4), "VME to OSXMMEXCPT are never refused", RUN_ON_QEMU),
    row(Kvm, "6.1.170 6.1.192 6.12.73 6.12.90 6.12.95 6.12.118 6.16.12 6.18.15 7.2.12 7.2.13 7.3.4", "sav-cr3-high-legacy", Differs(v::cr3_outside_long_mode), "refuses in every mode, also without paging", RUN_ON_QEMU),
    row(Kvm, "6.1.170 6.1.192 6.12.73 6.12.90 6.12.95 6.12.118 6.16.12 6.18.15 7.2.12 7.2.13 7.3.4", "sav-pdpte-reserved", Differs(v::kvm_pdptes), "refuses also where the PDPTEs are no RAM; takes CR3 with bits 63:32, and LMA from the VMCB, so with LME and without LMA the top of 4-level tables is read as PDPTEs", RUN_ON_QEMU),
    row(Kvm, "7.2", "evt-type-reserved evt-exc-vector-2 evt-exc-vector-above-31 evt-exc-vector-reserved evt-exc-vector-9 evt-exc-cp-without-shstk evt-exc-vc-without-seves", Same, "", KVM_7),
    row(Kvm, "7.2", "evt-exc-hv-without-restricted-injection", Absent, "vector 28 is always accepted", KVM_7),
    row(Kvm, "7.2", "evt-br-in-64-bit-mode evt-exc-impossible-for-guest-mode", Absent, "the guest's mode is not looked at", KVM_7),
    row(Kvm, "6.1", "evt-*", Absent, "EVENTINJ is handed to the CPU below, which answers", KVM_6_1),
    row(Kvm, "7.2", "evt-reserved-bits", Absent, "bits 30:12 are cleared in the copy", KVM_7),
    row(Kvm, "7.2", "evt-seves-soft-or-bp-of evt-restricted-injection", Absent, "L1 is offered no SEV-ES", KVM_7),
    row(Kvm, "7.2", "pre-svme-off pre-cpl", Same, "", KVM_7),
    row(Kvm, "6.1", "pre-svme-off pre-cpl", Same, "", KVM_6_1),
    row(Kvm, "7.2", "pre-not-protected", Differs(v::not_protected_or_not_paged), "#UD also where CR0.PG is clear", KVM_7),
    row(Kvm, "6.1", "pre-not-protected", Differs(v::not_protected_or_not_paged), "#UD also where CR0.PG is clear", KVM_6_1),
    row(Kvm, "7.2", "pre-vmcb-address", Same, "an address without memory stops in the VMM", KVM_7),
    row(Kvm, "*", "pre-vmcb-address", NotSeen, "6.1 raises #GP(0) where the page cannot be mapped and leaves the rest to the CPU below", UNKNOWN),
    row(Kvm, "7.2", "pre-hsave-pa-zero", Differs(v::hsave_pa_zero), "#GP(0) also without SEV-SNP", KVM_7),
    row(Kvm, "6.1", "pre-hsave-pa-zero", Differs(v::hsave_pa_zero), "#GP(0) also without SEV-SNP", KVM_6_1),
    row(Kvm, "7.2", "pre-in-smm", Differs(v::in_smm), "#UD", KVM_7),
    row(Kvm, "6.1", "pre-in-smm", Differs(v::in_smm), "#UD", KVM_6_1),
    row(Kvm, "7.2", "pre-vmcb-rmp", Absent, "L1 is offered no SNP", KVM_7),
    row(Kvm, "6.1", "pre-vmcb-rmp", Absent, "L1 is offered no SNP", KVM_6_1),
    row(Kvm, "7.2", "ctl-vmrun-intercept-clear ctl-asid-zero ctl-msrpm-beyond-maxphyaddr ctl-iopm-beyond-maxphyaddr ctl-ncr3-mbz", Same, "", KVM_7),
    row(Kvm, "6.1", "ctl-vmrun-intercept-clear ctl-asid-zero ctl-msrpm-beyond-maxphyaddr ctl-iopm-beyond-maxphyaddr", Same, "", KVM_6_1),
    row(Kvm, "6.1", "ctl-ncr3-mbz", Absent, "N_CR3 is not looked at", KVM_6_1),
    row(Kvm, "7.2", "ctl-np-without-host-paging", Absent, "VMRUN with CR0.PG clear is #UD before", KVM_7),
    row(Kvm, "6.1", "ctl-np-without-host-paging", Absent, "VMRUN with CR0.PG clear is #UD before", KVM_6_1),
    row(Kvm, "7.2", "ctl-gpat-invalid", Absent, "checked only where the VMM has disabled KVM_X86_QUIRK_NESTED_SVM_SHARED_PAT", KVM_7),
    row(Kvm, "6.1", "ctl-gpat-invalid", Absent, "L2 runs with L1's PAT", KVM_6_1),
    row(Kvm, "7.2", "ctl-vnmi-without-nmi-intercept", Differs(v::vnmi_on_any_cpu), "refuses also where the virtual CPU lacks VNMI", KVM_7),
    row(Kvm, "6.1", "ctl-vnmi-without-nmi-intercept", Absent, "knows no VNMI", KVM_6_1),
    row(Kvm, "7.2", "ctl-tlb-control-reserved", Absent, "keeps bits 2:0 and ignores them", KVM_7),
    row(Kvm, "6.1", "ctl-tlb-control-reserved", Differs(v::tlb_control_above_1), "refuses all but 0 and 1, also 3 and 7", KVM_6_1),
    row(Kvm, "7.2", "ctl-avic-* ctl-x2avic-*", Absent, "L1 is offered no AVIC", KVM_7),
    row(Kvm, "6.1", "ctl-avic-* ctl-x2avic-*", Absent, "L1 is offered no AVIC", KVM_6_1),
    row(Kvm, "7.2", "sav-efer-svme-clear sav-efer-long-mode-unsupported sav-cr0-* sav-cr3-mbz-long sav-lme-* sav-cs-l-and-d sav-dr6-high sav-dr7-high", Same, "", KVM_7),
    row(Kvm, "6.1", "sav-efer-svme-clear sav-efer-long-mode-unsupported sav-cr0-* sav-cr3-mbz-long sav-lme-* sav-dr6-high sav-dr7-high", Same, "", KVM_6_1),
    row(Kvm, "6.1", "sav-cs-l-and-d", Absent, "CS is handed to the CPU below", KVM_6_1),
    row(Kvm, "7.2", "sav-cr4-mbz", Differs(v::kvm_cr4), "VME to OSXMMEXCPT are never refused", KVM_7),
    row(Kvm, "7.2", "sav-efer-mbz", Differs(v::kvm_efer), "refuses bits 7:1, MCOMMIT, INTWB and UAIE; accepts LMSLE; TCE depends on kernel and host", KVM_7),
    row(Kvm, "6.1", "sav-cr4-mbz", Differs(v::kvm_cr4), "VME to OSXMMEXCPT are never refused", KVM_6_1),
    row(Kvm, "6.1", "sav-efer-mbz", Differs(v::kvm_efer), "refuses bits 7:1, MCOMMIT, INTWB and UAIE; accepts LMSLE; TCE depends on kernel and host", KVM_6_1),
    row(Kvm, "7.2", "sav-efer-lma-without-lme", Absent, "LMA is not compared with LME and CR0.PG", KVM_7),
    row(Kvm, "6.1", "sav-efer-lma-without-lme", Absent, "LMA is not compared with LME and CR0.PG", KVM_6_1),
    row(Kvm, "7.2", "sav-cr3-high-legacy", Differs(v::cr3_outside_long_mode), "refuses in every mode, also without paging", KVM_7),
    row(Kvm, "6.1", "sav-cr3-high-legacy", Differs(v::cr3_outside_long_mode), "refuses in every mode, also without paging", KVM_6_1),
    row(Kvm, "7.2", "sav-pdpte-reserved", Differs(v::kvm_pdptes), "takes LMA from the VMCB, so with LME and without LMA the top of 4-level tables is read as PDPTEs", KVM_7),
    row(Kvm, "6.1", "sav-pdpte-reserved", Differs(v::kvm_pdptes), "takes LMA from the VMCB, so with LME and without LMA the top of 4-level tables is read as PDPTEs", KVM_6_1),
    row(Kvm, "7.2", "sav-s-cet-reserved sav-cr4-cet-without-wp sav-ucet-ss-in-v86 sav-u-cet-reserved-seves", Absent, "S_CET is copied unchecked where L1 has shadow stacks", KVM_7),
    row(Kvm, "6.1", "sav-s-cet-reserved sav-cr4-cet-without-wp sav-ucet-ss-in-v86 sav-u-cet-reserved-seves", Absent, "knows no shadow stacks", KVM_6_1),
    row(Kvm, "7.2", "sev-* seves-* snp-*", Absent, "L1 is offered no SEV", KVM_7),
    row(Kvm, "6.1", "sev-* seves-* snp-*", Absent, "L1 is offered no SEV", KVM_6_1),

    // --- Bochs --------------------------------------------------------------------------------------------
    row(Bochs, "2.7 3.0 3.1", "evt-type-reserved evt-exc-vector-2 evt-exc-vector-above-31", Same, "", RUN),
    row(Bochs, "2.7 3.0", "evt-exc-* evt-br-in-64-bit-mode", Absent, "accepts every vector below 32 but 2; the guest's mode is not looked at", RUN),
    row(Bochs, "3.1", "evt-br-in-64-bit-mode evt-exc-impossible-for-guest-mode", Same, "", RUN),
    row(Bochs, "3.1", "evt-exc-*", Absent, "accepts every vector below 32 but 2, and 4 and 5 in 64-bit mode", RUN),
    row(Bochs, "2.7 3.0 3.1", "evt-reserved-bits", Absent, "bits 30:12 are ignored", RUN),
    row(Bochs, "3.1", "evt-*", Absent, "not looked at", BOCHS),
    row(Bochs, "2.7 3.0 3.1", "sav-lme-pg-without-pe", Stops, "taken for paged real mode, then a panic: LMA without PE", RUN),
    row(Bochs, "2.7 3.0 3.1", "sav-cr3-mbz-long sav-cr3-high-legacy", Absent, "not looked at; of a guest in long mode some bits end in a page fault, some in a panic, those above 51 do nothing", RUN),
    row(Bochs, "2.7 3.0 3.1", "pre-svme-off pre-vmcb-address", Same, "", RUN),
    row(Bochs, "3.1", "pre-cpl", Same, "", BOCHS),
    row(Bochs, "*", "pre-not-protected pre-in-smm", NotSeen, "not where VMRUN is; the callers were not read", UNKNOWN),
    row(Bochs, "2.7 3.0 3.1", "pre-hsave-pa-zero", Absent, "not looked at", RUN),
    row(Bochs, "3.1", "pre-vmcb-rmp", Absent, "not looked at", BOCHS),
    row(Bochs, "2.7 3.0 3.1", "ctl-vmrun-intercept-clear ctl-asid-zero", Same, "", RUN),
    row(Bochs, "2.7 3.0 3.1", "ctl-msrpm-beyond-maxphyaddr", Differs(v::msrpm_first_page), "looks at the first page only", RUN),
    row(Bochs, "2.7 3.0 3.1", "ctl-iopm-beyond-maxphyaddr", Differs(v::iopm_first_page), "looks at the first page only", RUN),
    row(Bochs, "3.1", "ctl-np-without-host-paging", Differs(v::bochs_np_without_host_paging), "any bit of the byte at 090h counts as NP_ENABLE", BOCHS),
    row(Bochs, "2.7 3.0 3.1", "ctl-ncr3-mbz", Differs(v::bochs_ncr3), "only where the host is in long mode; any bit of the byte at 090h counts as NP_ENABLE", RUN),
    row(Bochs, "2.7 3.0 3.1", "ctl-gpat-invalid", Differs(v::bochs_g_pat), "any bit of the byte at 090h counts as NP_ENABLE", RUN),
    row(Bochs, "2.7 3.0 3.1", "ctl-tlb-control-reserved", Absent, "all values are accepted", RUN),
    row(Bochs, "3.1", "ctl-*", Absent, "not looked at", BOCHS),
    row(Bochs, "2.7 3.0 3.1", "sav-efer-svme-clear sav-cr0-* sav-lme-pg-without-pae sav-dr6-high sav-dr7-high", Same, "", RUN),
    row(Bochs, "3.1", "sav-efer-long-mode-unsupported", Same, "", BOCHS),
    row(Bochs, "2.7 3.0 3.1", "sav-efer-mbz", Differs(v::bochs_efer), "refuses bits 7:1, LMSLE, TCE, MCOMMIT, INTWB, UAIE and AIBRSE whatever the CPU has", RUN),
    row(Bochs, "3.1", "sav-efer-lma-without-lme", Absent, "LMA is computed", BOCHS),
    row(Bochs, "2.7 3.0 3.1", "sav-pdpte-reserved", Differs(v::bochs_pdptes), "any bit of the byte at 090h counts as NP_ENABLE", RUN),
    row(Bochs, "2.7 3.0 3.1", "sav-cr4-mbz", Differs(v::bochs_cr4), "refuses also PCIDE outside long mode", RUN),
    row(Bochs, "2.7 3.0 3.1", "sav-cs-l-and-d", Differs(v::cs_l_and_d_in_any_mode), "refuses in every mode", RUN),
    row(Bochs, "3.1", "sav-s-cet-reserved sav-cr4-cet-without-wp sav-ucet-ss-in-v86 sav-u-cet-reserved-seves sev-* seves-* snp-*", Absent, "not looked at", BOCHS),

    // --- QEMU TCG -----------------------------------------------------------------------------------------
    row(QemuTcg, "7.2.22 10.0.2 10.0.13 11.1.2 11.1.3", "evt-type-reserved evt-exc-vector-2 evt-exc-vector-above-31", Same, "", RUN),
    row(QemuTcg, "7.2.22 10.0.2 10.0.13 11.1.2 11.1.3", "evt-exc-vector-reserved", Differs(v::vector_31), "of the reserved vectors only 31 is refused", RUN),
    row(QemuTcg, "7.2.22 10.0.2 10.0.13 11.1.2 11.1.3", "evt-exc-vector-9 evt-exc-cp-without-shstk evt-exc-vc-without-seves evt-exc-hv-without-restricted-injection", Absent, "the CPU's features are not looked at", RUN),
    row(QemuTcg, "7.2.22 10.0.2 10.0.13 11.1.2 11.1.3", "evt-br-in-64-bit-mode evt-exc-impossible-for-guest-mode", Absent, "the guest's mode is not looked at", RUN),
    row(QemuTcg, "7.2.22 10.0.2 10.0.13 11.1.2 11.1.3", "evt-reserved-bits", Absent, "bits 30:12 are ignored", RUN),
    row(QemuTcg, "7.2.22 10.0.2 10.0.13 11.1.2 11.1.3", "pre-svme-off", Same, "", RUN),
    row(QemuTcg, "7.2.22 10.0.2 10.0.13 11.1.2 11.1.3", "pre-vmcb-address", Same, "before the intercept of VMRUN", RUN),
    row(QemuTcg, "7.2.22 10.0.2 10.0.13 11.1.2 11.1.3", "pre-hsave-pa-zero", Absent, "not looked at", RUN),
    row(QemuTcg, "7.2.22 10.0.2 10.0.13 11.1.2 11.1.3", "ctl-vmrun-intercept-clear ctl-asid-zero ctl-iopm-beyond-maxphyaddr", Same, "", RUN),
    row(QemuTcg, "7.2.22 10.0.2 10.0.13 11.1.2 11.1.3", "ctl-msrpm-beyond-maxphyaddr", Differs(v::msrpm_or_last_page), "refuses the last legal page too", RUN),
    row(QemuTcg, "7.2.22 10.0.2 10.0.13 11.1.2 11.1.3", "ctl-ncr3-mbz ctl-gpat-invalid ctl-tlb-control-reserved", Absent, "not looked at", RUN),
    row(QemuTcg, "7.2.22 10.0.2 10.0.13 11.1.2 11.1.3", "sav-efer-svme-clear sav-cr0-* sav-lme-* sav-cs-l-and-d sav-dr6-high sav-dr7-high", Same, "", RUN),
    row(QemuTcg, "7.2.22 10.0.2 10.0.13 11.1.2 11.1.3", "sav-efer-mbz", Differs(v::qemu_efer), "a fixed mask: SCE, LME, LMA, NXE, SVME and FFXSR, whatever the CPU has", RUN),
    row(QemuTcg, "7.2.22 10.0.2 10.0.13 11.1.2 11.1.3", "sav-cr3-mbz-long", Differs(v::qemu_cr3_long), "only where the host is in long mode", RUN),
    row(QemuTcg, "7.2.22 10.0.2 10.0.13 11.1.2 11.1.3", "sav-cr3-high-legacy", Differs(v::qemu_cr3_legacy), "in every mode of the guest, also without paging, where the host is in long mode", RUN),
    row(QemuTcg, "7.2.22 10.0.2 10.0.13 11.1.2 11.1.3", "sav-pdpte-reserved", Absent, "PDPTEs are not read", RUN),
    row(QemuTcg, "7.2.22", "sav-cr4-mbz", Differs(v::qemu_cr4_with_pks), "VME to OSXMMEXCPT and PCIDE are never refused, CET always; bit 24 follows Intel's feature PKS", RUN),
    row(QemuTcg, "10.0.2 10.0.13 11.1.2 11.1.3", "sav-cr4-mbz", Differs(v::qemu_cr4_with_pks_lam_fred), "VME to OSXMMEXCPT and PCIDE are never refused, CET always; bits 24, 28 and 32 follow Intel's features PKS, LAM and FRED", RUN),
    row(QemuTcg, "10.0", "evt-type-reserved evt-exc-vector-2 evt-exc-vector-above-31", Same, "", QEMU),
    row(QemuTcg, "10.0", "evt-exc-vector-reserved", Differs(v::vector_31), "of the reserved vectors only 31 is refused", QEMU),
    row(QemuTcg, "10.0", "evt-exc-vector-9 evt-exc-cp-without-shstk evt-exc-vc-without-seves evt-exc-hv-without-restricted-injection", Absent, "the CPU's features are not looked at", QEMU),
    row(QemuTcg, "7.2", "evt-type-reserved evt-exc-vector-2 evt-exc-vector-above-31", Same, "", QEMU_7_2),
    row(QemuTcg, "7.2", "evt-exc-vector-reserved", Differs(v::vector_31), "of the reserved vectors only 31 is refused", QEMU_7_2),
    row(QemuTcg, "7.2", "evt-exc-vector-9 evt-exc-cp-without-shstk evt-exc-vc-without-seves evt-exc-hv-without-restricted-injection", Absent, "the CPU's features are not looked at", QEMU_7_2),
    row(QemuTcg, "10.0", "evt-br-in-64-bit-mode evt-exc-impossible-for-guest-mode", Absent, "the guest's mode is not looked at", QEMU),
    row(QemuTcg, "10.0", "evt-reserved-bits", Absent, "bits 30:12 are ignored", QEMU),
    row(QemuTcg, "10.0", "evt-seves-soft-or-bp-of evt-restricted-injection", Absent, "has no SEV-ES", QEMU),
    row(QemuTcg, "10.0", "pre-hsave-pa-zero pre-vmcb-rmp", Absent, "not looked at", QEMU),
    row(QemuTcg, "10.0", "ctl-vmrun-intercept-clear ctl-asid-zero ctl-iopm-beyond-maxphyaddr", Same, "", QEMU),
    row(QemuTcg, "10.0", "ctl-msrpm-beyond-maxphyaddr", Differs(v::msrpm_or_last_page), "refuses the last legal page too", QEMU),
    row(QemuTcg, "10.0", "ctl-*", Absent, "not looked at", QEMU),
    row(QemuTcg, "10.0", "sav-efer-svme-clear sav-efer-long-mode-unsupported sav-cr0-* sav-lme-* sav-cs-l-and-d sav-dr6-high sav-dr7-high", Same, "", QEMU),
    row(QemuTcg, "10.0", "sav-efer-mbz", Differs(v::qemu_efer), "a fixed mask: SCE, LME, LMA, NXE, SVME and FFXSR, whatever the CPU has", QEMU),
    row(QemuTcg, "10.0", "sav-efer-lma-without-lme", Absent, "LMA is taken from the VMCB", QEMU),
    row(QemuTcg, "10.0", "sav-cr3-mbz-long", Differs(v::qemu_cr3_long), "only where the host is in long mode", QEMU),
    row(QemuTcg, "10.0", "sav-cr3-high-legacy", Differs(v::qemu_cr3_legacy), "in every mode of the guest, also without paging, where the host is in long mode", QEMU),
    row(QemuTcg, "10.0", "sav-pdpte-reserved", Absent, "PDPTEs are not read", QEMU),
    row(QemuTcg, "10.0", "sav-cr4-mbz", Differs(v::qemu_cr4_with_pks_lam_fred), "VME to OSXMMEXCPT and PCIDE are never refused, CET always; bits 24, 28 and 32 follow Intel's features PKS, LAM and FRED", QEMU),
    row(QemuTcg, "10.0", "sav-s-cet-reserved sav-cr4-cet-without-wp sav-ucet-ss-in-v86 sav-u-cet-reserved-seves", Absent, "has no shadow stacks", QEMU),
    row(QemuTcg, "10.0", "sev-* seves-* snp-*", Absent, "has no SEV", QEMU),
    row(QemuTcg, "10.0", "pre-vmcb-address", Same, "before the intercept of VMRUN", QEMU),
    row(QemuTcg, "7.2.10-7.2.22", "pre-vmcb-address", Same, "before the intercept of VMRUN", QEMU_7_2),
    row(QemuTcg, "7.2.0-7.2.9", "pre-vmcb-address", Absent, "not looked at", QEMU_7_2),
    row(QemuTcg, "7.2", "pre-svme-off pre-cpl", Same, "", QEMU_7_2),
    row(QemuTcg, "7.2", "pre-not-protected", Differs(v::protection_off), "in virtual-8086 mode the CPL is looked at first: #GP(0)", QEMU_7_2),
    row(QemuTcg, "7.2", "pre-in-smm", Absent, "not looked at", QEMU_7_2),
    row(QemuTcg, "7.2", "evt-br-in-64-bit-mode evt-exc-impossible-for-guest-mode", Absent, "the guest's mode is not looked at", QEMU_7_2),
    row(QemuTcg, "7.2", "evt-reserved-bits", Absent, "bits 30:12 are ignored", QEMU_7_2),
    row(QemuTcg, "7.2", "evt-seves-soft-or-bp-of evt-restricted-injection", Absent, "has no SEV-ES", QEMU_7_2),
    row(QemuTcg, "7.2", "pre-hsave-pa-zero pre-vmcb-rmp", Absent, "not looked at", QEMU_7_2),
    row(QemuTcg, "7.2", "ctl-vmrun-intercept-clear ctl-asid-zero ctl-iopm-beyond-maxphyaddr", Same, "", QEMU_7_2),
    row(QemuTcg, "7.2", "ctl-msrpm-beyond-maxphyaddr", Differs(v::msrpm_or_last_page), "refuses the last legal page too", QEMU_7_2),
    row(QemuTcg, "7.2", "ctl-*", Absent, "not looked at", QEMU_7_2),
    row(QemuTcg, "7.2", "sav-efer-svme-clear sav-efer-long-mode-unsupported sav-cr0-* sav-lme-* sav-cs-l-and-d sav-dr6-high sav-dr7-high", Same, "", QEMU_7_2),
    row(QemuTcg, "7.2", "sav-efer-mbz", Differs(v::qemu_efer), "a fixed mask: SCE, LME, LMA, NXE, SVME and FFXSR, whatever the CPU has", QEMU_7_2),
    row(QemuTcg, "7.2", "sav-efer-lma-without-lme", Absent, "LMA is taken from the VMCB", QEMU_7_2),
    row(QemuTcg, "7.2", "sav-cr3-mbz-long", Differs(v::qemu_cr3_long), "only where the host is in long mode", QEMU_7_2),
    row(QemuTcg, "7.2", "sav-cr3-high-legacy", Differs(v::qemu_cr3_legacy), "in every mode of the guest, also without paging, where the host is in long mode", QEMU_7_2),
    row(QemuTcg, "7.2", "sav-pdpte-reserved", Absent, "PDPTEs are not read", QEMU_7_2),
    row(QemuTcg, "7.2", "sav-cr4-mbz", Differs(v::qemu_cr4_with_pks), "VME to OSXMMEXCPT and PCIDE are never refused, CET always; bit 24 follows Intel's feature PKS", QEMU_7_2),
    row(QemuTcg, "7.2", "sav-s-cet-reserved sav-cr4-cet-without-wp sav-ucet-ss-in-v86 sav-u-cet-reserved-seves", Absent, "has no shadow stacks", QEMU_7_2),
    row(QemuTcg, "7.2", "sev-* seves-* snp-*", Absent, "has no SEV", QEMU_7_2),

    // --- VirtualBox ---------------------------------------------------------------------------------------
    row(VirtualBox, "git:4908d8d1a85c", "pre-svme-off pre-not-protected pre-cpl", Same, "", VBOX),
    row(VirtualBox, "*", "pre-vmcb-address pre-in-smm", NotSeen, "the callers were not read", UNKNOWN),
    row(VirtualBox, "git:4908d8d1a85c", "pre-hsave-pa-zero pre-vmcb-rmp", Absent, "not looked at", VBOX),
    row(VirtualBox, "git:4908d8d1a85c", "ctl-vmrun-intercept-clear ctl-asid-zero ctl-gpat-invalid", Same, "", VBOX),
    row(VirtualBox, "git:4908d8d1a85c", "ctl-msrpm-beyond-maxphyaddr", Differs(v::msrpm_unaligned), "refuses also bits 11:0, and what is not ordinary RAM", VBOX),
    row(VirtualBox, "git:4908d8d1a85c", "ctl-iopm-beyond-maxphyaddr", Differs(v::iopm_unaligned), "refuses also bits 11:0, and what is not ordinary RAM", VBOX),
    row(VirtualBox, "git:4908d8d1a85c", "ctl-tlb-control-reserved", Differs(v::tlb_control_above_1_without_flush_by_asid), "refuses all but 0 and 1 where FlushByAsid is absent", VBOX),
    row(VirtualBox, "git:4908d8d1a85c", "ctl-*", Absent, "not looked at", VBOX),
    row(VirtualBox, "*", "sav-efer-mbz", NotSeen, "left to CPUMIsGuestEferMsrWriteValid, which was not read", UNKNOWN),
    row(VirtualBox, "git:4908d8d1a85c", "sav-efer-svme-clear sav-efer-long-mode-unsupported sav-cr0-* sav-lme-* sav-cs-l-and-d sav-dr6-high sav-dr7-high sav-pdpte-reserved", Same, "", VBOX),
    row(VirtualBox, "git:4908d8d1a85c", "sav-cr3-* sav-cr4-mbz", Absent, "marked as to be done", VBOX),
    row(VirtualBox, "git:4908d8d1a85c", "sav-*", Absent, "not looked at", VBOX),
    row(VirtualBox, "git:4908d8d1a85c", "evt-type-reserved evt-exc-vector-2 evt-exc-vector-above-31", Same, "", VBOX),
    row(VirtualBox, "git:4908d8d1a85c", "evt-br-in-64-bit-mode", Differs(v::br_in_long_mode), "refuses in long mode, compatibility mode included", VBOX),
    row(VirtualBox, "git:4908d8d1a85c", "evt-reserved-bits", Absent, "bits 30:12 are cleared", VBOX),
    row(VirtualBox, "git:4908d8d1a85c", "evt-*", Absent, "accepts every vector below 32 but 2", VBOX),
    row(VirtualBox, "git:4908d8d1a85c", "sev-* seves-* snp-*", Absent, "not looked at", VBOX),

    // --- Xen ----------------------------------------------------------------------------------------------
    row(Xen, "*", "pre-svme-off pre-not-protected pre-cpl pre-vmcb-address pre-in-smm", NotSeen, "the callers were not read", UNKNOWN),
    row(Xen, "git:c447b7308b13", "pre-hsave-pa-zero pre-vmcb-rmp", Absent, "not looked at", XEN),
    row(Xen, "git:c447b7308b13", "ctl-vmrun-intercept-clear", Same, "", XEN),
    row(Xen, "git:c447b7308b13", "ctl-*", Absent, "not looked at", XEN),
    row(Xen, "git:c447b7308b13", "sav-efer-svme-clear sav-efer-long-mode-unsupported sav-cr0-* sav-lme-* sav-cs-l-and-d sav-dr6-high sav-dr7-high", Same, "", XEN),
    row(Xen, "git:c447b7308b13", "sav-efer-lma-without-lme", Same, "refused as an inconsistency", XEN),
    row(Xen, "git:c447b7308b13", "sav-efer-mbz", Differs(v::xen_efer), "refuses bits 7:1, LMSLE, TCE, MCOMMIT, INTWB and UAIE whatever the CPU has", XEN),
    row(Xen, "git:c447b7308b13", "sav-cr3-mbz-long", Differs(v::xen_cr3), "refuses also bits 11:5 and 2:0; looks at LMA and PG, not LME", XEN),
    row(Xen, "git:c447b7308b13", "sav-cr4-mbz", Differs(v::xen_cr4), "LA57 is never offered", XEN),
    row(Xen, "git:c447b7308b13", "sav-*", Absent, "not looked at", XEN),
    row(Xen, "git:c447b7308b13", "evt-reserved-bits", Same, "refused whatever V says", XEN),
    row(Xen, "git:c447b7308b13", "evt-*", Absent, "EVENTINJ is handed to the CPU below", XEN),
    row(Xen, "git:c447b7308b13", "sev-* seves-* snp-*", Absent, "not looked at", XEN),
];
