//! The nested state of one virtual CPU.

use crate::memory::Memory;
use crate::page::Page;
use crate::shadow::{Shadow, Tables};
use crate::trace::Trace;
use crate::vmcb02::{Enabled, Offers};
use vmcb::layout::vmcb_field as f;
use vmcb::{Event, EventType, Feature, IntCtl, Limits, Rflags, Vector};

/// Who runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Guest {
    /// The guest hypervisor, on VMCB01.
    L1,
    /// Its guest, on VMCB02.
    L2,
}

/// A fault that an instruction of L1 raises in the place of what it does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// #UD.
    InvalidOpcode,
    /// #GP(0).
    GeneralProtection,
}

impl Fault {
    /// As it is injected.
    #[must_use]
    pub const fn event(self) -> Event {
        match self {
            Self::InvalidOpcode => Event::new(EventType::EXCEPTION, Vector::new(6)),
            Self::GeneralProtection => Event::new(EventType::EXCEPTION, Vector::new(13)).with_error_code(0),
        }
    }
}

/// The virtual CPU has a feature that the engine cannot give on this host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unsupported(pub Feature);

/// What L0 lends its engine of itself: numbers that go into VMCB02 as they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Host {
    /// ASID of L2 on the hardware; L1 has another.
    pub asid: u32,
    /// The hardware flushes by ASID (CPUID 8000_000A EDX\[6\]).
    pub flush_by_asid: bool,
    /// Physical address of L0's I/O permission map, for an L2 whose ports L1 leaves alone.
    pub iopm: u64,
    /// Physical address of L0's MSR permission map, for an L2 whose MSRs L1 leaves alone.
    pub msrpm: u64,
    /// Physical address of a map of 12 KiB of ones: every port is intercepted, and the engine reads L1's map.
    pub every_port: u64,
    /// Physical address of a map of 8 KiB of ones.
    pub every_msr: u64,
}

/// What a call of the engine works on.
#[derive(Debug)]
pub struct World<'a, M: Memory, T: Tables, L: Trace> {
    /// The VMCB on which L0 runs L1. After each exit its VMLOAD state has been stored into it with VMSAVE.
    pub vmcb01: &'a mut Page,
    /// The VMCB on which L0 runs L2, likewise.
    pub vmcb02: &'a mut Page,
    /// L1's physical memory.
    pub memory: &'a mut M,
    /// The shadow of L1's nested page tables.
    pub shadow: &'a mut Shadow<T>,
    /// Who is told what happens.
    pub trace: &'a mut L,
    /// ECX of the guest that exited, which RDMSR and WRMSR name their MSR by. VMRUN does not switch it.
    pub rcx: u32,
}

/// The nested state of one virtual CPU.
///
/// It belongs to one virtual CPU and is driven by whoever runs that CPU; it is `Send`, as all its parts are, and two
/// virtual CPUs share nothing but L1's memory. A change of L1's nested page tables by another virtual CPU becomes
/// visible as on hardware, when this one's L1 flushes.
#[derive(Debug)]
pub struct Nested {
    pub(crate) limits: Limits,
    pub(crate) offers: Offers,
    pub(crate) host: Host,
    pub(crate) guest: Guest,
    /// The private copy of VMCB12 as the last VMRUN read it: it alone decides about the exits of L2.
    pub(crate) vmcb12: Page,
    /// Its physical address in L1.
    pub(crate) vmcb12_address: u64,
    pub(crate) enabled: Enabled,
    /// ASID of VMCB12 at the last VMRUN.
    pub(crate) last_asid: u32,
    /// The hardware must forget L2's translations at the next entry.
    pub(crate) flush: bool,
    /// EVENTINJ of VMCB02 was given by L1 or L0, and no instruction of L2 raised it.
    pub(crate) injected: bool,
    /// An event of L0 that found EVENTINJ taken.
    pub(crate) waiting: Option<Event>,
    /// L1's global interrupt flag.
    pub(crate) gif: bool,
    /// L1's RFLAGS.IF at its VMRUN: what V_INTR_MASKING takes for physical interrupts.
    pub(crate) host_if: bool,
    /// EFER.SVME as L1 sees it.
    pub(crate) svme: bool,
    pub(crate) vm_cr: u64,
    pub(crate) hsave_pa: u64,
}

/// Features that the engine gives by itself, whatever the host has.
const BY_ITSELF: [Feature; 4] =
    [Feature::Npt, Feature::FlushByAsid, Feature::VmcbClean, Feature::SvmeAddrChk];

/// SVM features that the engine passes on where the host has them.
const PASSED_ON: [Feature; 7] = [
    Feature::NripSave,
    Feature::Lbrv,
    Feature::DecodeAssists,
    Feature::PauseFilter,
    Feature::PfThreshold,
    Feature::Vgif,
    Feature::Vnmi,
];

/// Features that the engine does not give on any host.
const NOT_GIVEN: [Feature; 9] = [
    Feature::TscScale,
    Feature::Avic,
    Feature::X2avic,
    Feature::X2avicExt,
    Feature::VmsaveVmload,
    Feature::Sev,
    Feature::SevEs,
    Feature::SevSnp,
    Feature::SvmLock,
];

impl Nested {
    /// The state after RESET: L1 runs, SVM is off, GIF set.
    ///
    /// # Errors
    /// [`Unsupported`] where the virtual CPU of `limits` has a feature that a guest of this host cannot have:
    /// `host_has` answers for the CPU below. For verdicts alone any virtual CPU goes: [`Self::for_verdicts`].
    pub fn new(limits: Limits, host: Host, host_has: impl Fn(Feature) -> bool) -> Result<Self, Unsupported> {
        let has = |feature: Feature| limits.cpu().has(feature) == Some(true);
        for &feature in Feature::ALL {
            let can = if BY_ITSELF.contains(&feature) {
                true
            } else if NOT_GIVEN.contains(&feature) {
                false
            } else {
                host_has(feature)
            };
            if has(feature) && !can {
                return Err(Unsupported(feature));
            }
        }
        Ok(Self::for_verdicts(limits, host))
    }

    /// The state after RESET for any virtual CPU, also one that the host cannot run: only [`Self::judge`] may be asked.
    #[must_use]
    pub fn for_verdicts(limits: Limits, host: Host) -> Self {
        let offers = Offers::new(&limits);
        let vmcb12 = Page::zeroed();
        Self {
            limits,
            offers,
            host,
            guest: Guest::L1,
            enabled: Enabled::new(offers, &vmcb12),
            vmcb12,
            vmcb12_address: 0,
            last_asid: 0,
            flush: true,
            injected: false,
            waiting: None,
            gif: true,
            host_if: true,
            svme: false,
            vm_cr: 0,
            hsave_pa: 0,
        }
    }

    /// Who is to run next.
    #[must_use]
    #[inline(always)]
    pub const fn guest(&self) -> Guest {
        self.guest
    }

    /// What the virtual CPU allows.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// L1's global interrupt flag.
    #[must_use]
    pub const fn gif(&self) -> bool {
        self.gif
    }

    /// RFLAGS.IF that L0 must have when it executes VMRUN: what V_INTR_MASKING takes for physical interrupts.
    ///
    /// An L1 whose GIF is clear runs with V_INTR_MASKING and this clear, so that interrupts stay pending; else it takes
    /// them by its own RFLAGS.IF.
    #[must_use]
    #[inline(always)]
    pub const fn interrupts(&self) -> bool {
        match self.guest {
            Guest::L1 => self.gif,
            Guest::L2 => self.host_if,
        }
    }

    /// Sets or clears L1's GIF, and holds physical interrupts back while it is clear.
    #[inline(always)]
    pub(crate) fn set_gif(&mut self, vmcb01: &mut Page, gif: bool) {
        self.gif = gif;
        let masking = if gif { 0 } else { IntCtl::V_INTR_MASKING.bits() };
        vmcb01.set_bits(f::int_ctl, IntCtl::V_INTR_MASKING.bits(), masking);
    }

    #[inline(always)]
    pub(crate) fn remember_if(&mut self, vmcb01: &Page) {
        self.host_if = vmcb01.vmcb().rflags().contains(Rflags::IF);
    }
}

/// What a virtual CPU's CPUID says of SVM, leaf 8000_000Ah: EAX, EBX, ECX, EDX.
impl Nested {
    /// CPUID 8000_000A for L1: revision 1, as many ASIDs as an ASID has values for an L1 that the engine serves, and the
    /// features of the virtual CPU.
    #[must_use]
    pub fn cpuid_svm(&self) -> [u32; 4] {
        const ASIDS: u32 = 0x8000;
        let mut edx = 0;
        for &feature in BY_ITSELF.iter().chain(&PASSED_ON) {
            if self.offers.has(feature) {
                edx |= 1 << feature.cpuid().bit;
            }
        }
        if self.offers.has(Feature::Svm) { [1, ASIDS, 0, edx] } else { [0; 4] }
    }
}
