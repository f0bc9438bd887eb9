//! VMCB02: what L2 runs on. It starts from VMCB01, and a bit of VMCB12 reaches it only by a row of these tables.

use crate::events::codes::{AC, DB};
use crate::l0::page::Page;
use core::ops::Range;
use vmcb::layout::{Field, vmcb_field as f};
use vmcb::{
    Cr0, Efer, ExceptionSet, Feature, IntCtl, InterceptMisc1, InterceptMisc2, Limits, NestedCtl, VirtExt,
};

/// What must hold for a row to apply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum When {
    /// Nothing.
    Always,
    /// L1's virtual CPU has the feature.
    Has(Feature),
    /// L2 has nested paging of L1's making.
    NestedPaging,
    /// L2 shares L1's PAT: it has no nested paging of L1's making.
    SharedPat,
    /// L1 virtualizes the last branch records.
    LastBranches,
    /// L2 shares L1's last branch records.
    SharedBranches,
    /// L1 intercepts PAUSE by a filter that its virtual CPU has.
    PauseFilter,
    /// And by a threshold.
    PauseThreshold,
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

/// These bits of a field of VMCB12 reach VMCB02.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) bits: u64,
    pub(crate) how: How,
    pub(crate) when: When,
}

/// A field of VMCB02 that each entry fills: the bits of VMCB01 that it starts from, and what VMCB12 adds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) field: Field,
    pub(crate) template: u64,
    /// Bits that are set whatever the two pages contain.
    pub(crate) forced: u64,
    pub(crate) parts: &'static [Part],
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
    /// L1 intercepts PAUSE.
    pub(crate) pause: bool,
}

impl Enabled {
    /// Returns the value to use while no VMCB12 has been read.
    pub(crate) const fn nothing(offers: Offers) -> Self {
        Self { offers, nested_paging: false, last_branches: false, pause: false }
    }

    #[inline(always)]
    pub(crate) fn new(offers: Offers, vmcb12: &Page) -> Self {
        let view = vmcb12.vmcb();
        let nested_paging = view.nested_ctl().contains(NestedCtl::NP_ENABLE);
        let last_branches = view.virt_ext().contains(VirtExt::LBR);
        Self {
            offers,
            nested_paging: offers.has(Feature::Npt) & nested_paging,
            last_branches: offers.has(Feature::Lbrv) & last_branches,
            pause: view.intercept_misc1().contains(InterceptMisc1::PAUSE),
        }
    }

    #[inline(always)]
    pub(crate) const fn holds(self, when: When) -> bool {
        match when {
            Always => true,
            Has(feature) => self.offers.has(feature),
            NestedPaging => self.nested_paging,
            SharedPat => !self.nested_paging,
            LastBranches => self.last_branches,
            SharedBranches => !self.last_branches,
            PauseFilter => self.pause & self.offers.has(Feature::PauseFilter),
            PauseThreshold => self.pause & self.offers.has(Feature::PfThreshold),
        }
    }
}

macro_rules! allow {
    ($(#[$doc:meta])* $name:ident;
     $($field:ident $(| $forced:ident)?: $template:expr $(, $bits:ident $how:ident $when:expr)*;)*) => {
        $(#[$doc])*
        #[inline(always)]
        fn $name(vmcb02: &mut Page, vmcb12: &Page, vmcb01: &Page, enabled: Enabled) {
            $(
                let parts: &[Part] = const { &[$(Part { bits: $bits, how: How::$how, when: $when },)*] };
                let row = Row { field: f::$field, template: $template, forced: 0 $(| $forced)?, parts };
                fill(vmcb02, vmcb12, vmcb01, enabled, &row);
            )*
        }
    };
}

/// One row. Inlined, the row is constant and the loops are gone.
#[inline(always)]
fn fill(vmcb02: &mut Page, vmcb12: &Page, vmcb01: &Page, enabled: Enabled, row: &Row) {
    let field = row.field;
    if let (ALL, [Part { bits: ALL, how: How::Take, when }]) = (row.template, row.parts) {
        // Whole, and from one of the two: the page is chosen once for all such rows.
        vmcb02.copy(if enabled.holds(*when) { vmcb12 } else { vmcb01 }, field);
        return;
    }
    let mut value = if row.template == 0 { 0 } else { vmcb01.get(field) & row.template };
    let mut index = 0;
    while index < row.parts.len() {
        match row.parts.get(index) {
            Some(part) if enabled.holds(part.when) => {
                let wanted = vmcb12.get(field) & part.bits;
                value = match part.how {
                    How::Take => value & !part.bits | wanted,
                    How::Or => value | wanted,
                    How::Add => value.wrapping_add(wanted),
                };
            }
            _ => {}
        }
        index += 1;
    }
    vmcb02.set(field, value | row.forced);
}

const ALL: u64 = u64::MAX;
/// Instructions and events that a plain guest of this engine's virtual CPUs has. Bits above are write traps of SEV-ES
/// guests, bus locks and idle HLT, which are offered to no L1: reserved bits to it.
const MISC2: u64 = InterceptMisc2::EFER_WRITE_TRAP.bits() - 1;
const MISC3: u64 = 0x1F;
const SHADOW: u64 = 1;
const LBR: u64 = VirtExt::LBR.bits();
const VECTOR: u64 = 0xFF;
/// EFER, but for bits 7:1: they read as zero, and not every host takes them (manual volume 2, 3.1.7).
pub(crate) const EFER: u64 = !0xFE;
/// V_TPR, V_IRQ, V_INTR_PRIO, V_IGN_TPR and V_INTR_MASKING.
const VIRTUAL_INTERRUPT: u64 =
    0xFF | IntCtl::V_IRQ.bits() | 0xF << 16 | IntCtl::V_IGN_TPR.bits() | IntCtl::V_INTR_MASKING.bits();
const VIRTUAL_GIF: u64 = IntCtl::VGIF.union(IntCtl::VGIF_ENABLE).bits();
const VIRTUAL_NMI: u64 = IntCtl::V_NMI.union(IntCtl::V_NMI_MASK).union(IntCtl::V_NMI_ENABLE).bits();
/// What #VMEXIT writes of int_ctl.
const VIRTUAL_INTERRUPT_WRITTEN: u64 = 0xFF | IntCtl::V_IRQ.bits();
const VIRTUAL_GIF_WRITTEN: u64 = IntCtl::VGIF.bits();
const VIRTUAL_NMI_WRITTEN: u64 = IntCtl::V_NMI.union(IntCtl::V_NMI_MASK).bits();
/// V, EV, TYPE, VECTOR and ERRORCODE; the reserved bits between stay behind.
const EVENT: u64 = 0xFFFF_FFFF_8000_0FFF;

use When::{Always, Has, LastBranches, NestedPaging, PauseFilter, PauseThreshold, SharedBranches, SharedPat};

/// Instructions that would access L0's own state if L2 executed them natively, such as the registers that
/// VMLOAD and VMSAVE handle and the physical GIF. VMCB01 may leave some of them unintercepted, with virtual
/// VMLOAD and VMSAVE or with virtual GIF. L2 must never execute them without an exit.
const SAFE_MISC2: u64 = InterceptMisc2::VMRUN
    .union(InterceptMisc2::VMLOAD)
    .union(InterceptMisc2::VMSAVE)
    .union(InterceptMisc2::STGI)
    .union(InterceptMisc2::CLGI)
    .union(InterceptMisc2::SKINIT)
    .bits();
/// Without the INVLPGA intercept, L2 can flush TLB entries of any ASID. Without the shutdown intercept, a
/// shutdown of L2 resets the physical CPU.
const SAFE_MISC1: u64 = InterceptMisc1::INVLPGA.union(InterceptMisc1::SHUTDOWN).bits();
/// A guest can make the delivery of #DB and of #AC raise the same exception without end, with no instruction boundary at
/// which the CPU takes an interrupt. With the intercept, each round is an exit.
pub(crate) const FORCED_EXCEPTIONS: ExceptionSet = ExceptionSet::of(&[DB, AC]).unwrap();
const SAFE_EXCEPTIONS: u64 = FORCED_EXCEPTIONS.intercept_word() as u64;

allow! {
    /// Fills the fields that combine what L0 and L1 demand of L2.
    merge_controls;
    intercept_cr: ALL, ALL Or Always;
    intercept_dr: ALL, ALL Or Always;
    intercept_exceptions | SAFE_EXCEPTIONS: ALL, ALL Or Always;
    intercept_misc1 | SAFE_MISC1: ALL, ALL Or Always;
    intercept_misc2 | SAFE_MISC2: ALL, MISC2 Or Always;
    intercept_misc3: ALL, MISC3 Or Always;
    pause_filter_threshold: ALL, ALL Take PauseThreshold;
    pause_filter_count: ALL, ALL Take PauseFilter;
    tsc_offset: ALL, ALL Add Always;
    virt_ext: LBR, LBR Or LastBranches;
}

allow! {
    /// Fills the fields with L2's own state.
    load_state;
    int_ctl: 0, VIRTUAL_INTERRUPT Take Always, VIRTUAL_GIF Take Has(Feature::Vgif), VIRTUAL_NMI Take Has(Feature::Vnmi);
    v_intr_vector: 0, VECTOR Take Always;
    interrupt_state: 0, SHADOW Take Always;
    eventinj: 0, EVENT Take Always;
    nrip: 0, ALL Take Has(Feature::NripSave);
    es: ALL, ALL Take Always;
    cs: ALL, ALL Take Always;
    ss: ALL, ALL Take Always;
    ds: ALL, ALL Take Always;
    gdtr: ALL, ALL Take Always;
    idtr: ALL, ALL Take Always;
    cpl: 0, ALL Take Always;
    efer: 0, EFER Take Always;
    cr0: 0, ALL Take Always;
    cr2: 0, ALL Take Always;
    cr3: 0, ALL Take Always;
    cr4: 0, ALL Take Always;
    dr6: 0, ALL Take Always;
    dr7: 0, ALL Take Always;
    rflags: 0, ALL Take Always;
    rip: 0, ALL Take Always;
    rsp: 0, ALL Take Always;
    rax: 0, ALL Take Always;
    s_cet: ALL, ALL Take Has(Feature::Shstk);
    ssp: ALL, ALL Take Has(Feature::Shstk);
    isst_addr: ALL, ALL Take Has(Feature::Shstk);
    g_pat: ALL, ALL Take NestedPaging;
    dbgctl: ALL, ALL Take LastBranches;
    br_from: ALL, ALL Take LastBranches;
    br_to: ALL, ALL Take LastBranches;
    last_excp_from: ALL, ALL Take LastBranches;
    last_excp_to: ALL, ALL Take LastBranches;
    spec_ctrl: ALL;
}

/// Fields that L0 fills itself: no bit of VMCB12 decides them but through [`enter`].
pub(crate) struct Own {
    /// Physical address of the nested tables that L2 runs on: L0's.
    pub(crate) n_cr3: u64,
    /// ASID of L2 on the hardware.
    pub(crate) asid: u32,
    /// L0's own I/O and MSR permission maps.
    pub(crate) iopm: u64,
    pub(crate) msrpm: u64,
    /// L0 takes physical interrupts, whatever L2's RFLAGS.IF.
    pub(crate) takes_interrupts: bool,
    /// Bits of a physical address that the virtual CPU has.
    pub(crate) phys_bits: u8,
}

/// Fills what L0 and L1 demand of L2: at VMRUN, and again after L0 changed VMCB01 while L2 runs.
#[inline(always)]
pub(crate) fn controls(
    vmcb02: &mut Page,
    vmcb12: &Page,
    vmcb01: &Page,
    enabled: Enabled,
    takes_interrupts: bool,
) {
    merge_controls(vmcb02, vmcb12, vmcb01, enabled);
    if enabled.pause {
        // A virtual CPU without the filter exits at each PAUSE, whatever L0's own filter.
        for (field, when) in
            [(f::pause_filter_count, PauseFilter), (f::pause_filter_threshold, PauseThreshold)]
        {
            if !enabled.holds(when) {
                vmcb02.set(field, 0);
            }
        }
    }
    if takes_interrupts {
        vmcb02.set_bits(f::intercept_misc1, InterceptMisc1::INTR.bits(), ALL);
    }
}

/// Fills VMCB02 for the first entry into L2.
#[inline(always)]
pub(crate) fn enter(vmcb02: &mut Page, vmcb12: &Page, vmcb01: &Page, enabled: Enabled, own: &Own) {
    controls(vmcb02, vmcb12, vmcb01, enabled, own.takes_interrupts);
    load_state(vmcb02, vmcb12, vmcb01, enabled);
    // VMRUN does not load these: L2 starts with what L1 had.
    copy_unloaded(vmcb02, vmcb01);
    let view = vmcb12.vmcb();
    if !enabled.offers.has(Feature::NripSave) {
        // The return address of an injected INTn is RIP on such a CPU, and nRIP on a host that has it.
        vmcb02.set(f::nrip, vmcb12.get(f::rip));
    }
    if own.takes_interrupts {
        vmcb02.set_bits(f::int_ctl, MASKING, ALL);
    }
    vmcb02.set(f::efer, with_lma(vmcb02.vmcb().efer(), view.cr0()));
    if !view.cr0().contains(Cr0::PG) {
        // Without paging VMRUN does not look at CR3. Not every CPU knows that (QEMU looks), and none has the bits.
        vmcb02.set_bits(f::cr3, ALL << (own.phys_bits & 63), 0);
    }
    vmcb02.set(f::n_cr3, own.n_cr3);
    vmcb02.set(f::guest_asid, own.asid.into());
    vmcb02.set(f::iopm_base_pa, own.iopm);
    vmcb02.set(f::msrpm_base_pa, own.msrpm);
    vmcb02.set(f::nested_ctl, NestedCtl::NP_ENABLE.bits());
    // What L0 changed since the last time on this page is too much to keep account of.
    vmcb02.set(f::clean, 0);
}

const MASKING: u64 = IntCtl::V_INTR_MASKING.bits();
const V_TPR: u64 = 0xFF;
const V_IRQ: u64 = IntCtl::V_IRQ.bits();

/// Returns whether the priority of the virtual interrupt in this int_ctl allows its delivery.
const fn virtual_interrupt_is_due(int_ctl: u64) -> bool {
    int_ctl & IntCtl::V_IGN_TPR.bits() != 0 || int_ctl >> 16 & 0xF > int_ctl & 0xF
}

/// Sets CR8 of an L2 without V_INTR_MASKING to L1's TPR. Under an L0 that takes interrupts, L1's TPR is V_TPR
/// of VMCB01. The priority of a virtual interrupt is compared once, with V_TPR of VMCB12. The result applies
/// until the next exit to L1, even if L2 writes CR8. Returns L1's TPR if L2 shares it.
#[cold]
#[inline(never)]
pub(crate) fn share_tpr(vmcb02: &mut Page, vmcb12: &Page, vmcb01: &Page) -> Option<u8> {
    let own = vmcb12.get(f::int_ctl);
    if own & MASKING != 0 {
        return None;
    }
    let irq = if virtual_interrupt_is_due(own) { own & V_IRQ } else { 0 };
    let tpr = vmcb01.get(f::int_ctl) & V_TPR;
    vmcb02.set_bits(
        f::int_ctl,
        V_TPR | V_IRQ | IntCtl::V_IGN_TPR.bits(),
        tpr | irq | IntCtl::V_IGN_TPR.bits(),
    );
    Some(tpr as u8)
}

/// Undoes [`share_tpr`] in the image of VMCB12, which [`store`] has just filled: `own` is int_ctl as it was before, and
/// `tpr` L1's TPR at the entry. A write of CR8 by L2 reaches V_TPR of VMCB12 too (manual volume 2, 15.21.2).
#[cold]
#[inline(never)]
fn unshare_tpr(image: &mut Page, own: u64, tpr: u8) {
    let written = (image.get(f::int_ctl) ^ u64::from(tpr)) & V_TPR != 0;
    let v_tpr = if written { 0 } else { V_TPR };
    let kept = if virtual_interrupt_is_due(own) { v_tpr } else { v_tpr | V_IRQ };
    image.set_bits(f::int_ctl, kept, own);
}

/// #VMEXIT: L2's state from VMCB02 into the copy of VMCB12. `shared_tpr` is what [`share_tpr`] returned.
#[inline(always)]
pub(crate) fn store_running(image: &mut Page, vmcb02: &Page, enabled: Enabled, shared_tpr: Option<u8>) {
    let own = image.get(f::int_ctl);
    store(image, vmcb02, enabled);
    if let Some(tpr) = shared_tpr {
        unshare_tpr(image, own, tpr);
    }
}

/// Copies the TPR of an L2 that shares CR8 with L1 back to VMCB01.
#[cold]
#[inline(never)]
pub(crate) fn hand_back_tpr(vmcb01: &mut Page, vmcb02: &Page) {
    vmcb01.set_bits(f::int_ctl, V_TPR, vmcb02.get(f::int_ctl));
}

/// EFER with LMA as VMRUN computes it: not every CPU does (QEMU takes it from the VMCB).
#[inline(always)]
fn with_lma(efer: Efer, cr0: Cr0) -> u64 {
    let long = efer.contains(Efer::LME) & cr0.contains(Cr0::PG);
    efer.bits() & !Efer::LMA.bits() | if long { Efer::LMA.bits() } else { 0 }
}

/// The parts of VMCB12 that #VMEXIT writes; a field between two stored ones that it does not write keeps what VMRUN read.
pub(crate) const WRITTEN: [Range<usize>; 12] = [
    f::int_ctl.bytes(),
    f::interrupt_state.through(f::exitintinfo),
    f::eventinj.bytes(),
    f::nrip.bytes(),
    f::es.through(f::ds),
    f::gdtr.bytes(),
    f::idtr.bytes(),
    f::cpl.through(f::efer),
    f::cr4.through(f::rip),
    f::rsp.through(f::rax),
    f::cr2.bytes(),
    f::g_pat.through(f::last_excp_to),
];

/// Bytes of the instruction, where the virtual CPU has decode assists.
pub(crate) const DECODED: Range<usize> = f::fetched_bytes.through(f::instruction_bytes);

macro_rules! move_back {
    ($(#[$doc:meta])* $name:ident; $($field:ident: $($bits:ident $when:expr),*;)*) => {
        $(#[$doc])*
        #[inline(always)]
        pub(crate) fn $name(to: &mut Page, vmcb02: &Page, enabled: Enabled) {
            $($(
                if enabled.holds($when) {
                    if f::$field.size > 8 || $bits == ALL {
                        to.copy(vmcb02, f::$field);
                    } else {
                        to.set_bits(f::$field, $bits, vmcb02.get(f::$field));
                    }
                }
            )*)*
        }
    };
}

move_back! {
    /// #VMEXIT: L2's state from VMCB02 into the copy of VMCB12.
    store;
    int_ctl: VIRTUAL_INTERRUPT_WRITTEN Always, VIRTUAL_GIF_WRITTEN Has(Feature::Vgif), VIRTUAL_NMI_WRITTEN Has(Feature::Vnmi);
    interrupt_state: SHADOW Always;
    nrip: ALL Has(Feature::NripSave);
    fetched_bytes: ALL Has(Feature::DecodeAssists);
    instruction_bytes: ALL Has(Feature::DecodeAssists);
    es: ALL Always;
    cs: ALL Always;
    ss: ALL Always;
    ds: ALL Always;
    gdtr: ALL Always;
    idtr: ALL Always;
    cpl: ALL Always;
    efer: ALL Always;
    cr0: ALL Always;
    cr2: ALL Always;
    cr3: ALL Always;
    cr4: ALL Always;
    dr6: ALL Always;
    dr7: ALL Always;
    rflags: ALL Always;
    rip: ALL Always;
    rsp: ALL Always;
    rax: ALL Always;
    s_cet: ALL Has(Feature::Shstk);
    ssp: ALL Has(Feature::Shstk);
    isst_addr: ALL Has(Feature::Shstk);
    g_pat: ALL NestedPaging;
    dbgctl: ALL LastBranches;
    br_from: ALL LastBranches;
    br_to: ALL LastBranches;
    last_excp_from: ALL LastBranches;
    last_excp_to: ALL LastBranches;
}

move_back! {
    /// #VMEXIT: what it does not restore stays in the CPU as L2 left it, so L1 goes on with it.
    stay;
    cr2: ALL Always;
    dr6: ALL Always;
    g_pat: ALL SharedPat;
    dbgctl: ALL SharedBranches;
    br_from: ALL SharedBranches;
    br_to: ALL SharedBranches;
    last_excp_from: ALL SharedBranches;
    last_excp_to: ALL SharedBranches;
    spec_ctrl: ALL Always;
}

macro_rules! unloaded {
    ($($field:ident)*) => {
        /// Copies the registers that only VMLOAD and VMSAVE handle.
        #[inline(always)]
        pub(crate) fn copy_unloaded(to: &mut Page, from: &Page) {
            $(to.copy(from, f::$field);)*
        }
    };
}

unloaded! { fs gs ldtr tr star lstar cstar sfmask kernel_gs_base sysenter_cs sysenter_esp sysenter_eip }
