//! Guests with encrypted registers: what the dump tells of the CPU, and what cannot be judged.

use super::case::Case;
use super::judged_for::JudgedFor;
use crate::record::Note;
use vmcb::layout::vmcb_field;
use vmcb::{Feature, NestedCtl};
use vmcb_dump::VmType;

impl Case<'_> {
    /// Whether the guest's registers are in a VMSA that is not known: nothing is said of them then.
    pub(super) fn is_encrypted(&self) -> bool {
        let nested_ctl = self.found.vmcb.field(vmcb_field::nested_ctl);
        let by_bit = nested_ctl.value() & NestedCtl::SEV_ES.bits() != 0;
        let by_header = self.found.vm_type.is_some_and(VmType::has_vmsa);
        self.vmsa.is_none() && (by_bit || by_header) && self.judged_for.cpu.has(Feature::SevEs) != Some(false)
    }

    /// What the verdict line says of it.
    pub(super) fn encrypted_text(&self) -> String {
        let mut text = "cannot judge the guest's registers: they are in an encrypted VMSA".to_owned();
        if self.judged_for.cpu.has(Feature::SevEs).is_none() {
            text.push_str(", unless the CPU lacks SEV-ES");
        }
        text
    }

    /// What the header told of the CPU.
    pub(super) fn cpu_notes(&self, notes: &mut Vec<Note>) {
        let Some(vm_type) = self.found.vm_type else { return };
        let list = |features: &[Feature]| {
            features.iter().map(|feature| feature.name()).collect::<Vec<_>>().join(", ")
        };
        let mut say = |id, text| {
            let more = Vec::new();
            notes.push(Note { vmcb: self.vmcb, id, text, more, section: None, fields: Vec::new() });
        };
        let JudgedFor { added, contradicted, .. } = self.judged_for;
        if !added.is_empty() {
            let text = format!(
                "the dump is headed {vm_type}, so its CPU has {}: judged for such a CPU",
                list(added)
            );
            say("cpu-from-dump", text);
        }
        if !contradicted.is_empty() {
            let text = format!(
                "the dump is headed {vm_type}, so its CPU has {}; --cpu says that it has not, and counts",
                list(contradicted)
            );
            say("cpu-contradicts-dump", text);
        }
    }
}
