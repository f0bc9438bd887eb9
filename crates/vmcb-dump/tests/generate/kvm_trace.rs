//! KVM's trace lines, in the columns of all tools and the layouts of all kernels.

use super::{Random, Shown, Written};
use vmcb::layout::Page;

fn show(offset: u16, size: u16, value: u64) -> Shown {
    let mask = if size >= 8 { u64::MAX } else { (1 << (size * 8)) - 1 };
    Shown { page: Page::Vmcb, offset, size, value, mask }
}

/// What stands before the event's name.
fn columns(random: &mut Random) -> String {
    let task = ["qemu-system-x86", "CPU 0/KVM", "a-b", "<...>"][random.below(4) as usize];
    let (pid, cpu) = (random.below(99_999), random.below(256));
    let time = format!("{}.{:06}", random.below(9_999), random.below(1_000_000));
    match random.below(6) {
        0 => format!("{task:>16}-{pid:<7} [{cpu:03}] d..2. {time:>12}: "),
        1 => format!("{task:>16}-{pid:<7} ({pid:>7}) [{cpu:03}] .... {time}: "),
        2 => format!("{task}-{pid} [{cpu:03}] {time}: "),
        3 => format!("{task:>16} {pid:>5} [{cpu:03}] {time}: kvm:"),
        4 => format!("[{time:>12}] "),
        _ => String::new(),
    }
}

/// Writes `kvm_nested_vmrun` or `kvm_nested_vmenter`, often with the intercepts.
pub(crate) fn enter(random: &mut Random) -> Written {
    let head = columns(random);
    let (rip, vmcb, nested) = (random.value(8), random.value(8) & !0xFFF, random.value(8));
    let (int_ctl, event, cr3) = (random.value(4), random.value(4), random.value(8));
    let paging = random.one_in(2);
    let mut shows = vec![show(0x578, 8, nested), show(0x60, 4, int_ctl), show(0xA8, 4, event)];
    shows.push(Shown { mask: 1, ..show(0x90, 8, paging.into()) });
    let fields = format!("int_ctl: {int_ctl:#010x} event_inj: {event:#010x}");
    let mut text = match random.below(3) {
        0 => {
            let npt = if paging { "on" } else { "off" };
            format!(
                "{head}kvm_nested_vmrun: rip: {rip:#018x} vmcb: {vmcb:#018x} nrip: {nested:#018x} {fields} npt: {npt}\n"
            )
        }
        layout => {
            let (name, offset) = match (paging, layout) {
                (true, _) => ("nested_cr3:", 0xB0),
                (false, 1) => ("guest_cr3:", 0x550),
                (false, _) => ("guest cr3:", 0x550),
            };
            shows.push(show(offset, 8, cr3));
            let npt = if paging { "y" } else { "n" };
            format!(
                "{head}kvm_nested_vmenter: rip: {rip:#018x} vmcb: {vmcb:#018x} nested_rip: {nested:#018x} {fields} \
                 nested_npt={npt} {name} {cr3:#018x}\n"
            )
        }
    };
    if random.one_in(2) {
        let (read, write, exceptions) = (random.value(2), random.value(2), random.value(4));
        let words = [random.value(4), random.value(4), random.value(4)];
        shows.extend([show(0x00, 2, read), show(0x02, 2, write), show(0x08, 4, exceptions)]);
        shows.extend([show(0x0C, 4, words[0]), show(0x10, 4, words[1])]);
        let [first, second, third] = words;
        let all = if random.one_in(3) {
            format!("intercept: {second:08x}{first:08x}")
        } else {
            shows.push(show(0x14, 4, third));
            format!("intercepts: {first:08x} {second:08x} {third:08x}")
        };
        text.push_str(&format!(
            "{head}kvm_nested_intercepts: cr_read: {read:04x} cr_write: {write:04x} excp: {exceptions:08x} {all}\n"
        ));
    }
    Written { text, shows }
}

/// Writes an exit that VMRUN did not make: the code is one of its failures.
pub(crate) fn refused_exit(random: &mut Random) -> Written {
    let head = columns(random);
    let code = u32::MAX - random.below(4) as u32;
    let (info1, info2) = (random.value(8), random.value(8));
    let (event, error) = (random.value(4) | 0x8000_0800, random.value(4));
    let (vcpu, rip) = (random.below(64), random.value(8));
    let reason = match random.below(3) {
        0 if code == u32::MAX => "invalid_guest_state".to_owned(),
        1 => format!("{:#x}", i64::from(code.cast_signed())),
        _ => format!("{code:#x}"),
    };
    let mut shows = vec![show(0x70, 4, code.into()), show(0x78, 8, info1), show(0x80, 8, info2)];
    let named = format!(
        "ext_inf1: {info1:#018x} ext_inf2: {info2:#018x} ext_int: {event:#010x} ext_int_err: {error:#010x}"
    );
    let text = match random.below(5) {
        0 => {
            format!("{head}kvm_exit: vcpu {vcpu} reason {reason} rip {rip:#x} info {info1:x} {info2:x}\n")
        }
        layout => {
            shows.extend([show(0x88, 4, event), show(0x8C, 4, error)]);
            match layout {
                1 => format!("{head}kvm_nested_vmexit: rip: {rip:#018x} reason: {reason} {named}\n"),
                2 => format!("{head}kvm_nested_vmexit_inject: reason: {reason} {named}\n"),
                3 => format!(
                    "{head}kvm_nested_vmexit_inject: reason UNKNOWN ({code}) info1 {info1:x} info2 {info2:x} \
                     int_info {event:x} int_info_err {error:x}\n"
                ),
                _ => format!(
                    "{head}kvm_exit: vcpu {vcpu} reason {reason} rip {rip:#x} info1 {info1:#018x} info2 {info2:#018x} \
                     intr_info {event:#010x} error_code {error:#010x} requests 0x0000000000000000\n"
                ),
            }
        }
    };
    Written { text, shows }
}
