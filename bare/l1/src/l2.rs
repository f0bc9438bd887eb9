//! The VMCB of L2, and what it points at.

use crate::cpu::Code;
use bare_common::boot::page_table;
use core::cell::UnsafeCell;

/// A page that VMRUN and its kin are given.
#[repr(C, align(4096))]
pub(crate) struct Page(UnsafeCell<[u8; 4096]>);

// SAFETY: there is one CPU, and no reference to the bytes is kept.
unsafe impl Sync for Page {}

impl Page {
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new([0; 4096]))
    }

    pub(crate) fn address(&self) -> u64 {
        self.0.get() as u64
    }

    pub(crate) fn clear(&self) {
        self.set_all(0);
    }

    pub(crate) fn set_all(&self, byte: u8) {
        // SAFETY: the page is its own.
        unsafe { self.0.get().write_bytes(byte, 1) }
    }

    pub(crate) fn copy_from(&self, other: &Self) {
        // SAFETY: two pages of their own.
        unsafe { core::ptr::copy_nonoverlapping(other.0.get(), self.0.get(), 1) }
    }

    pub(crate) fn read(&self, offset: usize) -> u64 {
        assert!(offset <= 4088);
        // SAFETY: within the page.
        unsafe { self.0.get().cast::<u8>().add(offset).cast::<u64>().read_unaligned() }
    }

    pub(crate) fn write(&self, offset: usize, value: u64) {
        assert!(offset <= 4088);
        // SAFETY: within the page.
        unsafe { self.0.get().cast::<u8>().add(offset).cast::<u64>().write_unaligned(value) }
    }

    pub(crate) fn write32(&self, offset: usize, value: u32) {
        let rest = self.read(offset) & !0xFFFF_FFFF;
        self.write(offset, rest | u64::from(value));
    }
}

/// Offsets in the VMCB.
pub(crate) mod field {
    use vmcb::layout::vmcb_field as f;

    macro_rules! offsets {
        ($($name:ident $field:ident;)*) => {
            $(pub(crate) const $name: usize = f::$field.offset as usize;)*
        };
    }

    offsets! {
        EXCEPTIONS intercept_exceptions;
        MISC1 intercept_misc1;
        MISC2 intercept_misc2;
        IOPM iopm_base_pa;
        MSRPM msrpm_base_pa;
        ASID guest_asid;
        INT_CTL int_ctl;
        EXITCODE exitcode;
        EXITINFO1 exitinfo1;
        EXITINFO2 exitinfo2;
        NESTED_CTL nested_ctl;
        EVENTINJ eventinj;
        N_CR3 n_cr3;
        ES es;
        CS cs;
        SS ss;
        DS ds;
        GDTR gdtr;
        IDTR idtr;
        TR tr;
        EFER efer;
        CR4 cr4;
        CR3 cr3;
        CR0 cr0;
        DR7 dr7;
        DR6 dr6;
        RFLAGS rflags;
        RIP rip;
        RSP rsp;
        RAX rax;
        G_PAT g_pat;
    }

    /// Distance of a segment's base from its selector.
    pub(crate) const BASE: usize = 8;
}

pub(crate) static VMCB: Page = Page::new();
static STACK: Page = Page::new();

pub(crate) const VMMCALL: u64 = 0x81;
pub(crate) const INTR: u64 = 0x60;

/// A 64-bit L2 on this program's own page tables.
pub(crate) fn lay_out(page: &Page, code: Code) {
    page.clear();
    page.write32(field::MISC1, 1 << 31);
    // VMRUN, VMMCALL
    page.write32(field::MISC2, 3);
    page.write(field::ASID, 1);
    for (offset, segment) in [
        (field::ES, 0x0C93_0010),
        (field::CS, 0x029B_0008),
        (field::SS, 0x0C93_0010),
        (field::DS, 0x0C93_0010),
    ] {
        page.write(offset, 0xFFFF_FFFF << 32 | segment);
    }
    for (offset, value) in [
        (field::EFER, 0x1500),
        (field::CR4, 0x620),
        (field::CR3, page_table()),
        (field::CR0, 0x8001_0033),
        (field::DR7, 0x400),
        (field::DR6, 0xFFFF_0FF0),
        (field::RFLAGS, 2),
        (field::RIP, code.address()),
        (field::RSP, STACK.address() + 4096),
        (field::G_PAT, 0x0007_0406_0007_0406),
    ] {
        page.write(offset, value);
    }
}
