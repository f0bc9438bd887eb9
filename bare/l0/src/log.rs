//! The log, on the second serial port: why each VMRUN of L1 was refused.

use bare_common::cpu::halt;
use bare_common::port::outb;
use bare_common::serial::Serial;
use bare_interface::l0::{ended, flag};
use core::fmt::{self, Write as _};
use nested_svm::{Page, Refusal, Trace, Traced};
use vmcb::layout::PAGE_SIZE;
use vmcb::{Outcome, RuleSet, Source, Verdict, Word};

const DEBUG_EXIT: u16 = 0xF4;

/// Opens the log.
pub(crate) fn open() {
    Serial::com2().open();
}

/// A line of the log.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    plain(format_args!("l0: {text}"));
}

/// A line for another program to read.
pub(crate) fn plain(text: fmt::Arguments<'_>) {
    // Writing to the port does not fail.
    let _ = writeln!(Serial::com2(), "{text}");
}

/// L0 cannot go on.
pub(crate) fn fail(text: fmt::Arguments<'_>) -> ! {
    line(text);
    end(ended::FAILED)
}

/// Ends the machine.
pub(crate) fn end(code: u8) -> ! {
    Serial::com2().drain();
    outb(DEBUG_EXIT, code);
    halt()
}

/// A fault of L0 itself.
#[unsafe(no_mangle)]
extern "C" fn unexpected_fault(vector: u64, error: u64, rip: u64) -> ! {
    fail(format_args!("a fault of L0 itself: vector {vector}, error code {error:#x}, RIP {rip:#x}"))
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
        let _ = write!(Serial::com2(), "l0: VMRUN of {address:#x} refused: ");
        let mut seen = true;
        match reason {
            Refusal::Rules(verdict) => {
                seen = !raises_fault(&verdict);
                rules(verdict.broken(), address, vmcb12);
                if verdict.broken().is_empty() {
                    let _ = write!(Serial::com2(), "undecided ");
                    rules(verdict.undecided(), address, vmcb12);
                }
            }
            Refusal::NoVmcb => {
                seen = false;
                let _ = write!(
                    Serial::com2(),
                    "there is no memory at this address; VMEXIT_INVALID, written nowhere"
                );
            }
            Refusal::NoNestedPaging => {
                seen = false;
                let _ = write!(Serial::com2(), "L0 runs L1 without nested paging; VMEXIT_INVALID");
            }
            Refusal::NoPdptes(at) => {
                let _ = write!(
                    Serial::com2(),
                    "there is no memory for L2's page directory pointers at {at:#x}; VMEXIT_INVALID"
                );
            }
        }
        let _ = writeln!(Serial::com2());
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
        let _ = write!(Serial::com2(), "l0: host-refused-vmcb02: the CPU below says {:#x}; ", code.bits());
        rules(verdict.broken(), 0, vmcb02);
        let _ = writeln!(Serial::com2());
        self.dump("VMCB02", 0, vmcb02);
    }
}

fn raises_fault(verdict: &Verdict) -> bool {
    verdict.outcome().and_then(Outcome::exception).is_some()
}

/// Ids, with the values that each rule reads and what VMRUN does: `evt-exc-cp-without-shstk (EVENTINJ=80000315)`.
fn rules(set: RuleSet, address: u64, page: &Page) {
    let mut first = true;
    for rule in set.iter() {
        let _ = write!(Serial::com2(), "{}{}", if first { "" } else { ", " }, rule.id());
        first = false;
        let mut open = false;
        let mut last = None;
        for (word, _) in rule.reads() {
            let value = match word.source() {
                Source::Control(field) | Source::Save(field) => page.get(field),
                _ if word == Word::VmcbAddress => address,
                _ => continue,
            };
            if last.replace(word) != Some(word) {
                let _ = write!(Serial::com2(), "{}{}={value:#x}", if open { " " } else { " (" }, word.name());
                open = true;
            }
        }
        let _ = write!(Serial::com2(), "{} {}", if open { ")" } else { "" }, rule.row().outcome.name());
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
                let _ = writeln!(Serial::com2(), "*");
            }
            continue;
        }
        let _ = write!(Serial::com2(), "{offset:08x}:");
        for (index, byte) in row.iter().enumerate() {
            let _ = write!(Serial::com2(), "{}{byte:02x}", if index % 2 == 0 { " " } else { "" });
        }
        let _ = write!(Serial::com2(), "  ");
        for &byte in row {
            let shown = if matches!(byte, b' '..=b'~') { byte } else { b'.' };
            let _ = Serial::com2().write_char(shown.into());
        }
        let _ = writeln!(Serial::com2());
    }
}
