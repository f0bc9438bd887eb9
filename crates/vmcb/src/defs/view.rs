//! A VMCB and a VMSA as typed fields over the bytes of the page.

use super::bytes::read_le;
use super::event::Event;
use super::exception::ExceptionSet;
use super::exit_code::ExitCode;
use super::layout::{Field, PAGE_SIZE, vmcb_field as field, vmsa_field};
use super::register::{
    AllowedSevFeatures, Cr0, Cr4, Dr6, Dr7, Efer, IntCtl, InterceptMisc1, InterceptMisc2, InterceptMisc3,
    NestedCtl, Rflags, SCet, SecureAvicCtl, SevFeatures, UCet, VintrCtrl, VirtExt,
};
use super::segment::{Segment, SegmentAttributes};

macro_rules! view {
    ($(#[$doc:meta])* $name:ident $module:ident; $($(#[$field_doc:meta])* $get:ident: $type:ty = $field:ident $make:expr;)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub struct $name<'a>(&'a [u8; PAGE_SIZE]);

        impl<'a> $name<'a> {
            /// The page's bytes, seen by field; nothing is copied or checked.
            #[must_use]
            pub const fn new(page: &'a [u8; PAGE_SIZE]) -> Self {
                Self(page)
            }

            /// The page.
            #[must_use]
            pub const fn bytes(self) -> &'a [u8; PAGE_SIZE] {
                self.0
            }

            /// The first 8 bytes of any field, as a little-endian number.
            #[must_use]
            #[inline]
            pub fn read(self, field: Field) -> u64 {
                read_le(self.0, field.offset, field.size)
            }

            /// A segment register: one of the 16-byte fields.
            #[must_use]
            #[inline]
            pub fn segment(self, field: Field) -> Segment {
                let at = field.offset;
                Segment {
                    selector: read_le(self.0, at, 2) as u16,
                    attributes: SegmentAttributes::from_bits(read_le(self.0, at + 2, 2) as u16),
                    limit: read_le(self.0, at + 4, 4) as u32,
                    base: read_le(self.0, at + 8, 8),
                }
            }

            $(
                $(#[$field_doc])*
                #[must_use]
                #[inline]
                pub fn $get(self) -> $type {
                    let make: fn(u64) -> $type = $make;
                    make(self.read($module::$field))
                }
            )*
        }

        impl core::fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.debug_struct(stringify!($name))$(.field(stringify!($get), &self.$get()))*.finish_non_exhaustive()
            }
        }
    };
}

view! {
    /// A VMCB.
    ///
    /// # Examples
    /// ```
    /// use vmcb::{Vmcb, layout::vmcb_field};
    /// let mut page = [0; 4096];
    /// page[0x0A8..0x0AC].copy_from_slice(&0x8000_0b0d_u32.to_le_bytes());
    /// let vmcb = Vmcb::new(&page);
    /// assert_eq!(vmcb.event_inj().vector().mnemonic(), Some("#GP"));
    /// assert_eq!(vmcb.segment(vmcb_field::cs).selector, 0);
    /// ```
    Vmcb field;
    /// Exception intercepts.
    exception_intercepts: ExceptionSet = intercept_exceptions |bits| ExceptionSet::from_intercept_word(bits as u32);
    /// Intercepts at 00Ch.
    intercepts1: InterceptMisc1 = intercept_misc1 InterceptMisc1::from_bits;
    /// Intercepts at 010h.
    intercepts2: InterceptMisc2 = intercept_misc2 InterceptMisc2::from_bits;
    /// Intercepts at 014h.
    intercepts3: InterceptMisc3 = intercept_misc3 InterceptMisc3::from_bits;
    /// Guest ASID.
    asid: u32 = guest_asid |bits| bits as u32;
    /// 060h.
    int_ctl: IntCtl = int_ctl IntCtl::from_bits;
    /// EXITCODE.
    exit_code: ExitCode = exitcode ExitCode::from_bits;
    /// EXITINTINFO.
    exit_int_info: Event = exitintinfo Event::from_bits;
    /// EVENTINJ.
    event_inj: Event = eventinj Event::from_bits;
    /// 090h.
    nested_ctl: NestedCtl = nested_ctl NestedCtl::from_bits;
    /// 0B8h.
    virt_ext: VirtExt = virt_ext VirtExt::from_bits;
    /// 138h.
    allowed_sev_features: AllowedSevFeatures = allowed_sev_features AllowedSevFeatures::from_bits;
    /// EFER of a plain guest.
    efer: Efer = efer Efer::from_bits;
    /// CR0 of a plain guest.
    cr0: Cr0 = cr0 Cr0::from_bits;
    /// CR4 of a plain guest.
    cr4: Cr4 = cr4 Cr4::from_bits;
    /// DR6 of a plain guest.
    dr6: Dr6 = dr6 Dr6::from_bits;
    /// DR7 of a plain guest.
    dr7: Dr7 = dr7 Dr7::from_bits;
    /// RFLAGS of a plain guest.
    rflags: Rflags = rflags Rflags::from_bits;
    /// S_CET of a plain guest.
    s_cet: SCet = s_cet SCet::from_bits;
}

view! {
    /// A decrypted VMSA.
    VmsaView vmsa_field;
    /// EFER.
    efer: Efer = efer Efer::from_bits;
    /// CR0.
    cr0: Cr0 = cr0 Cr0::from_bits;
    /// CR4.
    cr4: Cr4 = cr4 Cr4::from_bits;
    /// RFLAGS.
    rflags: Rflags = rflags Rflags::from_bits;
    /// U_CET.
    u_cet: UCet = u_cet UCet::from_bits;
    /// SEV_FEATURES.
    sev_features: SevFeatures = sev_features SevFeatures::from_bits;
    /// VINTR_CTRL.
    vintr_ctrl: VintrCtrl = vintr_ctrl VintrCtrl::from_bits;
    /// SECURE_AVIC_CTL.
    secure_avic_ctl: SecureAvicCtl = secure_avic_ctl SecureAvicCtl::from_bits;
    /// EVENTINJ of Alternate Injection and Secure AVIC.
    event_inj: Event = eventinj Event::from_bits;
}
