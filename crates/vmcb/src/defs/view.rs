//! A VMCB and a VMSA as typed fields over the bytes of the page, to read and to write.

use super::bytes::{read_le, write_le};
use super::event::Event;
use super::exception::ExceptionSet;
use super::exit_code::ExitCode;
use super::layout::{Field, PAGE_SIZE, VMCB, VMSA, same, vmcb_field, vmsa_field};
use super::register::{
    AllowedSevFeatures, AvicPhysicalTable, Cr0, Cr4, Dr6, Dr7, Efer, IntCtl, InterceptMisc1, InterceptMisc2,
    InterceptMisc3, NestedCtl, Rflags, SCet, SecureAvicCtl, SevFeatures, UCet, VintrCtrl, VirtExt,
    for_each_register,
};
use super::segment::{Segment, SegmentAttributes};

/// The type of a field's value.
trait Value: Copy {
    fn load(page: &[u8; PAGE_SIZE], field: Field) -> Self;
    fn store(self, page: &mut [u8; PAGE_SIZE], field: Field);
}

/// Implements [`Value`] for types of up to 64 bits.
macro_rules! value_of_bits {
    ($($type:ty: $from:expr, $to:expr;)*) => {
        $(impl Value for $type {
            #[inline(always)]
            fn load(page: &[u8; PAGE_SIZE], field: Field) -> Self {
                let from: fn(u64) -> Self = $from;
                from(read_le(page, field.offset, field.size))
            }

            #[inline(always)]
            fn store(self, page: &mut [u8; PAGE_SIZE], field: Field) {
                let to: fn(Self) -> u64 = $to;
                write_le(page, field.offset, field.size, to(self));
            }
        })*
    };
}

value_of_bits! {
    u8: |bits| bits as u8, u64::from;
    u16: |bits| bits as u16, u64::from;
    u32: |bits| bits as u32, u64::from;
    u64: |bits| bits, |value| value;
    Event: Self::from_bits, Self::bits;
    ExitCode: Self::from_bits, Self::bits;
    ExceptionSet: |bits| Self::from_intercept_word(bits as u32), |set| set.intercept_word().into();
}

macro_rules! value_of_register {
    ($register:ident) => {
        value_of_bits! { super::register::$register: Self::from_bits, Self::bits; }
    };
}
for_each_register!(value_of_register);

impl Value for Segment {
    #[inline(always)]
    fn load(page: &[u8; PAGE_SIZE], field: Field) -> Self {
        let at = field.offset;
        Self {
            selector: read_le(page, at, 2) as u16,
            attributes: SegmentAttributes::from_bits(read_le(page, at + 2, 2) as u16),
            limit: read_le(page, at + 4, 4) as u32,
            base: read_le(page, at + 8, 8),
        }
    }

    #[inline(always)]
    fn store(self, page: &mut [u8; PAGE_SIZE], field: Field) {
        let at = field.offset;
        write_le(page, at, 2, self.selector.into());
        write_le(page, at + 2, 2, self.attributes.bits().into());
        write_le(page, at + 4, 4, self.limit.into());
        write_le(page, at + 8, 8, self.base);
    }
}

impl<const N: usize> Value for [u8; N] {
    #[inline(always)]
    fn load(page: &[u8; PAGE_SIZE], field: Field) -> Self {
        page.get(usize::from(field.offset)..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }

    #[inline(always)]
    fn store(self, page: &mut [u8; PAGE_SIZE], field: Field) {
        if let Some(bytes) = page.get_mut(usize::from(field.offset)..).and_then(|rest| rest.first_chunk_mut())
        {
            *bytes = self;
        }
    }
}

/// Rows `field set_field: Type;`, one for each field of the page in the order of the layout. The build fails if a field
/// has no row, or a setter another name.
macro_rules! view {
    ($(#[$doc:meta])* $name:ident; $(#[$mut_doc:meta])* $mut_name:ident; $table:ident $module:ident;
     $($get:ident $set:ident: $type:ty;)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub struct $name<'a>(&'a [u8; PAGE_SIZE]);

        impl<'a> $name<'a> {
            /// Returns a view of the page. It copies and checks nothing.
            #[must_use]
            #[inline(always)]
            pub const fn new(page: &'a [u8; PAGE_SIZE]) -> Self {
                Self(page)
            }

            /// Returns the bytes of the page.
            #[must_use]
            pub const fn bytes(self) -> &'a [u8; PAGE_SIZE] {
                self.0
            }

            /// Returns the first 8 bytes of a field as a little-endian number.
            #[must_use]
            #[inline(always)]
            pub fn read(self, field: Field) -> u64 {
                read_le(self.0, field.offset, field.size)
            }

            /// Returns a segment register: one of the 16-byte fields.
            #[must_use]
            #[inline]
            pub fn segment(self, field: Field) -> Segment {
                Segment::load(self.0, field)
            }

            $(
                #[doc = concat!("Returns the field [`", stringify!($get), "`](crate::layout::", stringify!($module), "::",
                    stringify!($get), ").")]
                #[must_use]
                #[inline(always)]
                pub fn $get(self) -> $type {
                    <$type>::load(self.0, $module::$get)
                }
            )*
        }

        /// Shows the fields that are not zero.
        impl core::fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                let mut shown = f.debug_struct(stringify!($name));
                $(if is_set(self.0, $module::$get) {
                    shown.field(stringify!($get), &self.$get());
                })*
                shown.finish_non_exhaustive()
            }
        }

        $(#[$mut_doc])*
        pub struct $mut_name<'a>(&'a mut [u8; PAGE_SIZE]);

        impl<'a> $mut_name<'a> {
            /// Returns a writable view of the page. It copies and checks nothing.
            #[must_use]
            #[inline(always)]
            pub const fn new(page: &'a mut [u8; PAGE_SIZE]) -> Self {
                Self(page)
            }

            /// Returns a view that only reads.
            #[must_use]
            #[inline(always)]
            pub const fn view(&self) -> $name<'_> {
                $name(self.0)
            }

            /// Returns the bytes of the page.
            pub const fn bytes_mut(&mut self) -> &mut [u8; PAGE_SIZE] {
                self.0
            }

            /// Writes the first 8 bytes of a field as a little-endian number. Higher bits of `value` than the field has
            /// are dropped.
            #[inline(always)]
            pub fn write(&mut self, field: Field, value: u64) {
                write_le(self.0, field.offset, field.size, value);
            }

            $(
                #[doc = concat!("Returns the field [`", stringify!($get), "`](crate::layout::", stringify!($module), "::",
                    stringify!($get), ").")]
                #[must_use]
                #[inline(always)]
                pub fn $get(&self) -> $type {
                    self.view().$get()
                }

                #[doc = concat!("Writes the field [`", stringify!($get), "`](crate::layout::", stringify!($module), "::",
                    stringify!($get), ").")]
                #[inline(always)]
                pub fn $set(&mut self, value: $type) -> &mut Self {
                    value.store(self.0, $module::$get);
                    self
                }
            )*
        }

        #[cfg(test)]
        impl $mut_name<'_> {
            /// Copies each field by its getter and its setter.
            fn copy_all(&mut self, from: $name<'_>) {
                $(self.$set(from.$get());)*
            }
        }

        impl core::fmt::Debug for $mut_name<'_> {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                self.view().fmt(f)
            }
        }

        const _: () = {
            let rows: &[(&str, bool, usize)] = &[$((stringify!($get), same(stringify!($set), concat!("set_", stringify!($get))), size_of::<$type>()),)*];
            let (mut row, mut field) = (0, 0);
            while field < $table.len() {
                if !$table[field].is_reserved() {
                    let (get, is_named_alike, size) = rows[row];
                    assert!(same(get, $table[field].name), "the rows differ from the layout");
                    assert!(is_named_alike, "a setter is not named as its field");
                    // A register type holds 64 bits, even if its field is narrower.
                    assert!(size == $table[field].size as usize || size == 8, "the type does not fit the field");
                    row += 1;
                }
                field += 1;
            }
            assert!(row == rows.len(), "the rows differ from the layout");
        };
    };
}

/// Whether a byte of the field is not zero.
fn is_set(page: &[u8; PAGE_SIZE], field: Field) -> bool {
    page.iter().skip(field.offset.into()).take(field.size.into()).any(|&byte| byte != 0)
}

view! {
    /// A VMCB. Save-area fields are those of a guest without SEV-ES.
    ///
    /// # Examples
    /// ```
    /// use vmcb::Vmcb;
    /// let mut page = [0; 4096];
    /// page[0x0A8..0x0AC].copy_from_slice(&0x8000_0b0d_u32.to_le_bytes());
    /// let vmcb = Vmcb::new(&page);
    /// assert_eq!(vmcb.eventinj().vector().mnemonic(), Some("#GP"));
    /// assert_eq!(vmcb.cs().selector, 0);
    /// ```
    Vmcb;
    /// A VMCB to write. Setters return the view, so that calls can be chained.
    ///
    /// # Examples
    /// ```
    /// use vmcb::{Cr0, Efer, InterceptMisc2, VmcbMut};
    /// let mut page = [0; 4096];
    /// let mut vmcb = VmcbMut::new(&mut page);
    /// vmcb.set_guest_asid(1).set_intercept_misc2(InterceptMisc2::VMRUN).set_efer(Efer::SVME).set_rip(0xFFF0);
    /// vmcb.set_cr0(vmcb.cr0() | Cr0::ET);
    /// assert_eq!((page[0x58], page[0x10], page[0x578]), (1, 1, 0xF0));
    /// ```
    VmcbMut;
    VMCB vmcb_field;
    intercept_cr set_intercept_cr: u32; intercept_dr set_intercept_dr: u32;
    intercept_exceptions set_intercept_exceptions: ExceptionSet;
    intercept_misc1 set_intercept_misc1: InterceptMisc1; intercept_misc2 set_intercept_misc2: InterceptMisc2;
    intercept_misc3 set_intercept_misc3: InterceptMisc3; pause_filter_threshold set_pause_filter_threshold: u16;
    pause_filter_count set_pause_filter_count: u16; iopm_base_pa set_iopm_base_pa: u64;
    msrpm_base_pa set_msrpm_base_pa: u64; tsc_offset set_tsc_offset: u64; guest_asid set_guest_asid: u32;
    tlb_control set_tlb_control: u8; erap_control set_erap_control: u8; int_ctl set_int_ctl: IntCtl;
    v_intr_vector set_v_intr_vector: u32; interrupt_state set_interrupt_state: u64;
    exitcode set_exitcode: ExitCode; exitinfo1 set_exitinfo1: u64; exitinfo2 set_exitinfo2: u64;
    exitintinfo set_exitintinfo: Event; nested_ctl set_nested_ctl: NestedCtl;
    avic_apic_bar set_avic_apic_bar: u64; ghcb set_ghcb: u64; eventinj set_eventinj: Event;
    n_cr3 set_n_cr3: u64; virt_ext set_virt_ext: VirtExt; clean set_clean: u32; nrip set_nrip: u64;
    fetched_bytes set_fetched_bytes: u8;
    instruction_bytes set_instruction_bytes: [u8; 15];
    avic_backing_page set_avic_backing_page: u64; avic_logical_table set_avic_logical_table: u64;
    avic_physical_table set_avic_physical_table: AvicPhysicalTable; vmsa_pa set_vmsa_pa: u64;
    vmgexit_rax set_vmgexit_rax: u64; vmgexit_cpl set_vmgexit_cpl: u8;
    bus_lock_threshold set_bus_lock_threshold: u16; update_irr set_update_irr: u32;
    allowed_sev_features set_allowed_sev_features: AllowedSevFeatures;
    guest_sev_features set_guest_sev_features: SevFeatures;
    requested_irr set_requested_irr: [u8; 32];
    software set_software: [u8; 32];
    es set_es: Segment; cs set_cs: Segment; ss set_ss: Segment; ds set_ds: Segment; fs set_fs: Segment;
    gs set_gs: Segment; gdtr set_gdtr: Segment; ldtr set_ldtr: Segment; idtr set_idtr: Segment;
    tr set_tr: Segment; vmpl set_vmpl: u8; cpl set_cpl: u8; efer set_efer: Efer; perf_ctl0 set_perf_ctl0: u64;
    perf_ctr0 set_perf_ctr0: u64; perf_ctl1 set_perf_ctl1: u64; perf_ctr1 set_perf_ctr1: u64;
    perf_ctl2 set_perf_ctl2: u64; perf_ctr2 set_perf_ctr2: u64; perf_ctl3 set_perf_ctl3: u64;
    perf_ctr3 set_perf_ctr3: u64; perf_ctl4 set_perf_ctl4: u64; perf_ctr4 set_perf_ctr4: u64;
    perf_ctl5 set_perf_ctl5: u64; perf_ctr5 set_perf_ctr5: u64; cr4 set_cr4: Cr4; cr3 set_cr3: u64;
    cr0 set_cr0: Cr0; dr7 set_dr7: Dr7; dr6 set_dr6: Dr6; rflags set_rflags: Rflags; rip set_rip: u64;
    instr_retired_ctr set_instr_retired_ctr: u64; perf_ctr_global_sts set_perf_ctr_global_sts: u64;
    perf_ctr_global_ctl set_perf_ctr_global_ctl: u64; rsp set_rsp: u64; s_cet set_s_cet: SCet; ssp set_ssp: u64;
    isst_addr set_isst_addr: u64; rax set_rax: u64; star set_star: u64; lstar set_lstar: u64;
    cstar set_cstar: u64; sfmask set_sfmask: u64; kernel_gs_base set_kernel_gs_base: u64;
    sysenter_cs set_sysenter_cs: u64; sysenter_esp set_sysenter_esp: u64; sysenter_eip set_sysenter_eip: u64;
    cr2 set_cr2: u64; g_pat set_g_pat: u64; dbgctl set_dbgctl: u64; br_from set_br_from: u64;
    br_to set_br_to: u64; last_excp_from set_last_excp_from: u64; last_excp_to set_last_excp_to: u64;
    dbgextnctl set_dbgextnctl: u64; spec_ctrl set_spec_ctrl: u64;
    lbr_stack set_lbr_stack: [u8; 256];
    lbr_select set_lbr_select: u64; ibs_fetch_ctl set_ibs_fetch_ctl: u64;
    ibs_fetch_linaddr set_ibs_fetch_linaddr: u64; ibs_op_ctl set_ibs_op_ctl: u64;
    ibs_op_rip set_ibs_op_rip: u64; ibs_op_data set_ibs_op_data: u64; ibs_op_data2 set_ibs_op_data2: u64;
    ibs_op_data3 set_ibs_op_data3: u64; ibs_dc_linaddr set_ibs_dc_linaddr: u64;
    bp_ibstgt_rip set_bp_ibstgt_rip: u64; ic_ibs_extd_ctl set_ic_ibs_extd_ctl: u64;
}

view! {
    /// A decrypted VMSA.
    VmsaView;
    /// A decrypted VMSA to write. Setters return the view, so that calls can be chained.
    VmsaMut;
    VMSA vmsa_field;
    es set_es: Segment; cs set_cs: Segment; ss set_ss: Segment; ds set_ds: Segment; fs set_fs: Segment;
    gs set_gs: Segment; gdtr set_gdtr: Segment; ldtr set_ldtr: Segment; idtr set_idtr: Segment;
    tr set_tr: Segment; pl0_ssp set_pl0_ssp: u64; pl1_ssp set_pl1_ssp: u64; pl2_ssp set_pl2_ssp: u64;
    pl3_ssp set_pl3_ssp: u64; u_cet set_u_cet: UCet; vmpl set_vmpl: u8; cpl set_cpl: u8; efer set_efer: Efer;
    perf_ctl0 set_perf_ctl0: u64; perf_ctr0 set_perf_ctr0: u64; perf_ctl1 set_perf_ctl1: u64;
    perf_ctr1 set_perf_ctr1: u64; perf_ctl2 set_perf_ctl2: u64; perf_ctr2 set_perf_ctr2: u64;
    perf_ctl3 set_perf_ctl3: u64; perf_ctr3 set_perf_ctr3: u64; perf_ctl4 set_perf_ctl4: u64;
    perf_ctr4 set_perf_ctr4: u64; perf_ctl5 set_perf_ctl5: u64; perf_ctr5 set_perf_ctr5: u64; xss set_xss: u64;
    cr4 set_cr4: Cr4; cr3 set_cr3: u64; cr0 set_cr0: Cr0; dr7 set_dr7: Dr7; dr6 set_dr6: Dr6;
    rflags set_rflags: Rflags; rip set_rip: u64; dr0 set_dr0: u64; dr1 set_dr1: u64; dr2 set_dr2: u64;
    dr3 set_dr3: u64; dr0_addr_mask set_dr0_addr_mask: u64; dr1_addr_mask set_dr1_addr_mask: u64;
    dr2_addr_mask set_dr2_addr_mask: u64; dr3_addr_mask set_dr3_addr_mask: u64;
    instr_retired_ctr set_instr_retired_ctr: u64; perf_ctr_global_sts set_perf_ctr_global_sts: u64;
    perf_ctr_global_ctl set_perf_ctr_global_ctl: u64; rsp set_rsp: u64; s_cet set_s_cet: SCet; ssp set_ssp: u64;
    isst_addr set_isst_addr: u64; rax set_rax: u64; star set_star: u64; lstar set_lstar: u64;
    cstar set_cstar: u64; sfmask set_sfmask: u64; kernel_gs_base set_kernel_gs_base: u64;
    sysenter_cs set_sysenter_cs: u64; sysenter_esp set_sysenter_esp: u64; sysenter_eip set_sysenter_eip: u64;
    cr2 set_cr2: u64; g_pat set_g_pat: u64; dbgctl set_dbgctl: u64; br_from set_br_from: u64;
    br_to set_br_to: u64; last_excp_from set_last_excp_from: u64; last_excp_to set_last_excp_to: u64;
    dbgextnctl set_dbgextnctl: u64; spec_ctrl set_spec_ctrl: u64; pkru set_pkru: u32; tsc_aux set_tsc_aux: u32;
    tsc_scale set_tsc_scale: u64; tsc_offset set_tsc_offset: u64; reg_prot_nonce set_reg_prot_nonce: u64;
    rcx set_rcx: u64; rdx set_rdx: u64; rbx set_rbx: u64; secure_avic_ctl set_secure_avic_ctl: SecureAvicCtl;
    rbp set_rbp: u64; rsi set_rsi: u64; rdi set_rdi: u64; r8 set_r8: u64; r9 set_r9: u64; r10 set_r10: u64;
    r11 set_r11: u64; r12 set_r12: u64; r13 set_r13: u64; r14 set_r14: u64; r15 set_r15: u64;
    guest_exitinfo1 set_guest_exitinfo1: u64; guest_exitinfo2 set_guest_exitinfo2: u64;
    guest_exitintinfo set_guest_exitintinfo: Event; guest_nrip set_guest_nrip: u64;
    sev_features set_sev_features: SevFeatures; vintr_ctrl set_vintr_ctrl: VintrCtrl;
    guest_exitcode set_guest_exitcode: ExitCode; virtual_tom set_virtual_tom: u64; tlb_id set_tlb_id: u64;
    pcpu_id set_pcpu_id: u64; eventinj set_eventinj: Event; xcr0 set_xcr0: u64; x87_dp set_x87_dp: u64;
    mxcsr set_mxcsr: u32; x87_ftw set_x87_ftw: u16; x87_fsw set_x87_fsw: u16; x87_fcw set_x87_fcw: u16;
    x87_fop set_x87_fop: u16; x87_ds set_x87_ds: u16; x87_cs set_x87_cs: u16; x87_rip set_x87_rip: u64;
    fpreg_x87 set_fpreg_x87: [u8; 80];
    fpreg_xmm set_fpreg_xmm: [u8; 256];
    fpreg_ymm set_fpreg_ymm: [u8; 256];
    lbr_stack set_lbr_stack: [u8; 256];
    lbr_select set_lbr_select: u64; ibs_fetch_ctl set_ibs_fetch_ctl: u64;
    ibs_fetch_linaddr set_ibs_fetch_linaddr: u64; ibs_op_ctl set_ibs_op_ctl: u64;
    ibs_op_rip set_ibs_op_rip: u64; ibs_op_data set_ibs_op_data: u64; ibs_op_data2 set_ibs_op_data2: u64;
    ibs_op_data3 set_ibs_op_data3: u64; ibs_dc_linaddr set_ibs_dc_linaddr: u64;
    bp_ibstgt_rip set_bp_ibstgt_rip: u64; ic_ibs_extd_ctl set_ic_ibs_extd_ctl: u64;
    intercept_vectors set_intercept_vectors: [u8; 32];
    intercept_msr_vectors set_intercept_msr_vectors: [u8; 32];
    k_masks set_k_masks: [u8; 64];
    zmm_high set_zmm_high: [u8; 512];
    zmm_16_31 set_zmm_16_31: [u8; 1024];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defs::register::{Cr0, Efer};
    use std::format;

    /// Every byte that has a name is copied to its place, and no other.
    fn is_copy(table: &[Field], from: &[u8; PAGE_SIZE], to: &[u8; PAGE_SIZE]) {
        for field in table {
            let (from, to) = (&from[field.bytes()], &to[field.bytes()]);
            if field.is_reserved() {
                assert!(to.iter().all(|&byte| byte == 0), "{field:?}");
            } else {
                assert_eq!(from, to, "{}", field.name);
            }
        }
    }

    #[test]
    fn setters_write_what_getters_read() {
        let mut from = [0; PAGE_SIZE];
        let mut number = 1_u32;
        for byte in &mut from {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (number >> 24) as u8;
        }
        let (mut vmcb, mut vmsa) = ([0; PAGE_SIZE], [0; PAGE_SIZE]);
        VmcbMut::new(&mut vmcb).copy_all(Vmcb::new(&from));
        VmsaMut::new(&mut vmsa).copy_all(VmsaView::new(&from));
        is_copy(&VMCB, &from, &vmcb);
        is_copy(&VMSA, &from, &vmsa);
    }

    #[test]
    fn a_setter_leaves_its_neighbors() {
        let mut page = [0xFF; PAGE_SIZE];
        let mut vmcb = VmcbMut::new(&mut page);
        vmcb.set_cpl(0).set_int_ctl(IntCtl::from_bits(0x1_2345_6789));
        assert_eq!((vmcb.vmpl(), vmcb.cpl(), vmcb.int_ctl().bits()), (0xFF, 0, 0x2345_6789));
        assert_eq!(vmcb.v_intr_vector(), u32::MAX);
    }

    #[test]
    fn fields_that_are_not_zero_are_shown() {
        let mut page = [0; PAGE_SIZE];
        let mut vmcb = VmcbMut::new(&mut page);
        vmcb.set_efer(Efer::SVME).set_cr0(Cr0::PE);
        assert_eq!(format!("{vmcb:?}"), "Vmcb { efer: 0x1000 SVME, cr0: 0x1 PE, .. }");
    }
}
