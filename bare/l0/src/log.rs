//! The log, on the second serial port: why each VMRUN of L1 was refused.

use crate::cpu::{halt, input, output};
use bare_interface::l0::{ended, flag};
use core::fmt::{self, Write as _};
use nested_svm::{Page, Refusal, Trace, Traced};
use vmcb::layout::PAGE_SIZE;
use vmcb::{Outcome, RuleSet, Source, Verdict, Word};

const COM2: u16 = 0x2F8;
const LINE_STATUS: u16 = COM2 + 5;
const DEBUG_EXIT: u16 = 0xF4;

/// No interrupts; 115,200 baud, 8 bits, no parity, one stop bit; FIFOs on.
pub(crate) fn open() {
    for (offset, value) in [(1, 0), (3, 0x80), (0, 1), (1, 0), (3, 3), (2, 7), (4, 3)] {
        output(COM2 + offset, 1, value);
    }
}

struct Serial;

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            while input(LINE_STATUS, 1) & 0x20 == 0 {}
            output(COM2, 1, byte.into());
        }
        Ok(())
    }
}

/// A line of the log.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    plain(format_args!("l0: {text}"));
}

/// A line for another program to read.
pub(crate) fn plain(text: fmt::Arguments<'_>) {
    // Writing to the port does not fail.
    let _ = writeln!(Serial, "{text}");
}

/// L0 cannot go on.
pub(crate) fn fail(text: fmt::Arguments<'_>) -> ! {
    line(text);
    end(ended::FAILED)
}

/// Ends the machine.
pub(crate) fn end(code: u8) -> ! {
    // The last byte is out when the transmitter is empty.
    while input(LINE_STATUS, 1) & 0x40 == 0 {}
    output(DEBUG_EXIT, 1, code.into());
    halt()
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    fail(format_args!("{info}"))
}

/// Takes what the engine tells.
#[derive(Debug)]
pub(crate) struct Log {
    quiet: bool,
    /// So many more refused VMCBs are dumped.
    dumps: u32,
    /// L2 was entered so often.
    pub(crate) entered: u64,
    /// VMRUN was refused so often.
    pub(crate) refused: u64,
}

impl Log {
    pub(crate) fn new(flags: u32, dumps: u32) -> Self {
        Self { quiet: flags & flag::QUIET != 0, dumps, entered: 0, refused: 0 }
    }

    /// A VMRUN that does not enter L2: one line, and the VMCB.
    #[cold]
    pub(crate) fn refused(&mut self, address: u64, reason: Refusal, vmcb12: &Page) {
        self.refused += 1;
        if self.quiet {
            return;
        }
        let _ = write!(Serial, "l0: VMRUN of {address:#x} refused: ");
        let mut seen = true;
        match reason {
            Refusal::Rules(verdict) => {
                seen = !raises_fault(&verdict);
                rules(verdict.broken(), address, vmcb12);
                if verdict.broken().is_empty() {
                    let _ = write!(Serial, "undecided ");
                    rules(verdict.undecided(), address, vmcb12);
                }
            }
            Refusal::NoVmcb => {
                seen = false;
                let _ = write!(Serial, "there is no memory at this address; VMEXIT_INVALID, written nowhere");
            }
            Refusal::NoNestedPaging => {
                seen = false;
                let _ = write!(Serial, "L0 runs L1 without nested paging; VMEXIT_INVALID");
            }
            Refusal::NoPdptes(at) => {
                let _ = write!(
                    Serial,
                    "there is no memory for L2's page directory pointers at {at:#x}; VMEXIT_INVALID"
                );
            }
        }
        let _ = writeln!(Serial);
        // VMRUN that faults has not read it.
        if seen {
            self.dump("VMCB12", address, vmcb12);
        }
    }

    fn dump(&mut self, what: &str, address: u64, page: &Page) {
        match self.dumps {
            0 => return,
            1 => line(format_args!("{what} at {address:#x} follows, the last one that is dumped:")),
            _ => line(format_args!("{what} at {address:#x} follows:")),
        }
        self.dumps -= 1;
        dump(page.bytes());
    }
}

impl Trace for Log {
    #[inline(always)]
    fn trace(&mut self, happened: Traced<'_>) {
        match happened {
            Traced::Entered { .. } => self.entered += 1,
            Traced::Refused { address, reason, vmcb12 } => self.refused(address, reason, vmcb12),
            Traced::HostRefused { code, vmcb02, verdict } => self.host_refused(code, vmcb02, &verdict),
            _ => {}
        }
    }
}

impl Log {
    /// What was done in all.
    pub(crate) fn sum(&self) {
        line(format_args!("{} VMRUNs entered L2, {} were refused", self.entered, self.refused));
    }

    #[cold]
    fn host_refused(&mut self, code: vmcb::ExitCode, vmcb02: &Page, verdict: &Verdict) {
        let _ = write!(Serial, "l0: host-refused-vmcb02: the CPU below says {:#x}; ", code.bits());
        rules(verdict.broken(), 0, vmcb02);
        let _ = writeln!(Serial);
        self.dump("VMCB02", 0, vmcb02);
    }
}

fn raises_fault(verdict: &Verdict) -> bool {
    let fault = |outcome: Outcome| matches!(outcome, Outcome::InvalidOpcode | Outcome::GeneralProtection);
    verdict.broken().iter().any(|rule| fault(rule.row().outcome))
}

/// Ids, with the values that each rule reads and what VMRUN does: `evt-exc-cp-without-shstk (EVENTINJ=80000315)`.
fn rules(set: RuleSet, address: u64, page: &Page) {
    let mut first = true;
    for rule in set.iter() {
        let _ = write!(Serial, "{}{}", if first { "" } else { ", " }, rule.id());
        first = false;
        let mut open = false;
        let mut last = None;
        for literal in rule.row().when {
            literal.reads(&mut |word, _| {
                let value = match word.source() {
                    Source::Control(field) | Source::Save(field) => page.get(field),
                    _ if word == Word::VmcbAddress => address,
                    _ => return,
                };
                if last.replace(word) != Some(word) {
                    let _ = write!(Serial, "{}{}={value:#x}", if open { " " } else { " (" }, word.name());
                    open = true;
                }
            });
        }
        let _ = write!(Serial, "{} {}", if open { ")" } else { "" }, rule.row().outcome.name());
    }
}

/// A page as `xxd -a` writes it: rows of zeros are left out.
fn dump(page: &[u8; PAGE_SIZE]) {
    let mut zeros = 0;
    for (number, row) in page.chunks_exact(16).enumerate() {
        let offset = 16 * number;
        // The first row of zeros and the last row of the page are printed.
        zeros = if row.iter().all(|&byte| byte == 0) { zeros + 1 } else { 0 };
        if zeros > 1 && offset + 16 < PAGE_SIZE {
            if zeros == 2 {
                let _ = writeln!(Serial, "*");
            }
            continue;
        }
        let _ = write!(Serial, "{offset:08x}:");
        for (index, byte) in row.iter().enumerate() {
            let _ = write!(Serial, "{}{byte:02x}", if index % 2 == 0 { " " } else { "" });
        }
        let _ = write!(Serial, "  ");
        for &byte in row {
            let shown = if matches!(byte, b' '..=b'~') { byte } else { b'.' };
            let _ = Serial.write_char(shown.into());
        }
        let _ = writeln!(Serial);
    }
}
