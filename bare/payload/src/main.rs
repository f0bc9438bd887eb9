//! The payload: boots as L1, executes one VMRUN a case and tells what came of it.
//!
//! Freestanding: no standard library, no allocation, one CPU, interrupts off. It is linked to a
//! flat image.
//!
//! UNSAFETY: VMRUN, port I/O and a machine without an operating system; nothing here is linked into anything else.
#![no_std]
#![no_main]

mod boot;
mod console;
mod cpu;
mod l2;

use bare_common::cpu::cpuid;
use bare_common::exceptions::{self, Fault};
use bare_common::{msr as registers, port};
use bare_interface::payload::{self as protocol, case_flag, memory};
use console::Line;
use cpu::msr;

/// Offsets in the VMCB of what is reported.
mod field {
    use vmcb::layout::vmcb_field as f;

    pub(crate) const EXITCODE: usize = f::exitcode.offset as usize;
    pub(crate) const EXITINFO1: usize = f::exitinfo1.offset as usize;
    pub(crate) const EXITINFO2: usize = f::exitinfo2.offset as usize;
    pub(crate) const EXITINTINFO: usize = f::exitintinfo.offset as usize;
    pub(crate) const EVENTINJ: usize = f::eventinj.offset as usize;
    pub(crate) const SAVE_AREA: usize = vmcb::layout::SAVE_AREA as usize;
    /// The base is the upper half of a segment register.
    pub(crate) const SS_BASE: usize = f::ss.offset as usize + 8;
    pub(crate) const RIP: usize = f::rip.offset as usize;
    pub(crate) const RSP: usize = f::rsp.offset as usize;
}

const VMMCALL: u64 = 0x81;
const EFER_SVME: u64 = 1 << 12;

/// Called once by the entry, in 64-bit mode with everything below 4 GiB mapped to itself.
#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    Line::new("nsvm-lab").hex(protocol::VERSION.into()).send();
    exceptions::load();
    match run() {
        Ok(cases) => Line::new("end").hex(cases.into()).send(),
        Err(why) => Line::new("e").text(why).send(),
    }
    console::end()
}

fn run() -> Result<u32, &'static str> {
    let blob = Blob::find()?;
    console::choose(blob.console);
    if blob.console & !protocol::console::E9 != 0 {
        Line::new("nsvm-lab").hex(protocol::VERSION.into()).send();
    }
    for (leaf, subleaf) in [
        (0, 0),
        (1, 0),
        (7, 0),
        (7, 1),
        (0x8000_0000, 0),
        (0x8000_0001, 0),
        (0x8000_0002, 0),
        (0x8000_0003, 0),
        (0x8000_0004, 0),
        (0x8000_0008, 0),
        (0x8000_000A, 0),
        (0x8000_001F, 0),
        (0x8000_0021, 0),
    ] {
        // Beyond the highest leaf a CPU repeats what another one says.
        if leaf > cpuid(leaf & 0x8000_0000, 0)[0] {
            continue;
        }
        let [a, b, c, d] = cpuid(leaf, subleaf);
        Line::new("c")
            .hex(leaf.into())
            .hex(subleaf.into())
            .hex(a.into())
            .hex(b.into())
            .hex(c.into())
            .hex(d.into())
            .send();
    }
    if cpuid(0x8000_0000, 0)[0] < 0x8000_000A || cpuid(0x8000_0001, 0)[2] & 1 << 2 == 0 {
        return Err("this CPU has no SVM: CPUID 8000_0001 ECX[2] is 0");
    }
    for number in [msr::VM_CR, msr::HWCR, msr::SYSCFG] {
        if let Some(value) = registers::read(number) {
            Line::new("m").hex(number.into()).hex(value).send();
        }
    }
    if registers::read(msr::VM_CR).is_some_and(|value| value & 1 << 4 != 0) {
        return Err("SVM is switched off by the firmware: VM_CR.SVMDIS is 1");
    }
    let efer = registers::read(msr::EFER).ok_or("EFER cannot be read")?;
    if !registers::write(msr::EFER, efer | EFER_SVME) {
        return Err("EFER.SVME cannot be set");
    }
    if !registers::write(msr::VM_HSAVE_PA, memory::HSAVE) {
        return Err("VM_HSAVE_PA cannot be written");
    }
    port::mask_pics();
    cpu::save_host_state();
    l2::lay_out();

    Line::new("b").hex(blob.cases.into()).hex(blob.first.into()).send();
    let mut at = blob.records;
    for number in 0..blob.cases {
        let case = blob.read_case(&mut at)?;
        if number >= blob.first {
            run_case(number, &blob, &case, efer);
        }
    }
    Ok(blob.cases)
}

fn run_case(number: u32, blob: &Blob, case: &Case, efer: u64) {
    let vmcb = l2::Page::at(memory::VMCB);
    vmcb.copy_from(blob.base(case.base));
    blob.for_each_piece(case.differences, case.difference_count, |offset, bytes| vmcb.patch(offset, bytes));
    for index in 0..case.word_count {
        let at = case.words + 16 * index;
        l2::write(blob.u64(at), blob.u64(at + 8));
    }
    let before = l2::Page::at(l2::COPY);
    before.copy_from(vmcb.address());

    if case.flags & case_flag::HSAVE_ZERO != 0 {
        registers::write(msr::VM_HSAVE_PA, 0);
    }
    if case.flags & case_flag::SVME_OFF != 0 {
        registers::write(msr::EFER, efer & !EFER_SVME);
    }
    let exit =
        cpu::vmrun(case.rax, case.flags & case_flag::VMLOAD != 0, case.flags & case_flag::SVME_OFF == 0);
    if case.flags & case_flag::SVME_OFF != 0 {
        registers::write(msr::EFER, efer | EFER_SVME);
    }
    if case.flags & case_flag::HSAVE_ZERO != 0 {
        registers::write(msr::VM_HSAVE_PA, memory::HSAVE);
    }

    match exit {
        Err(Fault { vector, error }) => Line::new("f").hex(number.into()).hex(vector).hex(error).send(),
        Ok(()) => {
            let code = vmcb.read(field::EXITCODE);
            let refused = code as u32 >= 0xFFFF_FFFC;
            let save = refused && !vmcb.equals_from(field::SAVE_AREA, &before);
            let rsp = vmcb.read(field::RSP);
            let stack =
                if refused { l2::Stack::NONE } else { l2::stack(rsp, vmcb.read(field::SS_BASE), case.flags) };
            let rip = vmcb.read(field::RIP);
            Line::new("x")
                .hex(number.into())
                .hex(code)
                .hex(vmcb.read(field::EXITINFO1))
                .hex(vmcb.read(field::EXITINFO2))
                .hex(vmcb.read(field::EXITINTINFO))
                .hex(vmcb.read(field::EVENTINJ))
                .hex(rip)
                .hex(rsp)
                .hex(stack.slots)
                .hex(stack.words[0])
                .hex(stack.words[1])
                .hex(save.into())
                .send();
            // A guest that did more than come back at once may have written anywhere.
            if !refused && code != VMMCALL {
                l2::lay_out();
            }
        }
    }
}

/// The blob of cases, behind the image.
struct Blob {
    start: u64,
    end: u64,
    bases: u32,
    cases: u32,
    first: u32,
    console: u32,
    records: u64,
}

/// A case as it stands in the blob; places are addresses.
struct Case {
    base: u16,
    flags: u16,
    rax: u64,
    differences: u64,
    difference_count: u16,
    words: u64,
    word_count: u64,
}

const CUT: &str = "the blob of cases is cut off";

impl Blob {
    fn find() -> Result<Self, &'static str> {
        let start = boot::image_end();
        if l2::read(start) != protocol::BLOB_MAGIC {
            return Err("no blob of cases stands behind the image");
        }
        let word = |offset: u64| l2::read(start + offset) as u32;
        let (bases, cases, size) = (word(8), word(12), word(24));
        let end = start + u64::from(size);
        let records = start + protocol::BLOB_HEAD as u64 + 4096 * u64::from(bases);
        if end > protocol::IMAGE_LIMIT || records > end {
            return Err(CUT);
        }
        Ok(Self {
            start,
            end,
            bases,
            cases,
            first: word(protocol::BLOB_FIRST as u64),
            console: word(20),
            records,
        })
    }

    fn base(&self, number: u16) -> u64 {
        let number = u64::from(number).min(u64::from(self.bases).saturating_sub(1));
        self.start + protocol::BLOB_HEAD as u64 + 4096 * number
    }

    fn u64(&self, at: u64) -> u64 {
        if at + 8 <= self.end { l2::read(at) } else { 0 }
    }

    fn u16(&self, at: u64) -> u16 {
        self.u64(at) as u16
    }

    fn read_case(&self, at: &mut u64) -> Result<Case, &'static str> {
        if *at + 16 > self.end {
            return Err(CUT);
        }
        let case = Case {
            base: self.u16(*at),
            flags: self.u16(*at + 2),
            difference_count: self.u16(*at + 4),
            word_count: self.u16(*at + 6).into(),
            rax: self.u64(*at + 8),
            differences: *at + 16,
            words: 0,
        };
        let words = self.for_each_piece(case.differences, case.difference_count, |_, _| ());
        *at = words + 16 * case.word_count;
        if *at > self.end { Err(CUT) } else { Ok(Case { words, ..case }) }
    }

    /// Returns the address behind the last piece.
    fn for_each_piece(&self, mut at: u64, count: u16, mut with: impl FnMut(u16, l2::Bytes)) -> u64 {
        for _ in 0..count {
            let (offset, size) = (self.u16(at), self.u16(at + 2));
            with(offset, l2::Bytes { at: at + 4, size });
            at += 4 + u64::from(size);
        }
        at
    }
}

/// A fault of the payload itself, which cannot go on.
#[unsafe(no_mangle)]
extern "C" fn unexpected_fault(vector: u64, error: u64, rip: u64) -> ! {
    Line::new("e").text("fault in the payload:").hex(vector).hex(error).hex(rip).send();
    console::end()
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    Line::new("e").text("the payload panicked").send();
    console::end()
}
