//! A line reads the same by the layout of the lines before as word by word.

use vmcb_dump::trace::{Arguments, Layouts, Line, Slot};

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

/// What a scan of traces asks for, and everything.
const SOME: &[Slot] = &[Slot::Vcpu, Slot::EventInj, Slot::ExitCode, Slot::NCr3, Slot::Misc1, Slot::CrWrite];
const ALL: &[Slot] = &[
    Slot::Vcpu,
    Slot::Rip,
    Slot::Vmcb,
    Slot::NestedRip,
    Slot::IntCtl,
    Slot::EventInj,
    Slot::EventInjError,
    Slot::NestedPaging,
    Slot::NCr3,
    Slot::Cr3,
    Slot::CrRead,
    Slot::CrWrite,
    Slot::Exceptions,
    Slot::Misc1,
    Slot::Misc2,
    Slot::Misc3,
    Slot::ExitCode,
    Slot::ExitInfo1,
    Slot::ExitInfo2,
    Slot::ExitIntInfo,
    Slot::ExitIntInfoError,
    Slot::Vector,
    Slot::ErrorCode,
];

/// Layouts, and what they are asked for.
#[derive(Clone)]
struct Asked(Layouts, &'static [Slot]);

impl Asked {
    fn new(slots: &'static [Slot]) -> Self {
        Self(Layouts::new(slots), slots)
    }

    fn both() -> [Self; 2] {
        [SOME, ALL].map(Self::new)
    }

    /// `line` after the lines that were read before, in a text in which another follows.
    fn same(&mut self, line: &[u8]) {
        let Self(layouts, slots) = self;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let start = b"another line\n".len();
        let text = [b"another line\n", line, b"\n q-1 [000] 1.0: kvm_exit: what follows\n"].concat();
        let parsed = Line::parse(line);
        let shown = String::from_utf8_lossy(line);
        let mut found = Arguments::none();
        // Where it is thought to begin like those before, it does.
        if let Some((name, ids)) = layouts.name(&text, start) {
            let first = line.windows(4).position(|four| four == b"kvm_");
            assert_eq!(Some(name - start), first, "{shown}");
            if let Some(read) = layouts.read(&text, start, name, &mut found) {
                let parsed = parsed.expect(&shown);
                assert_eq!((read.event(), read.name()), (parsed.event(), parsed.name()), "{shown}");
                assert_eq!(ids, parsed.ids(), "{shown}");
            }
        }
        let Some(parsed) = parsed else { return };
        let read = layouts.read(&text, start, start + parsed.name().start, &mut found).expect(&shown);
        assert_eq!(read.text(), parsed.text());
        assert_eq!((read.event(), read.name()), (parsed.event(), parsed.name()), "{shown}");
        assert_eq!(layouts.learn(&read), parsed.ids(), "{shown}");
        let wanted = parsed.arguments();
        for slot in ALL {
            let value = wanted.get(*slot).filter(|_| slots.contains(slot));
            assert_eq!(found.get(*slot), value, "{slot:?} of {shown}");
        }
        let marks = |one: &Arguments| (one.is_vmx(), one.is_soft(), one.is_reinjected());
        assert_eq!(marks(&found), marks(&wanted), "{shown}");
    }
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
        let [mut running, mut taught] = Asked::both();
        taught.same(&line);
        for mutation in mutations(&line) {
            taught.clone().same(&mutation);
            running.same(&mutation);
            running.same(&line);
        }
    }
}

#[test]
fn lines_of_one_event_teach_each_other_nothing_wrong() {
    const HEADS: [&str; 8] = [
        "",
        HEAD,
        " CPU 1/KVM-4001    [002] d..2.  54.665919: ",
        "q-1 [000] 1.0: ",
        "q-1 [000] x] 1.0: ",
        "CPU 1/KVM 4321/4322 [001] 1.4: kvm:",
        "a long name of a task-1 [000] a time that takes more than forty-eight bytes to print: ",
        "a name of a task that takes more than sixty-four bytes to print, all in all-1 [000] 1.0: ",
    ];
    for first in EVENTS {
        for second in EVENTS {
            for mut layouts in Asked::both() {
                for event in [first, second, first, second] {
                    for head in HEADS {
                        layouts.same([head, event].concat().as_bytes());
                    }
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
        let mut taught = Asked::new(ALL);
        taught.same(event.as_bytes());
        for from in 1..words.len() {
            for to in 1..words.len() {
                let mut moved = words.clone();
                let word = moved.remove(from);
                taught.clone().same(moved.join(" ").as_bytes());
                moved.insert(to, word);
                taught.clone().same(moved.join(" ").as_bytes());
                let mut doubled = words.clone();
                doubled.insert(to, words[from]);
                taught.clone().same(doubled.join(" ").as_bytes());
            }
        }
    }
}

/// A line like the last of its event is read without a search for its end, from any text that goes on long enough.
#[test]
fn the_end_of_a_line_is_where_its_text_ends() {
    let mut found = Arguments::none();
    for event in EVENTS {
        let mut layouts = Layouts::new(ALL);
        let line = [HEAD, event].concat();
        let text = format!("{line}\r\n{line}\n{line}");
        let mut read = |start: usize| {
            let name = start + HEAD.len();
            layouts.read(text.as_bytes(), start, name, &mut found).map(|read| read.text().len())
        };
        assert_eq!(read(0), Some(line.len()), "{event}");
        assert_eq!(read(line.len() + 2), Some(line.len()), "{event}");
        assert_eq!(read(2 * line.len() + 3), None, "the text has no end of this line: {event}");
    }
}

/// No byte of the line that follows is read as one of the line before.
#[test]
fn a_line_that_ends_early_is_not_read_on() {
    for event in EVENTS {
        let line = [HEAD, event].concat();
        for mut taught in Asked::both() {
            taught.same(line.as_bytes());
            for at in HEAD.len() + event.find(':').expect("a name") + 1..line.len() {
                let (first, rest) = line.split_at(at);
                for rest in [rest, rest.get(1..).unwrap_or_default()] {
                    let text = format!("{first}\n{rest}\n{line}\n");
                    let Asked(mut layouts, slots) = taught.clone();
                    let mut found = Arguments::none();
                    let read = layouts.read(text.as_bytes(), 0, HEAD.len(), &mut found).expect(&text);
                    assert_eq!(read.text(), first.strip_suffix('\r').unwrap_or(first).as_bytes());
                    let wanted = Line::parse(first.as_bytes()).expect(first).arguments();
                    for &slot in slots {
                        assert_eq!(found.get(slot), wanted.get(slot), "{slot:?} of {text}");
                    }
                }
            }
        }
    }
}
