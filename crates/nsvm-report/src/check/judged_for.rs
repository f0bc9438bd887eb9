//! The CPU that a VMCB is judged for: that of the question, with what the dump's header shows of it.

use std::cell::OnceCell;
use vmcb::{Cpu, Feature, Limits, Policy};
use vmcb_dump::VmType;

/// The CPU that a VMCB is judged for.
pub(super) struct JudgedFor {
    pub(super) cpu: Cpu,
    pub(super) text: String,
    pub(super) limits: Limits,
    /// Features that the header adds.
    pub(super) added: Vec<Feature>,
    /// Features that the header shows and the question excludes.
    pub(super) contradicted: Vec<Feature>,
}

/// One CPU for each kind of guest, made at its first use.
#[derive(Default)]
pub(super) struct Cpus([OnceCell<JudgedFor>; 4]);

impl JudgedFor {
    fn new(shown: &[Feature], of: &Cpu, text: &str, policy: Policy) -> Self {
        let with = |has: Option<bool>| shown.iter().copied().filter(move |&shown| of.has(shown) == has);
        let (added, contradicted): (Vec<Feature>, Vec<Feature>) =
            (with(None).collect(), with(Some(false)).collect());
        let cpu = added.iter().fold(*of, |cpu, &feature| cpu.with(feature, true));
        let mut text = text.to_owned();
        for feature in &added {
            text.push_str(",+");
            text.push_str(feature.name());
        }
        Self { cpu, text, limits: Limits::compile(&cpu, policy), added, contradicted }
    }
}

impl Cpus {
    /// Returns the CPU `of`, called `text`, for a guest of this kind.
    pub(super) fn get(&self, vm_type: Option<VmType>, of: &Cpu, text: &str, policy: Policy) -> &JudgedFor {
        let [plain, sev, sev_es, sev_snp] = &self.0;
        let (made, shown): (&OnceCell<JudgedFor>, &[Feature]) = match vm_type {
            None | Some(VmType::Svm) => (plain, &[]),
            Some(VmType::Sev) => (sev, &[Feature::Sev]),
            Some(VmType::SevEs) => (sev_es, &[Feature::Sev, Feature::SevEs]),
            Some(VmType::SevSnp) => (sev_snp, &[Feature::Sev, Feature::SevEs, Feature::SevSnp]),
        };
        made.get_or_init(|| JudgedFor::new(shown, of, text, policy))
    }
}
