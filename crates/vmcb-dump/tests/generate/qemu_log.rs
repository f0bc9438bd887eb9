//! QEMU's log of emulated SVM instructions, with one `vmexit`.

use super::{Random, Shown, Written};
use std::fmt::Write;
use vmcb::layout::{Page, vmcb_field as f};

/// Writes a log.
pub(crate) fn write(random: &mut Random) -> Written {
    let mut text = String::new();
    let address = random.below(1 << 36) << 12;
    for _ in 0..random.below(4) {
        let _ = match random.below(3) {
            0 => writeln!(text, "  0x{:016x}: xor %ecx,%ecx", random.next()),
            1 => writeln!(text, "  vmload! {address:016x}"),
            _ => writeln!(text, "  vmsave! {address:016x}"),
        };
    }
    if !random.one_in(4) {
        let _ = writeln!(text, "  vmrun! {address:016x}");
    }
    for _ in 0..random.below(4) {
        let _ = writeln!(text, "  0x{:016x}: push %rbx", random.next());
    }
    let (code, info1, info2, rip) = (random.value(4), random.value(8), random.value(8), random.value(8));
    let _ = writeln!(text, "  vmexit({code:08x}, {info1:016x}, {info2:016x}, {rip:016x})!");
    if random.one_in(2) {
        let _ = writeln!(text, "  vmsave! {address:016x}");
    }
    let low = u64::from(u32::MAX);
    // EXITINFO1 is known whole if 32 bits with a sign hold it.
    let sign = if info1 & 1 << 31 == 0 { 0 } else { !low };
    let shows = [
        (f::exitcode, code, low),
        (f::exitinfo1, info1, if info1 & !low == sign { u64::MAX } else { low }),
        (f::exitinfo2, info2, u64::MAX),
        (f::rip, rip, u64::MAX),
    ]
    .map(|(field, value, mask)| Shown {
        page: Page::Vmcb,
        offset: field.offset,
        size: 8,
        value: value & mask,
        mask,
    });
    Written { text, shows: shows.to_vec() }
}
