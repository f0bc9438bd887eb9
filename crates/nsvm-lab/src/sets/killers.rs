//! Cases that kill or hang a subject, and cases of which the outcome says nothing.

use super::bases::read;
use crate::glob::Globs;
use crate::names::KVM_ON_L0;
use std::sync::LazyLock;
use vmcb::Efer;
use vmcb::layout::{PAGE_SIZE, vmcb_field as field};

/// Cases that kill or hang a subject.
#[derive(Clone, Debug)]
pub struct Killer {
    /// The subject: `bochs`, `kvm`, `qemu-tcg`.
    pub subject: &'static str,
    /// Pattern of its versions.
    pub versions: Globs,
    /// Patterns of the cases' ids.
    pub cases: Globs,
    /// What happens.
    pub reason: &'static str,
}

/// The known killers. Versions are those that were tried: Bochs 2.7, 3.0 and 3.1, QEMU 7.2.22, 10.0.2, 10.0.13, 11.1.2
/// and 11.1.3, KVM of Linux 6.1.170, 6.1.192, 6.12.73, 6.12.90, 6.12.95, 6.12.118, 6.16.12, 6.18.15, 7.2.12, 7.2.13,
/// 7.3-rc7 and 7.3.4 on QEMU.
pub static KILLERS: LazyLock<Vec<Killer>> = LazyLock::new(|| {
    vec![
        Killer {
            subject: "bochs",
            versions: Globs::of(&["*"]),
            cases: Globs::of(&[
                "flip.long64.cr0#0",
                "flip.compat.cr0#0",
                "flip.np64.cr0#0",
                "flip.np-compat.cr0#0",
                "mode.*.pg-lme#[456]",
                "mode.*.pg-lme#1[456cde]",
                "row.sav-lme-pg-without-pe.cr0",
                "pair.*sav-lme-pg-without-pe*",
            ]),
            reason: "Bochs takes EFER.LME and CR0.PG without CR0.PE for paged real mode and panics",
        },
        Killer {
            subject: "bochs",
            versions: Globs::of(&["*"]),
            cases: Globs::of(&[
                "flip.long64.cr3#2[89a-f]",
                "flip.long64.cr3#3[0-3]",
                "flip.compat.cr3#2[89a-f]",
                "flip.compat.cr3#3[0-3]",
                "map.long64.cr3.w4[0368]#*",
                "map.long64.cr3.w52#*",
                "map.compat.cr3.w4[0368]#*",
                "map.compat.cr3.w52#*",
                "row.sav-cr3-mbz-long.*",
                "row.unknown.cr3-bit-40",
                "pair.sav-cr3-mbz-long+*",
            ]),
            reason: "Bochs dies of a page walk from an address with one of the bits 51:40; of the lower ones not in each run",
        },
        Killer {
            subject: "bochs",
            versions: Globs::of(&["[23].[07]*"]),
            cases: Globs::of(&[
                "base.*v86",
                "eventinj.*v86#*",
                "eventbit.*v86.*",
                "flip.*real.rflags#11",
                "flip.*pae.rflags#11",
                "flip.*prot32.rflags#11",
                "row.legal.v86",
                "row.evt-exc-impossible-for-guest-mode.v86",
                "row.unknown.u-cet",
            ]),
            reason: "Bochs before 3.1 panics on a guest in virtual-8086 mode: `VM is set in long mode`",
        },
        Killer {
            subject: "kvm",
            versions: Globs::of(&["7.*"]),
            cases: Globs::of(&[
                "map.*.rax.*",
                "row.pre-vmcb-address.limit*",
                "row.unknown.vmcb-address-any-cpu",
            ]),
            reason: "KVM of Linux 7 stops with an internal error when the VMCB is outside RAM",
        },
        Killer {
            subject: "kvm",
            versions: Globs::of(&["6.1[.68]*"]),
            cases: Globs::of(&["flip.*.intercept_misc2#1"]),
            reason: "VMMCALL is not intercepted and KVM executes it as a hypercall, after which the guest is not heard of",
        },
        Killer {
            subject: "kvm",
            versions: Globs::of(&["6.12.73*"]),
            cases: Globs::of(&["flip.*.intercept_misc2#1"]),
            reason: "VMMCALL is not intercepted and KVM executes it as a hypercall, after which the guest is not heard of",
        },
        Killer {
            subject: "qemu-tcg",
            versions: Globs::of(&["*"]),
            cases: Globs::of(&["row.evt-br-in-64-bit-mode.real-with-l"]),
            reason: "QEMU takes EFER.LMA from the VMCB, and an event in real mode with CS.L goes astray",
        },
        Killer {
            subject: "qemu-tcg",
            versions: Globs::of(&["7.*"]),
            cases: Globs::of(&["row.legal.pdptes-without-pae"]),
            reason: "its page tables lead to code that is none of ours, and QEMU 7.2 does not come back",
        },
        Killer {
            subject: "l0",
            versions: Globs::of(&["*"]),
            cases: Globs::of(&["row.legal.pdptes-without-pae"]),
            reason: "as on the QEMU 7.2 below",
        },
    ]
});

/// KVM is KVM, whatever is below it.
fn itself(subject: &str) -> &str {
    if subject == KVM_ON_L0 { "kvm" } else { subject }
}

/// The killer, if this case is known to kill or hang this version of the subject.
#[must_use]
pub fn killer(subject: &str, version: &str, case: &str) -> Option<&'static Killer> {
    let of = |killer: &&Killer| killer.subject == itself(subject) && killer.versions.matches(version);
    KILLERS.iter().filter(of).find(|killer| killer.cases.matches(case))
}

/// Cases of one subject whose outcome changes from run to run, or with the cases before it. It is compared, and the list
/// of expected differences has a row for it; two runs of the subject may differ in it, and from what is predicted.
#[derive(Clone, Debug)]
pub struct Unstable {
    /// The subject.
    pub subject: &'static str,
    /// Pattern of its versions.
    pub versions: Globs,
    /// Patterns of the cases' ids.
    pub cases: Globs,
    /// What changes.
    pub reason: &'static str,
}

/// The table of them.
pub static UNSTABLE: LazyLock<Vec<Unstable>> = LazyLock::new(|| {
    vec![
        Unstable {
            subject: "kvm",
            versions: Globs::of(&["6.*"]),
            cases: Globs::of(&["eventinj.*#1[23a-f]??", "row.evt-type-reserved.*"]),
            reason: "KVM before 7 hands events of a reserved TYPE to the CPU below and now and then loses one",
        },
        Unstable {
            subject: "kvm",
            versions: Globs::of(&["*"]),
            cases: Globs::of(&[
                "eventinj.*#1[89]??",
                "eventbit.*.80000480#*",
                "row.legal.int-n-without-nrips",
            ]),
            reason: "KVM now and then loses a software interrupt: L2 runs and nothing arrives",
        },
        Unstable {
            subject: "kvm",
            versions: Globs::of(&["*"]),
            cases: Globs::of(&["pdpte.np-pae.0#d"]),
            reason: "its page tables are whatever lies 8 KiB beside ours",
        },
        Unstable {
            subject: "qemu-tcg",
            versions: Globs::of(&["*"]),
            cases: Globs::of(&["row.evt-br-in-64-bit-mode.real-with-l"]),
            reason: "where the event goes depends on what lies in low memory",
        },
        Unstable {
            subject: "bochs",
            versions: Globs::of(&["3.1*"]),
            cases: Globs::of(&[
                "flip.compat.cs.attributes#4",
                "flip.pae.cs.attributes#4",
                "flip.prot32.cs.attributes#4",
            ]),
            reason: "Bochs 3.1 refuses a guest whose CS has S clear if another such guest ran before",
        },
        Unstable {
            subject: "bochs",
            versions: Globs::of(&["2.7*"]),
            cases: Globs::of(&[
                "flip.*compat.cs.attributes#4",
                "flip.*pae.cs.attributes#4",
                "flip.*prot32.cs.attributes#4",
            ]),
            reason: "the answer of Bochs 2.7 to a guest whose CS has S clear depends on which cases ran before",
        },
    ]
});

/// Why the outcome of this case changes from run to run of this subject, if it does.
#[must_use]
pub fn unstable(subject: &str, version: &str, case: &str) -> Option<&'static Unstable> {
    let of = |row: &&Unstable| row.subject == itself(subject) && row.versions.matches(version);
    UNSTABLE.iter().filter(of).find(|row| row.cases.matches(case))
}

/// Cases of which the outcome is not compared: what they do depends on more than their VMCB.
#[derive(Clone, Copy, Debug)]
pub struct Meaningless {
    /// How the cases' ids begin.
    pub prefix: &'static str,
    /// Which of them.
    when: fn(&[u8; PAGE_SIZE]) -> bool,
    /// Why.
    pub reason: &'static str,
}

/// The table of them.
pub const MEANINGLESS: &[Meaningless] = &[
    Meaningless {
        prefix: "",
        when: |page| {
            let (efer, lme, lma) = (read(page, field::efer), Efer::LME.bits(), Efer::LMA.bits());
            efer & (lme | lma) == lma
        },
        reason: "EFER.LMA without LME: on KVM the outcome was seen to change from run to run",
    },
    Meaningless {
        // The flips of clean bits follow their base: what is cached is the same.
        prefix: "row.",
        when: |page| read(page, field::clean) != 0,
        reason: "clean bits let the CPU use what it has cached of the case before",
    },
];

/// Why the outcome of this case is not compared.
pub(super) fn meaningless(id: &str, page: &[u8; PAGE_SIZE]) -> Option<&'static str> {
    MEANINGLESS.iter().find(|row| id.starts_with(row.prefix) && (row.when)(page)).map(|row| row.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn killers_are_found_by_subject_version_and_case() {
        assert!(killer("bochs", "2.7", "flip.np-real.rflags#11").is_some());
        assert!(killer("bochs", "3.0", "base.v86").is_some());
        assert!(killer("bochs", "3.1", "flip.np-real.rflags#11").is_none());
        assert!(killer("bochs", "3.1", "flip.np64.cr0#0").is_some());
        assert!(killer("qemu-tcg", "7.2.22", "flip.np64.cr0#0").is_none());
        assert!(unstable("kvm", "6.1.0-56-amd64 (6.1.192-2)", "eventinj.long64#131d").is_some());
        assert!(unstable("kvm", "6.1.0-56-amd64 (6.1.192-2)", "eventinj.long64#1604").is_none());
        assert!(unstable("kvm", "7.2.13+deb14-amd64 (7.2.13-1)", "eventinj.long64#131d").is_none());
        assert!(unstable("kvm", "7.2.13+deb14-amd64 (7.2.13-1)", "eventinj.long64#19a7").is_some());
        assert!(unstable("kvm-l0", "6.12.118+deb13-amd64 (6.12.118-1)", "eventinj.long64#1392").is_some());
        let vmmcall = "flip.long64.intercept_misc2#1";
        for kernel in ["6.1.0-56-amd64 (6.1.192-2)", "6.16.12+deb13-amd64", "6.18.15+deb13-amd64"] {
            assert!(killer("kvm", kernel, vmmcall).is_some(), "{kernel}");
        }
        for kernel in ["6.12.118+deb13-amd64", "7.2.13+deb14-amd64"] {
            assert!(killer("kvm", kernel, vmmcall).is_none(), "{kernel}");
        }
    }
}
