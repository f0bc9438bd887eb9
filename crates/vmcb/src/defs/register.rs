//! The registers and control words that rules read: one type each, so that a bit of one cannot be
//! tested in another.

use super::set::{set_of, set_operations};
use super::word::Word;
use core::fmt;

macro_rules! registers {
    ($($(#[$doc:meta])* $name:ident { $($(#[$bit_doc:meta])* $bit:ident = $position:literal $text:literal,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
            pub struct $name(u64);

            impl $name {
                $(
                    $(#[$bit_doc])*
                    #[doc = concat!("Bit ", stringify!($position), ": ", $text, ".")]
                    pub const $bit: Self = Self(1 << $position);
                )*
                /// Each bit that has a name here: position, name, meaning; lowest first.
                pub const NAMES: &'static [(u8, &'static str, &'static str)] =
                    &[$(($position, stringify!($bit), $text),)*];

                /// From all 64 bits.
                #[must_use]
                pub const fn from_bits(bits: u64) -> Self {
                    Self(bits)
                }

                /// All 64 bits.
                #[must_use]
                #[inline(always)]
                pub const fn bits(self) -> u64 {
                    self.0
                }

                /// Whether these bits are all set. The same as [`contains_all`](Self::contains_all): each bit of a
                /// register is itself a set of one bit.
                #[must_use]
                #[inline(always)]
                pub const fn contains(self, bits: Self) -> bool {
                    self.contains_all(bits)
                }
            }

            set_operations!($name, "bits");
            set_of!($name, $name);

            impl $name {
                const fn with(self, bits: Self) -> Self {
                    self.union(bits)
                }
            }

            impl fmt::LowerHex for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    fmt::LowerHex::fmt(&self.0, f)
                }
            }

            impl fmt::UpperHex for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    fmt::UpperHex::fmt(&self.0, f)
                }
            }

            impl fmt::Debug for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    write!(f, "{:#x}", self.0)?;
                    let mut rest = self.0;
                    for &(position, name, _) in Self::NAMES {
                        if self.0 >> position & 1 == 1 {
                            write!(f, " {name}")?;
                            rest &= !(1 << position);
                        }
                    }
                    if rest != 0 {
                        write!(f, " +{rest:#x}")?;
                    }
                    Ok(())
                }
            }
        )*

        impl Word {
            /// The bits of this word that have a name: position, name, meaning; lowest first.
            #[must_use]
            pub const fn bit_names(self) -> &'static [(u8, &'static str, &'static str)] {
                match self {
                    $(Self::$name => $name::NAMES,)*
                    _ => &[],
                }
            }
        }

        /// Calls `$do` with the name of each register type.
        macro_rules! for_each_register {
            ($do:ident) => { $($do!($name);)* };
        }
        pub(crate) use for_each_register;
    };
}

registers! {
    /// Intercepts at 00Ch.
    InterceptMisc1 {
        INTR = 0 "physical interrupt", NMI = 1 "NMI", SMI = 2 "SMI", INIT = 3 "INIT",
        VINTR = 4 "virtual interrupt", CR0_SEL_WRITE = 5 "CR0 write other than TS and MP",
        IDTR_READ = 6 "SIDT", GDTR_READ = 7 "SGDT", LDTR_READ = 8 "SLDT", TR_READ = 9 "STR",
        IDTR_WRITE = 10 "LIDT", GDTR_WRITE = 11 "LGDT", LDTR_WRITE = 12 "LLDT", TR_WRITE = 13 "LTR",
        RDTSC = 14 "RDTSC", RDPMC = 15 "RDPMC", PUSHF = 16 "PUSHF", POPF = 17 "POPF", CPUID = 18 "CPUID",
        RSM = 19 "RSM", IRET = 20 "IRET", SWINT = 21 "INTn", INVD = 22 "INVD", PAUSE = 23 "PAUSE",
        HLT = 24 "HLT", INVLPG = 25 "INVLPG", INVLPGA = 26 "INVLPGA", IOIO_PROT = 27 "IN and OUT by IOPM",
        MSR_PROT = 28 "RDMSR and WRMSR by MSRPM", TASK_SWITCH = 29 "task switch",
        FERR_FREEZE = 30 "FERR freeze", SHUTDOWN = 31 "shutdown",
    }
    /// Intercepts at 010h.
    InterceptMisc2 {
        VMRUN = 0 "VMRUN", VMMCALL = 1 "VMMCALL", VMLOAD = 2 "VMLOAD", VMSAVE = 3 "VMSAVE", STGI = 4 "STGI",
        CLGI = 5 "CLGI", SKINIT = 6 "SKINIT", RDTSCP = 7 "RDTSCP", ICEBP = 8 "INT1",
        WBINVD = 9 "WBINVD and WBNOINVD", MONITOR = 10 "MONITOR", MWAIT = 11 "MWAIT",
        MWAIT_ARMED = 12 "MWAIT if armed", XSETBV = 13 "XSETBV", RDPRU = 14 "RDPRU",
        EFER_WRITE_TRAP = 15 "EFER write, trap", CR0_WRITE_TRAP = 16 "CR0 write, trap",
        CR4_WRITE_TRAP = 20 "CR4 write, trap", CR8_WRITE_TRAP = 24 "CR8 write, trap",
    }
    /// Intercepts at 014h.
    InterceptMisc3 {
        INVLPGB = 0 "INVLPGB", INVLPGB_ILLEGAL = 1 "illegal INVLPGB", INVPCID = 2 "INVPCID",
        MCOMMIT = 3 "MCOMMIT", TLBSYNC = 4 "TLBSYNC", BUS_LOCK = 5 "bus lock", IDLE_HLT = 6 "idle HLT",
    }
    /// int_ctl at 060h: virtual interrupts, GIF, NMI and AVIC.
    IntCtl {
        V_IRQ = 8 "virtual interrupt pending", VGIF = 9 "virtual GIF value", V_NMI = 11 "virtual NMI pending",
        V_NMI_MASK = 12 "virtual NMIs blocked", V_IGN_TPR = 20 "ignore V_TPR",
        V_INTR_MASKING = 24 "virtual TPR and IF", VGIF_ENABLE = 25 "virtual GIF",
        V_NMI_ENABLE = 26 "virtual NMI", X2AVIC_ENABLE = 30 "x2AVIC", AVIC_ENABLE = 31 "AVIC",
    }
    /// Nested control at 090h; Linux calls it nested_ctl, later misc_ctl.
    NestedCtl {
        NP_ENABLE = 0 "nested paging", SEV = 1 "SEV", SEV_ES = 2 "SEV-ES", GMET = 3 "guest mode execute trap",
        SSS_CHECK = 4 "supervisor shadow stack check", VTE = 5 "virtual transparent encryption",
        ROGPT = 6 "read-only guest page tables", INVLPGB = 7 "INVLPGB and TLBSYNC in the guest",
    }
    /// Virtualization extensions at 0B8h; Linux calls it virt_ext, later misc_ctl2.
    VirtExt {
        LBR = 0 "LBR virtualization", VMLOAD_VMSAVE = 1 "virtual VMLOAD and VMSAVE",
        IBS = 2 "IBS virtualization", PMC = 3 "PMC virtualization",
    }
    /// EFER.
    Efer {
        SCE = 0 "SYSCALL", LME = 8 "long mode enable", LMA = 10 "long mode active", NXE = 11 "no-execute",
        SVME = 12 "SVM", LMSLE = 13 "long mode segment limits", FFXSR = 14 "fast FXSAVE",
        TCE = 15 "translation cache extension", MCOMMIT = 17 "MCOMMIT", INTWB = 18 "interruptible WBINVD",
        UAIE = 20 "upper address ignore", AIBRSE = 21 "automatic IBRS",
    }
    /// CR0.
    Cr0 {
        PE = 0 "protection", MP = 1 "monitor coprocessor", EM = 2 "emulation", TS = 3 "task switched",
        ET = 4 "extension type", NE = 5 "numeric error", WP = 16 "write protect", AM = 18 "alignment mask",
        NW = 29 "not write-through", CD = 30 "cache disable", PG = 31 "paging",
    }
    /// CR4.
    Cr4 {
        VME = 0 "virtual-8086 extensions", PVI = 1 "protected virtual interrupts", TSD = 2 "time stamp disable",
        DE = 3 "debugging extensions", PSE = 4 "page size extensions", PAE = 5 "physical address extension",
        MCE = 6 "machine check", PGE = 7 "global pages", PCE = 8 "RDPMC", OSFXSR = 9 "FXSAVE",
        OSXMMEXCPT = 10 "SIMD exceptions", UMIP = 11 "user mode instruction prevention",
        LA57 = 12 "5-level paging", FSGSBASE = 16 "RDFSBASE", PCIDE = 17 "process context ids",
        OSXSAVE = 18 "XSAVE", SMEP = 20 "supervisor execution prevention",
        SMAP = 21 "supervisor access prevention", PKE = 22 "protection keys", CET = 23 "shadow stacks",
    }
    /// RFLAGS.
    Rflags {
        CF = 0 "carry", TF = 8 "trap", IF = 9 "interrupts", RF = 16 "resume", VM = 17 "virtual-8086 mode",
    }
    /// Attribute word of CS, packed as in the VMCB.
    CsAttributes { P = 7 "present", L = 9 "64-bit", D = 10 "default size", G = 11 "granularity", }
    /// DR6.
    Dr6 { BD = 13 "debug register access", BS = 14 "single step", BT = 15 "task switch", }
    /// DR7.
    Dr7 { GD = 13 "general detect", }
    /// S_CET: supervisor shadow stack control.
    SCet { SH_STK_EN = 0 "shadow stack", WR_SHSTK_EN = 1 "WRSS", }
    /// U_CET: user shadow stack control.
    UCet { SH_STK_EN = 0 "shadow stack", WR_SHSTK_EN = 1 "WRSS", }
    /// AVIC_PHYSICAL_TABLE at 0F8h.
    AvicPhysicalTable {}
    /// ASID at 058h.
    Asid {}
    /// EVENTINJ as the rules read it: 0A8h, or VMSA 3E0h with Alternate Injection.
    EventInj { EV = 11 "push ERRORCODE", V = 31 "inject", }
    /// ALLOWED_SEV_FEATURES at 138h.
    AllowedSevFeatures { ENABLE = 63 "the mask applies", }
    /// SEV_FEATURES at VMSA 3B0h.
    SevFeatures {
        SNP_ACTIVE = 0 "SEV-SNP", VTOM = 1 "virtual top of memory", REFLECT_VC = 2 "reflect #VC",
        RESTRICTED_INJECTION = 3 "Restricted Injection", ALTERNATE_INJECTION = 4 "Alternate Injection",
        DEBUG_VIRT = 5 "debug virtualization", PREVENT_HOST_IBS = 6 "keep the host's IBS off",
        BTB_ISOLATION = 7 "BTB isolation", VMPL_SSS = 8 "supervisor shadow stacks by VMPL",
        SECURE_TSC = 9 "secure TSC", VMGEXIT_PARAMETER = 10 "VMGEXIT parameter",
        PMC_VIRT = 11 "PMC virtualization", IBS_VIRT = 12 "IBS virtualization",
        GUEST_INTERCEPT_CTL = 13 "guest intercepts", VMSA_REG_PROT = 14 "VMSA register protection",
        SMT_PROTECTION = 15 "SMT protection", SECURE_AVIC = 16 "Secure AVIC",
        IBPB_ON_ENTRY = 21 "IBPB on entry",
    }
    /// VINTR_CTRL at VMSA 3B8h.
    VintrCtrl {
        INT_SHADOW = 10 "interrupt shadow", V_NMI_ENABLE = 26 "virtual NMI", BUSY = 63 "VMSA in use",
    }
    /// SECURE_AVIC_CTL at VMSA 320h.
    SecureAvicCtl { ENABLE = 0 "Secure AVIC", ALLOWED_NMI = 1 "NMI allowed", }
    /// What the rules read of the executing CPU and its memory: one bit a fact. The layout is ours.
    Host {
        SVME = 0 "EFER.SVME", PE = 1 "CR0.PE", VM = 2 "RFLAGS.VM", CPL0 = 3 "CPL bit 0", CPL1 = 4 "CPL bit 1",
        PG = 5 "CR0.PG", LONG64 = 6 "64-bit mode", SMM = 7 "system management mode",
        HSAVE_PA_ZERO = 8 "VM_HSAVE_PA = 0", SMMLOCK = 9 "HWCR.SmmLock",
        MEM_ENCRYPTION = 10 "SYSCFG.MemEncryptionModEn", SNP_ENABLED = 11 "SYSCFG.SecureNestedPagingEn",
        IBS_FETCH = 12 "IbsFetchCtl.IbsFetchEn", IBS_OP = 13 "IbsOpCtl.IbsOpEn",
        SIBLING_ACTIVE = 14 "the sibling thread is not idle in host mode",
        VMCB_NOT_HYPERVISOR_OWNED = 15 "RMP: the VMCB page is not hypervisor-owned",
        VMSA_NOT_HYPERVISOR_OWNED = 16 "RMP: the VMSA page is not hypervisor-owned",
        VMSA_RMP_CHECK_FAILS = 17 "RMP: the VMSA page fails the SNP checks",
        AVIC_PAGE_NOT_HYPERVISOR_OWNED = 18 "RMP: the AVIC backing page is not hypervisor-owned",
        VMSA_LOAD_FAILS = 19 "loading the VMSA faults or its checksum does not match",
    }
    /// What several bits together turn on: derived, in no field. The layout is ours.
    Mode {
        NESTED_PAGING = 0 "nested paging is on: NP_ENABLE on a CPU that has it",
        LONG = 1 "long mode is enabled: EFER.LME on a CPU that has it",
        SEV = 2 "SEV is on: its VMCB bit, on a CPU that has it, with memory encryption on",
        SEV_ES = 3 "an SEV-ES guest: its VMCB bit on a CPU that has it",
        SNP = 4 "an SEV-SNP guest: an SEV-ES guest whose VMSA has SNPActive",
        RESTRICTED = 5 "Restricted Injection: an SNP guest whose VMSA has it, on a CPU that has it",
        ALTERNATE = 6 "Alternate Injection: an SNP guest whose VMSA has it, on a CPU that has it",
        AVIC = 7 "AVIC is on: its VMCB bit on a CPU that has it",
        X2AVIC = 8 "x2AVIC is on: its VMCB bit on a CPU that has it",
        BUSY_CHECKED = 9 "BUSY is looked at: Alternate Injection, or a CPU that has Secure AVIC",
        VMSA_EVENTS = 10 "events come from the VMSA: Alternate Injection, or Secure AVIC on a CPU that has it",
    }
}

/// Bits 63:32 of a register.
pub(crate) const HIGH: u64 = 0xFFFF_FFFF_0000_0000;
