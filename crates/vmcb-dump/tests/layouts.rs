//! A line reads the same by the layout of the lines before as word by word.

use vmcb_dump::trace::{Arguments, Layouts, Line};

const HEAD: &str = " CPU 0/KVM-4000    [012] d..2.  54.665919: ";

/// Events as kernels and tools print them.
const EVENTS: [&str; 17] = [
    "kvm_exit: vcpu 3 reason npf rip 0xffffffff81000010 info1 0x0000000200000006 info2 0x0000000000104000 \
     intr_info 0x80000b0e error_code 0x00000002 requests 0x0000000000000000",
    "kvm_exit: reason read_rt rip 0x7f0012345678 info 1f 0",
    "kvm_exit: vcpu 0 reason GP excp rip 0x1 info1 0x0000000000000000 info2 0x0000000000000000 \
     intr_info 0x00000000 error_code 0x00000000",
    "kvm_exit: vcpu 0 reason UNKNOWN (1027) rip 0x1 info1 0 info2 1f intr_info 0x00000000 error_code 0x00000000",
    "kvm_exit: vcpu 12 reason 0xffffffff rip 0x1 info1 0xfffffffffffffff0 info2 0x0000000000000000",
    "kvm_nested_vmexit: rip: 0x0000000000001000 reason: hlt ext_inf1: 0x0000000000000018 \
     ext_inf2: 0x0000000000000000 ext_int: 0x80000b0d ext_int_err: 0x00000018",
    "kvm_nested_vmexit_inject: reason: npf ext_inf1: 0x0000000000000018 ext_inf2: 0x00000000ABCDEF00 \
     ext_int: 0x00000000 ext_int_err: 0x00000000",
    "kvm_nested_vmexit_inject: reason EXIT_VMMCALL info1 0 info2 1f int_info 80000b0e int_info_err 2",
    "kvm_nested_vmenter: rip: 0x0000000000100142 vmcb: 0x000000000010a000 nested_rip: 0x00000000001003b0 \
     int_ctl: 0x01000001 event_inj: 0x80000b0e nested_npt=y nested_cr3: 0x000000010aa00000",
    "kvm_nested_vmrun: rip: 0x0000000000100142 vmcb: 0x000000000010a000 nrip: 0x00000000001003b0 \
     int_ctl: 0x01000001 event_inj: 0x00000000 npt: on",
    "kvm_nested_vmenter: rip: 0x0000000000100142 vmcb: 0x000000000010a000 nested_rip: 0x00000000001003b0 \
     int_ctl: 0x01000001 event_inj: 0x80000b0e nested_npt=n guest cr3: 0x000000010aa00000",
    "kvm_nested_intercepts: cr_read: 0010 cr_write: 0010 excp: 00060042 intercepts: bc4c8027 00006e7f 00000000",
    "kvm_nested_intercepts: cr_read: 0010 cr_write: 0010 excp: 00060042 intercept: 0000000381000000",
    "kvm_entry: vcpu 1, rip 0xfff0 intr_info 0x80000b0e error_code 0x00000002[immediate exit]",
    "kvm_entry: vcpu 1",
    "kvm_inj_virq: IRQ 0x36 [reinjected]",
    "kvm_exit: vcpu 0 reason EPT_VIOLATION rip 0x1 info1 0x0000000000000001",
];

/// Bytes that end, begin or spoil a word.
const BYTES: &[u8] = b"\0\t\r \x10(),-./019:;=@AFG[]_`afgknrxyz{\x7F\x80\xB0\xFF";

/// `line` after the lines that `layouts` has read before.
fn same(layouts: &mut Layouts, line: &[u8]) {
    let Some(parsed) = Line::parse(line) else { return };
    let text = String::from_utf8_lossy(line);
    let mut found = Arguments::none();
    layouts.read(&parsed, &mut found);
    assert_eq!(found, parsed.arguments(), "{text}");
    assert_eq!(layouts.ids(&parsed), parsed.ids(), "{text}");
}

/// What becomes of a line when one byte is changed, left out or put in, or its end is cut off.
fn mutations(line: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..line.len()).flat_map(move |at| {
        let (head, tail) = (&line[..at], &line[at..]);
        let changed = BYTES.iter().map(move |&byte| [head, &[byte], &tail[1..]].concat());
        let shifted = BYTES.iter().map(move |&byte| [head, &[byte], tail].concat());
        changed.chain(shifted).chain([[head, &tail[1..]].concat(), head.to_vec()])
    })
}

#[test]
fn a_layout_never_changes_what_a_line_says() {
    for event in EVENTS {
        let line = [HEAD, event].concat().into_bytes();
        let mut taught = Layouts::new();
        same(&mut taught, &line);
        let mut running = Layouts::new();
        for mutation in mutations(&line) {
            same(&mut taught.clone(), &mutation);
            same(&mut running, &mutation);
            same(&mut running, &line);
        }
    }
}

#[test]
fn lines_of_one_event_teach_each_other_nothing_wrong() {
    for first in EVENTS {
        for second in EVENTS {
            let mut layouts = Layouts::new();
            for event in [first, second, first, second] {
                for head in
                    ["", HEAD, "q-1 [000] 1.0: ", "q-1 [000] x] 1.0: ", "CPU 1/KVM 4321/4322 [001] 1.4: kvm:"]
                {
                    same(&mut layouts, [head, event].concat().as_bytes());
                }
            }
        }
    }
}

/// Words of one line in another order, doubled, or without their values: the labels shifted against each other.
#[test]
fn shifted_labels_are_no_layout() {
    for event in EVENTS {
        let words: Vec<&str> = event.split(' ').collect();
        let mut taught = Layouts::new();
        same(&mut taught, event.as_bytes());
        for from in 1..words.len() {
            for to in 1..words.len() {
                let mut moved = words.clone();
                let word = moved.remove(from);
                same(&mut taught.clone(), moved.join(" ").as_bytes());
                moved.insert(to, word);
                same(&mut taught.clone(), moved.join(" ").as_bytes());
                let mut doubled = words.clone();
                doubled.insert(to, words[from]);
                same(&mut taught.clone(), doubled.join(" ").as_bytes());
            }
        }
    }
}
