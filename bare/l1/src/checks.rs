//! Checks of rules and of nested paging by the manual, one line each: what bare emulators get wrong is told as `wrong`.

use crate::cpu::{self, Code};
use crate::l2::{Page, VMCB, VMMCALL, field, lay_out};
use crate::say;
use bare_common::boot::page_table;

const INVALID: u64 = u64::MAX;
const NPF: u64 = 0x400;
/// Bits of EXITINFO1 of a nested page fault.
const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
/// Nested walks are always a user's.
const USER: u64 = 1 << 2;
const RESERVED: u64 = 1 << 3;
const FETCH: u64 = 1 << 4;
/// The fault was on the final address, or on a page of L2's own tables.
const FINAL: u64 = 1 << 32;
const WALK: u64 = 1 << 33;

const P: u64 = 1;
const RW: u64 = 1 << 1;
const US: u64 = 1 << 2;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const PS: u64 = 1 << 7;
const NX: u64 = 1 << 63;

/// L2's nested tables: everything below 1 GiB is itself, and the 2 MiB around [`TARGET`] are in pages.
static ROOT: Page = Page::new();
static POINTERS: Page = Page::new();
static DIRECTORY: Page = Page::new();
static TABLE: Page = Page::new();
/// The page that a check is about.
static TARGET: Page = Page::new();

struct Checks {
    passed: bool,
}

impl Checks {
    fn tell(&mut self, name: &str, right: bool, wanted: u64) {
        let (code, info, at) =
            (VMCB.read(field::EXITCODE), VMCB.read(field::EXITINFO1), VMCB.read(field::EXITINFO2));
        if right {
            say!("check {name}: right");
        } else {
            self.passed = false;
            say!(
                "check {name}: wrong, EXITCODE {code:#x}, EXITINFO1 {info:#x}, EXITINFO2 {at:#x}, wanted {wanted:#x}"
            );
        }
    }

    /// VMRUN of a VMCB with one change.
    fn rule(&mut self, name: &str, offset: usize, change: impl Fn(u64) -> u64, wanted: u64) {
        lay_out(&VMCB, Code::Vmmcall);
        nested_tables();
        VMCB.write(offset, change(VMCB.read(offset)));
        let ran = cpu::vmrun(VMCB.address());
        // A separate check covers the upper half.
        self.tell(name, ran && VMCB.read(field::EXITCODE) as u32 == wanted as u32, wanted);
    }

    /// L2 does something with the target, on whose page the nested tables have these bits; `wanted` is EXITINFO1, or
    /// 0 where there is no fault. Returns the entry afterwards.
    fn page(&mut self, name: &str, code: Code, bits: u64, wanted: u64) -> u64 {
        lay_out(&VMCB, code);
        nested_tables();
        VMCB.write(field::RAX, TARGET.address());
        // TLB_CONTROL, behind the ASID: the tables have changed.
        VMCB.write(field::ASID, 1 << 32 | 1);
        let slot = (TARGET.address() >> 12 & 0x1FF) as usize * 8;
        TABLE.write(slot, if bits == 0 { 0 } else { TARGET.address() | bits });
        if wanted & WALK != 0 {
            // The target is the first of L2's own tables.
            // SAFETY: this program's table is a page like any other.
            unsafe {
                core::ptr::copy_nonoverlapping(page_table() as *const u8, TARGET.address() as *mut u8, 4096)
            }
            VMCB.write(field::CR3, TARGET.address());
        } else {
            // What a jump to it finds: VMMCALL.
            TARGET.write(0, 0xF4D9_010F);
        }
        let ran = cpu::vmrun(VMCB.address());
        let fault = VMCB.read(field::EXITCODE) == NPF;
        let right = if wanted == 0 {
            VMCB.read(field::EXITCODE) == VMMCALL
        } else {
            let place = VMCB.read(field::EXITINFO2) & !0xFFF == TARGET.address();
            fault && place && VMCB.read(field::EXITINFO1) == wanted
        };
        self.tell(name, ran && right, wanted);
        TABLE.read(slot)
    }
}

fn nested_tables() {
    const LARGE: u64 = 2 << 20;
    for page in [&ROOT, &POINTERS, &DIRECTORY, &TABLE] {
        page.clear();
    }
    ROOT.write(0, POINTERS.address() | P | RW | US);
    POINTERS.write(0, DIRECTORY.address() | P | RW | US);
    for block in 0..512 {
        DIRECTORY.write(8 * block, (block as u64 * LARGE) | P | RW | US | PS);
    }
    let around = TARGET.address() / LARGE;
    DIRECTORY.write(8 * around as usize, TABLE.address() | P | RW | US);
    for page in 0..512 {
        TABLE.write(8 * page, (around * LARGE + page as u64 * 4096) | P | RW | US);
    }
    VMCB.write(field::NESTED_CTL, 1);
    VMCB.write(field::N_CR3, ROOT.address());
}

pub(crate) fn run() -> bool {
    const EFER: u32 = 0xC000_0080;
    const NXE: u64 = 1 << 11;
    cpu::write_msr(EFER, cpu::read_msr(EFER) | NXE);
    let mut checks = Checks { passed: true };
    for (name, event, wanted) in [
        ("event-not-valid", 0x315, VMMCALL),
        ("event-nmi-as-exception", 0x8000_0302, INVALID),
        ("event-vector-9", 0x8000_0309, INVALID),
        ("event-vector-15", 0x8000_030F, INVALID),
        ("event-vector-31", 0x8000_031F, INVALID),
        ("event-vector-32", 0x8000_0320, INVALID),
        ("event-cp-without-the-feature", 0x8000_0B15, INVALID),
        ("event-vc-without-the-feature", 0x8000_0B1D, INVALID),
        ("event-hv-without-the-feature", 0x8000_031C, INVALID),
        ("event-bound-in-64-bit-mode", 0x8000_0305, INVALID),
        ("event-type-1", 0x8000_0120, INVALID),
        ("event-type-7", 0x8000_0720, INVALID),
    ] {
        checks.rule(name, field::EVENTINJ, |_| event, wanted);
    }
    checks.rule("nothing", field::EVENTINJ, |_| 0, VMMCALL);
    checks.rule("vmrun-not-intercepted", field::MISC2, |misc2| misc2 & !1, INVALID);
    checks.rule("asid-0", field::ASID, |asid| asid & !0xFFFF_FFFF, INVALID);
    checks.tell("exitcode-has-64-bits", VMCB.read(field::EXITCODE) == INVALID, INVALID);
    checks.rule("n-cr3-beyond-the-addresses", field::N_CR3, |root| root | 1 << 52, INVALID);
    checks.rule("g-pat-of-type-2", field::G_PAT, |pat| pat & !7 | 2, INVALID);
    checks.rule("efer-without-svme", field::EFER, |efer| efer & !(1 << 12), INVALID);
    checks.rule("efer-bit-16", field::EFER, |efer| efer | 1 << 16, INVALID);
    checks.rule("cr0-high-bits", field::CR0, |cr0| cr0 | 1 << 32, INVALID);
    checks.rule("cr0-nw-without-cd", field::CR0, |cr0| cr0 | 1 << 29, INVALID);
    checks.rule("cr4-bit-24", field::CR4, |cr4| cr4 | 1 << 24, INVALID);
    checks.rule("long-mode-without-pae", field::CR4, |cr4| cr4 & !(1 << 5), INVALID);
    checks.rule("long-mode-without-pe", field::CR0, |cr0| cr0 & !1, INVALID);
    // L and D of CS are bits 9 and 10 of its attributes.
    checks.rule("cs-l-and-d", field::CS, |cs| cs | 1 << 26, INVALID);
    checks.rule("dr6-high-bits", field::DR6, |dr6| dr6 | 1 << 32, INVALID);
    checks.rule("dr7-high-bits", field::DR7, |dr7| dr7 | 1 << 32, INVALID);

    let all = P | RW | US;
    checks.page("page-not-present", Code::Read, 0, FINAL | USER);
    checks.page("page-not-present-write", Code::Write, 0, FINAL | USER | WRITE);
    checks.page("page-not-present-fetch", Code::Jump, 0, FINAL | USER | FETCH);
    checks.page("page-read-only", Code::Write, P | US, FINAL | PRESENT | WRITE | USER);
    checks.page("page-read-only-is-read", Code::Read, P | US, 0);
    checks.page("page-no-execute", Code::Jump, all | NX, FINAL | PRESENT | USER | FETCH);
    checks.page("page-no-execute-is-read", Code::Read, all | NX, 0);
    checks.page("page-of-the-supervisor", Code::Read, P | RW, FINAL | PRESENT | USER);
    checks.page("page-with-a-reserved-bit", Code::Read, all | 1 << 51, FINAL | PRESENT | USER | RESERVED);
    checks.page("table-not-present", Code::Vmmcall, 0, WALK | USER | WRITE);
    checks.page("table-read-only", Code::Vmmcall, P | US, WALK | PRESENT | USER | WRITE);
    for (run, name, code, wanted) in [
        ("page-is-read", "accessed-after-a-read", Code::Read, A),
        ("page-is-executed", "accessed-after-a-fetch", Code::Jump, A),
        ("page-is-written", "dirty-after-a-write", Code::Write, A | D),
    ] {
        let entry = checks.page(run, code, all, 0);
        checks.tell(name, entry & (A | D) == wanted, wanted);
    }
    checks.passed
}
