//! Which rule a condition of KVM's own checks stands for.
//!
//! The trace prints the condition as it is written in KVM's source, so a part of it identifies the
//! check through all versions. This is a table of names; what is legal is decided in `vmcb` alone.

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

/// Whether KVM checks this after it has printed `kvm_nested_vmenter`: these conditions have CR3 in a
/// variable of its own, the earlier ones read it from the save area.
pub(crate) fn after_enter(condition: &str) -> bool {
    condition.contains("(vcpu, cr3)")
}

/// Every id that [`rules`] can give, for a test that they all exist.
pub(crate) fn all() -> impl Iterator<Item = &'static str> {
    ROWS.iter().flat_map(|row| row.1.iter().copied())
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
}
