//! The words that rules read: fields of the two pages, and what is known of CPU and host.

use super::layout::{Field, vmcb_field as control, vmsa_field as vmsa};

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident $text:literal $source:ident $($field:path)?;)*) => {
        /// A word that some rule reads.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum Word {
            $($(#[$doc])* $name,)*
        }

        impl Word {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name for people: `EVENTINJ`, `CR0`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Where it comes from.
            #[must_use]
            #[inline(always)]
            pub const fn source(self) -> Source {
                match self { $(Self::$name => Source::$source $(($field))?,)* }
            }
        }
    };
}

/// Where a word comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Source {
    /// A field of the VMCB's control area.
    Control(Field),
    /// A register: in the VMCB's save area, or for an SEV-ES guest at the same place in the VMSA.
    Save(Field),
    /// A field that only the VMSA has.
    Vmsa(Field),
    /// The environment: host registers, MSRs, memory, RMP.
    Environment,
    /// The virtual CPU's features.
    Cpu,
    /// Derived from other words.
    Derived,
}

words! {
    /// Facts about the executing CPU and its memory: the bits of [`Host`](crate::Host).
    Host "host" Environment;
    /// The virtual CPU's features; the layout is private.
    Cpu "CPU" Cpu;
    /// What several words together turn on: the bits of [`Mode`](crate::Mode).
    Mode "mode" Derived;
    /// rAX of VMRUN: the physical address of the VMCB.
    VmcbAddress "rAX" Environment;
    /// Physical address of the I/O permission map.
    IopmBasePa "IOPM_BASE_PA" Control control::iopm_base_pa;
    /// Physical address of the MSR permission map.
    MsrpmBasePa "MSRPM_BASE_PA" Control control::msrpm_base_pa;
    /// 00Ch.
    InterceptMisc1 "intercepts (00Ch)" Control control::intercept_misc1;
    /// 010h.
    InterceptMisc2 "intercepts (010h)" Control control::intercept_misc2;
    /// 014h; no rule reads it.
    InterceptMisc3 "intercepts (014h)" Control control::intercept_misc3;
    /// Guest ASID.
    Asid "ASID" Control control::guest_asid;
    /// 060h.
    IntCtl "int_ctl" Control control::int_ctl;
    /// 090h.
    NestedCtl "nested control" Control control::nested_ctl;
    /// 0A8h, or VMSA 3E0h with Alternate Injection or Secure AVIC.
    EventInj "EVENTINJ" Control control::eventinj;
    /// Physical address of the nested page tables.
    NCr3 "N_CR3" Control control::n_cr3;
    /// 0B8h.
    VirtExt "virtualization extensions" Control control::virt_ext;
    /// 0E0h.
    AvicBackingPage "AVIC_BACKING_PAGE" Control control::avic_backing_page;
    /// 0F0h.
    AvicLogicalTable "AVIC_LOGICAL_TABLE" Control control::avic_logical_table;
    /// 0F8h.
    AvicPhysicalTable "AVIC_PHYSICAL_TABLE" Control control::avic_physical_table;
    /// 138h.
    AllowedSevFeatures "ALLOWED_SEV_FEATURES" Control control::allowed_sev_features;
    /// CS attributes.
    CsAttributes "CS.attributes" Save CS_ATTRIBUTES;
    /// EFER.
    Efer "EFER" Save control::efer;
    /// CR4.
    Cr4 "CR4" Save control::cr4;
    /// CR3.
    Cr3 "CR3" Save control::cr3;
    /// CR0.
    Cr0 "CR0" Save control::cr0;
    /// DR7.
    Dr7 "DR7" Save control::dr7;
    /// DR6.
    Dr6 "DR6" Save control::dr6;
    /// RFLAGS.
    Rflags "RFLAGS" Save control::rflags;
    /// S_CET.
    SCet "S_CET" Save control::s_cet;
    /// G_PAT.
    GPat "G_PAT" Save control::g_pat;
    /// PERF_CTL0; PMC virtualization.
    PerfCtl0 "PERF_CTL0" Save control::perf_ctl0;
    /// PERF_CTL1.
    PerfCtl1 "PERF_CTL1" Save control::perf_ctl1;
    /// PERF_CTL2.
    PerfCtl2 "PERF_CTL2" Save control::perf_ctl2;
    /// PERF_CTL3.
    PerfCtl3 "PERF_CTL3" Save control::perf_ctl3;
    /// PERF_CTL4.
    PerfCtl4 "PERF_CTL4" Save control::perf_ctl4;
    /// PERF_CTL5.
    PerfCtl5 "PERF_CTL5" Save control::perf_ctl5;
    /// PERF_CTR_GLOBAL_CTL.
    PerfGlobalCtl "PERF_CTR_GLOBAL_CTL" Save control::perf_ctr_global_ctl;
    /// U_CET: MSR 6A0h, or VMSA 0C0h for an SEV-ES guest.
    UCet "U_CET" Vmsa vmsa::u_cet;
    /// SEV_FEATURES.
    SevFeatures "SEV_FEATURES" Vmsa vmsa::sev_features;
    /// VINTR_CTRL.
    VintrCtrl "VINTR_CTRL" Vmsa vmsa::vintr_ctrl;
    /// SECURE_AVIC_CTL.
    SecureAvicCtl "SECURE_AVIC_CTL" Vmsa vmsa::secure_avic_ctl;
    /// First page directory pointer entry of a guest in legacy PAE mode.
    Pdpte0 "PDPTE0" Environment;
    /// Second entry.
    Pdpte1 "PDPTE1" Environment;
    /// Third entry.
    Pdpte2 "PDPTE2" Environment;
    /// Fourth entry.
    Pdpte3 "PDPTE3" Environment;
}

/// The attribute word of CS: 2 bytes at offset 2 of the segment record.
const CS_ATTRIBUTES: Field =
    Field { name: "cs.attributes", offset: control::cs.offset + 2, size: 2, ..control::cs };

impl Word {
    /// The field that holds it, in the VMCB or, for the save area of an SEV-ES guest, in the VMSA.
    #[must_use]
    pub const fn field(self, sev_es: bool) -> Option<Field> {
        match self.source() {
            Source::Save(field) if sev_es => Some(field.in_vmsa()),
            Source::Control(field) | Source::Save(field) | Source::Vmsa(field) => Some(field),
            Source::Environment | Source::Cpu | Source::Derived => None,
        }
    }
}
