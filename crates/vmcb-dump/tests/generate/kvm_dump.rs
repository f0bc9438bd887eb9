//! KVM's `dump_vmcb`, as kernels of several ages print it.

use super::{Random, Shown, Written};
use vmcb::layout::Page;

/// Writes a dump.
pub(crate) fn write(random: &mut Random) -> Written {
    let mut text =
        String::from("SVM: VMCB 00000000f5f21b6a, last attempted VMRUN on CPU 0\nSVM: VMCB Control Area:\n");
    let value = random.value(4);
    text.push_str(&format!("SVM: {:<20}{:08x}\n", "exceptions:", value));
    let shown = Shown { page: Page::Vmcb, offset: 8, size: 4, value, mask: u64::from(u32::MAX) };
    Written { text, shows: vec![shown] }
}
