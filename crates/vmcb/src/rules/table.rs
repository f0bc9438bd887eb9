//! The rules: one row each. Everything else derives from the rows.
//!
//! A row's conditions are a conjunction of [literals](crate::Literal) over distinct bits; the rule is
//! broken when all hold. From them come the straight-line check, the three-valued judgement and the
//! list of what a rule reads. Ids are for ever and conditions never change: a correction is a new id, so
//! that stored [`Limits`](crate::Limits) keep their verdicts.
//!
//! # Source
//! Section numbers are those of the AMD64 Architecture Programmer's Manual volume 2, publication 24593,
//! revision 3.44 of March 2026.

use super::literal::Literal;
use super::predicate::Test;
use crate::cpu::feature::Feature;
use crate::defs::event::Event;
use crate::defs::exception::{BR, CP, GP, HV, NMI, OF, OVERRUN, UD, VC, Vector};
use crate::defs::exit_code::ExitCode;
use crate::defs::named::named;
use crate::defs::register::{
    AllowedSevFeatures, Asid, AvicPhysicalTable, Cr0, Cr4, CsAttributes, Dr6, Dr7, Efer, EventInj, HIGH,
    Host, IntCtl, InterceptMisc1, InterceptMisc2, Mode, NestedCtl, Rflags, SCet, SecureAvicCtl, SevFeatures,
    UCet, VintrCtrl, VirtExt,
};
use crate::defs::word::Word;
use core::fmt;

/// What the manual's words carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Class {
    /// The manual lists it as illegal, or names another definite outcome. Broken: refused.
    Illegal,
    /// Our application of a general sentence of the manual to a case that it does not spell out;
    /// the application is sure enough to refuse.
    DerivedRefused,
    /// As above, but not sure enough: broken is undecided until hardware shows it.
    DerivedUndecided,
    /// The manual requires it and does not say what VMRUN does otherwise. Broken: undecided.
    Required,
    /// Tests or implementations treat it as illegal; the manual's sentence covers it loosely.
    /// Broken: undecided.
    TestPractice,
}

impl Class {
    /// The letter of the rulebook: A, D, R or T.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Illegal => 'A',
            Self::DerivedRefused | Self::DerivedUndecided => 'D',
            Self::Required => 'R',
            Self::TestPractice => 'T',
        }
    }

    /// Whether VMRUN refuses when the rule is broken; otherwise the manual does not say what it does.
    #[must_use]
    pub const fn refuses(self) -> bool {
        matches!(self, Self::Illegal | Self::DerivedRefused)
    }
}

/// What VMRUN does when the rule is broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// #VMEXIT with exit code -1, VMEXIT_INVALID.
    Invalid,
    /// #VMEXIT with exit code -2, VMEXIT_BUSY.
    Busy,
    /// #VMEXIT with exit code -3, VMEXIT_IDLE_REQUIRED.
    IdleRequired,
    /// #VMEXIT with exit code -4, VMEXIT_INVALID_PMC.
    InvalidPmc,
    /// #UD in the host; the VMCB is not read.
    InvalidOpcode,
    /// #GP(0) in the host; the VMCB is not read.
    GeneralProtection,
    /// The manual states none.
    NotStated,
}

impl Outcome {
    /// Its name: `VMEXIT_INVALID`, `#UD`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Invalid => "VMEXIT_INVALID",
            Self::Busy => "VMEXIT_BUSY",
            Self::IdleRequired => "VMEXIT_IDLE_REQUIRED",
            Self::InvalidPmc => "VMEXIT_INVALID_PMC",
            Self::InvalidOpcode => "#UD",
            Self::GeneralProtection => "#GP(0)",
            Self::NotStated => "not stated",
        }
    }

    /// EXITCODE of the #VMEXIT; `None` for a fault, and where the manual states nothing.
    #[must_use]
    pub const fn exit_code(self) -> Option<ExitCode> {
        match self {
            Self::Invalid => Some(ExitCode::INVALID),
            Self::Busy => Some(ExitCode::BUSY),
            Self::IdleRequired => Some(ExitCode::IDLE_REQUIRED),
            Self::InvalidPmc => Some(ExitCode::INVALID_PMC),
            Self::InvalidOpcode | Self::GeneralProtection | Self::NotStated => None,
        }
    }

    /// The exception that VMRUN raises in the host; `None` where it raises none. The error code of #GP is 0.
    #[must_use]
    pub const fn exception(self) -> Option<Vector> {
        match self {
            Self::InvalidOpcode => Some(UD),
            Self::GeneralProtection => Some(GP),
            _ => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One rule of VMRUN.
#[derive(Debug)]
#[non_exhaustive]
pub struct Row {
    /// Its name for ever: `sav-cs-l-and-d`.
    pub id: &'static str,
    /// What the manual's words carry.
    pub class: Class,
    /// What VMRUN does when it is broken.
    pub outcome: Outcome,
    /// Sections of the manual, volume 2 unless said.
    pub section: &'static str,
    /// The rule is broken when all of these hold.
    pub when: &'static [Literal],
    /// What is wrong when it is broken, one sentence without a full stop.
    pub title: &'static str,
    /// How to mend it.
    pub mend: &'static str,
    /// The derivation, where the manual leaves something open, what to know; may be empty.
    pub remark: &'static str,
}

macro_rules! rules {
    ($($name:ident $id:literal $class:ident $outcome:ident $section:literal
       [$($literal:expr),* $(,)?] $title:literal, $mend:literal, $remark:literal;)*) => {
        /// A rule of VMRUN. The discriminants are private and may change; [ids](Self::id) are for ever.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum Rule {
            $(#[doc = concat!("`", $id, "`: ", $title, ".")] $name,)*
        }

        impl Rule {
            /// All rules, in the order of the rulebook.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
        }

        pub(crate) const ROWS: [Row; Rule::ALL.len()] = [$(Row {
            id: $id,
            class: Class::$class,
            outcome: Outcome::$outcome,
            section: $section,
            when: &[$($literal),*],
            title: $title,
            mend: $mend,
            remark: $remark,
        },)*];

        /// Calls `$do` with the position of each rule, as a constant: for code that must be straight-line.
        macro_rules! for_each_rule {
            ($do:ident) => { $($do!({ Rule::$name as usize });)* };
        }
        pub(crate) use for_each_rule;
    };
}

static TABLE: [Row; ROWS.len()] = ROWS;

impl Rule {
    /// Its row.
    #[must_use]
    pub fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// Its name for ever.
    #[must_use]
    pub fn id(self) -> &'static str {
        self.row().id
    }

    /// Each word that the rule reads, with the bits that count; a word comes as often as conditions read it.
    pub fn reads(self) -> impl Iterator<Item = (Word, u64)> {
        self.row().when.iter().flat_map(|literal| literal.reads())
    }

    /// The rule with this id.
    #[must_use]
    pub fn from_id(id: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|rule| rule.id() == id)
    }
}

named! {
    /// Its id.
    Rule: id, from_id, "no rule has this id"
}

/// An exception to inject: V = 1, TYPE = 3 and this vector.
const fn exception(vector: Vector) -> Literal {
    let event = Event::V | 3 << 8 | vector.number() as u64;
    EventInj::from_bits(Event::V | Event::TYPE | Event::VECTOR).are(EventInj::from_bits(event))
}

/// An exception to inject: V = 1 and TYPE = 3.
const EXCEPTION: Literal =
    EventInj::from_bits(Event::V | Event::TYPE).are(EventInj::from_bits(Event::V | 3 << 8));
const LONG_MODE: Literal = Mode::LONG.set();
const PAGING: Literal = Cr0::PG.set();
const SEV_ES: Literal = Mode::SEV_ES.set();
/// Reserved bits of S_CET and U_CET on a CPU that has shadow stacks and no indirect branch tracking.
const CET_RESERVED: u64 = !0b11;

rules! {
    PreSvmeOff "pre-svme-off" Illegal InvalidOpcode "15.4, 15.5.1"
        [Host::SVME.clear()]
        "EFER.SVME of the CPU that executes VMRUN is clear",
        "Set EFER.SVME (MSR C000_0080h bit 12) before VMRUN.", "";
    PreNotProtected "pre-not-protected" Illegal InvalidOpcode "15.5.1"
        [Host::PE.union(Host::VM).are_not(Host::PE)]
        "VMRUN is executed outside protected mode",
        "Execute VMRUN in protected or long mode, not in real or virtual-8086 mode.", "";
    PreCpl "pre-cpl" Illegal GeneralProtection "15.5.1"
        [Host::CPL0.union(Host::CPL1).any_set()]
        "VMRUN is executed at a CPL other than 0",
        "Execute VMRUN at CPL 0.", "";
    PreVmcbAddress "pre-vmcb-address" Illegal GeneralProtection "15.5.1; volume 3, VMRUN"
        [Literal::Holds(Test::NotAPageAddress(Word::VmcbAddress))]
        "rAX is not the physical address of a page: not 4 KiB aligned, or above the CPU's physical address width",
        "Put the VMCB's 4 KiB aligned physical address, below 2^MAXPHYADDR, into rAX.",
        "rAX is truncated to the address size first.";
    PreHsavePaZero "pre-hsave-pa-zero" Illegal GeneralProtection "15.36.12"
        [Host::HSAVE_PA_ZERO.set(), Literal::has(Feature::SevSnp)]
        "VM_HSAVE_PA (MSR C001_0117h) is zero",
        "Write the physical address of a host save page to VM_HSAVE_PA before the first VMRUN.",
        "The manual states this for systems with SEV-SNP (CPUID 8000_001F EAX[4]) only; without SNP the rule does not apply.";
    PreVmcbRmp "pre-vmcb-rmp" Illegal GeneralProtection "15.36.12, table 15-39"
        [Host::SNP_ENABLED.set(), Host::VMCB_NOT_HYPERVISOR_OWNED.set(), Literal::has(Feature::SevSnp)]
        "The RMP does not say that the VMCB page belongs to the hypervisor",
        "Take the page back with RMPUPDATE, or use another page.", "";
    PreInSmm "pre-in-smm" Required NotStated "15.5"
        [Host::SMM.set()]
        "VMRUN is executed in system management mode",
        "Leave SMM first.",
        "The manual calls VMRUN in SMM undefined.";

    CtlVmrunInterceptClear "ctl-vmrun-intercept-clear" Illegal Invalid "15.5.1"
        [InterceptMisc2::VMRUN.clear()]
        "The VMRUN intercept is clear",
        "Set bit 0 of the intercept word at 010h.", "";
    CtlAsidZero "ctl-asid-zero" Illegal Invalid "15.5.1, 15.25.1"
        [Asid::from_bits(0xFFFF_FFFF).clear()]
        "The guest's ASID is 0, which is the host's",
        "Give the guest an ASID from 1 to CPUID 8000_000A EBX - 1.",
        "An ASID that is too large is not in the manual's list of illegal states (but see the SEV rules).";
    CtlMsrpmBeyondMaxphyaddr "ctl-msrpm-beyond-maxphyaddr" Illegal Invalid "15.5.1, 15.11"
        [Literal::Holds(Test::TableTooHigh { word: Word::MsrpmBasePa, size: 0x2000 })]
        "The MSR permission map does not end below the CPU's physical address width",
        "Put all 8 KiB of the map below 2^MAXPHYADDR; VMRUN checks this even where MSR_PROT is clear.",
        "Bits 11:0 are ignored. The last legal page is 2^MAXPHYADDR - 2000h. Where memory encryption may be active the C-bit is no part of the address.";
    CtlIopmBeyondMaxphyaddr "ctl-iopm-beyond-maxphyaddr" Illegal Invalid "15.5.1, 15.10.1"
        [Literal::Holds(Test::TableTooHigh { word: Word::IopmBasePa, size: 0x2001 })]
        "The I/O permission map does not end below the CPU's physical address width",
        "Put all three pages of the map below 2^MAXPHYADDR; VMRUN checks this even where IOIO_PROT is clear.",
        "The map has 64 Ki bits and one byte more (an access of 4 bytes at port FFFFh), so for a page-aligned base it is three pages. Bits 11:0 are ignored.";
    CtlNpWithoutHostPaging "ctl-np-without-host-paging" Illegal Invalid "15.25.3"
        [Mode::NESTED_PAGING.set(), Host::PG.clear()]
        "Nested paging is on while the host's own paging is off",
        "Turn on the host's paging (CR0.PG) before VMRUN, or clear NP_ENABLE.", "";
    CtlNcr3Mbz "ctl-ncr3-mbz" Illegal Invalid "15.25.4"
        [Mode::NESTED_PAGING.set(), Literal::Holds(Test::AddressTooWide(Word::NCr3))]
        "N_CR3 has a bit set at or above the CPU's physical address width",
        "Point N_CR3 at a table below 2^MAXPHYADDR.",
        "Bits 63:52 must be zero on every CPU.";
    CtlGpatInvalid "ctl-gpat-invalid" Illegal Invalid "15.25.4, 7.8.1"
        [Mode::NESTED_PAGING.set(), Literal::Holds(Test::PatInvalid)]
        "A byte of G_PAT is no memory type",
        "Use 0 (UC), 1 (WC), 4 (WT), 5 (WP), 6 (WB) or 7 (UC-) in each byte; the reset value is 0007_0406_0007_0406h.", "";
    CtlVnmiWithoutNmiIntercept "ctl-vnmi-without-nmi-intercept" Illegal Invalid "15.21.10"
        [IntCtl::V_NMI_ENABLE.set(), InterceptMisc1::NMI.clear(), Literal::has(Feature::Vnmi)]
        "Virtual NMI is enabled without the NMI intercept",
        "Set the NMI intercept (00Ch bit 1), or clear V_NMI_ENABLE (060h bit 26).",
        "With Alternate Injection or Secure AVIC, V_NMI_ENABLE is taken from the VMSA (3B8h bit 26).";
    CtlX2avicWithoutAvic "ctl-x2avic-without-avic" Illegal Invalid "15.29.4.1"
        [IntCtl::X2AVIC_ENABLE.union(IntCtl::AVIC_ENABLE).are(IntCtl::X2AVIC_ENABLE), Literal::has(Feature::X2avic)]
        "x2AVIC is enabled without AVIC",
        "Set AVIC enable (060h bit 31) with x2AVIC enable (bit 30), or clear both.", "";
    CtlAvicMaxIndexXavic "ctl-avic-max-index-xavic" Illegal Invalid "15.29.4.3"
        [Mode::AVIC.union(Mode::X2AVIC).are(Mode::AVIC), AvicPhysicalTable::from_bits(0xF00).any_set()]
        "AVIC_PHYSICAL_MAX_INDEX is above 255 in xAVIC mode",
        "Use at most 255 in 0F8h bits 11:0, or enable x2AVIC.", "";
    CtlAvicMaxIndexX2avic "ctl-avic-max-index-x2avic" Illegal Invalid "15.29.4.3"
        [Mode::AVIC.union(Mode::X2AVIC).set(), AvicPhysicalTable::from_bits(0xE00).any_set(),
         Literal::lacks(Feature::X2avicExt)]
        "AVIC_PHYSICAL_MAX_INDEX is above 511 in x2AVIC mode on a CPU without the extension",
        "Use at most 511 in 0F8h bits 11:0.", "";
    CtlAvicPointerRange "ctl-avic-pointer-range" Illegal Invalid "15.29.4.3"
        [Mode::AVIC.set(), Literal::Holds(Test::AvicPointerTooWide)]
        "An AVIC pointer lies above the CPU's physical address width",
        "Put the backing page (0E0h), the logical table (0F0h) and the physical table (0F8h) below 2^MAXPHYADDR.",
        "Bits 51:12 of each field are the pointer.";
    CtlAvicWithoutNp "ctl-avic-without-np" Required NotStated "15.29.4.1"
        [Mode::AVIC.union(Mode::NESTED_PAGING).are(Mode::AVIC)]
        "AVIC is enabled without nested paging",
        "Enable nested paging (090h bit 0), or disable AVIC.",
        "The manual requires nested paging for AVIC and does not say what VMRUN does without it.";

    SavEferSvmeClear "sav-efer-svme-clear" Illegal Invalid "15.5.1"
        [Efer::SVME.clear()]
        "EFER.SVME is clear in the guest's state",
        "Set bit 12 of EFER in the save area, also where the guest must not see it set.", "";
    SavEferMbz "sav-efer-mbz" Illegal Invalid "15.5.1, 3.1.7"
        [Literal::Holds(Test::EferReserved)]
        "EFER has a bit set that this CPU does not define",
        "Clear the bits that the CPU does not define.",
        "Bits 7:1: revision 3.44 says that they read as zero, so setting them is not an illegal state by its letter; older revisions have them must-be-zero. Bits 8 and 10 (LME, LMA) are left to sav-efer-long-mode-unsupported. EFER.LMSLE is allowed unless CPUID 8000_0008 EBX[20] says otherwise, which the named models do not state: undecided there. What else is not decided by the model's name is reported as missing.";
    SavEferLongModeUnsupported "sav-efer-long-mode-unsupported" Illegal Invalid "15.5.1"
        [Efer::LME.union(Efer::LMA).any_set(), Literal::lacks(Feature::Lm)]
        "EFER.LME or EFER.LMA is set on a CPU without long mode",
        "Clear LME and LMA, or offer long mode to the guest.",
        "LMA is not compared with LME and CR0.PG: VMRUN recomputes it.";
    SavCr0NwWithoutCd "sav-cr0-nw-without-cd" Illegal Invalid "15.5.1"
        [Cr0::CD.union(Cr0::NW).are(Cr0::NW)]
        "CR0.NW is set while CR0.CD is clear",
        "Clear CR0.NW (bit 29), or set CR0.CD (bit 30) too.", "";
    SavCr0High "sav-cr0-high" Illegal Invalid "15.5.1"
        [Cr0::from_bits(HIGH).any_set()]
        "CR0 has a bit set in 63:32",
        "Clear CR0[63:32].", "";
    SavCr3MbzLong "sav-cr3-mbz-long" Illegal Invalid "15.5.1, 3.1.2, 5.3.2"
        [LONG_MODE, PAGING, Literal::Holds(Test::AddressTooWide(Word::Cr3))]
        "CR3 of a guest in long mode has a bit set at or above the CPU's physical address width",
        "Clear CR3[63:MAXPHYADDR].",
        "Bits 63:52 must be zero on every CPU. Bits 11:5 and 2:0 are reserved but not must-be-zero: they refuse nothing.";
    SavCr3HighLegacy "sav-cr3-high-legacy" TestPractice NotStated "15.5.1"
        [Mode::LONG.clear(), PAGING, Literal::Holds(Test::AddressTooWide(Word::Cr3))]
        "CR3 of a guest in a legacy paging mode has a bit set at or above the CPU's physical address width",
        "Clear the high bits of CR3.",
        "The manual says that MBZ bits of CR3 are illegal and does not spell out legacy paging. A test suite of nested SVM expects VMEXIT_INVALID; implementations differ.";
    SavPdpteReserved "sav-pdpte-reserved" Illegal Invalid "15.5.1"
        [PAGING, Cr4::PAE.set(), Mode::LONG.union(Mode::NESTED_PAGING).clear(), Literal::Holds(Test::PdpteReserved)]
        "A present page directory pointer entry of a guest in legacy PAE mode has a reserved bit set",
        "Clear bits 63:MAXPHYADDR, 8:5 and 2:1 of the four entries at CR3[31:5].",
        "Only without nested paging: with it VMRUN does not read the entries. Bits 11:9 are software's.";
    SavCr4Mbz "sav-cr4-mbz" Illegal Invalid "15.5.1, 3.1.3"
        [Literal::Holds(Test::Cr4Reserved)]
        "CR4 has a bit set that this CPU does not define",
        "Clear the bits that the virtual CPU does not offer.",
        "Bits 63:24, 19 and 15:13 must be zero on every CPU by revision 3.44; each other bit is defined where its CPUID feature is.";
    SavLmePgWithoutPae "sav-lme-pg-without-pae" Illegal Invalid "15.5.1"
        [LONG_MODE, PAGING, Cr4::PAE.clear()]
        "EFER.LME and CR0.PG are set and CR4.PAE is clear",
        "Set CR4.PAE (bit 5), or clear EFER.LME or CR0.PG.", "";
    SavLmePgWithoutPe "sav-lme-pg-without-pe" Illegal Invalid "15.5.1"
        [LONG_MODE, PAGING, Cr0::PE.clear()]
        "EFER.LME and CR0.PG are set and CR0.PE is clear",
        "Set CR0.PE (bit 0), or clear EFER.LME or CR0.PG.",
        "CR0.PG without CR0.PE is legal while LME is clear: paged real mode (15.19).";
    SavCsLAndD "sav-cs-l-and-d" Illegal Invalid "15.5.1"
        [LONG_MODE, PAGING, Cr4::PAE.set(), CsAttributes::L.union(CsAttributes::D).set()]
        "CS.L and CS.D are both set in long mode",
        "Clear D (bit 10 of the attribute word at 412h) for 64-bit code, or L (bit 9) for compatibility mode.",
        "The attribute word is packed: L is bit 9 and D bit 10. With the unpacked layout of a descriptor (L at bit 13, D at 14) this is easily hit.";
    SavDr6High "sav-dr6-high" Illegal Invalid "15.5.1"
        [Dr6::from_bits(HIGH).any_set()]
        "DR6 has a bit set in 63:32",
        "Clear DR6[63:32]; the reset value is FFFF_0FF0h.", "";
    SavDr7High "sav-dr7-high" Illegal Invalid "15.5.1"
        [Dr7::from_bits(HIGH).any_set()]
        "DR7 has a bit set in 63:32",
        "Clear DR7[63:32]; the reset value is 400h.", "";
    SavSCetReserved "sav-s-cet-reserved" Illegal Invalid "15.5.1, 18"
        [SCet::from_bits(CET_RESERVED).any_set(), Literal::has(Feature::Shstk)]
        "S_CET has a reserved bit set",
        "Clear all but bits 1:0 of S_CET.",
        "For a CPU that has shadow stacks and no indirect branch tracking, as all AMD CPUs so far. Without shadow stacks VMRUN does not load the field. The manual does not make the rule depend on CR4.CET.";
    SavCr4CetWithoutWp "sav-cr4-cet-without-wp" Illegal Invalid "15.5.1"
        [Cr4::CET.set(), Cr0::WP.clear(), Literal::has(Feature::Shstk)]
        "CR4.CET is set while CR0.WP is clear",
        "Set CR0.WP (bit 16), or clear CR4.CET (bit 23).",
        "Without shadow stacks CR4.CET is a reserved bit (sav-cr4-mbz).";
    SavUcetSsInV86 "sav-ucet-ss-in-v86" Illegal Invalid "15.5.1"
        [Cr4::CET.set(), UCet::SH_STK_EN.set(), Rflags::VM.set(), Literal::has(Feature::Shstk)]
        "User shadow stacks are enabled for a guest in virtual-8086 mode",
        "Clear U_CET.SH_STK_EN, CR4.CET or RFLAGS.VM.",
        "U_CET is MSR 6A0h of the CPU, not in a plain VMCB; for an SEV-ES guest it stands in the VMSA at 0C0h.";
    SavUCetReservedSeves "sav-u-cet-reserved-seves" Illegal Invalid "15.5.1"
        [SEV_ES, UCet::from_bits(CET_RESERVED).any_set(), Literal::has(Feature::Shstk)]
        "U_CET of an SEV-ES guest has a reserved bit set",
        "Clear all but bits 1:0 of U_CET in the VMSA (0C0h).", "";

    EvtTypeReserved "evt-type-reserved" Illegal Invalid "15.20"
        [EventInj::V.set(), Literal::Holds(Test::EventTypeReserved)]
        "EVENTINJ has a reserved TYPE",
        "Use TYPE 0 (interrupt), 2 (NMI), 3 (exception) or 4 (software interrupt).",
        "For a guest with Alternate Injection or Secure AVIC the field at 0A8h is ignored and the VMSA's EVENTINJ (3E0h) is used. The manual says that its layout is the same, not that it is checked: a rule on events that is broken there is undecided.";
    EvtExcVector2 "evt-exc-vector-2" Illegal Invalid "15.20"
        [exception(NMI)]
        "EVENTINJ injects vector 2 as an exception",
        "Inject an NMI with TYPE 2; vector 2 is no exception.",
        "The case that the manual names.";
    EvtExcVectorAbove31 "evt-exc-vector-above-31" Illegal Invalid "15.20"
        [EXCEPTION, EventInj::from_bits(0xE0).any_set()]
        "EVENTINJ injects a vector above 31 as an exception",
        "Inject interrupts with TYPE 0 or 4.", "";
    EvtExcVectorReserved "evt-exc-vector-reserved" Illegal Invalid "15.20, 8.2"
        [EXCEPTION, Literal::Holds(Test::VectorReserved)]
        "EVENTINJ injects a reserved vector as an exception",
        "Inject only vectors that AMD CPUs define.",
        "15, 20, 22 to 27 and 31. No hardware result is known to us for each of them.";
    EvtExcVector9 "evt-exc-vector-9" DerivedRefused Invalid "15.20, 8.2"
        [exception(OVERRUN)]
        "EVENTINJ injects vector 9, which AMD64 CPUs reserve",
        "Do not inject vector 9.",
        "15.20 refuses TYPE 3 with a vector that does not correspond to an exception; 8.2 calls vector 9 reserved on AMD64 (the 386's coprocessor segment overrun). We apply the one to the other. No hardware result is known to us.";
    EvtExcCpWithoutShstk "evt-exc-cp-without-shstk" DerivedRefused Invalid "15.20, 8.2"
        [exception(CP), Literal::lacks(Feature::Shstk)]
        "EVENTINJ injects #CP on a CPU without shadow stacks",
        "Inject #CP only where CPUID 7.0 ECX[7] is set for the guest.",
        "15.20's sentence, applied to the CPU that the guest sees: without shadow stacks vector 21 corresponds to no exception.";
    EvtExcVcWithoutSeves "evt-exc-vc-without-seves" DerivedRefused Invalid "15.20, 8.2"
        [exception(VC), Literal::lacks(Feature::SevEs)]
        "EVENTINJ injects #VC on a CPU without SEV-ES",
        "Inject #VC only where CPUID 8000_001F EAX[3] is set for the guest.",
        "15.20's sentence, applied to the CPU that the guest sees: without SEV-ES vector 29 corresponds to no exception.";
    EvtExcHvWithoutRestrictedInjection "evt-exc-hv-without-restricted-injection" Illegal Invalid "15.36.16"
        [exception(HV), Mode::RESTRICTED.clear()]
        "EVENTINJ injects #HV into a guest that does not run with Restricted Injection",
        "Inject #HV only into an SNP guest whose SEV_FEATURES has bit 3.", "";
    EvtBrIn64BitMode "evt-br-in-64-bit-mode" Illegal Invalid "15.20"
        [exception(BR), LONG_MODE, PAGING, CsAttributes::L.set()]
        "EVENTINJ injects #BR into a guest in 64-bit mode, which has no BOUND",
        "Do not inject #BR in 64-bit mode.",
        "The manual's own example of an exception that cannot occur in the guest's mode. Compatibility mode has BOUND: accepted there by the letter; no hardware result is known to us.";
    EvtExcImpossibleForGuestMode "evt-exc-impossible-for-guest-mode" DerivedUndecided NotStated "15.20"
        [exception(OF), LONG_MODE, PAGING, CsAttributes::L.set()]
        "EVENTINJ injects #OF into a guest in 64-bit mode, which has no INTO",
        "Do not inject #OF in 64-bit mode.",
        "15.20 refuses exceptions that cannot occur in the guest's mode and names only #BR. INTO does not exist in 64-bit mode either; implementations differ. The list stays closed until hardware shows more.";
    EvtSevesSoftOrBpOf "evt-seves-soft-or-bp-of" Illegal Invalid "15.35.8"
        [EventInj::V.set(), SEV_ES, Literal::Holds(Test::SoftwareOrBpOrOf)]
        "EVENTINJ injects a software interrupt, #BP or #OF into an SEV-ES guest",
        "An SEV-ES guest raises INTn, INT3 and INTO itself.", "";
    EvtRestrictedInjection "evt-restricted-injection" Illegal Invalid "15.36.16"
        [EventInj::V.set(), Mode::RESTRICTED.set(),
         EventInj::from_bits(Event::TYPE | Event::VECTOR | Event::EV).are_not(EventInj::from_bits(3 << 8 | HV.number() as u64))]
        "EVENTINJ injects something other than #HV without error code under Restricted Injection",
        "Inject only TYPE 3, vector 28, EV = 0.", "";

    SevWithoutNp "sev-without-np" Illegal Invalid "15.34.3"
        [Mode::SEV.union(Mode::NESTED_PAGING).are(Mode::SEV)]
        "SEV is enabled without nested paging",
        "Set NP_ENABLE (090h bit 0) for an SEV guest.",
        "All rules of 15.34.3 fall away where SYSCFG.MemEncryptionModEn is 0: the SEV bit is then ignored.";
    SevSmmlockClear "sev-smmlock-clear" Illegal Invalid "15.34.3"
        [Mode::SEV.set(), Host::SMMLOCK.clear()]
        "SEV is enabled while HWCR.SmmLock is clear",
        "Lock SMM (MSR C001_0015h bit 0), normally the firmware's work.", "";
    SevAsidAboveMax "sev-asid-above-max" Illegal Invalid "15.34.3"
        [Mode::SEV.set(), Literal::Holds(Test::AsidAboveSevMaximum)]
        "The ASID of an SEV guest is above the CPU's number of encrypted guests",
        "Use an ASID of at most CPUID 8000_001F ECX.", "";
    SevHostNot64Bit "sev-host-not-64bit" Illegal Invalid "15.34.3"
        [Mode::SEV.set(), Host::LONG64.clear(), Literal::has(Feature::Sev64BitHost)]
        "An SEV guest is started by a host that is not in 64-bit mode",
        "Execute VMRUN in 64-bit mode.", "";
    SevAsidBelowMin "sev-asid-below-min" Required NotStated "15.35.2"
        [Mode::SEV.union(Mode::SEV_ES).are(Mode::SEV), Literal::Holds(Test::AsidBelowSevMinimum)]
        "The ASID of an SEV guest without SEV-ES lies in the range kept for SEV-ES guests",
        "Use an ASID of at least CPUID 8000_001F EDX.",
        "The manual gives the ranges and does not say what VMRUN does.";
    SevesWithoutSev "seves-without-sev" Required NotStated "15.35.2"
        [NestedCtl::SEV_ES.union(NestedCtl::SEV).are(NestedCtl::SEV_ES), Literal::has(Feature::SevEs)]
        "SEV-ES is enabled without SEV",
        "Set both bits 1 and 2 of 090h.",
        "The manual says that SEV must be enabled too and does not say what VMRUN does otherwise.";
    SevesWithoutLbrv "seves-without-lbrv" Required NotStated "15.35.2"
        [SEV_ES, VirtExt::LBR.clear(), Literal::has(Feature::Lbrv)]
        "SEV-ES is enabled without LBR virtualization",
        "Set bit 0 of 0B8h for an SEV-ES guest.",
        "The manual says that LBR virtualization must be enabled too and does not say what VMRUN does otherwise; one report of 2024 has VMEXIT_INVALID.";
    SevesVmsaIntegrity "seves-vmsa-integrity" Illegal Invalid "15.35.8"
        [SEV_ES, Host::VMSA_LOAD_FAILS.set()]
        "Loading the VMSA faults, or its checksum does not match",
        "Point 108h at the VMSA that belongs to this guest and ASID; its contents must be those of the last #VMEXIT.", "";
    SevesVmsaRmp "seves-vmsa-rmp" Illegal Invalid "15.36.12, table 15-39"
        [Mode::SEV_ES.union(Mode::SNP).are(Mode::SEV_ES), Host::SNP_ENABLED.set(), Host::VMSA_NOT_HYPERVISOR_OWNED.set()]
        "The VMSA page of an SEV-ES guest without SNP is not hypervisor-owned",
        "Take the page back with RMPUPDATE.", "";
    SevesIbsEnabled "seves-ibs-enabled" Illegal Invalid "15.38"
        [SEV_ES, SevFeatures::IBS_VIRT.set(), Literal::has(Feature::IbsVirtGuest), Host::IBS_FETCH.union(Host::IBS_OP).any_set()]
        "The host's IBS is enabled while an SEV-ES guest has IBS virtualization",
        "Clear IbsFetchEn and IbsOpEn before VMRUN.",
        "For SEV-ES guests IBS virtualization is enabled by bit 12 of SEV_FEATURES in the VMSA, not by bit 2 of 0B8h.";
    SevesPmcState "seves-pmc-state" Illegal InvalidPmc "15.39"
        [SEV_ES, SevFeatures::PMC_VIRT.set(), VirtExt::PMC.clear(), Literal::has(Feature::PmcVirtGuest), Literal::Holds(Test::CounterEnabled)]
        "The VMSA has PMC virtualization and an enabled counter, the VMCB has no PMC virtualization",
        "Set bit 3 of 0B8h, or clear the enable bits in the VMSA's performance counters.",
        "Enable bits are bit 22 of each PERF_CTLn and bits 5:0 of PERF_CTR_GLOBAL_CTL. The manual's text prints PERF_CTRn for the former, whose bit 22 is part of a count; we take it for a misprint.";
    SnpNotEnabled "snp-not-enabled" Illegal Invalid "15.36.12"
        [Mode::SNP.set(), Host::SNP_ENABLED.clear()]
        "The VMSA is that of an SNP guest and SNP is not enabled in SYSCFG",
        "Enable SNP globally (SYSCFG bit 24), or clear SNPActive.", "";
    SnpVmsaRmp "snp-vmsa-rmp" Illegal Invalid "15.36.12, table 15-39"
        [Mode::SNP.set(), Host::VMSA_RMP_CHECK_FAILS.set()]
        "The VMSA page of an SNP guest fails a check of its RMP entry",
        "The page must be covered by the RMP, guest-owned, mapped where the RMP says, mutable and marked as VMSA.", "";
    SnpAvicBackingRmp "snp-avic-backing-rmp" Illegal Invalid "15.36.12, table 15-39"
        [Mode::AVIC.set(), Host::SNP_ENABLED.set(), Host::AVIC_PAGE_NOT_HYPERVISOR_OWNED.set(), Literal::has(Feature::SevSnp)]
        "The AVIC backing page is not hypervisor-owned",
        "Take the page back with RMPUPDATE.", "";
    SnpRestrictedAndAlternate "snp-restricted-and-alternate" Illegal Invalid "15.36.16"
        [Mode::RESTRICTED.union(Mode::ALTERNATE).set()]
        "Restricted Injection and Alternate Injection are both enabled",
        "Clear bit 3 or bit 4 of SEV_FEATURES.", "";
    SnpRestrictedWithAvic "snp-restricted-with-avic" Illegal Invalid "15.36.16"
        [Mode::RESTRICTED.union(Mode::AVIC).set()]
        "Restricted Injection is enabled together with AVIC",
        "Disable AVIC (060h bit 31), or clear bit 3 of SEV_FEATURES.", "";
    SnpAlternateWithAvic "snp-alternate-with-avic" Illegal Invalid "15.36.16"
        [Mode::ALTERNATE.union(Mode::AVIC).set()]
        "Alternate Injection is enabled together with AVIC",
        "Disable AVIC (060h bit 31), or clear bit 4 of SEV_FEATURES.", "";
    SnpVmsaBusy "snp-vmsa-busy" Illegal Busy "15.36.16, 15.36.21.2"
        [Mode::SEV_ES.union(Mode::BUSY_CHECKED).set(), VintrCtrl::BUSY.set()]
        "The VMSA is marked as in use",
        "Run the VMSA on one CPU at a time; wait until BUSY (VMSA 3B8h bit 63) is clear.",
        "Looked at with Alternate Injection, and for every SEV-ES or SNP guest where Secure AVIC exists.";
    SnpPreventHostIbs "snp-prevent-host-ibs" Illegal Invalid "15.36.17"
        [SEV_ES, SevFeatures::PREVENT_HOST_IBS.set(), Literal::has(Feature::PreventHostIbs), Host::IBS_FETCH.union(Host::IBS_OP).any_set()]
        "The host's IBS is enabled while the guest forbids it",
        "Clear IbsFetchEn and IbsOpEn before VMRUN.",
        "For SEV-ES and SNP guests.";
    SnpSmtProtection "snp-smt-protection" Illegal IdleRequired "15.36.17"
        [Mode::SNP.set(), SevFeatures::SMT_PROTECTION.set(), Literal::has(Feature::SmtProtection), Host::SIBLING_ACTIVE.set()]
        "The guest demands SMT protection and the sibling thread is not idle in host mode",
        "Let the sibling thread idle in host mode first.", "";
    SnpAllowedSevFeatures "snp-allowed-sev-features" Illegal Invalid "15.36.20"
        [SEV_ES, AllowedSevFeatures::ENABLE.set(), Literal::has(Feature::AllowedSevFeatures), Literal::Holds(Test::SevFeatureNotAllowed)]
        "SEV_FEATURES has a bit set that ALLOWED_SEV_FEATURES does not allow",
        "Allow the feature in 138h, or clear it in the VMSA (3B0h).",
        "Features 11, 13 and 16 need an enabled mask to take effect; without one they are unavailable, which refuses nothing. Bits 63:62 have no bit in the mask: outcome not stated.";
    SnpSecureAvicExclusive "snp-secure-avic-exclusive" Illegal Invalid "15.36.21.2"
        [SEV_ES, SevFeatures::SECURE_AVIC.set(), Literal::has(Feature::SecureAvic),
         Mode::AVIC.union(Mode::RESTRICTED).union(Mode::ALTERNATE).any_set()]
        "Secure AVIC is enabled together with AVIC, Restricted Injection or Alternate Injection",
        "Enable one of them only.", "";
    SnpSecureAvicPage "snp-secure-avic-page" Illegal Invalid "15.36.21.2"
        [SEV_ES, SevFeatures::SECURE_AVIC.set(), Literal::has(Feature::SecureAvic), SecureAvicCtl::ENABLE.set(),
         Literal::Holds(Test::PointerTooWide(Word::SecureAvicCtl))]
        "The Secure AVIC backing page is no valid guest physical address",
        "Put the page's guest physical address, below 2^MAXPHYADDR, into bits 51:12 of VMSA 320h.",
        "Whether memory stands behind the address is the nested page tables' affair.";
}

/// The most literals of a row.
pub(crate) const MAX_LITERALS: usize = 5;

const _: () = {
    assert!(ROWS.len() == 73, "the rulebook has 76 rules, 3 of which are habits of implementations only");
    assert!(ROWS.len() <= 128, "a set of rules is kept in 128 bits");
    let mut row = 0;
    while row < ROWS.len() {
        let rule = &ROWS[row];
        assert!(!rule.when.is_empty() && rule.when.len() <= MAX_LITERALS);
        assert!(
            !rule.id.is_empty()
                && !rule.section.is_empty()
                && !rule.title.is_empty()
                && !rule.mend.is_empty()
        );
        // Only what refuses has an outcome.
        assert!(rule.class.refuses() != matches!(rule.outcome, Outcome::NotStated));
        // Whoever derives, or says "undecided", owes the reason.
        assert!(matches!(rule.class, Class::Illegal) || !rule.remark.is_empty());
        let mut other = row + 1;
        while other < ROWS.len() {
            assert!(!crate::defs::layout::same(rule.id, ROWS[other].id), "two rules have the same id");
            other += 1;
        }
        row += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Names and letters are part of the output that stays stable.
    #[test]
    fn outcomes_and_classes_have_their_names() {
        let names: BTreeSet<_> = Rule::ALL.iter().map(|rule| rule.row().outcome.name()).collect();
        let expected = [
            "#GP(0)",
            "#UD",
            "VMEXIT_BUSY",
            "VMEXIT_IDLE_REQUIRED",
            "VMEXIT_INVALID",
            "VMEXIT_INVALID_PMC",
            "not stated",
        ];
        assert!(names.into_iter().eq(expected));
        let letters: BTreeSet<_> = Rule::ALL.iter().map(|rule| rule.row().class.letter()).collect();
        assert!(letters.into_iter().eq(['A', 'D', 'R', 'T']));
    }
}
