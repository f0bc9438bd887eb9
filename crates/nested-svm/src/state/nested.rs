//! The nested state of one virtual CPU.

use super::environment::PLAIN;
use crate::events::held::{Injected, Parked, Pending, Window};
use crate::l0::page::Page;
use crate::types::{Flush, Guest, Host, Unsupported, tlb_control};
use crate::vmcb02::{Enabled, Offers};
use vmcb::layout::vmcb_field as f;
use vmcb::{Environment, Event, Feature, IntCtl, Limits, Rflags};

/// The nested state of one virtual CPU.
///
/// It belongs to one virtual CPU and is driven by whoever runs that CPU; it is `Send`, as all its parts are, and two
/// virtual CPUs share nothing but L1's memory. A change of L1's nested page tables by another virtual CPU becomes
/// visible as on hardware, when this one's L1 flushes.
#[derive(Debug)]
pub struct Nested {
    pub(crate) limits: Limits,
    pub(crate) offers: Offers,
    /// The virtual CPU has neither AVIC nor SEV for certain, so that no rule reads their fields.
    pub(crate) plain: bool,
    pub(crate) host: Host,
    /// MSR U_CET, where it is known.
    pub(crate) u_cet: Option<u64>,
    /// What VMRUN's checks read of the executing CPU, as of the last VMRUN.
    pub(crate) environment: Environment<'static>,
    /// The private copy of VMCB12 as the last VMRUN read it: it alone decides about the exits of L2.
    pub(crate) vmcb12: Page,
    pub(crate) state: State,
}

/// What changes while the guests run, except for the copy of VMCB12.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) guest: Guest,
    /// Physical address of VMCB12 in L1.
    pub(crate) vmcb12_address: u64,
    pub(crate) enabled: Enabled,
    /// ASID of VMCB12 at the last VMRUN.
    pub(crate) last_asid: u32,
    /// What the hardware must flush at the next entry into L2. VMCB02.TLB_CONTROL demands it while L2 runs.
    pub(crate) flush: Flush,
    /// What the hardware must flush at the next entry into L1.
    pub(crate) flush_l1: Flush,
    /// The event in EVENTINJ, or the one that was there at the last entry.
    pub(crate) injected: Injected,
    /// L1's TPR at its VMRUN, if L2 shares it: L0 takes physical interrupts, and VMCB12 has no V_INTR_MASKING.
    pub(crate) shared_tpr: Option<u8>,
    /// The hardware has entered L2 since L1's VMRUN.
    pub(crate) entered: bool,
    /// An interrupt or NMI that L1 injected and that an exception displaced from EVENTINJ. V is clear if there is none.
    /// There is none while L1 runs.
    pub(crate) displaced: Event,
    /// A displaced event of an L2 that ended.
    pub(crate) parked: Parked,
    /// The interrupt window that L0 opened in the guest that runs.
    pub(crate) window: Option<Window>,
    /// L0's interrupts and NMI for this CPU, until a guest takes them.
    pub(crate) pending: Pending,
    /// The global interrupt flag of the virtual CPU.
    pub(crate) gif: bool,
    /// L1's RFLAGS.IF at its VMRUN: what V_INTR_MASKING takes for physical interrupts.
    pub(crate) host_if: bool,
    /// EFER.SVME as L1 sees it.
    pub(crate) svme: bool,
    pub(crate) vm_cr: u64,
    pub(crate) hsave_pa: u64,
    pub(crate) tsc_ratio: u64,
    /// Where L1's tables led at the last nested page fault that stayed with L0.
    pub(crate) l1_address: Option<u64>,
}

impl State {
    /// The state after RESET. The hardware's TLB may hold entries of an earlier user of the ASIDs.
    pub(crate) const fn after_reset(offers: Offers) -> Self {
        Self {
            guest: Guest::L1,
            vmcb12_address: 0,
            enabled: Enabled::nothing(offers),
            last_asid: 0,
            flush: Flush::Asid,
            flush_l1: Flush::Asid,
            injected: Injected::NOTHING,
            shared_tpr: None,
            entered: false,
            displaced: Event::from_bits(0),
            parked: Parked::NOTHING,
            window: None,
            pending: Pending::NOTHING,
            gif: true,
            host_if: true,
            svme: false,
            vm_cr: 0,
            hsave_pa: 0,
            tsc_ratio: TSC_RATIO_ONE,
            l1_address: None,
        }
    }
}

/// TSC_RATIO of 1: a fixed-point number with 32 bits behind the point.
pub(crate) const TSC_RATIO_ONE: u64 = 1 << 32;

/// Features that the engine provides by itself, whatever the host has.
const BY_ITSELF: [Feature; 4] =
    [Feature::Npt, Feature::FlushByAsid, Feature::VmcbClean, Feature::SvmeAddrChk];

/// SVM features that the engine passes on where the host has them.
const PASSED_ON: [Feature; 8] = [
    Feature::NripSave,
    Feature::TscScale,
    Feature::Lbrv,
    Feature::DecodeAssists,
    Feature::PauseFilter,
    Feature::PfThreshold,
    Feature::Vgif,
    Feature::Vnmi,
];

/// Features that the engine does not give on any host.
const NOT_GIVEN: [Feature; 8] = [
    Feature::Avic,
    Feature::X2avic,
    Feature::X2avicExt,
    Feature::VmsaveVmload,
    Feature::Sev,
    Feature::SevEs,
    Feature::SevSnp,
    Feature::SvmLock,
];

/// Features whose rules read more of VMCB12 than a plain guest has.
const READ_FOR: [Feature; 6] =
    [Feature::Avic, Feature::X2avic, Feature::X2avicExt, Feature::Sev, Feature::SevEs, Feature::SevSnp];

impl Nested {
    /// The state after RESET: L1 runs, SVM is off, GIF set.
    ///
    /// # Errors
    /// [`Unsupported`] where the virtual CPU of `limits` has a feature that a guest of this host cannot have:
    /// `host_has` answers for the CPU below. For verdicts alone any virtual CPU goes: [`Self::for_verdicts`].
    pub fn new(limits: Limits, host: Host, host_has: impl Fn(Feature) -> bool) -> Result<Self, Unsupported> {
        let first = Self::unsupported(&limits, host_has).next();
        first.map_or_else(|| Ok(Self::for_verdicts(limits, host)), Err)
    }

    /// All that keeps [`Self::new`] from providing this virtual CPU: the host's nested paging, then features in the order of
    /// [`Feature::ALL`].
    pub fn unsupported(
        limits: &Limits,
        host_has: impl Fn(Feature) -> bool,
    ) -> impl Iterator<Item = Unsupported> {
        let without = (!host_has(Feature::Npt)).then_some(Unsupported::HostWithoutNestedPaging);
        let missing = move |&&feature: &&Feature| !can_give(limits, feature, &host_has);
        without
            .into_iter()
            .chain(Feature::ALL.iter().filter(missing).map(|&feature| Unsupported::Feature(feature)))
    }

    /// The state after RESET for any virtual CPU, also one that the host cannot run: only [`Self::judge`] may be asked.
    #[must_use]
    pub fn for_verdicts(limits: Limits, host: Host) -> Self {
        let offers = Offers::new(&limits);
        let plain = READ_FOR.iter().all(|&feature| limits.cpu().has(feature) == Some(false));
        Self {
            plain,
            limits,
            offers,
            host,
            u_cet: None,
            environment: PLAIN,
            vmcb12: Page::zeroed(),
            state: State::after_reset(offers),
        }
    }

    /// Who is to run next.
    #[must_use]
    #[inline(always)]
    pub const fn guest(&self) -> Guest {
        self.state.guest
    }

    /// What the virtual CPU allows.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The private copy of VMCB12 that was judged last: all of it after a refusal and after [`Self::judge`], and else what
    /// VMRUN of a plain guest reads.
    #[must_use]
    pub const fn vmcb12(&self) -> &Page {
        &self.vmcb12
    }

    /// What the guests have in the MSR U_CET (6A0h), which VMRUN does not switch and no VMCB holds: L0 says it before it
    /// calls [`Self::vmrun`], if the virtual CPU has shadow stacks. Without it an L2 in virtual-8086 mode with CR4.CET is
    /// undecided, and refused.
    pub const fn set_u_cet(&mut self, value: u64) {
        self.u_cet = Some(value);
        self.environment = self.environment.with_u_cet(value);
    }

    /// The global interrupt flag of the virtual CPU.
    #[must_use]
    pub const fn gif(&self) -> bool {
        self.state.gif
    }

    /// Physical address of L1 that its nested tables give for the last nested page fault that stayed with L0: what L0
    /// emulates the access at. `None` where L2 has no nested paging of L1's making: EXITINFO2 is L1's address then.
    #[must_use]
    pub const fn l1_address(&self) -> Option<u64> {
        self.state.l1_address
    }

    /// The MSR TSC_RATIO that the hardware must have while the guest that runs next does.
    #[must_use]
    pub const fn tsc_ratio(&self) -> u64 {
        match self.state.guest {
            Guest::L1 => TSC_RATIO_ONE,
            Guest::L2 => self.state.tsc_ratio,
        }
    }

    /// RFLAGS.IF that L0 must have when it executes VMRUN: V_INTR_MASKING makes it the mask of physical interrupts.
    ///
    /// If L0 takes physical interrupts ([`Host::takes_interrupts`]), this is always true, so that neither L1 nor L2 can
    /// mask them. Otherwise physical interrupts reach the guests. While GIF is clear, the guest runs with
    /// V_INTR_MASKING set, and this method returns false. Physical interrupts then stay pending. During that time CR8
    /// accesses V_TPR, and L0 copies the value in and out.
    #[must_use]
    #[inline(always)]
    pub const fn interrupts(&self) -> bool {
        self.host.takes_interrupts
            | match self.state.guest {
                Guest::L1 => self.state.gif,
                Guest::L2 => self.state.gif & self.state.host_if,
            }
    }

    /// EFER.SVME as L1 sees it.
    #[must_use]
    #[inline(always)]
    pub const fn svme(&self) -> bool {
        self.state.svme
    }

    /// Returns CPUID 8000_000A for L1: revision 1, 8000h ASIDs, and the features of the virtual CPU.
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

    /// GIF as L1 left it, where L0 let L1 execute STGI and CLGI on VMCB01's virtual GIF without an exit. Not while L2
    /// runs: it has no part in it.
    #[inline(always)]
    pub fn set_gif_of_l1(&mut self, vmcb01: &mut Page, gif: bool) {
        if self.state.guest == Guest::L1 {
            self.set_gif_in_l1(vmcb01, gif);
        }
    }

    /// Sets or clears GIF on the page of the guest that runs, and masks physical interrupts accordingly.
    #[inline(always)]
    pub(crate) fn set_gif(&mut self, page: &mut Page, gif: bool) {
        match self.state.guest {
            Guest::L1 => self.set_gif_in_l1(page, gif),
            Guest::L2 => {
                self.state.gif = gif;
                mask_interrupts(page, self.host.takes_interrupts | !gif, self.vmcb12.get(f::int_ctl));
            }
        }
    }

    /// The same where L1 is known to run.
    #[inline(always)]
    pub(crate) fn set_gif_in_l1(&mut self, vmcb01: &mut Page, gif: bool) {
        self.state.gif = gif;
        mask_interrupts(vmcb01, self.host.takes_interrupts | !gif, 0);
    }

    #[inline(always)]
    pub(crate) fn remember_if(&mut self, vmcb01: &Page) {
        self.state.host_if = vmcb01.vmcb().rflags().contains(Rflags::IF);
    }

    /// Demands a flush before L2 runs again. The demand holds until an exit shows that the hardware executed a VMRUN of
    /// VMCB02, whatever ends L2 before that.
    #[inline(always)]
    pub(crate) fn flush_l2(&mut self, vmcb02: &mut Page, flush: Flush) {
        self.state.flush = self.state.flush.max(flush);
        vmcb02.set(f::tlb_control, tlb_control(self.state.flush, self.host.flush_by_asid).into());
    }
}

/// Sets V_INTR_MASKING, with which L0's RFLAGS.IF ([`Nested::interrupts`]) masks physical interrupts. If L0 does not
/// need it, it is as in `own`, the int_ctl of the guest.
#[inline(always)]
fn mask_interrupts(page: &mut Page, needed: bool, own: u64) {
    const MASKING: u64 = IntCtl::V_INTR_MASKING.bits();
    page.set_bits(f::int_ctl, MASKING, if needed { MASKING } else { own });
}

/// Whether a guest of this host can have what the virtual CPU says of a feature.
fn can_give(limits: &Limits, feature: Feature, host_has: &impl Fn(Feature) -> bool) -> bool {
    let has = limits.cpu().has(feature) == Some(true);
    if feature == Feature::LmsleUnsupported {
        // The one feature that takes something away.
        return has || !host_has(feature);
    }
    !has || BY_ITSELF.contains(&feature) || !NOT_GIVEN.contains(&feature) && host_has(feature)
}
