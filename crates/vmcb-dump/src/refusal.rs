//! Which rule a condition of KVM's own checks, or of Xen's, stands for.
//!
//! The trace prints the condition as it is written in KVM's source, so a part of it identifies the
//! check through all versions; Xen prints a sentence for each. These are tables of names; what is legal is
//! decided in `vmcb` alone.

/// A part of a condition and the ids of the rules of which one is then broken.
struct Row(&'static str, &'static [&'static str]);

/// The first row that matches counts.
const ROWS: &[Row] = &[
    Row("INTERCEPT_VMRUN", &["ctl-vmrun-intercept-clear"]),
    Row("V_NMI_ENABLE_MASK", &["ctl-vnmi-without-nmi-intercept"]),
    Row(
        "nested_svm_check_event_inj",
        &[
            "evt-type-reserved",
            "evt-exc-vector-2",
            "evt-exc-vector-above-31",
            "evt-exc-vector-reserved",
            "evt-exc-vector-9",
            "evt-exc-cp-without-shstk",
            "evt-exc-vc-without-seves",
            "evt-exc-hv-without-restricted-injection",
            "evt-exc-impossible-for-guest-mode",
        ],
    ),
    Row("nested_cr3", &["ctl-ncr3-mbz"]),
    Row("msrpm_base_pa", &["ctl-msrpm-beyond-maxphyaddr"]),
    Row("iopm_base_pa", &["ctl-iopm-beyond-maxphyaddr"]),
    Row("tlb_ctl", &["ctl-tlb-control-reserved"]),
    Row("control->asid", &["ctl-asid-zero"]),
    Row("EFER_SVME", &["sav-efer-svme-clear"]),
    Row("SVM_SELECTOR_L_MASK", &["sav-cs-l-and-d"]),
    Row("X86_CR0_NW", &["sav-cr0-nw-without-cd"]),
    Row("cr0 & ~0xffffffff", &["sav-cr0-high"]),
    Row("kvm_dr6_valid", &["sav-dr6-high"]),
    Row("kvm_dr7_valid", &["sav-dr7-high"]),
    Row("X86_CR4_PAE", &["sav-lme-pg-without-pae"]),
    Row("X86_CR0_PE", &["sav-lme-pg-without-pe"]),
    Row("load_pdptrs", &["sav-pdpte-reserved"]),
    Row("kvm_is_valid_cr4", &["sav-cr4-mbz"]),
    Row("kvm_valid_efer", &["sav-efer-mbz", "sav-efer-long-mode-unsupported"]),
    Row("kvm_pat_valid", &["ctl-gpat-invalid"]),
    Row("MSR_CR3_LONG_MBZ_MASK", &["sav-cr3-mbz-long"]),
    Row("save->cr3", &["sav-cr3-mbz-long", "sav-cr3-high-legacy"]),
    Row("(vcpu, cr3)", &["sav-cr3-mbz-long", "sav-cr3-high-legacy"]),
    Row("asid", &["ctl-asid-zero"]),
];

/// Ids of the rules of which one is broken where KVM prints `condition`; empty if it is not known.
#[must_use]
pub fn rules(condition: &str) -> &'static [&'static str] {
    ROWS.iter().find(|row| condition.contains(row.0)).map_or(&[], |row| row.1)
}

/// Conditions that only VMX's part of KVM checks.
const VMX_CONDITIONS: [&str; 5] = ["vmcs12", "nested_cpu_has", "VMENTRY_", "VMLAUNCH_", "VMRESUME_"];

/// Whether only VMX's part of KVM has this condition.
#[must_use]
pub fn is_vmx(condition: &str) -> bool {
    VMX_CONDITIONS.iter().any(|word| condition.contains(word))
}

/// Whether KVM checks this after it has printed `kvm_nested_vmenter`: these conditions have CR3 in a
/// variable of its own, the earlier ones read it from the save area.
pub(crate) fn after_enter(condition: &str) -> bool {
    condition.contains("(vcpu, cr3)")
}

/// A sentence of Xen's check: the beginning that tells it from others, the whole, and the ids of the rules of which
/// one is then broken.
struct Sentence(&'static str, &'static str, Names);

/// Which rules a sentence names.
#[derive(Clone, Copy)]
enum Names {
    Always(&'static [&'static str]),
    /// Only where the value has none of these bits: Xen refuses them too, and the manual does not.
    Without(u64, &'static [&'static str]),
}
use Names::{Always, Without};

/// Bits of CR3 that Xen refuses (2:0, 11:5) and that no rule of VMRUN names.
const CR3_LOW: u64 = 0xFE7;
/// Bits of EFER that read as zero (7:1).
const EFER_LOW: u64 = 0xFE;

/// In the order in which Xen looks.
const SENTENCES: &[Sentence] = &[
    Sentence("EFER: SVME bit", "EFER: SVME bit not set", Always(&["sav-efer-svme-clear"])),
    Sentence("CR0: CD bit", "CR0: CD bit is zero and NW bit set", Always(&["sav-cr0-nw-without-cd"])),
    Sentence("CR0: bits [63:32]", "CR0: bits [63:32] are not zero", Always(&["sav-cr0-high"])),
    Sentence("CR3: MBZ bits", "CR3: MBZ bits are set", Without(CR3_LOW, &["sav-cr3-mbz-long"])),
    Sentence("CR4: bits [63:19]", "CR4: bits [63:19] are not zero", Always(&["sav-cr4-mbz"])),
    Sentence("CR4: bits [17:11]", "CR4: bits [17:11] are not zero", Always(&["sav-cr4-mbz"])),
    Sentence("CR4: invalid bits", "CR4: invalid bits are set", Always(&["sav-cr4-mbz"])),
    Sentence("CR4: invalid value", "CR4: invalid value", Always(&["sav-cr4-mbz"])),
    Sentence("DR6: bits [63:32]", "DR6: bits [63:32] are not zero", Always(&["sav-dr6-high"])),
    Sentence("DR7: bits [63:32]", "DR7: bits [63:32] are not zero", Always(&["sav-dr7-high"])),
    Sentence("EFER: bits [63:15]", "EFER: bits [63:15] are not zero", Always(&["sav-efer-mbz"])),
    Sentence("EFER: unknown bits", "EFER: unknown bits are not zero", Without(EFER_LOW, &["sav-efer-mbz"])),
    Sentence("EFER: Unknown bits", "EFER: Unknown bits set", Without(EFER_LOW, &["sav-efer-mbz"])),
    Sentence("EFER: SCE without", "EFER: SCE without feature", Always(&["sav-efer-mbz"])),
    Sentence(
        "EFER: LME/LMA without",
        "EFER: LME/LMA without feature",
        Always(&["sav-efer-long-mode-unsupported"]),
    ),
    Sentence(
        "EFER: LMA/LME/CR0.PG",
        "EFER: LMA/LME/CR0.PG inconsistency",
        Always(&["sav-efer-lma-without-lme"]),
    ),
    Sentence("EFER: NX without", "EFER: NX without feature", Always(&["sav-efer-mbz"])),
    // That Xen offers no nesting is no matter of the VMCB.
    Sentence("EFER: SVME without", "EFER: SVME without nested virt", Always(&[])),
    Sentence("EFER: LMSLE without", "EFER: LMSLE without support", Always(&["sav-efer-mbz"])),
    Sentence("EFER: FFXSE without", "EFER: FFXSE without feature", Always(&["sav-efer-mbz"])),
    Sentence("EFER: TCE without", "EFER: TCE without feature", Always(&["sav-efer-mbz"])),
    Sentence("EFER: AutoIBRS without", "EFER: AutoIBRS without feature", Always(&["sav-efer-mbz"])),
    Sentence(
        "EFER_LME and CR0.PG are both set and CR4.PAE",
        "EFER_LME and CR0.PG are both set and CR4.PAE is zero",
        Always(&["sav-lme-pg-without-pae"]),
    ),
    Sentence(
        "EFER_LME and CR0.PG are both set and CR0.PE",
        "EFER_LME and CR0.PG are both set and CR0.PE is zero",
        Always(&["sav-lme-pg-without-pe"]),
    ),
    Sentence(
        "EFER_LME, CR0.PG, CR4.PAE, CS.L",
        "EFER_LME, CR0.PG, CR4.PAE, CS.L and CS.D are all non-zero",
        Always(&["sav-cs-l-and-d"]),
    ),
    Sentence(
        "GENERAL2_INTERCEPT: VMRUN",
        "GENERAL2_INTERCEPT: VMRUN intercept bit is clear",
        Always(&["ctl-vmrun-intercept-clear"]),
    ),
    Sentence("eventinj: MBZ bits", "eventinj: MBZ bits are set", Always(&["evt-reserved-bits"])),
    // No rule: an N_CR3 of zero is an address as others are.
    Sentence("nested paging enabled but", "nested paging enabled but host cr3 is 0", Always(&[])),
];

/// A sentence of Xen's check.
pub(crate) struct XenCheck {
    /// Its place in the order in which Xen looks.
    pub(crate) order: usize,
    /// The whole of it.
    pub(crate) text: &'static str,
    /// One call may print it twice.
    pub(crate) repeats: bool,
    names: Names,
}

/// The sentence that `text` begins with.
pub(crate) fn xen_check(text: &[u8]) -> Option<XenCheck> {
    // Every sentence begins so, most lines of a log do not.
    if !matches!(text.first()?, b'E' | b'C' | b'D' | b'G' | b'e' | b'n') {
        return None;
    }
    let (order, Sentence(_, text, names)) =
        SENTENCES.iter().enumerate().find(|(_, sentence)| text.starts_with(sentence.0.as_bytes()))?;
    Some(XenCheck { order, text, repeats: text.starts_with("CR3"), names: *names })
}

/// The rules of which one is broken where Xen prints this, with the value that it shows; empty if it refuses what
/// the manual allows, or may do so.
pub(crate) fn xen_rules(check: &XenCheck, value: Option<u64>) -> &'static [&'static str] {
    match check.names {
        Always(rules) => rules,
        Without(bits, rules) if value.is_some_and(|value| value & bits == 0) => rules,
        Without(..) => &[],
    }
}

/// Every id that [`rules`] and [`xen_rules`] can give, for a test that they all exist.
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    let xen = SENTENCES.iter().map(|sentence| match sentence.2 {
        Always(rules) | Without(_, rules) => rules,
    });
    ROWS.iter().map(|row| row.1).chain(xen).flatten().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_name_their_rule() {
        for (condition, first) in [
            ("!vmcb12_is_intercept(control, INTERCEPT_VMRUN)", "ctl-vmrun-intercept-clear"),
            ("control->asid == 0", "ctl-asid-zero"),
            ("!(save->efer & EFER_SVME)", "sav-efer-svme-clear"),
            ("(save->cr0 & X86_CR0_CD) == 0 && (save->cr0 & X86_CR0_NW)", "sav-cr0-nw-without-cd"),
            ("save->cr0 & ~0xffffffffULL", "sav-cr0-high"),
            ("!(save->cr4 & X86_CR4_PAE)", "sav-lme-pg-without-pae"),
            ("!(save->cr0 & X86_CR0_PE)", "sav-lme-pg-without-pe"),
            ("!load_pdptrs(vcpu, cr3)", "sav-pdpte-reserved"),
            ("!kvm_vcpu_is_legal_cr3(vcpu, save->cr3)", "sav-cr3-mbz-long"),
            ("!kvm_vcpu_is_legal_cr3(vcpu, cr3)", "sav-cr3-mbz-long"),
            ("!__kvm_is_valid_cr4(vcpu, save->cr4)", "sav-cr4-mbz"),
            ("!page_address_valid(vcpu, control->nested_cr3)", "ctl-ncr3-mbz"),
            (
                "!nested_svm_check_bitmap_pa(vcpu, control->msrpm_base_pa, MSRPM_SIZE)",
                "ctl-msrpm-beyond-maxphyaddr",
            ),
        ] {
            assert_eq!(rules(condition).first(), Some(&first), "{condition}");
        }
        assert!(rules("(control->nested_ctl & SVM_NESTED_CTL_NP_ENABLE) && !npt_enabled").is_empty());
    }

    #[test]
    fn sentences_name_their_rule() {
        for sentence in SENTENCES {
            let check = xen_check(sentence.1.as_bytes()).expect("it is found");
            assert_eq!(check.text, sentence.1);
        }
        let rules = |text: &str, value| xen_rules(&xen_check(text.as_bytes()).expect("known"), value);
        assert_eq!(rules("CR3: MBZ bits are set", Some(1 << 60)), ["sav-cr3-mbz-long"]);
        assert!(rules("CR3: MBZ bits are set", Some(0x1001)).is_empty());
        assert!(rules("CR3: MBZ bits are set", None).is_empty());
        assert!(rules("EFER: unknown bits are not zero", Some(0x1002)).is_empty());
        assert_eq!(rules("EFER: unknown bits are not zero", Some(0x1_0000_1000)), ["sav-efer-mbz"]);
        assert!(xen_check(b"CR5: x").is_none());
    }
}
