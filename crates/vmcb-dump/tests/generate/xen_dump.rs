//! Xen's `svm_vmcb_dump`, as versions of several ages print it.

use super::{Random, Shown, Written};
use vmcb::layout::{Field, Page, vmcb_field as f};

/// What stands before each line.
const PREFIXES: [&str; 7] = [
    "(XEN) ",
    "",
    "(XEN) [2025-10-03 12:11:10] ",
    "(XEN) [   51.134391] ",
    "(d1) ",
    "Oct 03 12:11:10 host xen-console[12]: (XEN) ",
    "[12:11:10.123] (XEN) ",
];

const SEGMENTS: [(&str, Field); 10] = [
    ("CS", f::cs),
    ("DS", f::ds),
    ("SS", f::ss),
    ("ES", f::es),
    ("FS", f::fs),
    ("GS", f::gs),
    ("GDTR", f::gdtr),
    ("LDTR", f::ldtr),
    ("IDTR", f::idtr),
    ("TR", f::tr),
];

struct Writer<'a> {
    random: &'a mut Random,
    shows: Vec<Shown>,
    /// Numbers are padded with zeros, as until Xen 4.1.
    padded: bool,
}

impl Writer<'_> {
    fn show(&mut self, offset: u16, size: u16) -> u64 {
        let value = self.random.value(size);
        let mask = if size >= 8 { u64::MAX } else { (1 << (size * 8)) - 1 };
        self.shows.push(Shown { page: Page::Vmcb, offset, size, value, mask });
        value
    }

    /// A number without a fixed width.
    fn free(&mut self, offset: u16, size: u16, width: usize) -> String {
        let value = self.show(offset, size);
        match (self.padded, value) {
            (true, _) => format!("0x{value:0width$x}"),
            (false, 0) => "0".into(),
            (false, _) => format!("{value:#x}"),
        }
    }

    fn number(&mut self, field: Field) -> String {
        self.free(field.offset, field.size, usize::from(field.size) * 2)
    }

    /// A number with all its digits.
    fn fixed(&mut self, field: Field) -> String {
        format!("0x{:016x}", self.show(field.offset, field.size))
    }
}

/// Writes a dump.
pub(crate) fn write(random: &mut Random) -> Written {
    let prefix = PREFIXES[random.below(PREFIXES.len() as u64) as usize];
    // Until 4.1; 4.2 to 4.9; 4.12 and 4.13; 4.14 to 4.17; since then.
    let age = random.below(5);
    let key = random.one_in(2);
    let address = random.value(8) & 0x000F_FFFF_FFFF_F000;
    let mut lines = header(random, key);
    let mut w = Writer { random, shows: Vec::new(), padded: age == 0 };
    let from = if key { "key_handler" } else { "svm_vmexit_handler" };
    lines.push(format!("Dumping guest's current state at {from}..."));
    let paddr = match age {
        0 => format!("0x{address:016x}"),
        1 => format!("{address:#x}"),
        _ => format!("{address:016x}"),
    };
    lines.push(format!("Size of VMCB = 4096, paddr = {paddr}, vaddr = ffff83{address:010x}"));
    intercepts(&mut w, &mut lines);
    interrupts(&mut w, age, &mut lines);
    let space = if age < 2 { " " } else { "" };
    exit(&mut w, age, space, &mut lines);
    let cpl = w.show(f::cpl.offset, 1);
    lines.push(format!(
        "cpl = {cpl} efer = {} star = {} lstar = {}",
        w.number(f::efer),
        w.number(f::star),
        w.number(f::lstar)
    ));
    registers(&mut w, age, space, &mut lines);
    segments(&mut w, age, &mut lines);
    if key {
        lines.push("**************************************".to_owned());
    }
    let text = lines.iter().map(|line| format!("{prefix}{line}\n")).collect();
    Written { text, shows: w.shows }
}

/// The lines that come before a dump.
fn header(random: &mut Random, key: bool) -> Vec<String> {
    if key {
        vec![
            "*********** VMCB Areas **************".to_owned(),
            String::new(),
            format!(">>> Domain {} <<<", random.below(9)),
            format!("\tVCPU {}", random.below(9)),
        ]
    } else {
        vec!["svm.c:2530:d1v0 invalid VMCB state:".to_owned()]
    }
}

fn intercepts(w: &mut Writer<'_>, lines: &mut Vec<String>) {
    lines.push(format!(
        "cr_intercepts = {} dr_intercepts = {} exception_intercepts = {}",
        w.number(f::intercept_cr),
        w.number(f::intercept_dr),
        w.number(f::intercept_exceptions)
    ));
    lines.push(format!(
        "general1_intercepts = {} general2_intercepts = {}",
        w.number(f::intercept_misc1),
        w.number(f::intercept_misc2)
    ));
    lines.push(format!(
        "iopm_base_pa = {} msrpm_base_pa = {} tsc_offset = {}",
        w.number(f::iopm_base_pa),
        w.number(f::msrpm_base_pa),
        w.number(f::tsc_offset)
    ));
}

/// TLB control, virtual interrupts and the event to inject.
fn interrupts(w: &mut Writer<'_>, age: u64, lines: &mut Vec<String>) {
    let (tlb, vintr) = (w.free(f::tlb_control.offset, 1, 8), w.free(f::int_ctl.offset, 8, 16));
    let state = match age {
        0 | 1 => format!("interrupt_shadow = {}", w.number(f::interrupt_state)),
        2 => {
            let value = w.show(f::interrupt_state.offset, 8) & 1;
            let last = w.shows.len() - 1;
            w.shows[last].mask = 1;
            w.shows[last].value = value;
            format!("interrupt_shadow = {}", if value == 1 { "0x1" } else { "0" })
        }
        _ => format!("int_stat = {}", w.number(f::interrupt_state)),
    };
    // The bit alone, or the whole: a reader cannot know which.
    if age == 1
        && let Some(shown) = w.shows.last_mut().filter(|shown| shown.value <= 1)
    {
        shown.mask = 1;
    }
    lines.push(format!("tlb_control = {tlb} vintr = {vintr} {state}"));
    if age > 0 {
        let event = w.show(f::eventinj.offset, 8);
        let vector = match event & 0xFF {
            0 => "0".to_owned(),
            vector => format!("{vector:#x}"),
        };
        lines.push(format!(
            "{} {event:016x}, valid? {}, ec? {}, type {}, vector {vector}",
            if age == 1 { "eventinj" } else { "event_inj" },
            event >> 31 & 1,
            event >> 11 & 1,
            event >> 8 & 7
        ));
    }
}

/// The exit, nested paging and the extensions of virtualization.
fn exit(w: &mut Writer<'_>, age: u64, space: &str, lines: &mut Vec<String>) {
    let info = if age < 2 { "exitintinfo" } else { "exit_int_info" };
    lines.push(format!("exitcode = {} {info} = {}", w.number(f::exitcode), w.number(f::exitintinfo)));
    lines.push(format!(
        "exitinfo1 = {} exitinfo2 = {}{space}",
        w.number(f::exitinfo1),
        w.number(f::exitinfo2)
    ));
    lines.push(nested(w, age));
    if age >= 2 {
        let virt_ext = w.number(f::virt_ext);
        let bit = w.shows.last().map_or(0, |shown| shown.value >> 1 & 1);
        lines.push(format!("virtual vmload/vmsave = {bit}, virt_ext = {virt_ext}"));
    }
}

fn segments(w: &mut Writer<'_>, age: u64, lines: &mut Vec<String>) {
    for (name, field) in SEGMENTS {
        let [selector, attrib, limit, base] =
            [(0, 2), (2, 2), (4, 4), (8, 8)].map(|(from, size)| w.show(field.offset + from, size));
        lines.push(if age < 2 {
            format!(
                "{name}: sel=0x{selector:04x}, attr=0x{attrib:04x}, limit=0x{limit:08x}, base=0x{base:016x}"
            )
        } else {
            format!("{name:>4}: {selector:04x} {attrib:04x} {limit:08x} {base:016x}")
        });
    }
}

/// ASID and nested paging.
fn nested(w: &mut Writer<'_>, age: u64) -> String {
    let asid = w.free(f::guest_asid.offset, 4, 3);
    let np = w.show(f::nested_ctl.offset, 8);
    let hex = if np == 0 { "0".to_owned() } else { format!("{np:#x}") };
    match age {
        0 => format!("np_enable = 0x{np:016x} guest_asid = {asid}"),
        // Without `0x` only what a flag can be is as printed by any version.
        1 | 2 => format!("np_enable = {hex} guest_asid = {asid}"),
        3 => format!("np_ctrl = {hex} guest_asid = {asid}"),
        _ => {
            let words = [(" NP", 0), (" SEV", 1), (" SEV_ES", 2)];
            let words: String =
                words.iter().filter(|(_, bit)| np >> bit & 1 == 1).map(|&(word, _)| word).collect();
            format!("asid = {asid} np_ctrl = {hex}:{words}")
        }
    }
}

fn registers(w: &mut Writer<'_>, age: u64, space: &str, lines: &mut Vec<String>) {
    lines.push(format!("CR0 = {} CR2 = {}", w.fixed(f::cr0), w.fixed(f::cr2)));
    lines.push(format!("CR3 = {} CR4 = {}", w.fixed(f::cr3), w.fixed(f::cr4)));
    lines.push(format!("RSP = {}  RIP = {}", w.fixed(f::rsp), w.fixed(f::rip)));
    lines.push(format!("RAX = {}  RFLAGS={}", w.fixed(f::rax), w.fixed(f::rflags)));
    lines.push(format!("DR6 = {}, DR7 = {}", w.fixed(f::dr6), w.fixed(f::dr7)));
    lines.push(format!("CSTAR = {} SFMask = {}", w.fixed(f::cstar), w.fixed(f::sfmask)));
    lines.push(format!("KernGSBase = {} PAT = {}{space}", w.fixed(f::kernel_gs_base), w.fixed(f::g_pat)));
    if age == 4 {
        let (ssp, cet) = (w.fixed(f::ssp), w.fixed(f::s_cet));
        lines.push(format!("SSP = {ssp} S_CET = {cet} ISST = {}", w.fixed(f::isst_addr)));
    }
    lines.push(format!("H_CR3 = {} CleanBits = {}", w.fixed(f::n_cr3), w.number(f::clean)));
    if age >= 2 {
        lines.push("       sel attr  limit   base".to_owned());
    }
}
