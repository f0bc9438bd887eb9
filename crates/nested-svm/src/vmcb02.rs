//! VMCB02: what L2 runs on. It starts from VMCB01, and a bit of VMCB12 reaches it only by a row of this table.

use crate::page::Page;
use vmcb::layout::{Field, vmcb_field as f};
use vmcb::{Cr0, Efer, Feature, IntCtl, Limits, NestedCtl, VirtExt};

/// What must hold for a row to apply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum When {
    /// Nothing.
    Always,
    /// L1's virtual CPU has the feature.
    Has(Feature),
    /// L2 has nested paging of L1's making.
    NestedPaging,
    /// L1 virtualizes the last branch records.
    LastBranches,
}

/// How the bits of VMCB12 come together with those of VMCB01.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum How {
    /// VMCB12's.
    Take,
    /// Either's: intercepts.
    Or,
    /// The sum: TSC_OFFSET.
    Add,
}

/// A row: these bits of this field of VMCB12 reach VMCB02.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) field: Field,
    pub(crate) bits: u64,
    pub(crate) how: How,
    pub(crate) when: When,
}

/// What L1 may do with a virtual CPU, looked up once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Offers(u64);

impl Offers {
    pub(crate) fn new(limits: &Limits) -> Self {
        let has = |feature: &&Feature| limits.cpu().has(**feature) == Some(true);
        Self(Feature::ALL.iter().filter(has).fold(0, |set, &feature| set | 1 << feature as u8))
    }

    #[inline(always)]
    pub(crate) const fn has(self, feature: Feature) -> bool {
        self.0 >> feature as u8 & 1 == 1
    }
}

/// What of VMCB12 turns rows on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Enabled {
    pub(crate) offers: Offers,
    pub(crate) nested_paging: bool,
    pub(crate) last_branches: bool,
}

impl Enabled {
    #[inline(always)]
    pub(crate) fn new(offers: Offers, vmcb12: &Page) -> Self {
        let nested_paging = vmcb12.vmcb().nested_ctl().contains(NestedCtl::NP_ENABLE);
        let last_branches = vmcb12.vmcb().virt_ext().contains(VirtExt::LBR);
        Self {
            offers,
            nested_paging: offers.has(Feature::Npt) & nested_paging,
            last_branches: offers.has(Feature::Lbrv) & last_branches,
        }
    }

    #[inline(always)]
    pub(crate) const fn holds(self, when: When) -> bool {
        match when {
            Always => true,
            Has(feature) => self.offers.has(feature),
            NestedPaging => self.nested_paging,
            LastBranches => self.last_branches,
        }
    }
}

macro_rules! allow {
    ($($field:ident $bits:expr, $how:ident $when:expr;)*) => {
        /// The table, for tests and for whoever reads it.
        pub(crate) const ROWS: &[Row] = &[$(Row { field: f::$field, bits: $bits, how: How::$how, when: $when },)*];

        /// Brings the bits over, row by row, in straight-line code.
        #[inline(always)]
        fn bring_over(vmcb02: &mut Page, vmcb12: &Page, vmcb01: &Page, enabled: Enabled) {
            $(
                if enabled.holds($when) {
                    const FIELD: Field = f::$field;
                    const WHOLE: bool = FIELD.size == 16 || $bits == whole(FIELD);
                    match (How::$how, WHOLE) {
                        (How::Take, true) => vmcb02.copy(vmcb12, FIELD),
                        (How::Take, false) => {
                            vmcb02.set(FIELD, vmcb01.get(FIELD) & !$bits | vmcb12.get(FIELD) & $bits);
                        }
                        (How::Or, _) => vmcb02.set(FIELD, vmcb01.get(FIELD) | vmcb12.get(FIELD) & $bits),
                        (How::Add, _) => {
                            vmcb02.set(FIELD, vmcb01.get(FIELD).wrapping_add(vmcb12.get(FIELD)));
                        }
                    }
                }
            )*
        }
    };
}

const fn whole(field: Field) -> u64 {
    if field.size >= 8 { u64::MAX } else { (1 << (field.size * 8)) - 1 }
}

const ALL: u64 = u64::MAX;
const ALL8: u64 = 0xFF;
const ALL32: u64 = 0xFFFF_FFFF;
const SHADOW: u64 = 1;
/// V_TPR, V_IRQ, V_INTR_PRIO, V_IGN_TPR and V_INTR_MASKING.
const VIRTUAL_INTERRUPT: u64 =
    0xFF | IntCtl::V_IRQ.bits() | 0xF << 16 | IntCtl::V_IGN_TPR.bits() | IntCtl::V_INTR_MASKING.bits();
const VIRTUAL_GIF: u64 = IntCtl::VGIF.union(IntCtl::VGIF_ENABLE).bits();
const VIRTUAL_NMI: u64 = IntCtl::V_NMI.union(IntCtl::V_NMI_MASK).union(IntCtl::V_NMI_ENABLE).bits();
/// V, EV, TYPE, VECTOR and ERRORCODE; the reserved bits between stay behind.
const EVENT: u64 = ALL32 << 32 | 0x8000_0FFF;

use When::{Always, Has, LastBranches, NestedPaging};

allow! {
    intercept_cr ALL32, Or Always;
    intercept_dr ALL32, Or Always;
    intercept_exceptions ALL32, Or Always;
    intercept_misc1 ALL32, Or Always;
    intercept_misc2 ALL32, Or Always;
    intercept_misc3 ALL32, Or Always;
    pause_filter_threshold 0xFFFF, Take Has(Feature::PfThreshold);
    pause_filter_count 0xFFFF, Take Has(Feature::PauseFilter);
    tsc_offset ALL, Add Always;
    int_ctl VIRTUAL_INTERRUPT, Take Always;
    v_intr_vector ALL8, Take Always;
    interrupt_state SHADOW, Take Always;
    eventinj EVENT, Take Always;
    nrip ALL, Take Has(Feature::NripSave);
    es ALL, Take Always;
    cs ALL, Take Always;
    ss ALL, Take Always;
    ds ALL, Take Always;
    gdtr ALL, Take Always;
    idtr ALL, Take Always;
    cpl ALL8, Take Always;
    efer ALL, Take Always;
    cr0 ALL, Take Always;
    cr2 ALL, Take Always;
    cr3 ALL, Take Always;
    cr4 ALL, Take Always;
    dr6 ALL, Take Always;
    dr7 ALL, Take Always;
    rflags ALL, Take Always;
    rip ALL, Take Always;
    rsp ALL, Take Always;
    rax ALL, Take Always;
    s_cet ALL, Take Has(Feature::Shstk);
    ssp ALL, Take Has(Feature::Shstk);
    isst_addr ALL, Take Has(Feature::Shstk);
    g_pat ALL, Take NestedPaging;
    dbgctl ALL, Take LastBranches;
    br_from ALL, Take LastBranches;
    br_to ALL, Take LastBranches;
    last_excp_from ALL, Take LastBranches;
    last_excp_to ALL, Take LastBranches;
}

/// Rows whose bits share a field with another row: brought over after the table, bit by bit.
const EXTRA: [Row; 3] = [
    Row { field: f::int_ctl, bits: VIRTUAL_GIF, how: How::Take, when: Has(Feature::Vgif) },
    Row { field: f::int_ctl, bits: VIRTUAL_NMI, how: How::Take, when: Has(Feature::Vnmi) },
    Row { field: f::virt_ext, bits: VirtExt::LBR.bits(), how: How::Take, when: LastBranches },
];

/// Fields that L0 fills itself: no bit of VMCB12 decides them but through [`enter`].
pub(crate) struct Own {
    /// Physical address of the nested tables that L2 runs on: L0's.
    pub(crate) n_cr3: u64,
    /// ASID of L2 on the hardware.
    pub(crate) asid: u32,
    /// TLB_CONTROL.
    pub(crate) tlb_control: u8,
    /// L0's own I/O and MSR permission maps.
    pub(crate) iopm: u64,
    pub(crate) msrpm: u64,
}

/// Registers that VMRUN does not load: L2 starts with what L1 had.
const LEFT_ALONE: [Field; 12] = [
    f::fs,
    f::gs,
    f::ldtr,
    f::tr,
    f::star,
    f::lstar,
    f::cstar,
    f::sfmask,
    f::kernel_gs_base,
    f::sysenter_cs,
    f::sysenter_esp,
    f::sysenter_eip,
];

/// Copies the registers that only VMLOAD and VMSAVE handle.
#[inline(always)]
pub(crate) fn copy_vmload_state(to: &mut Page, from: &Page) {
    let mut row = 0;
    while row < LEFT_ALONE.len() {
        if let Some(&field) = LEFT_ALONE.get(row) {
            to.copy(from, field);
        }
        row += 1;
    }
}

/// Fills VMCB02 for the first entry into L2.
#[inline(always)]
pub(crate) fn enter(vmcb02: &mut Page, vmcb12: &Page, vmcb01: &Page, enabled: Enabled, own: &Own) {
    bring_over(vmcb02, vmcb12, vmcb01, enabled);
    let mut index = 0;
    while index < EXTRA.len() {
        if let Some(row) = EXTRA.get(index)
            && enabled.holds(row.when)
        {
            vmcb02.set_bits(row.field, row.bits, vmcb12.get(row.field));
        }
        index += 1;
    }
    copy_vmload_state(vmcb02, vmcb01);
    if !enabled.nested_paging {
        // Without nested paging PAT is the MSR that L1 and L2 share; L0 has nested paging on for both.
        vmcb02.copy(vmcb01, f::g_pat);
    }
    vmcb02.set(f::efer, with_lma(vmcb12.vmcb().efer(), vmcb12.vmcb().cr0()));
    vmcb02.set(f::n_cr3, own.n_cr3);
    vmcb02.set(f::guest_asid, own.asid.into());
    vmcb02.set(f::tlb_control, own.tlb_control.into());
    vmcb02.set(f::iopm_base_pa, own.iopm);
    vmcb02.set(f::msrpm_base_pa, own.msrpm);
    vmcb02.set(f::nested_ctl, NestedCtl::NP_ENABLE.bits());
    // What L0 changed since the last time on this page is too much to keep account of.
    vmcb02.set(f::clean, 0);
}

/// EFER with LMA as VMRUN computes it: not every CPU does (QEMU takes it from the VMCB).
#[inline(always)]
fn with_lma(efer: Efer, cr0: Cr0) -> u64 {
    let long = efer.contains(Efer::LME) & cr0.contains(Cr0::PG);
    efer.bits() & !Efer::LMA.bits() | if long { Efer::LMA.bits() } else { 0 }
}

/// The parts of VMCB12 that #VMEXIT writes; a field between two stored ones that VMRUN does not touch is left alone.
pub(crate) const WRITTEN: [core::ops::Range<usize>; 12] = [
    0x060..0x064,
    0x068..0x090,
    0x0A8..0x0B0,
    0x0C8..0x0D0,
    0x400..0x440,
    0x460..0x470,
    0x480..0x490,
    0x4CB..0x4CC,
    0x4D0..0x4D8,
    0x548..0x580,
    0x5D8..0x600,
    0x640..0x698,
];

/// Bytes of the instruction, where the virtual CPU has decode assists.
pub(crate) const DECODED: core::ops::Range<usize> = 0x0D0..0x0E0;

macro_rules! store {
    ($($field:ident $bits:expr, $when:expr;)*) => {
        /// What #VMEXIT stores of L2's state, as a table.
        pub(crate) const STORED: &[(Field, u64, When)] = &[$((f::$field, $bits, $when),)*];

        /// #VMEXIT: L2's state from VMCB02 into the copy of VMCB12.
        #[inline(always)]
        pub(crate) fn leave(vmcb12: &mut Page, vmcb02: &Page, enabled: Enabled) {
            $(
                if enabled.holds($when) {
                    const FIELD: Field = f::$field;
                    if FIELD.size == 16 || $bits == whole(FIELD) {
                        vmcb12.copy(vmcb02, FIELD);
                    } else {
                        vmcb12.set_bits(FIELD, $bits, vmcb02.get(FIELD));
                    }
                }
            )*
            if enabled.offers.has(Feature::Vgif) {
                vmcb12.set_bits(f::int_ctl, IntCtl::VGIF.bits(), vmcb02.get(f::int_ctl));
            }
            if enabled.offers.has(Feature::Vnmi) {
                let stored = IntCtl::V_NMI.union(IntCtl::V_NMI_MASK).bits();
                vmcb12.set_bits(f::int_ctl, stored, vmcb02.get(f::int_ctl));
            }
        }
    };
}

store! {
    int_ctl 0xFF | IntCtl::V_IRQ.bits(), Always;
    interrupt_state SHADOW, Always;
    nrip ALL, Has(Feature::NripSave);
    fetched_bytes ALL8, Has(Feature::DecodeAssists);
    instruction_bytes ALL, Has(Feature::DecodeAssists);
    es ALL, Always;
    cs ALL, Always;
    ss ALL, Always;
    ds ALL, Always;
    gdtr ALL, Always;
    idtr ALL, Always;
    cpl ALL8, Always;
    efer ALL, Always;
    cr0 ALL, Always;
    cr2 ALL, Always;
    cr3 ALL, Always;
    cr4 ALL, Always;
    dr6 ALL, Always;
    dr7 ALL, Always;
    rflags ALL, Always;
    rip ALL, Always;
    rsp ALL, Always;
    rax ALL, Always;
    s_cet ALL, Has(Feature::Shstk);
    ssp ALL, Has(Feature::Shstk);
    isst_addr ALL, Has(Feature::Shstk);
    g_pat ALL, NestedPaging;
    dbgctl ALL, LastBranches;
    br_from ALL, LastBranches;
    br_to ALL, LastBranches;
    last_excp_from ALL, LastBranches;
    last_excp_to ALL, LastBranches;
}
