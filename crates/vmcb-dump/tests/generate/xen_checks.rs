//! Lines of Xen's own check, `svm_vmcb_isvalid`, as versions of several ages print them.

use super::{Random, Shown, Written};
use vmcb::layout::{Field, Page, vmcb_field as f};

/// What Xen says of a field, in its order, with `#` where a number stands.
const REASONS: [(&str, Field); 8] = [
    ("EFER: SVME bit not set (#)", f::efer),
    ("CR0: CD bit is zero and NW bit set (#)", f::cr0),
    ("CR3: MBZ bits are set (#)", f::cr3),
    ("CR4: invalid bits are set (#, valid: 0x7ff)", f::cr4),
    ("DR6: bits [63:32] are not zero (#)", f::dr6),
    ("DR7: bits [63:32] are not zero (#)", f::dr7),
    ("GENERAL2_INTERCEPT: VMRUN intercept bit is clear (#)", f::intercept_misc2),
    ("eventinj: MBZ bits are set (#)", f::eventinj),
];

/// Writes the lines of one call.
pub(crate) fn write(random: &mut Random) -> Written {
    let who = if random.one_in(2) { "d1v0[nsvm_vmcb_prepare4vmrun]" } else { "nsvm_vmcb_prepare4vmrun" };
    let prefix = ["(XEN) ", "(XEN) [   51.134391] ", ""][random.below(3) as usize];
    let (mut text, mut shows) = (String::new(), Vec::new());
    let always = random.below(REASONS.len() as u64) as usize;
    for (index, (reason, field)) in REASONS.iter().enumerate() {
        if index != always && random.one_in(2) {
            continue;
        }
        let value = random.value(field.size);
        let mask = if field.size == 8 { u64::MAX } else { (1 << (field.size * 8)) - 1 };
        shows.push(Shown { page: Page::Vmcb, offset: field.offset, size: field.size, value, mask });
        let number = if value == 0 { "0".to_owned() } else { format!("{value:#x}") };
        text.push_str(&format!("{prefix}{who}: {}\n", reason.replace('#', &number)));
    }
    if random.one_in(2) {
        text.push_str(&format!("{prefix}nestedsvm.c:640:d1v0 virtual vmcb invalid\n"));
    }
    Written { text, shows }
}
