//! QEMU's register dumps of guests in every mode, with what may stand before and behind them.

use super::{Random, Shown, Written};
use std::fmt::Write;
use vmcb::layout::{Field, Page, vmcb_field as f};

/// Bits of registers that a host may have otherwise where the guest sees a one, and where it sees a zero.
const CR0_FORCED: (u64, u64) = (1 << 30 | 1 << 29, 1 << 31 | 1 << 16 | 1 << 4 | 1 << 3);
const CR4_FORCED: (u64, u64) = (1 << 12 | 1 << 20 | 1 << 21 | 1 << 22, 1 << 5 | 1 << 6 | 1 << 12);
const EFER_FORCED: (u64, u64) = (0, 1 << 11 | 1 << 12);
const TF_AND_RF: u64 = 1 << 8 | 1 << 16;

struct Writer {
    text: String,
    shows: Vec<Shown>,
}

impl Writer {
    fn show(&mut self, field: Field, from: u16, size: u16, value: u64, mask: u64) {
        let shown = Shown { page: Page::Vmcb, offset: field.offset + from, size, value: value & mask, mask };
        self.shows.push(shown);
    }

    /// `EAX=12345678`.
    fn register(&mut self, random: &mut Random, name: &str, digits: usize, field: Option<Field>) {
        let size = digits as u16 / 2;
        let value = random.value(size);
        let _ = write!(self.text, "{name}={value:0digits$x}");
        if let Some(field) = field {
            self.show(field, 0, size, value, low(size));
        }
    }

    fn segment(&mut self, random: &mut Random, name: &str, long: bool, field: Option<Field>) -> u64 {
        let (selector, base) = (random.value(2), random.value(if long { 8 } else { 4 }));
        let (limit, flags) = (random.value(4), random.value(4) & 0x00FF_FF00);
        let width = if long { 16 } else { 8 };
        let _ = write!(self.text, "{name:<3}={selector:04x} {base:0width$x} {limit:08x} {flags:08x}");
        if flags & 1 << 15 != 0 {
            let _ = write!(self.text, " DPL={} DS   [-WA]", flags >> 13 & 3);
        }
        self.text.push('\n');
        let attributes = flags >> 8 & 0xFF | flags >> 12 & 0xF00;
        if let Some(field) = field {
            self.show(field, 0, 2, selector, 0xFFFF);
            self.show(field, 8, if long { 8 } else { 4 }, base, u64::MAX);
            self.show(field, 4, 4, limit, 0xFFFF_FFFF);
            let hidden = match name {
                "ES" | "DS" => 1 << 11 | attributes & 1,
                "SS" => 1 << 11 | 3 << 5,
                _ => 1 << 11,
            };
            let mask = if attributes & 0x80 == 0 { 0x80 } else { 0xFFF & !hidden };
            self.show(field, 2, 2, attributes, mask);
        }
        attributes
    }

    fn forced(&mut self, field: Field, size: u16, value: u64, (ones, zeros): (u64, u64)) {
        self.show(field, 0, size, value, low(size) & !(ones & value | zeros & !value));
    }
}

fn low(size: u16) -> u64 {
    if size >= 8 { u64::MAX } else { (1 << (size * 8)) - 1 }
}

/// Writes a dump.
pub(crate) fn write(random: &mut Random) -> Written {
    let mut out = Writer { text: String::new(), shows: Vec::new() };
    out.announcement(random);
    // 64-bit mode, a 32-bit process of a 64-bit guest, a 32-bit guest.
    let mode = random.below(3);
    let (long, long_tables) = (mode == 0, mode < 2);
    out.general(random, long);
    out.flags_and_segments(random, long);
    out.tables(random, long_tables);
    out.control_registers(random, long_tables);
    out.rest(random);
    Written { text: out.text, shows: out.shows }
}

impl Writer {
    /// The lines in front of a dump.
    fn announcement(&mut self, random: &mut Random) {
        match random.below(3) {
            0 => self.text.push_str("KVM internal error. Suberror: 1\nemulation failure\n"),
            1 => {
                self.text.push_str("KVM: entry failed, hardware error 0xffffffff\n");
                self.show(f::exitcode, 0, 8, 0xFFFF_FFFF, 0xFFFF_FFFF);
            }
            _ => {}
        }
        if random.one_in(3) {
            let _ = write!(self.text, "\nCPU#{}\n", random.below(300));
        }
    }

    fn general(&mut self, random: &mut Random, long: bool) {
        let (width, letter) = if long { (16, 'R') } else { (8, 'E') };
        let names = [
            ["AX", "BX", "CX", "DX"],
            ["SI", "DI", "BP", "SP"],
            ["8 ", "9 ", "10", "11"],
            ["12", "13", "14", "15"],
        ];
        for row in &names[..if long { 4 } else { 2 }] {
            for (index, name) in row.iter().enumerate() {
                let field = match *name {
                    "AX" => Some(f::rax),
                    "SP" => Some(f::rsp),
                    _ => None,
                };
                self.register(random, &format!("{letter}{name}"), width, field);
                self.text.push(if index < 3 { ' ' } else { '\n' });
            }
        }
        self.register(random, &format!("{letter}IP"), width, Some(f::rip));
    }

    fn flags_and_segments(&mut self, random: &mut Random, long: bool) {
        let flags = random.value(4);
        let (cpl, smm) = (random.below(4), random.below(2));
        let name = if long { "RFL" } else { "EFL" };
        let _ = writeln!(self.text, " {name}={flags:08x} [--S-A-C] CPL={cpl} II=0 A20=1 SMM={smm} HLT=0");
        self.show(f::rflags, 0, 4, flags, 0xFFFF_FFFF & !TF_AND_RF);
        let mut agrees = true;
        for (name, field) in [
            ("ES", Some(f::es)),
            ("CS", Some(f::cs)),
            ("SS", Some(f::ss)),
            ("DS", Some(f::ds)),
            ("FS", None),
            ("GS", None),
            ("LDT", None),
            ("TR", None),
        ] {
            let attributes = self.segment(random, name, long, field);
            let (present, dpl) = (attributes & 0x80 != 0, attributes >> 5 & 3);
            agrees &= match name {
                "CS" => present && dpl == cpl,
                "SS" => !present || dpl == cpl,
                _ => true,
            };
        }
        if agrees {
            self.show(f::cpl, 0, 1, cpl, 0xFF);
        }
    }

    fn tables(&mut self, random: &mut Random, long: bool) {
        for (name, field) in [("GDT", f::gdtr), ("IDT", f::idtr)] {
            let size = if long { 8 } else { 4 };
            let (base, limit) = (random.value(size), random.value(4));
            let width = usize::from(size) * 2;
            let _ = writeln!(self.text, "{name}=     {base:0width$x} {limit:08x}");
            self.show(field, 8, size, base, low(size));
            self.show(field, 4, 2, limit, 0xFFFF);
        }
    }

    /// CR0 to CR4, debug registers and EFER.
    fn control_registers(&mut self, random: &mut Random, long: bool) {
        let (cr0, cr4, efer) = (random.value(4), random.value(4), random.value(8));
        let width = if long { 16 } else { 8 };
        let (cr2, cr3) = (random.value(width as u16 / 2), random.value(width as u16 / 2));
        let _ = writeln!(self.text, "CR0={cr0:08x} CR2={cr2:0width$x} CR3={cr3:0width$x} CR4={cr4:08x}");
        self.forced(f::cr0, 4, cr0, CR0_FORCED);
        self.forced(f::cr4, 4, cr4, CR4_FORCED);
        for index in 0..4 {
            let _ = write!(self.text, "DR{index}={:016x} ", random.value(8));
        }
        let _ = writeln!(self.text, "\nDR6=00000000ffff0ff0 DR7={:016x}", random.value(4));
        if random.one_in(3) {
            let _ =
                writeln!(self.text, "CCS={:016x} CCD={:016x} CCO=EFLAGS", random.value(8), random.value(8));
        }
        let _ = writeln!(self.text, "EFER={efer:016x}");
        // LME without LMA may be taken away.
        let waits = efer & (1 << 8 | 1 << 10) == 1 << 8;
        let ones = if waits { 1 << 8 } else { 0 };
        self.forced(f::efer, 8, efer, (ones, EFER_FORCED.1));
    }

    /// What may follow a dump.
    fn rest(&mut self, random: &mut Random) {
        match random.below(3) {
            0 => self.text.push_str("Code=34 41 0f 00 e8 5b 26 ff ff c7 05 38 41 0f 00 <eb> fd fa fc\n"),
            1 => {
                let _ = writeln!(self.text, "FCW=037f FSW=0000 [ST=0] FTW=00 MXCSR=00001f80");
                let _ =
                    writeln!(self.text, "FPR0={:016x} 0000 FPR1={:016x} 0000", random.next(), random.next());
                let _ = writeln!(self.text, "XMM00={:016x} {:016x}", random.next(), random.next());
            }
            _ => {}
        }
    }
}
