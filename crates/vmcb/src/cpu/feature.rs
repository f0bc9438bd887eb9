//! The features of a CPU that some rule reads, and where CPUID states each.

use crate::defs::named::named;
use core::fmt;

/// A register of CPUID's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Register {
    /// EAX.
    Eax,
    /// EBX.
    Ebx,
    /// ECX.
    Ecx,
    /// EDX.
    Edx,
}

impl Register {
    /// Selects this register from EAX, EBX, ECX and EDX.
    pub(crate) const fn of(self, [eax, ebx, ecx, edx]: [u32; 4]) -> u32 {
        match self {
            Self::Eax => eax,
            Self::Ebx => ebx,
            Self::Ecx => ecx,
            Self::Edx => edx,
        }
    }
}

/// The CPUID bit that states a feature.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct CpuidBit {
    /// EAX on entry.
    pub leaf: u32,
    /// ECX on entry.
    pub subleaf: u32,
    /// The register that holds it.
    pub register: Register,
    /// The bit in it, 0 to 31.
    pub bit: u8,
}

impl fmt::Display for CpuidBit {
    /// `CPUID 7.0 ECX[7]`, `CPUID 8000_000A EDX[0]`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let register = match self.register {
            Register::Eax => "EAX",
            Register::Ebx => "EBX",
            Register::Ecx => "ECX",
            Register::Edx => "EDX",
        };
        match self.leaf {
            7 => write!(f, "CPUID 7.{} {register}[{}]", self.subleaf, self.bit),
            leaf if leaf < 0x8000_0000 => write!(f, "CPUID {leaf} {register}[{}]", self.bit),
            leaf => write!(f, "CPUID {:04X}_{:04X} {register}[{}]", leaf >> 16, leaf & 0xFFFF, self.bit),
        }
    }
}

macro_rules! features {
    ($($name:ident $text:literal $($alias:literal)* : $leaf:literal $register:ident $bit:literal, $meaning:literal;)*) => {
        /// A feature of the virtual CPU, as CPUID states it.
        ///
        /// Names are stable and are QEMU's where QEMU has one; the discriminants are not.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum Feature {
            $(#[doc = concat!($meaning, ".")] $name,)*
        }

        impl Feature {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its stable name: `shstk`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Other spellings that are understood.
            #[must_use]
            pub const fn aliases(self) -> &'static [&'static str] {
                match self { $(Self::$name => &[$($alias),*],)* }
            }

            /// What it is.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }

            /// Where CPUID states it.
            #[must_use]
            pub const fn cpuid(self) -> CpuidBit {
                match self {
                    $(Self::$name => CpuidBit {
                        leaf: $leaf, subleaf: 0, register: Register::$register, bit: $bit,
                    },)*
                }
            }
        }
    };
}

features! {
    Vme "vme": 0x1 Edx 1, "virtual-8086 mode extensions";
    De "de": 0x1 Edx 2, "debugging extensions";
    Pse "pse": 0x1 Edx 3, "page size extensions";
    Tsc "tsc": 0x1 Edx 4, "time stamp counter";
    Pae "pae": 0x1 Edx 6, "physical address extensions";
    Mce "mce": 0x1 Edx 7, "machine check exception";
    Pge "pge": 0x1 Edx 13, "global pages";
    Fxsr "fxsr": 0x1 Edx 24, "FXSAVE and FXRSTOR";
    Sse "sse": 0x1 Edx 25, "SSE";
    Pcid "pcid": 0x1 Ecx 17, "process context identifiers";
    Xsave "xsave": 0x1 Ecx 26, "XSAVE";
    Fsgsbase "fsgsbase": 0x7 Ebx 0, "RDFSBASE and its companions";
    Smep "smep": 0x7 Ebx 7, "supervisor mode execution prevention";
    Smap "smap": 0x7 Ebx 20, "supervisor mode access prevention";
    Umip "umip": 0x7 Ecx 2, "user mode instruction prevention";
    Pku "pku": 0x7 Ecx 3, "protection keys";
    Shstk "shstk" "cet-ss": 0x7 Ecx 7, "shadow stacks";
    La57 "la57": 0x7 Ecx 16, "5-level paging";
    Syscall "syscall": 0x8000_0001 Edx 11, "SYSCALL and SYSRET";
    Nx "nx" "xd": 0x8000_0001 Edx 20, "no-execute pages";
    Ffxsr "fxsr-opt" "ffxsr" "fxsr_opt": 0x8000_0001 Edx 25, "fast FXSAVE and FXRSTOR";
    Lm "lm" "i64": 0x8000_0001 Edx 29, "long mode";
    Svm "svm": 0x8000_0001 Ecx 2, "SVM";
    Tce "tce": 0x8000_0001 Ecx 17, "translation cache extension";
    Mcommit "mcommit": 0x8000_0008 Ebx 8, "MCOMMIT";
    IntWbinvd "int-wbinvd": 0x8000_0008 Ebx 13, "interruptible WBINVD";
    LmsleUnsupported "lmsle-unsupported": 0x8000_0008 Ebx 20, "EFER.LMSLE must be zero";
    Uai "uai": 0x8000_0021 Eax 7, "upper address ignore";
    AutoIbrs "auto-ibrs": 0x8000_0021 Eax 8, "automatic IBRS";
    Npt "npt": 0x8000_000A Edx 0, "nested paging";
    Lbrv "lbrv": 0x8000_000A Edx 1, "LBR virtualization";
    SvmLock "svm-lock" "svm_lock": 0x8000_000A Edx 2, "SVM lock";
    NripSave "nrip-save" "nrip_save": 0x8000_000A Edx 3, "next RIP on #VMEXIT";
    TscScale "tsc-scale" "tsc_scale": 0x8000_000A Edx 4, "TSC ratio";
    VmcbClean "vmcb-clean" "vmcb_clean": 0x8000_000A Edx 5, "VMCB clean bits";
    FlushByAsid "flushbyasid": 0x8000_000A Edx 6, "TLB flush by ASID";
    DecodeAssists "decodeassists": 0x8000_000A Edx 7, "decode assists";
    PauseFilter "pause-filter" "pause_filter": 0x8000_000A Edx 10, "PAUSE filter";
    PfThreshold "pfthreshold": 0x8000_000A Edx 12, "PAUSE filter threshold";
    Avic "avic": 0x8000_000A Edx 13, "AVIC";
    VmsaveVmload "v-vmsave-vmload": 0x8000_000A Edx 15, "virtual VMSAVE and VMLOAD";
    Vgif "vgif": 0x8000_000A Edx 16, "virtual GIF";
    X2avic "x2avic": 0x8000_000A Edx 18, "x2AVIC";
    Vnmi "vnmi": 0x8000_000A Edx 25, "virtual NMI";
    SvmeAddrChk "svme-addr-chk": 0x8000_000A Edx 28, "rAX is checked by VMRUN, VMLOAD and VMSAVE";
    X2avicExt "x2avic-ext": 0x8000_000A Ecx 6, "x2AVIC with more than 512 virtual CPUs";
    Sme "sme": 0x8000_001F Eax 0, "secure memory encryption";
    Sev "sev": 0x8000_001F Eax 1, "SEV";
    SevEs "sev-es": 0x8000_001F Eax 3, "SEV-ES";
    SevSnp "sev-snp": 0x8000_001F Eax 4, "SEV-SNP";
    Sev64BitHost "sev-64bit-host": 0x8000_001F Eax 11, "SEV guests only from a 64-bit host";
    RestrictedInjection "restricted-injection": 0x8000_001F Eax 12, "Restricted Injection";
    AlternateInjection "alternate-injection": 0x8000_001F Eax 13, "Alternate Injection";
    PreventHostIbs "prevent-host-ibs": 0x8000_001F Eax 15, "PreventHostIBS";
    IbsVirtGuest "ibs-virt-guest-ctl": 0x8000_001F Eax 19, "IBS virtualization for SEV-ES guests";
    PmcVirtGuest "pmc-virt-guest-ctl": 0x8000_001F Eax 20, "PMC virtualization for SEV-ES guests";
    SmtProtection "smt-protection": 0x8000_001F Eax 25, "SMT protection";
    SecureAvic "secure-avic": 0x8000_001F Eax 26, "Secure AVIC";
    AllowedSevFeatures "allowed-sev-features": 0x8000_001F Eax 27, "ALLOWED_SEV_FEATURES";
}

const _: () = assert!(Feature::ALL.len() < 64, "features are kept as the bits of one word");

impl Feature {
    /// Its place in [`Word::Cpu`](crate::Word::Cpu): private, may change.
    pub(crate) const fn mask(self) -> u64 {
        1 << self as u8
    }

    /// Whether it states a limit rather than an ability: a CPU without it can do more.
    ///
    /// # Examples
    /// ```
    /// use vmcb::Feature;
    /// assert!(Feature::LmsleUnsupported.restricts() && !Feature::Shstk.restricts());
    /// ```
    #[must_use]
    pub const fn restricts(self) -> bool {
        matches!(self, Self::LmsleUnsupported | Self::Sev64BitHost)
    }

    /// The feature that stands at this bit of [`Word::Cpu`](crate::Word::Cpu).
    #[must_use]
    pub fn at_bit(bit: u8) -> Option<Self> {
        Self::ALL.get(usize::from(bit)).copied()
    }

    /// The feature with this name or alias.
    ///
    /// # Examples
    /// ```
    /// use vmcb::Feature;
    /// assert_eq!(Feature::from_name("cet-ss"), Some(Feature::Shstk));
    /// assert_eq!(Feature::Shstk.cpuid().to_string(), "CPUID 7.0 ECX[7]");
    /// ```
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|feature| feature.name() == name || feature.aliases().contains(&name))
    }
}

named! {
    /// Its name, as QEMU spells it.
    Feature: name, from_name, "no feature has this name"
}
