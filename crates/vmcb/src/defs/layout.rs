//! Where each field of the VMCB and of the VMSA stands.
//!
//! Each page is one table whose rows *tile* it: every row gives its offset and its size, reserved
//! ranges included, and the build fails where a row does not begin where the one before it ends.
//! An offset that is wrong by one field therefore does not compile.
//!
//! # Source
//! AMD64 Architecture Programmer's Manual volume 2, revision 3.44, appendix B (tables B-1 to B-4).

use core::ops::Range;

/// One of the two pages that describe a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Page {
    /// The page whose physical address VMRUN takes in rAX: control area at 000h, state save area
    /// at 400h.
    Vmcb,
    /// The page that the VMCB's VMSA pointer (108h) names: the encrypted state of an SEV-ES or
    /// SEV-SNP guest.
    Vmsa,
}

/// Offset of the state save area in the VMCB page, in bytes.
pub const SAVE_AREA: u16 = 0x400;

/// Size of a VMCB and of a VMSA, in bytes.
pub const PAGE_SIZE: usize = 4096;

/// A named range of bytes of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Field {
    /// The manual's name in lower case, `reserved` where it gives none.
    pub name: &'static str,
    /// The page that holds it.
    pub page: Page,
    /// Offset from the start of the page, in bytes.
    pub offset: u16,
    /// Size in bytes.
    pub size: u16,
}

impl Field {
    /// Whether the manual gives these bytes no meaning.
    #[must_use]
    pub const fn is_reserved(&self) -> bool {
        matches!(self.name.as_bytes(), b"reserved")
    }

    /// The bytes of the page that hold the field.
    #[must_use]
    pub const fn bytes(self) -> Range<usize> {
        self.through(self)
    }

    /// The bytes of the page from this field to the end of `last`.
    ///
    /// # Examples
    /// ```
    /// use vmcb::layout::vmcb_field as f;
    /// assert_eq!(f::es.through(f::ds), 0x400..0x440);
    /// ```
    #[must_use]
    pub const fn through(self, last: Self) -> Range<usize> {
        self.offset as usize..last.offset as usize + last.size as usize
    }

    /// The bytes of the page between the end of this field and `next`.
    #[must_use]
    pub const fn gap_to(self, next: Self) -> Range<usize> {
        self.offset as usize + self.size as usize..next.offset as usize
    }

    /// The same register in the VMSA: a field of the state save area, seen in the encrypted page.
    ///
    /// Fields of the control area have no counterpart: they are returned as they are.
    #[must_use]
    pub const fn in_vmsa(self) -> Self {
        match self.page {
            Page::Vmcb if self.offset >= SAVE_AREA => {
                Self { page: Page::Vmsa, offset: self.offset - SAVE_AREA, ..self }
            }
            _ => self,
        }
    }
}

/// The field of `page` that holds the byte at `offset`; `None` beyond the page.
#[must_use]
pub fn field_at(page: Page, offset: u16) -> Option<&'static Field> {
    let table: &[Field] = match page {
        Page::Vmcb => &VMCB,
        Page::Vmsa => &VMSA,
    };
    let next = table.partition_point(|field| field.offset <= offset);
    let field = table.get(next.checked_sub(1)?)?;
    (offset - field.offset < field.size).then_some(field)
}

/// Rows `NAME offset size` become constants and a table that tiles the page.
macro_rules! page {
    ($(#[$doc:meta])* $table:ident, $module:ident, $page:expr, $base:expr;
     $($name:ident $offset:literal $size:literal $(: $text:literal)?,)*) => {
        /// Each field of the page as a constant.
        pub mod $module {
            use super::{Field, Page};
            $(page!(@field $name $offset $size $page, $base $(, $text)?);)*
        }
        $(#[$doc])*
        pub static $table: [Field; { [$($offset),*].len() }] = [
            $(Field { name: page!(@name $name), page: $page, offset: $base + $offset, size: $size },)*
        ];
        const _: () = {
            let offsets = [$($offset),*];
            let sizes = [$($size),*];
            let mut index = 0;
            let mut next = offsets[0];
            while index < offsets.len() {
                assert!(offsets[index] == next, "a field does not begin where the one before it ends");
                next = offsets[index] + sizes[index];
                index += 1;
            }
            assert!($base + next == PAGE_SIZE as u16, "the fields do not fill the page");
        };
    };
    (@name reserved) => { "reserved" };
    (@name $name:ident) => { stringify!($name) };
    (@field reserved $($rest:tt)*) => {};
    (@field $name:ident $offset:literal $size:literal $page:expr, $base:expr $(, $text:literal)?) => {
        #[doc = concat!("Offset ", stringify!($offset), ", ", stringify!($size), " bytes." $(, " ", $text)?)]
        #[allow(non_upper_case_globals)]
        pub const $name: Field =
            Field { name: stringify!($name), page: $page, offset: $base + $offset, size: $size };
    };
}

page! {
    /// The whole VMCB page: control area, then state save area from 400h.
    VMCB, vmcb_field, Page::Vmcb, 0;
    intercept_cr 0x000 4: "15:0 reads of CR0 to CR15, 31:16 writes.",
    intercept_dr 0x004 4: "15:0 reads of DR0 to DR15, 31:16 writes.",
    intercept_exceptions 0x008 4: "Bit n intercepts vector n.",
    intercept_misc1 0x00C 4,
    intercept_misc2 0x010 4,
    intercept_misc3 0x014 4,
    reserved 0x018 36,
    pause_filter_threshold 0x03C 2,
    pause_filter_count 0x03E 2,
    iopm_base_pa 0x040 8: "Physical address; bits 11:0 ignored.",
    msrpm_base_pa 0x048 8: "Physical address; bits 11:0 ignored.",
    tsc_offset 0x050 8,
    guest_asid 0x058 4,
    tlb_control 0x05C 1,
    erap_control 0x05D 1,
    reserved 0x05E 2,
    int_ctl 0x060 4,
    v_intr_vector 0x064 4,
    interrupt_state 0x068 8: "0 INTERRUPT_SHADOW, 1 GUEST_INTERRUPT_MASK.",
    exitcode 0x070 8,
    exitinfo1 0x078 8,
    exitinfo2 0x080 8,
    exitintinfo 0x088 8,
    nested_ctl 0x090 8: "0 NP_ENABLE, 1 SEV, 2 SEV-ES; Linux calls it nested_ctl, later misc_ctl.",
    avic_apic_bar 0x098 8: "Guest physical address, 51:0.",
    ghcb 0x0A0 8: "Guest physical address.",
    eventinj 0x0A8 8,
    n_cr3 0x0B0 8: "Physical address of the nested page tables.",
    virt_ext 0x0B8 8: "0 LBR, 1 virtual VMLOAD and VMSAVE, 2 IBS, 3 PMC virtualization; Linux: virt_ext, later misc_ctl2.",
    clean 0x0C0 4,
    reserved 0x0C4 4,
    nrip 0x0C8 8,
    fetched_bytes 0x0D0 1,
    instruction_bytes 0x0D1 15,
    avic_backing_page 0x0E0 8: "Physical address, 51:0.",
    reserved 0x0E8 8,
    avic_logical_table 0x0F0 8: "Physical address, 51:12.",
    avic_physical_table 0x0F8 8: "51:12 physical address, 11:0 maximum index.",
    reserved 0x100 8,
    vmsa_pa 0x108 8: "Physical address, 51:12.",
    vmgexit_rax 0x110 8,
    vmgexit_cpl 0x118 1,
    reserved 0x119 7,
    bus_lock_threshold 0x120 2,
    reserved 0x122 18,
    update_irr 0x134 4,
    allowed_sev_features 0x138 8: "61:0 mask, 63 enables the mask.",
    guest_sev_features 0x140 8,
    reserved 0x148 8,
    requested_irr 0x150 32,
    reserved 0x170 624,
    software 0x3E0 32: "Left to software.",
    es 0x400 16,
    cs 0x410 16,
    ss 0x420 16,
    ds 0x430 16,
    fs 0x440 16,
    gs 0x450 16,
    gdtr 0x460 16,
    ldtr 0x470 16,
    idtr 0x480 16,
    tr 0x490 16,
    reserved 0x4A0 42,
    vmpl 0x4CA 1,
    cpl 0x4CB 1,
    reserved 0x4CC 4,
    efer 0x4D0 8,
    reserved 0x4D8 8,
    perf_ctl0 0x4E0 8,
    perf_ctr0 0x4E8 8,
    perf_ctl1 0x4F0 8,
    perf_ctr1 0x4F8 8,
    perf_ctl2 0x500 8,
    perf_ctr2 0x508 8,
    perf_ctl3 0x510 8,
    perf_ctr3 0x518 8,
    perf_ctl4 0x520 8,
    perf_ctr4 0x528 8,
    perf_ctl5 0x530 8,
    perf_ctr5 0x538 8,
    reserved 0x540 8,
    cr4 0x548 8,
    cr3 0x550 8,
    cr0 0x558 8,
    dr7 0x560 8,
    dr6 0x568 8,
    rflags 0x570 8,
    rip 0x578 8,
    reserved 0x580 64,
    instr_retired_ctr 0x5C0 8,
    perf_ctr_global_sts 0x5C8 8,
    perf_ctr_global_ctl 0x5D0 8,
    rsp 0x5D8 8,
    s_cet 0x5E0 8,
    ssp 0x5E8 8,
    isst_addr 0x5F0 8,
    rax 0x5F8 8,
    star 0x600 8,
    lstar 0x608 8,
    cstar 0x610 8,
    sfmask 0x618 8,
    kernel_gs_base 0x620 8,
    sysenter_cs 0x628 8,
    sysenter_esp 0x630 8,
    sysenter_eip 0x638 8,
    cr2 0x640 8,
    reserved 0x648 32,
    g_pat 0x668 8: "Used only with nested paging.",
    dbgctl 0x670 8,
    br_from 0x678 8,
    br_to 0x680 8,
    last_excp_from 0x688 8,
    last_excp_to 0x690 8,
    dbgextnctl 0x698 8,
    reserved 0x6A0 64,
    spec_ctrl 0x6E0 8,
    reserved 0x6E8 904,
    lbr_stack 0xA70 256,
    lbr_select 0xB70 8,
    ibs_fetch_ctl 0xB78 8,
    ibs_fetch_linaddr 0xB80 8,
    ibs_op_ctl 0xB88 8,
    ibs_op_rip 0xB90 8,
    ibs_op_data 0xB98 8,
    ibs_op_data2 0xBA0 8,
    ibs_op_data3 0xBA8 8,
    ibs_dc_linaddr 0xBB0 8,
    bp_ibstgt_rip 0xBB8 8,
    ic_ibs_extd_ctl 0xBC0 8,
    reserved 0xBC8 1080,
}

page! {
    /// The whole VMSA page.
    VMSA, vmsa_field, Page::Vmsa, 0;
    es 0x000 16,
    cs 0x010 16,
    ss 0x020 16,
    ds 0x030 16,
    fs 0x040 16,
    gs 0x050 16,
    gdtr 0x060 16,
    ldtr 0x070 16,
    idtr 0x080 16,
    tr 0x090 16,
    pl0_ssp 0x0A0 8,
    pl1_ssp 0x0A8 8,
    pl2_ssp 0x0B0 8,
    pl3_ssp 0x0B8 8,
    u_cet 0x0C0 8,
    reserved 0x0C8 2,
    vmpl 0x0CA 1,
    cpl 0x0CB 1,
    reserved 0x0CC 4,
    efer 0x0D0 8,
    reserved 0x0D8 8,
    perf_ctl0 0x0E0 8,
    perf_ctr0 0x0E8 8,
    perf_ctl1 0x0F0 8,
    perf_ctr1 0x0F8 8,
    perf_ctl2 0x100 8,
    perf_ctr2 0x108 8,
    perf_ctl3 0x110 8,
    perf_ctr3 0x118 8,
    perf_ctl4 0x120 8,
    perf_ctr4 0x128 8,
    perf_ctl5 0x130 8,
    perf_ctr5 0x138 8,
    xss 0x140 8,
    cr4 0x148 8,
    cr3 0x150 8,
    cr0 0x158 8,
    dr7 0x160 8,
    dr6 0x168 8,
    rflags 0x170 8,
    rip 0x178 8,
    dr0 0x180 8,
    dr1 0x188 8,
    dr2 0x190 8,
    dr3 0x198 8,
    dr0_addr_mask 0x1A0 8,
    dr1_addr_mask 0x1A8 8,
    dr2_addr_mask 0x1B0 8,
    dr3_addr_mask 0x1B8 8,
    instr_retired_ctr 0x1C0 8,
    perf_ctr_global_sts 0x1C8 8,
    perf_ctr_global_ctl 0x1D0 8,
    rsp 0x1D8 8,
    s_cet 0x1E0 8,
    ssp 0x1E8 8,
    isst_addr 0x1F0 8,
    rax 0x1F8 8,
    star 0x200 8,
    lstar 0x208 8,
    cstar 0x210 8,
    sfmask 0x218 8,
    kernel_gs_base 0x220 8,
    sysenter_cs 0x228 8,
    sysenter_esp 0x230 8,
    sysenter_eip 0x238 8,
    cr2 0x240 8,
    reserved 0x248 32,
    g_pat 0x268 8,
    dbgctl 0x270 8,
    br_from 0x278 8,
    br_to 0x280 8,
    last_excp_from 0x288 8,
    last_excp_to 0x290 8,
    dbgextnctl 0x298 8,
    reserved 0x2A0 64,
    spec_ctrl 0x2E0 8,
    pkru 0x2E8 4,
    tsc_aux 0x2EC 4,
    tsc_scale 0x2F0 8,
    tsc_offset 0x2F8 8,
    reg_prot_nonce 0x300 8,
    rcx 0x308 8,
    rdx 0x310 8,
    rbx 0x318 8,
    secure_avic_ctl 0x320 8,
    rbp 0x328 8,
    rsi 0x330 8,
    rdi 0x338 8,
    r8 0x340 8,
    r9 0x348 8,
    r10 0x350 8,
    r11 0x358 8,
    r12 0x360 8,
    r13 0x368 8,
    r14 0x370 8,
    r15 0x378 8,
    reserved 0x380 16,
    guest_exitinfo1 0x390 8,
    guest_exitinfo2 0x398 8,
    guest_exitintinfo 0x3A0 8,
    guest_nrip 0x3A8 8,
    sev_features 0x3B0 8,
    vintr_ctrl 0x3B8 8: "10 INT_SHADOW, 63 BUSY.",
    guest_exitcode 0x3C0 8,
    virtual_tom 0x3C8 8,
    tlb_id 0x3D0 8,
    pcpu_id 0x3D8 8,
    eventinj 0x3E0 8: "Used with Alternate Injection and Secure AVIC.",
    xcr0 0x3E8 8,
    reserved 0x3F0 16,
    x87_dp 0x400 8,
    mxcsr 0x408 4,
    x87_ftw 0x40C 2,
    x87_fsw 0x40E 2,
    x87_fcw 0x410 2,
    x87_fop 0x412 2,
    x87_ds 0x414 2,
    x87_cs 0x416 2,
    x87_rip 0x418 8,
    fpreg_x87 0x420 80,
    fpreg_xmm 0x470 256,
    fpreg_ymm 0x570 256,
    lbr_stack 0x670 256,
    lbr_select 0x770 8,
    ibs_fetch_ctl 0x778 8,
    ibs_fetch_linaddr 0x780 8,
    ibs_op_ctl 0x788 8,
    ibs_op_rip 0x790 8,
    ibs_op_data 0x798 8,
    ibs_op_data2 0x7A0 8,
    ibs_op_data3 0x7A8 8,
    ibs_dc_linaddr 0x7B0 8,
    bp_ibstgt_rip 0x7B8 8,
    ic_ibs_extd_ctl 0x7C0 8,
    reserved 0x7C8 312,
    intercept_vectors 0x900 32: "Guest intercept vectors 0 to 7, 4 bytes each.",
    intercept_msr_vectors 0x920 32: "Guest MSR intercept vectors 0 to 3.",
    reserved 0x940 64,
    k_masks 0x980 64,
    zmm_high 0x9C0 512,
    zmm_16_31 0xBC0 1024,
    reserved 0xFC0 64,
}

/// Every register of the plain save area stands at the same place in the VMSA, 400h lower.
const _: () = {
    let mut row = 0;
    while row < VMCB.len() {
        let field = VMCB[row];
        row += 1;
        if field.offset < SAVE_AREA || field.is_reserved() {
            continue;
        }
        let wanted = field.in_vmsa();
        let mut other = 0;
        let mut found = false;
        while other < VMSA.len() {
            let candidate = VMSA[other];
            found |= candidate.offset == wanted.offset
                && candidate.size == wanted.size
                && same(candidate.name, wanted.name);
            other += 1;
        }
        assert!(found, "a register of the save area is missing from the VMSA");
    }
};

pub(crate) const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut index = 0;
    while index < a.len() && index < b.len() && a[index] == b[index] {
        index += 1;
    }
    index == a.len() && index == b.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offsets that Linux's `svm.h` and Xen's build assertions give; a second source for the table.
    #[test]
    fn offsets_agree_with_published_headers() {
        use vmcb_field as f;
        for (field, offset) in [
            (f::pause_filter_threshold, 0x03C),
            (f::int_ctl, 0x060),
            (f::eventinj, 0x0A8),
            (f::bus_lock_threshold, 0x120),
            (f::es, 0x400),
            (f::cpl, 0x4CB),
            (f::cr4, 0x548),
            (f::rsp, 0x5D8),
            (f::rax, 0x5F8),
            (f::g_pat, 0x668),
            (f::spec_ctrl, 0x6E0),
        ] {
            assert_eq!(field.offset, offset, "{}", field.name);
        }
    }

    #[test]
    fn every_byte_belongs_to_one_field() {
        for page in [Page::Vmcb, Page::Vmsa] {
            for offset in 0..4096 {
                let field = field_at(page, offset).expect("the tables tile the page");
                assert!(field.offset <= offset && offset < field.offset + field.size);
            }
            assert_eq!(field_at(page, 4096), None);
        }
    }
}
